import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { addReplicationRun } from '../../src/worker/replication-run.ts'
import { type PrivateServer, startServer, type TestDatabase } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { Crew } from './crew.ts'
import { changeGoods, contentOf, reopened, wanted } from './stage.ts'

let server: PrivateServer
let crew: Crew
/** The control database; anew after each start of its server. */
let control: TestDatabase

/** Two replications of one source, in `copies.goods` and `copies.more`. */
beforeAll(async () => {
  server = await startServer()
  crew = await Crew.muster('control away', { control: await server.createDatabase('control away') })
  control = reopened(crew.stage.controlDatabase)
  for (const name of ['goods', 'more']) {
    const replication = wanted('snapshot', { destination: { schema: 'copies', name } })
    const { result } = await addReplicationRun(crew.stage.place(), replication)
    expect(result.failure).toBeUndefined()
  }
  await crew.record.begin()
})

async function bothAreEqual(): Promise<void> {
  const goods = await contentOf(crew.stage.source, 'public.goods')
  for (const name of ['goods', 'more']) expect(await crew.stage.content(`copies.${name}`)).toBe(goods)
}

/** The newest attempts, of two runs that are asked for now. */
async function askForBoth(): Promise<string[]> {
  const rows = await control.query<{ id: string }>(
    `select yardmaster.queue_run(job_id, 'refresh', '{"force": true}') as id from yardmaster.replications order by job_id`,
  )
  return rows.map((row) => row.id)
}

async function outcomesBecome(ids: readonly string[], status: string): Promise<void> {
  const look = () => control.query('select status, attempt from yardmaster.runs where id = any($1::bigint[])', [ids])
  await expect.poll(look, { timeout: 30_000, interval: 100 }).toEqual([1, 2].map(() => ({ status, attempt: 1 })))
}

/** Ends one server process of the control database; its server then ends all others, and recovers. */
async function killBackend(): Promise<void> {
  const [own] = await control.query<{ pid: number }>('select pg_backend_pid() as pid')
  process.kill(own?.pid ?? 0, 'SIGKILL')
  const back = () =>
    reopened(crew.stage.controlDatabase)
      .query('select 1 as one')
      .catch(() => [])
  await expect.poll(back, { timeout: 20_000, interval: 100 }).toEqual([{ one: 1 }])
}

test.each([
  { what: 'restarts', fault: () => server.restart() },
  { what: 'loses a process, and with it all', fault: killBackend },
])('the control server $what under two workers: nobody takes anything over, both runs end well', async ({ fault }) => {
  await changeGoods(crew.stage.source)
  const copying = crew.hold()
  const workers = [await crew.worker('h1', { slots: 1 }), await crew.worker('h2', { slots: 1 })]
  const ids = await askForBoth()
  await outcomesBecome(ids, 'RUNNING')
  await copying
  const [before] = await control.query<{ now: Date }>('select clock_timestamp() as now')
  await fault()
  control = reopened(crew.stage.controlDatabase)
  // Both are back by new sessions, and have looked for lost ones since.
  const alive = () =>
    control
      .query(
        `select host from yardmaster.worker where slots > 0 and ended_at is null and session_start > $1 order by host`,
        [before?.now],
      )
      .catch((error: unknown) => {
        // The server answered once more before it knew of the loss: what was opened then is of no use.
        control = reopened(crew.stage.controlDatabase)
        throw error
      })
  await expect.poll(alive, { timeout: 30_000, interval: 50 }).toEqual([{ host: 'h1' }, { host: 'h2' }])
  crew.release()
  await outcomesBecome(ids, 'OK')
  await bothAreEqual()
  await crew.record.isInOrder()
  for (const worker of workers) expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
})

test('the control server is away while refreshes end: outcomes are kept and written later, without a storm', async () => {
  await changeGoods(crew.stage.source)
  const copying = crew.hold()
  const way: FaultProxy = await startProxy(crew.stage.controlDatabase.url)
  const worker = await crew.worker('h3', { slots: 4, control: way.url })
  const ids = await askForBoth()
  await outcomesBecome(ids, 'RUNNING')
  await copying
  const effects = await crew.record.effects()
  await server.stop('immediate')
  const began = way.accepted
  crew.release()
  await expect.poll(() => crew.record.effects(), { timeout: 20_000, interval: 50 }).toBe(effects + 2)
  await bothAreEqual()
  // How long it is away is the fault itself.
  const seconds = 12
  await delay(seconds * 1000)
  const tries = way.accepted - began
  expect(tries).toBeGreaterThan(2)
  expect(tries).toBeLessThan(seconds * 2.3)
  await server.restart()
  control = reopened(crew.stage.controlDatabase)
  await outcomesBecome(ids, 'OK')
  await crew.record.isInOrder()
  const steps = await control.query(`select distinct status from yardmaster.steps where run_id = any($1::bigint[])`, [
    ids,
  ])
  expect(steps).toEqual([{ status: 'OK' }])
  expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
})

test('a password that is wrong for a while heals by itself, without a storm', async () => {
  await control.query(`create role ym_worker superuser login password 'first'`)
  const url = new URL(crew.stage.controlDatabase.url)
  url.username = 'ym_worker'
  url.password = 'first'
  const way = await startProxy(url.href)
  const worker = await crew.worker('h4', { control: way.url })
  const [closed] = await control.query(`alter role ym_worker password 'second'`)
  expect(closed).toBeUndefined()
  const ended = way.accepted
  await control.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ym_worker'`)
  await worker.waitForOutput(/No work can be taken: .*password/i)
  await expect.poll(() => way.accepted - ended, { timeout: 30_000, interval: 50 }).toBeGreaterThan(3)
  const [before, since] = [way.accepted, Date.now()]
  await delay(4000)
  expect((way.accepted - before) / ((Date.now() - since) / 1000)).toBeLessThan(2.5)
  await control.query(`alter role ym_worker password 'first'`)
  const ids = await askForBoth()
  await outcomesBecome(ids, 'OK')
  await bothAreEqual()
  expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
})

test('the control database takes no writes while refreshes end: outcomes are kept and written when it does again', async () => {
  await changeGoods(crew.stage.source)
  const copying = crew.hold()
  const worker = await crew.worker('h5')
  const ids = await askForBoth()
  await outcomesBecome(ids, 'RUNNING')
  await copying
  // As a server does that became a standby. The sequence counts also what is rolled back.
  await control.query(`
    create sequence public.refusals;
    create function public.refuse() returns trigger language plpgsql as $$ begin
      perform nextval('public.refusals');
      raise exception 'cannot execute UPDATE in a read-only transaction' using errcode = '25006';
    end $$;
    create trigger refuse before update on yardmaster.attempt for each row execute function public.refuse()`)
  crew.release()
  const refusals = () => control.query(`select last_value >= 6 as enough from public.refusals`)
  await expect.poll(refusals, { timeout: 30_000, interval: 50 }).toEqual([{ enough: true }])
  await control.query('drop trigger refuse on yardmaster.attempt')
  await outcomesBecome(ids, 'OK')
  await bothAreEqual()
  expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
})

test('a worker that is started while the control server is down waits for it, and says so', async () => {
  await server.stop()
  const worker = crew.start('late')
  try {
    await worker.waitForOutput(/Waiting for the control database: /)
  } finally {
    await server.restart()
  }
  await worker.waitForOutput(/takes work/)
  expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
})
