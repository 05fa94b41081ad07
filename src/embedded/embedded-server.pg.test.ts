import { execFileSync, spawn } from 'node:child_process'
import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, expect, inject, test } from 'vitest'
import { startNode } from '../../test/support/process.ts'
import { removeServer, testSettings } from '../../test/support/test-run.ts'
import { Failure, type FailureJson } from '../base/failure.ts'
import { findBinaries, runnableBinaries } from './binaries.ts'
import { EmbeddedServer } from './embedded-server.ts'
import { findFreePort } from './port.ts'
import { runProgram } from './program.ts'

const root = process.getuid?.() === 0
const made: string[] = []
const mounted: string[] = []

/** A new directory that the server's user may pass through. */
async function newDirectory(): Promise<string> {
  const path = join(inject('runDirectory'), `server-${process.pid}-${made.length}`)
  await mkdir(path)
  await chmod(path, 0o711)
  made.push(path)
  return path
}

afterAll(async () => {
  for (const path of made) await new EmbeddedServer({ directory: path }).stop({ mode: 'immediate' })
  for (const path of mounted) execFileSync('umount', [path])
  for (const path of made) await removeServer(path)
})

const nobody = { uid: 65534, gid: 65534 }

/** Whether an ordinary user can read these sources; a clone below root's home is closed to it. */
async function sourcesAreReadable(): Promise<boolean> {
  const { exitCode } = await runProgram('/bin/sh', ['-c', 'cd -- "$1"', 'sh', import.meta.dirname], nobody)
  if (exitCode !== 0) console.log(`skipped: user ${nobody.uid} cannot enter ${import.meta.dirname}`)
  return exitCode === 0
}

const server = (directory: string, more: { port?: number; binaries?: string } = {}) =>
  new EmbeddedServer({ directory, settings: testSettings, ...more })

/** The failure of a start; everything that a user sees of it must be there. */
async function failureOf(start: Promise<unknown>): Promise<FailureJson> {
  const error = await start.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof Failure)) throw error ?? new Error('it started')
  expect(error.object).toBeTruthy()
  return error.toJSON()
}

async function tmpfs(megabytes: number): Promise<string | undefined> {
  const directory = await newDirectory()
  const { exitCode, output } = await runProgram('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${megabytes}m`,
    'tmpfs',
    directory,
  ])
  if (exitCode !== 0) {
    console.log(`skipped: no tmpfs can be mounted here: ${output}`)
    return undefined
  }
  mounted.push(directory)
  await chmod(directory, 0o711)
  return directory
}

test('starts, is found again, stops; twice is fine, and before the start too', async () => {
  const directory = await newDirectory()
  const one = server(directory)
  await one.stop()
  await one.start()
  const two = server(directory)
  await two.start()
  const { port } = one
  expect([two.pid, two.port, two.majorVersion]).toEqual([one.pid, port, 18])
  await one.stop()
  await two.stop()
  await two.stop({ mode: 'immediate' })
  await two.start()
  expect(two.port).toBe(port)
})

test('a port that was asked for: used, or refused with its name when it is taken', async () => {
  const directory = await newDirectory()
  const holder = createServer()
  await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
  const { port } = holder.address() as { port: number }
  expect(await failureOf(server(directory, { port }).start())).toMatchObject({
    code: 'embedded_port_in_use',
    object: `127.0.0.1:${port}`,
  })
  const other = await findFreePort()
  const running = server(directory, { port: other })
  await running.start()
  expect(running.port).toBe(other)
  expect((await failureOf(server(directory, { port }).start())).message).toContain(`already listens on ${other}`)
  await running.stop()
  holder.close()
  // Not asked for: the port used last is only a wish.
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(other, '127.0.0.1', resolve))
  const elsewhere = server(directory)
  await elsewhere.start()
  expect(elsewhere.port).not.toBe(other)
  await elsewhere.stop()
  taken.close()
})

