import { expect, onTestFinished, test } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import type { Control } from '../control/control.ts'
import { Outbox, type OutcomeRecord, type StepRecord } from './outbox.ts'

interface Ledger {
  database: TestDatabase
  control: Control
  outbox: Outbox
  /** Begins a run; the token of its attempt. */
  begin: () => Promise<string>
}

async function ledger(label: string): Promise<Ledger> {
  const database = await createDatabase(`outbox ${label}`)
  const control = await openTestControl(database.url)
  onTestFinished(() => control.close())
  await database.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
  await database.query(`select yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', 't')`)
  await database.query(`select yardmaster.register_worker('w', 'h', 0)`)
  const begin = async () => {
    const [row] = await database.query<{ token: string }>(
      `select token from yardmaster.begin_run(1000, 2, 'refresh', 'dwh:s.t', null, 1)`,
    )
    return row?.token ?? ''
  }
  return { database, control, outbox: new Outbox(control), begin }
}

function step(token: string, ordinal: number, more: Partial<StepRecord> = {}): StepRecord {
  return {
    ...{ token, ordinal, action: `step ${ordinal}`, status: 'RUNNING', started_at: new Date().toISOString() },
    ...{ finished_at: null, rows: null, bytes: null, message: null },
    ...more,
  }
}

function outcome(token: string, more: Partial<OutcomeRecord> = {}): OutcomeRecord {
  return {
    token,
    status: 'OK',
    reason: null,
    message: 'done',
    rows: 1,
    bytes: 2,
    lag: 3,
    position: '7',
    leaves_out: null,
    ...more,
  }
}

const states = (database: TestDatabase) =>
  database.query('select ordinal, status, rows from yardmaster.steps order by attempt_id, ordinal')

test('the newest state of each step and the outcome arrive, and the job knows its lag, position and finish', async () => {
  const { database, outbox, begin } = await ledger('arrive')
  const token = await begin()
  for (let rows = 1; rows <= 500; rows += 1) outbox.step(step(token, 1, { rows }))
  outbox.step(step(token, 1, { rows: 500, status: 'OK', finished_at: new Date().toISOString() }))
  outbox.step(step(token, 2))
  expect(await outbox.outcome(outcome(token), 5000)).toBe(true)
  expect(await states(database)).toEqual([
    { ordinal: 1, status: 'OK', rows: '500' },
    { ordinal: 2, status: 'RUNNING', rows: null },
  ])
  const [job] = await database.query<{ lag: number; position: string; finished: boolean }>(`
    select extract(epoch from clock_timestamp() - v.as_of)::float8 as lag, v.position, s.last_finish is not null as finished
    from yardmaster.replications v join yardmaster.job_state s on s.job_id = v.job_id`)
  expect(job).toMatchObject({ position: '7', finished: true })
  expect(job?.lag).toBeGreaterThanOrEqual(3)
  expect(job?.lag).toBeLessThan(60)
})

test('an attempt that was given up writes nothing more: no step, no outcome', async () => {
  const { database, outbox, begin } = await ledger('given up')
  const token = await begin()
  outbox.step(step(token, 1))
  await outbox.drain(5000)
  await database.query(`select yardmaster.end_worker(1)`)
  const before = await database.query('select id, status, reason, message from yardmaster.runs')
  outbox.step(step(token, 1, { rows: 9 }))
  outbox.step(step(token, 2))
  expect(await outbox.outcome(outcome(token), 5000)).toBe(false)
  expect(await database.query('select id, status, reason, message from yardmaster.runs')).toEqual(before)
  expect(before).toMatchObject([{ status: 'CRITICAL', reason: 'worker_lost' }])
  expect(await states(database)).toEqual([{ ordinal: 1, status: 'CRITICAL', rows: null }])
})

test('an outcome whose answer was lost is the same outcome when it is sent again', async () => {
  const { database, outbox, begin } = await ledger('again')
  const token = await begin()
  expect(await outbox.outcome(outcome(token), 5000)).toBe(true)
  const [first] = await database.query('select finished_at from yardmaster.runs')
  expect(await outbox.outcome(outcome(token), 5000)).toBe(true)
  expect(await outbox.outcome(outcome(token, { message: 'something else' }), 5000)).toBe(false)
  expect(await database.query('select finished_at from yardmaster.runs')).toEqual([first])
})

test('an end whose words the control database refuses is written without them, and holds up no other', async () => {
  const { database, outbox, begin } = await ledger('refused')
  const [bad, good] = [await begin(), await begin()]
  outbox.step(step(bad, 1, { message: 'a \0 in it' }))
  outbox.step(step(good, 1))
  const refused = outbox.outcome(outcome(bad, { message: 'a \0 in it' }), 5000)
  const taken = outbox.outcome(outcome(good), 5000)
  expect(await refused).toBe(true)
  expect(await taken).toBe(true)
  expect(await states(database)).toEqual([{ ordinal: 1, status: 'RUNNING', rows: null }])
  expect(outbox.isEmpty).toBe(true)
})

test('what was reported while the control session was cut is written by the next one', async () => {
  const { database, control, outbox, begin } = await ledger('cut')
  const token = await begin()
  await database.query('select pg_terminate_backend($1)', [control.session.pid])
  outbox.step(step(token, 1))
  expect(await outbox.outcome(outcome(token), 10_000)).toBe(true)
  expect(await states(database)).toHaveLength(1)
})

test('whoever waits for an outcome is told in time that the control database is away; it is written when it is back', async () => {
  const { database, control, outbox, begin } = await ledger('away')
  const token = await begin()
  const name = JSON.stringify(database.name)
  const admin = await createDatabase('outbox admin')
  await admin.query(`alter database ${name} allow_connections false`)
  onTestFinished(async () => {
    await admin.query(`alter database ${name} allow_connections true`)
  })
  await admin.query('select pg_terminate_backend($1)', [control.session.pid])
  await expect(outbox.outcome(outcome(token), 300)).rejects.toThrow()
  await admin.query(`alter database ${name} allow_connections true`)
  await outbox.drain(10_000)
  await expect
    .poll(() => database.query('select status from yardmaster.runs'), { timeout: 10_000 })
    .toEqual([{ status: 'OK' }])
})
