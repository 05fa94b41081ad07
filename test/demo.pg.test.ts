import { chmod, mkdtemp, readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { expect, inject, it } from 'vitest'
import { removeDeadDemos } from '../src/demo/demo-directory.ts'
import type { StatusDocument } from '../src/http/status-document.ts'
import { request } from './support/http-request.ts'
import { type RunningCli, runCli, startCli } from './support/process.ts'

/** Other tests share the processor. */
const slow = { timeout: 180_000 }
const deadlineMs = 150_000
const hosts = ['marketing', 'qa', 'ceo']

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

/** Command lines of processes that name a folder: its server, its workers. */
async function processesOf(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(directory)).map((line) => line.replaceAll('\0', ' '))
}

interface StartedDemo {
  readonly cli: RunningCli
  readonly url: string
  readonly directory: string
  readonly workers: readonly number[]
}

async function startDemo(parent: string): Promise<StartedDemo> {
  const cli = startCli(['demo', '--data-dir', parent], { deadlineMs })
  await cli.waitForOutput(/Ctrl-C ends the demo/, deadlineMs)
  const url = /Status page: (\S+)/.exec(cli.stdout())?.[1] ?? ''
  const directory = /--data-dir (\S+)/.exec(cli.stdout())?.[1] ?? ''
  const pidOf = (host: string) => Number(new RegExp(`^  ${host} \\(process (\\d+)\\)`, 'm').exec(cli.stdout())?.[1])
  return { cli, url, directory, workers: hosts.map(pidOf) }
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
  expect(stdout).toMatch(/^All 30 checks passed in [\d.]+ s\.$/m)
  expect(stdout).toMatch(/^OK rows of warehouse:travel\.flights: 20\d,\d{3} rows, all equal$/m)
  expect(stdout.match(/^OK rows of .* rows, all equal$/gm)).toHaveLength(14)
  expect(stdout).toMatch(
    /^OK take-over: marketing was killed in the middle of run \d+; qa went on with it [\d.]+ s later$/m,
  )
  expect(stdout).toMatch(
    /^OK fall-back: new work of Marketing went to qa [0-4]\.\d s after marketing was killed: 2 runs$/m,
  )
  expect(stdout).toMatch(
    /^OK return: marketing is there again, and new work of Marketing came back to it after [0-4]\.\d s: 3 runs$/m,
  )
  expect(stdout).toMatch(
    /^OK placement: all \d+ runs agree with the bindings: [1-9]\d* on marketing, [1-9]\d* on qa, [1-9]\d* on ceo$/m,
  )
  expect(stdout).toMatch(/^OK job note_sizes: one run in each of operations and warehouse, which have the tag$/m)
  expect(stdout).toMatch(
    /^OK job send_invoices: it failed and was tried again; CRITICAL FAILED_RUN: 3 failed runs in a row; .*gateway does not answer/m,
  )
  expect(stdout).toMatch(/^OK job send_invoices, mended: run \d+ ended well by its own retry, and the alert is over$/m)
  expect(stdout).toMatch(
    /^OK killed in a procedure: marketing was killed inside sum_up_flights \(run \d+\); its session in warehouse, process \d+, .* qa began it anew$/m,
  )
  expect(stdout).toMatch(/^OK job sum_up_flights: run \d+ told of 4 steps and 20\d,\d{3} rows, each step committed$/m)
  expect(stdout).toMatch(
    /^OK job refresh_marts: [1-9]\d* runs, each after warehouse:shop\.order_totals and warehouse:shop\.payments; [1-9] rows, all as in the copies$/m,
  )
  expect(stdout).toMatch(/^OK runs: none is left behind by the worker that was killed$/m)
  expect(stdout).toMatch(/^OK status page: Everything is fine: all 14 copies are current/m)
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
    // The server and three workers.
    for (const demo of [one, other])
      expect((await processesOf(demo.directory)).filter((line) => line.includes('worker --host'))).toHaveLength(3)

    const failing = await statusWhere(one.url, ({ alerts }) => alerts.length > 0)
    expect(failing).toMatchObject({
      level: 'CRITICAL',
      answer: expect.stringMatching(/^1 of 4 jobs fails: send_invoices \[\d+\]\./),
      alerts: [{ level: 'CRITICAL', status: 'FAILED_RUN', text: expect.stringContaining('gateway does not answer') }],
    })
    expect(failing.jobs.jobs.map(({ label, place }) => `${label.split(' ')[0]} ${place}`)).toEqual([
      'send_invoices warehouse',
      'refresh_marts warehouse',
      'sum_up_flights warehouse',
      'note_sizes tag:demo',
    ])
    // What is printed to mend it does so.
    const mend = /job alter (send_invoices) (--config) '([^']+)'/.exec(one.cli.stdout())?.slice(1) ?? []
    await runCli(['job', 'alter', ...mend, '--data-dir', one.directory])
    const status = await statusWhere(one.url, (status) => status.level === 'OK' && isUnderWay(status))
    expect(status).toMatchObject({ alerts: [], answer: expect.stringMatching(/^Everything is fine: all 14 copies/) })
    expect(status.answer).toContain('None of 4 jobs fails.')
    expect(status.replications).toHaveLength(14)
    expect(copyOf(status, 'travel.flights')).toMatchObject({
      type: 'snapshot',
      source: 'operations:travel.flights',
      rows: expect.toSatisfy((rows: number) => rows >= 199_000),
      schedule: 'every 20 seconds',
      lag_seconds: expect.toSatisfy((lag: number) => lag > 0 && lag < 120),
      late_after_seconds: 120,
    })
    expect(copyOf(status, 'reports.delays_by_hour')?.schedule).toBe('cron */15 * * * * * in America/Chicago')
    expect(copyOf(status, 'shop.events')?.position).toMatch(/^\d+$/)
    expect(status.workers.map(({ name, state, slots }) => ({ name, state, slots }))).toEqual(
      ['ceo', 'marketing', 'qa'].map((host) => {
        return { name: `${host}#${one.workers[hosts.indexOf(host)]}`, state: 'working', slots: 2 }
      }),
    )
    const html = await request(one.url)
    expect(html.body).toContain('<h1>')
    const password = (await readFile(join(one.directory, 'password'), 'utf8')).trim()
    for (const text of [html.body, JSON.stringify(status), one.cli.stdout()]) expect(text).not.toContain(password)
    expect((await request(`${one.url}status.json`, { host: 'evil.example' })).status).toBe(421)

    // A command that joins the demo's server and leaves it does not stop it.
    const list = await runCli(['replication', 'list', '--json', '--data-dir', one.directory])
    expect(list.json()).toHaveLength(14)
    expect((await statusOf(one.url)).level).toBe('OK')

    expect(matrixOf(status)).toEqual([
      'CEO: ceo prefer may, marketing none, qa none',
      'Marketing: ceo forbid, marketing prefer may, qa none',
      'QA: ceo forbid, marketing forbid, qa prefer may',
      'Sales: ceo none may, marketing none may, qa none may',
      'null: ceo none may, marketing none may, qa none may',
    ])

    // Who is killed takes nothing along: what it did goes where its bindings let it, and the page says so.
    process.kill(one.workers[0] ?? 0, 'SIGKILL')
    const left = await statusWhere(one.url, ({ workers }) => workers.some((worker) => worker.state === 'lost'))
    expect(left.workers.map(({ host, state }) => [host, state])).toEqual([
      ['ceo', 'working'],
      ['qa', 'working'],
      ['marketing', 'lost'],
    ])
    expect(left.placement).toMatchObject({
      level: 'WARNING',
      answer: '1 of 4 sites has one active host left: Marketing.',
      alerts: [{ level: 'WARNING', site: 'Marketing', text: expect.stringContaining('has one active host left (qa)') }],
    })
    expect(left.answer).toContain(left.placement.answer)
    expect(matrixOf(left)[0]).toBe('Marketing: ceo forbid, marketing prefer, qa none may')
    const newest = Number(left.runs[0]?.id)
    const moved = await statusWhere(one.url, ({ runs }) =>
      runs.some((run) => Number(run.id) > newest && run.site === 'Marketing'),
    )
    for (const run of moved.runs.filter((run) => Number(run.id) > newest && run.site === 'Marketing'))
      expect(run).toMatchObject({ host: 'qa', placement: 'allowed' })
    expect(one.cli.stdout()).toContain(`Worker marketing (process ${one.workers[0]}) has ended, by SIGKILL.`)

    // A demo that is killed disturbs no other. Its workers see it, and the last of them stops the server; the folder is
    // the next demo's to clear away.
    await other.cli.kill('SIGKILL')
    expect((await one.cli.kill('SIGINT')).exitCode).toBe(130)
    expect(await processesOf(one.directory)).toEqual([])
    expect(await readdir(parent)).toEqual([other.directory.slice(parent.length + 1)])
    await expect.poll(() => processesOf(other.directory), { timeout: 60_000, interval: 200 }).toEqual([])
    expect(await removeDeadDemos(parent)).toEqual([`Removed what a demo that was killed had left: ${other.directory}`])
    expect(await readdir(parent)).toEqual([])
  },
)