test('data of another major version name both and say what to do', async () => {
  const directory = await newDirectory()
  const old = server(directory, { binaries: 'pg14' })
  await old.start()
  expect(old.majorVersion).toBe(14)
  await old.stop()
  const failure = await failureOf(server(directory).start())
  expect(failure.code).toBe('embedded_version_mismatch')
  expect(failure.message).toMatch(/PostgreSQL 14; installed is PostgreSQL 18/)
  expect(failure.remedy).toContain('pg_dump of version 14')
  await old.start()
  await old.stop()
})

test('what is not ours is left alone', async () => {
  const strange = await newDirectory()
  await mkdir(join(strange, 'data'))
  await writeFile(join(strange, 'data', 'letter.txt'), 'mine')
  expect((await failureOf(server(strange).start())).code).toBe('embedded_directory_foreign')
  expect(await readdir(join(strange, 'data'))).toEqual(['letter.txt'])

  const directory = await newDirectory()
  const ours = server(directory)
  await ours.start()
  const other = await failureOf(server(join(directory, 'data')).start())
  expect(other).toMatchObject({ code: 'embedded_directory_foreign' })
  expect(other.message).toContain('is itself the data directory')
  const password = await readFile(join(directory, 'password'), 'utf8')
  await writeFile(join(directory, 'password'), 'another')
  expect((await failureOf(server(directory).start())).message).toContain('does not let us in as yardmaster')
  await rm(join(directory, 'password'))
  expect((await failureOf(server(directory).start())).message).toContain('the file `password`')
  await writeFile(join(directory, 'password'), password, { mode: 0o600 })
  await server(directory).start()

  const file = join(strange, 'file')
  await writeFile(file, '')
  expect(await failureOf(server(join(file, 'below')).start())).toMatchObject({ code: 'embedded_directory_unusable' })
  expect(await failureOf(server(file).start())).toMatchObject({ code: 'embedded_directory_unusable' })
})

test.runIf(process.platform === 'linux')('a folder that can never be made is refused, not tried for ever', async () => {
  expect((await failureOf(server('/proc/yardmaster/data').start())).code).toBe('embedded_directory_unusable')
})

