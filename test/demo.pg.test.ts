import { chmod, mkdtemp, readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { expect, inject, it } from 'vitest'
import { removeDeadDemos } from '../src/demo/demo-directory.ts'
import { processStart } from '../src/embedded/process-start.ts'
import type { StatusDocument } from '../src/http/status-document.ts'
import { request } from './support/http-request.ts'
import { type RunningCli, runCli, startCli } from './support/process.ts'

/** Other tests share the processor. */
const slow = { timeout: 180_000 }
const deadlineMs = 150_000

/** A folder that demos of one test make their own folders in. */
async function makeParent(): Promise<string> {
  const parent = await mkdtemp(join(inject('runDirectory'), 'demos-'))
  await chmod(parent, 0o711)
  return parent
}

async function ownFolder(parent: string): Promise<string> {
  const [name = ''] = await readdir(parent)
  return join(parent, name)
}

async function postmasterOf(directory: string): Promise<number> {
  return Number((await readFile(join(directory, 'data/postmaster.pid'), 'utf8')).split('\n')[0])
}

async function startDemo(parent: string): Promise<{ cli: RunningCli; url: string; directory: string }> {
  const cli = startCli(['demo', '--data-dir', parent], { deadlineMs })
  await cli.waitForOutput(/Ctrl-C ends the demo/, deadlineMs)
  const url = /Status page: (\S+)/.exec(cli.stdout())?.[1] ?? ''
  const directory = /--data-dir (\S+)/.exec(cli.stdout())?.[1] ?? ''
  return { cli, url, directory }
}

async function statusOf(url: string): Promise<StatusDocument> {
  return JSON.parse((await request(`${url}status.json`)).body)
}

/** Asks the page until it is as wanted; the test's timeout ends it. */
async function statusWhere(url: string, wanted: (status: StatusDocument) => boolean): Promise<StatusDocument> {
  for (;;) {
    const status = await statusOf(url)
    if (wanted(status)) return status
    await delay(200)
  }
}

it('compares every copy with its source row by row, and leaves nothing', slow, async () => {
  const parent = await makeParent()
  const { exitCode, stdout, stderr } = await runCli(['demo', '--exit-after-checks', '--data-dir', parent], {
    deadlineMs,
  })
  expect({ exitCode, stderr }, stdout).toEqual({ exitCode: 0, stderr: '' })
  expect(stdout).toMatch(/^All 16 checks passed in [\d.]+ s\.$/m)
  expect(stdout).toMatch(/^OK rows of warehouse:travel\.flights: 20\d,\d{3} rows, all equal$/m)
  expect(stdout.match(/^OK rows of .* rows, all equal$/gm)).toHaveLength(10)
  expect(stdout).toMatch(/^OK status page: Everything is fine: all 10 copies are current/m)
  expect(await readdir(parent)).toEqual([])
})

it('exits with 1 and names the copy that differs', slow, async () => {
  const parent = await makeParent()
  const args = ['demo', '--exit-after-checks', '--json', '--data-dir', parent]
  const cli = startCli(args, { deadlineMs })
  await cli.waitForOutput(/OK set-up/, deadlineMs)
  await spoil(await ownFolder(parent))
  const result = await cli.ended
  expect(result.exitCode, result.stderr).toBe(1)
  const { ok, checks } = result.json() as { ok: boolean; checks: { name: string; ok: boolean; detail: string }[] }
  expect(ok).toBe(false)
  expect(checks.filter((check) => !check.ok)).toEqual([
    {
      name: 'rows of warehouse:travel.airports',
      ok: false,
      detail: expect.stringMatching(
        /^1 rows of the source are not in the copy, such as \{JFK,.*New York.*; 1 rows of the copy are not in the source, such as \{JFK,.*Gotham/,
      ),
    },
  ])
  expect(await readdir(parent)).toEqual([])
})

/** From now on one row of each load arrives changed. */
async function spoil(directory: string): Promise<void> {
  const [port, password] = await Promise.all(
    ['port', 'password'].map(async (name) => (await readFile(join(directory, name), 'utf8')).trim()),
  )
  const client = new pg.Client(`postgresql://yardmaster:${password}@127.0.0.1:${port}/warehouse`)
  client.on('error', () => {})
  await client.connect()
  await client.query(`
    create function public.spoil() returns trigger language plpgsql as $$
    begin new.city := 'Gotham'; return new; end $$;
    create trigger spoil before insert on travel.airports for each row
      when (new.code = 'JFK') execute function public.spoil()`)
  await client.end()
}

it(
  'shows a status page, works with the command line, and ends by Ctrl-C without a trace; two at once',
  slow,
  async () => {
    const parent = await makeParent()
    const [one, other] = [await startDemo(parent), await startDemo(parent)]
    expect(one.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/)
    expect(other.url).not.toBe(one.url)
    expect(other.directory).not.toBe(one.directory)
    const postmasters = [await postmasterOf(one.directory), await postmasterOf(other.directory)] as const

    const refreshed = (status: StatusDocument) =>
      status.runs.some((run) => run.operation === 'refresh' && run.object !== 'warehouse:travel.zip_codes')
    const status = await statusWhere(one.url, refreshed)
    expect(status).toMatchObject({ level: 'OK', answer: expect.stringMatching(/^Everything is fine: all 10 copies/) })
    expect(status.replications).toHaveLength(10)
    expect(status.replications.find((copy) => copy.destination === 'warehouse:travel.flights')).toMatchObject({
      type: 'snapshot',
      source: 'operations:travel.flights',
      rows: expect.toSatisfy((rows: number) => rows >= 199_000),
      every_seconds: 20,
    })
    const html = await request(one.url)
    expect(html.body).toContain('<h1>')
    const password = (await readFile(join(one.directory, 'password'), 'utf8')).trim()
    for (const text of [html.body, JSON.stringify(status), one.cli.stdout()]) expect(text).not.toContain(password)
    expect((await request(`${one.url}status.json`, { host: 'evil.example' })).status).toBe(421)

    // A command that joins the demo's server and leaves it does not stop it.
    const list = await runCli(['replication', 'list', '--json', '--data-dir', one.directory])
    expect(list.json()).toHaveLength(10)
    expect((await statusOf(one.url)).level).toBe('OK')

    // The one that is killed disturbs nobody; what it leaves is the next one's to clear away.
    await other.cli.kill('SIGKILL')
    expect((await one.cli.kill('SIGINT')).exitCode).toBe(130)
    expect(await readdir(parent)).toEqual([other.directory.slice(parent.length + 1)])
    expect(processStart(postmasters[0])).toBeUndefined()
    expect(processStart(postmasters[1])).toBeDefined()
    expect(await removeDeadDemos(parent)).toEqual([`Removed what a demo that was killed had left: ${other.directory}`])
    expect(await readdir(parent)).toEqual([])
    expect(processStart(postmasters[1])).toBeUndefined()
  },
)

it.each([/Starting PostgreSQL/, /Filling the source/, /Setting up/])(
  'ends by Ctrl-C without a trace after "%s"',
  slow,
  async (moment) => {
    const parent = await makeParent()
    const cli = startCli(['demo', '--data-dir', parent], { deadlineMs })
    await cli.waitForOutput(moment, deadlineMs)
    const postmaster = await postmasterOf(await ownFolder(parent)).catch(() => undefined)
    const { exitCode, stderr } = await cli.kill('SIGINT')
    expect(exitCode, stderr).toBe(130)
    expect(await readdir(parent)).toEqual([])
    if (postmaster !== undefined) expect(processStart(postmaster)).toBeUndefined()
  },
)

it('leaves nothing when it fails, and makes nothing where its options are wrong', slow, async () => {
  const parent = await makeParent()
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`
  const failed = await runCli(['demo', '--listen', address, '--data-dir', parent], { deadlineMs })
  taken.close()
  expect(failed.exitCode).toBe(1)
  expect(failed.stderr).toContain(
    `Error [listen_failed] Cannot listen on http://${address}/: it is taken by another program.`,
  )
  expect(await readdir(parent)).toEqual([])
  const wrong = await runCli(['demo', '--listen', 'here', '--data-dir', join(parent, 'never')])
  expect([wrong.exitCode, await readdir(parent)]).toEqual([2, []])
  expect(wrong.stderr).toContain("--listen is 'here', which is not an address and a port.")
})