/** A worker has refreshed something by its schedule, and something runs or waits no more. */
function isUnderWay({ runs }: StatusDocument): boolean {
  const refreshed = runs.filter((run) => run.operation === 'refresh' && hosts.includes(run.host ?? ''))
  return new Set(refreshed.map((run) => run.host)).size === hosts.length || refreshed.length > 8
}

/** Sites by their hosts; a host that is full for a moment may all the same. */
function matrixOf({ placement }: StatusDocument): string[] {
  return placement.sites.map(({ site, hosts }) => {
    const pairs = hosts.map(({ host, binding, may_run, code }) =>
      [host, binding, ...(may_run || code === 'host_full' ? ['may'] : [])].join(' '),
    )
    return `${site}: ${pairs.join(', ')}`
  })
}

function copyOf(status: StatusDocument, table: string) {
  return status.replications.find((copy) => copy.destination === `warehouse:${table}`)
}

it.each([
  [/Starting PostgreSQL/, 'SIGINT', 130],
  [/Filling the source/, 'SIGINT', 130],
  [/Setting up/, 'SIGINT', 130],
  [/Ctrl-C ends the demo/, 'SIGTERM', 143],
] as const)('after "%s" %s ends it without a trace', slow, async (moment, signal, code) => {
  const parent = await makeParent()
  const cli = startCli(['demo', '--data-dir', parent], { deadlineMs })
  await cli.waitForOutput(moment, deadlineMs)
  const { exitCode, stderr } = await cli.kill(signal)
  expect(exitCode, stderr).toBe(code)
  expect(await readdir(parent)).toEqual([])
  expect(await processesOf(parent)).toEqual([])
})

it('leaves no worker when it is ended while they start', slow, async () => {
  const parent = await makeParent()
  const cli = startCli(['demo', '--exit-after-checks', '--data-dir', parent], { deadlineMs })
  await cli.waitForOutput(/OK set-up/, deadlineMs)
  const { exitCode, stderr } = await cli.kill('SIGTERM')
  expect(exitCode, stderr).toBe(143)
  expect(await readdir(parent)).toEqual([])
  expect(await processesOf(parent)).toEqual([])
})

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