test('a server that does not come up: the last lines of its log; nothing stays behind', async () => {
  const directory = await newDirectory()
  const broken = new EmbeddedServer({ directory, settings: { ...testSettings, shared_buffers: 'lots' } })
  const failure = await failureOf(broken.start())
  expect(failure.code).toBe('embedded_start_failed')
  expect(failure.message).toContain('shared_buffers')
  expect(failure.message).toContain('exit code 1')
  const slow = new EmbeddedServer({ directory, settings: testSettings, startTimeoutMs: 1 })
  expect((await failureOf(slow.start())).message).toContain('not ready in time')
  await expect(server(directory).start(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
  await expect(stat(join(directory, 'data', 'postmaster.pid'))).rejects.toThrow('ENOENT')
  await server(directory).start()
})

test('a pid file whose number belongs to somebody else by now', async () => {
  const directory = await newDirectory()
  const killed = server(directory)
  await killed.start()
  const { uid, gid } = await stat(join(directory, 'data'))
  process.kill(killed.pid, 'SIGKILL')
  const stranger = spawn('sleep', ['60'], root ? { uid, gid } : {})
  const file = join(directory, 'data', 'postmaster.pid')
  const lines = (await readFile(file, 'utf8')).split('\n')
  await writeFile(file, [stranger.pid, ...lines.slice(1)].join('\n'))
  await killed.start()
  expect(killed.pid).not.toBe(stranger.pid)
  stranger.kill()
})

test('an uninstalled package', async () => {
  const directory = await newDirectory()
  const failure = await failureOf(server(directory, { binaries: 'pg9' }).start())
  expect(failure).toMatchObject({ code: 'embedded_unsupported', object: 'pg9' })
})

test.runIf(root)(
  'binaries that the server’s user cannot reach, or that lack links and modes, are copied once',
  async () => {
    const directory = await newDirectory()
    const found = await findBinaries()
    const account = { uid: 65534, gid: 65534 }
    if (await sourcesAreReadable()) expect(await runnableBinaries(found, directory, account)).toBe(found)
    const hidden = join(directory, 'clone')
    await mkdir(hidden, { mode: 0o700 })
    const clone = { ...found, directory: join(hidden, 'native') }
    await cp(found.directory, clone.directory, { recursive: true, verbatimSymlinks: true })
    for (const entry of await readdir(join(clone.directory, 'lib'), { withFileTypes: true })) {
      if (entry.isSymbolicLink()) await rm(join(entry.parentPath, entry.name))
    }
    for (const name of ['initdb', 'postgres']) await chmod(join(clone.directory, 'bin', name), 0o600)
    const copied = await runnableBinaries(clone, directory, account)
    expect(copied.directory).toBe(join(directory, 'binaries', `${found.version}-${process.platform}-${process.arch}`))
    const { birthtimeMs } = await stat(copied.directory)
    expect(await runnableBinaries(clone, directory, account)).toEqual(copied)
    expect((await stat(copied.directory)).birthtimeMs).toBe(birthtimeMs)
    expect((await runProgram(join(copied.directory, 'bin', 'initdb'), ['--version'], account)).exitCode).toBe(0)
    await rename(join(copied.directory, 'lib'), join(copied.directory, 'gone'))
    expect(await failureOf(runnableBinaries(clone, directory, account))).toMatchObject({ code: 'embedded_unsupported' })
  },
)

test.runIf(root)('root’s own folders: the server’s user cannot enter, and the message says so', async () => {
  const closed = await newDirectory()
  await chmod(closed, 0o700)
  const failure = await failureOf(server(join(closed, 'below')).start())
  expect(failure.code).toBe('embedded_directory_unusable')
  expect(failure.remedy).toContain('/var/lib/yardmaster')
  expect(await readdir(join(closed, 'below'))).not.toContain('data')
})

test.runIf(root)('an ordinary user runs everything directly; a directory of another one is refused', async () => {
  if (!(await sourcesAreReadable())) return
  const home = await newDirectory()
  await chmod(home, 0o777)
  const script = `
    import { joinEmbedded } from ${JSON.stringify(new URL('./join-embedded.ts', import.meta.url).href)}
    try {
      const joined = await joinEmbedded({ directory: process.argv[1], settings: ${JSON.stringify(testSettings)} })
      console.log(joined.url())
      await joined.leave()
    } catch (error) {
      console.log(JSON.stringify(error))
    }
  `
  const run = async (directory: string, uid = nobody) => {
    const args = ['--input-type=module', '-e', script, directory]
    return startNode(args, { account: uid, cwd: '/', env: { HOME: home } }).ended
  }
  const result = await run(join(home, 'mine'))
  expect(result.stderr).toBe('')
  expect(result.stdout).toContain('postgresql://yardmaster:')
  const owner = await stat(join(home, 'mine', 'data'))
  expect([owner.uid, (await stat(join(home, 'mine'))).mode & 0o777]).toEqual([65534, 0o700])
  expect(await readdir(join(home, 'mine'))).not.toContain('binaries')

  const ours = await newDirectory()
  expect((await run(ours)).json()).toMatchObject({ code: 'embedded_directory_unusable' })
  const nameless = await run(join(home, 'nameless'), { uid: 54321, gid: 54321 })
  expect(nameless.json()).toMatchObject({ code: 'embedded_account_missing', object: 'user 54321' })
})

test.runIf(root)('a disk of 64 MB is too small, and left as it was', async () => {
  const directory = await tmpfs(64)
  if (directory === undefined) return
  const failure = await failureOf(server(directory).start())
  expect(failure.code).toBe('disk_full')
  expect(failure.message).toContain('80 MB are needed')
  expect(await readdir(directory)).not.toContain('data')
})

test.runIf(root)('a disk that became full names itself, also when it fills in mid-start', async () => {
  // Binaries that the server's user cannot reach are copied there, too.
  const directory = await tmpfs((await sourcesAreReadable()) ? 90 : 160)
  if (directory === undefined) return
  const running = server(directory)
  await running.start()
  await running.stop()
  execFileSync('sh', ['-c', 'cat /dev/zero > "$1/filler" || true', 'sh', directory], { stdio: 'ignore' })
  expect((await failureOf(running.start())).code).toBe('disk_full')
  await rm(join(directory, 'filler'))
  await running.start()
  await running.stop()
})
