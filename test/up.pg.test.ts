import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { beforeAll, expect, it } from 'vitest'
import type { StatusDocument } from '../src/http/status-document.ts'
import { createDatabase, type TestDatabase } from './support/databases.ts'
import { request } from './support/http-request.ts'
import { runCli, startCli } from './support/process.ts'
import { startProxy } from './support/proxy.ts'

let control: TestDatabase
let source: TestDatabase
let env: Record<string, string>

beforeAll(async () => {
  control = await createDatabase('up control')
  source = await createDatabase('up source')
  const destination = await createDatabase('up destination')
  await source.query(
    'create table public.orders (id int primary key); insert into public.orders select generate_series(1, 9)',
  )
  env = { YARDMASTER_CONTROL_URL: control.url, YARDMASTER_KEY: '5e'.repeat(32) }
  await run('database', 'add', 'crm', source.url)
  await run('database', 'add', 'dwh', destination.url)
  await run('replication', 'add', 'table', 'public.orders', '--from', 'crm', '--to', 'dwh', '--every', '1 second')
})

async function run(...args: string[]): Promise<void> {
  const { exitCode, stderr } = await runCli(args, { env })
  expect(exitCode, stderr).toBe(0)
}

/** Asks the page until it is as wanted; the test's timeout ends it. */
async function statusWhere(url: string, wanted: (status: StatusDocument) => boolean): Promise<StatusDocument> {
  for (;;) {
    const status = JSON.parse((await request(`${url}status.json`)).body) as StatusDocument
    if (wanted(status)) return status
    await delay(100)
  }
}

async function workers() {
  return control.query('select name, host, slots, end_reason from yardmaster.workers where slots > 0 order by id')
}

it('serve: the page of any control database, and no worker', async () => {
  const cli = startCli(['serve', '--listen', '127.0.0.1:0'], { env })
  const [, url = ''] = await cli.waitForOutput(/^Status page: (http:\/\/127\.0\.0\.1:\d+\/)$/m)
  const status = await statusWhere(url, () => true)
  expect(status).toMatchObject({ about: [], workers: [], running: [], waiting: [] })
  expect(status.replications).toMatchObject([
    { destination: 'dwh:public.orders', schedule: 'every second', rows: 9, lag_seconds: expect.any(Number) },
  ])
  expect(await workers()).toEqual([])
  expect((await cli.kill('SIGINT')).exitCode).toBe(130)
  await expect(request(url)).rejects.toThrow('ECONNREFUSED')
})

it('up: a worker and the page in one process; ended, nothing is left of either', async () => {
  const cli = startCli(['up', '--listen', '127.0.0.1:0', '--host', 'h7', '--slots', '3'], { env })
  const [, url = ''] = await cli.waitForOutput(/^Status page: (\S+)$/m)
  const name = `h7#${cli.pid}`
  const status = await statusWhere(url, ({ runs }) => runs.some((one) => one.worker === name && one.status === 'OK'))
  expect(status).toMatchObject({ level: 'OK', workers: [{ name, host: 'h7', slots: 3, state: 'working' }] })
  expect(status.answer).toMatch(/^Everything is fine: all 1 copies are current, none further behind than 5 s\.$/)
  await source.query('insert into public.orders values (10)')
  await statusWhere(url, ({ replications: [one] }) => one?.rows === 10)
  const { exitCode, stderr } = await cli.kill('SIGTERM')
  expect(exitCode, stderr).toBe(143)
  await expect(request(url)).rejects.toThrow('ECONNREFUSED')
  expect(await workers()).toEqual([{ name, host: 'h7', slots: 3, end_reason: 'stopped' }])
  expect(await control.query(`select from yardmaster.runs where status = 'RUNNING'`)).toEqual([])
})

it('up --json: where the page is, as a document', async () => {
  const cli = startCli(['up', '--listen', '127.0.0.1:0', '--json'], { env })
  await cli.waitForOutput(/\}/)
  expect(JSON.parse(cli.stdout())).toEqual({ status_page: expect.stringMatching(/^http:/) })
  expect((await cli.kill('SIGINT')).exitCode).toBe(130)
})

it.each(['up', 'serve'])(
  '%s refuses an address that is none before it begins, and one that is taken',
  async (command) => {
    const wrong = await runCli([command, '--listen', 'here'], { env })
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining("--listen is 'here'")])
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as AddressInfo
    const refused = await runCli([command, '--listen', `127.0.0.1:${port}`], { env })
    taken.close()
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining('it is taken by another program')])
  },
)

it('worker --until-eof ends in good order when its input does', async () => {
  const cli = startCli(['worker', '--host', 'h8', '--until-eof'], { env })
  await cli.waitForOutput(/takes work/)
  cli.end()
  const { exitCode, stderr } = await cli.ended
  expect(exitCode, stderr).toBe(0)
  const [last] = (await workers()).slice(-1)
  expect(last).toMatchObject({ host: 'h8', end_reason: 'stopped' })
})

it('a worker without --until-eof does not mind that its input is at its end', async () => {
  const cli = startCli(['worker', '--host', 'h9'], { env, input: '' })
  await cli.waitForOutput(/run \d+ OK/)
  expect((await cli.kill('SIGTERM')).exitCode).toBe(143)
})

it('a worker that is stopped in the middle of a run ends, also where the control database is away', async () => {
  const proxy = await startProxy(control.url)
  const args = ['worker', '--host', 'h10', '--grace', '100 ms']
  const cli = startCli(args, { env: { ...env, YARDMASTER_CONTROL_URL: proxy.url }, deadlineMs: 120_000 })
  await cli.waitForOutput(/run \d+ OK/)
  const holder = new pg.Client(source.url)
  await holder.connect()
  await holder.query('begin; lock table public.orders in access exclusive mode')
  const held = `select from pg_locks where relation = 'public.orders'::regclass and not granted`
  await expect.poll(() => source.query(held), { timeout: 30_000 }).toHaveLength(1)
  await proxy.stop()
  const { exitCode, stderr } = await cli.kill('SIGTERM')
  await holder.end()
  expect(exitCode, stderr).toBe(143)
  expect(stderr).toContain('1 runs are broken off and given back.')
}, 150_000)
