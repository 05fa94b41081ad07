import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { type RunningCli, startNode } from '../../test/support/process.ts'
import { removeServer, testSettings } from '../../test/support/test-run.ts'
import { joinEmbedded } from './join-embedded.ts'
import { findPostmaster } from './postmaster.ts'
import { processStart } from './process-start.ts'

// One directory for the tests that need no first start: each begins with no server running in it.
let directory: string
const made: string[] = []

async function newDirectory(name: string): Promise<string> {
  const path = join(inject('runDirectory'), `join-${name}-${process.pid}`)
  made.push(path)
  return path
}

beforeAll(async () => {
  directory = await newDirectory('shared')
})

afterAll(async () => {
  for (const path of made) await removeServer(path)
})

const options = (path: string) => ({ directory: path, settings: testSettings })
const pidOf = async (path: string) => (await findPostmaster(join(path, 'data')))?.pid

async function ask(url: string, query = 'select 1 as answer'): Promise<unknown> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(query)).rows[0]
  } finally {
    await client.end().catch(() => {})
  }
}

/** Another process that joins, prints the URL, and leaves when its input ends. */
function participant(path: string): RunningCli {
  const script = `
    import { joinEmbedded } from ${JSON.stringify(new URL('./join-embedded.ts', import.meta.url).href)}
    const joined = await joinEmbedded(${JSON.stringify(options(path))})
    console.log('joined ' + joined.url())
    for await (const _ of process.stdin);
    await joined.leave()
    console.log('left')
  `
  return startNode(['--input-type=module', '-e', script])
}

async function joinedUrl(process: RunningCli): Promise<string> {
  return (await process.waitForOutput(/joined (\S+)/))[1] ?? ''
}

test('two processes make the first start at once; the last one stops it', async () => {
  const others = [participant(directory), participant(directory)] as const
  const [one, two] = await Promise.all([joinedUrl(others[0]), joinedUrl(others[1])])
  expect(one).toBe(two)
  expect(await ask(one)).toEqual({ answer: 1 })
  const pid = await pidOf(directory)
  others[0].end()
  expect((await others[0].ended).stdout).toContain('left')
  expect(await pidOf(directory)).toBe(pid)
  expect(await ask(two)).toEqual({ answer: 1 })
  others[1].end()
  expect((await others[1].ended).exitCode).toBe(0)
  expect(await pidOf(directory)).toBeUndefined()
  expect(await readdir(join(directory, 'users'))).toEqual([])
})

test('databases are made once, the password stays, and nobody else may read it', async () => {
  const first = await joinEmbedded({ ...options(directory), databases: ['one', 'Odd "name"'] })
  const second = await joinEmbedded({ ...options(directory), databases: ['one'] })
  expect(second.url()).toBe(first.url())
  expect(first.majorVersion).toBe(18)
  expect(await ask(first.url('Odd "name"'), 'select current_database() as d')).toEqual({ d: 'Odd "name"' })
  expect(await ask(first.url(), 'show timezone')).toEqual({ TimeZone: 'UTC' })
  expect(await ask(first.url(), "select datlocale from pg_database where datname = 'one'")).toEqual({
    datlocale: 'C.UTF-8',
  })
  expect((await stat(join(directory, 'password'))).mode & 0o777).toBe(0o600)
  expect((await stat(join(directory, 'data'))).mode & 0o777).toBe(0o700)
  await first.leave()
  await first.leave()
  expect(await ask(second.url())).toEqual({ answer: 1 })
  await second.leave()
  expect(await pidOf(directory)).toBeUndefined()
})

test('the server has a session of its own and no output of ours', async () => {
  const other = participant(directory)
  const url = await joinedUrl(other)
  const pid = await pidOf(directory)
  const session = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[3]
  expect(session).toBe(String(pid))
  // The outputs close although the server lives on: `ended` waits for that.
  const result = await other.kill('SIGKILL')
  expect(result.signal).toBe('SIGKILL')
  expect(await ask(url)).toEqual({ answer: 1 })
  const joined = await joinEmbedded(options(directory))
  expect(joined.url()).toBe(url)
  await joined.leave()
  expect(await pidOf(directory)).toBeUndefined()
})

test('a participant that was killed or stopped: only a living place counts', async () => {
  const killed = participant(directory)
  const held = participant(directory)
  const url = await joinedUrl(killed)
  await joinedUrl(held)
  await killed.kill('SIGKILL')
  process.kill(held.pid, 'SIGSTOP')
  const joined = await joinEmbedded(options(directory))
  await joined.leave()
  expect(await ask(url)).toEqual({ answer: 1 })
  process.kill(held.pid, 'SIGCONT')
  held.end()
  await held.ended
  expect(await pidOf(directory)).toBeUndefined()
})

test('a postmaster that was killed is started again, on its port, while its last query still runs', async () => {
  const one = await joinEmbedded(options(directory))
  const pid = await pidOf(directory)
  const busy = ask(one.url(), 'select count(*) from generate_series(1, 6000000)').catch((error) => error)
  await delay(100)
  if (pid !== undefined) process.kill(pid, 'SIGKILL')
  const two = await joinEmbedded(options(directory))
  expect(await pidOf(directory)).not.toBe(pid)
  expect(two.url()).toBe(one.url())
  expect(await ask(one.url())).toEqual({ answer: 1 })
  await busy
  await one.leave()
  expect(await ask(two.url())).toEqual({ answer: 1 })
  await two.leave()
})

test('many join, ask and leave at once, in several processes; nobody loses the server', async () => {
  const script = `
    import pg from 'pg'
    import { joinEmbedded } from ${JSON.stringify(new URL('./join-embedded.ts', import.meta.url).href)}
    for (let round = 0; round < 5; round++) {
      const joined = await joinEmbedded(${JSON.stringify(options(directory))})
      const client = new pg.Client({ connectionString: joined.url() })
      await client.connect()
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60))
      await client.query('select 1')
      await client.end()
      await joined.leave()
    }
  `
  const from = { cwd: join(import.meta.dirname, '../..') }
  const all = [1, 2, 3, 4].map(() => startNode(['--input-type=module', '-e', script], from))
  const victims = [1, 2, 3].map(() => startNode(['--input-type=module', '-e', script], from))
  for (const victim of victims) {
    await delay(150 + Math.random() * 200)
    await victim.kill('SIGKILL')
  }
  for (const process of all) expect(await process.ended).toMatchObject({ exitCode: 0, stderr: '' })
  const joined = await joinEmbedded(options(directory))
  await joined.leave()
  expect(await pidOf(directory)).toBeUndefined()
})

test('a kill in the middle of the first start leaves nothing half', async () => {
  const path = await newDirectory('half')
  await mkdir(path)
  await chmod(path, 0o711)
  const other = participant(path)
  await expect
    .poll(async () => (await readdir(path)).some((name) => name.startsWith('new-')), { interval: 2 })
    .toBe(true)
  await other.kill('SIGKILL')
  expect(await readdir(path)).not.toContain('data')
  const joined = await joinEmbedded(options(path))
  expect(await ask(joined.url())).toEqual({ answer: 1 })
  expect((await readdir(path)).filter((name) => name.startsWith('new-'))).toEqual([])
  await joined.leave()
})

test('an abort ends the waiting for another process', async () => {
  const place = join(directory, 'mutex', `${process.pid}-${processStart(process.pid)}-other`)
  await writeFile(place, '')
  await expect(joinEmbedded(options(directory), AbortSignal.timeout(100))).rejects.toThrow('timeout')
  await rm(place)
})

test('leaving a server whose folder was removed does not make the folder again', async () => {
  const path = await newDirectory('removed')
  const process = participant(path)
  await joinedUrl(process)
  await removeServer(path)
  process.end()
  const { stdout, exitCode } = await process.ended
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining('left')])
  await expect(stat(path)).rejects.toThrow('ENOENT')
})
