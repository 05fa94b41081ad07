import { expect, onTestFinished, test } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { sql } from '../postgres/sql.ts'
import type { Control } from './control.ts'
import { Registration, releaseLostWorkers } from './registration.ts'

async function registered(
  label: string,
  slots: number,
): Promise<{ database: TestDatabase; control: Control; registration: Registration }> {
  const database = await createDatabase(`registration ${label}`)
  const control = await openTestControl(database.url)
  const registration = new Registration(control, { name: `w#${label}`, host: 'h', slots })
  await registration.start()
  onTestFinished(() => registration.stop())
  return { database, control, registration }
}

const workers = (database: TestDatabase) =>
  database.query('select name, alive, end_reason, running from yardmaster.workers order by id')

/** A run that waits for a worker, given to the first one. */
async function claimed(database: TestDatabase): Promise<string> {
  await database.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
  await database.query(
    `select yardmaster.set_replication_status(yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', 't'), 'active')`,
  )
  await database.query('select yardmaster.queue_run(1000)')
  return claim(database, 1)
}

async function claim(database: TestDatabase, worker: number): Promise<string> {
  const [row] = await database.query<{ token: string }>(
    `select token from yardmaster.claim_runs($1, '{replication}', 1)`,
    [worker],
  )
  return row?.token ?? ''
}

const run = (database: TestDatabase) => database.query('select status, reason, attempt from yardmaster.runs')

test('lives by its session; ended in good order it is stopped, not lost', async () => {
  const { database, registration } = await registered('lives', 2)
  expect(await workers(database)).toEqual([{ name: 'w#lives', alive: true, end_reason: null, running: '0' }])
  await registration.stop()
  expect(await workers(database)).toEqual([{ name: 'w#lives', alive: false, end_reason: 'stopped', running: '0' }])
})

test('a session that is cut is replaced at once, and nobody gives the worker up', async () => {
  const { database, control } = await registered('cut', 2)
  await claimed(database)
  const before = control.session.pid
  await database.query('select pg_terminate_backend($1)', [before])
  await expect
    .poll(() => database.query('select session_pid <> $1 as other from yardmaster.worker', [before]), { timeout: 5000 })
    .toEqual([{ other: true }])
  const observer = await openTestControl(database.url)
  expect(await releaseLostWorkers(observer)).toBe(0)
  expect(await run(database)).toEqual([{ status: 'RUNNING', reason: null, attempt: 1 }])
})

test('a process that is gone is given up after its time to come back; what it ran waits for another', async () => {
  const { database, control, registration } = await registered('gone', 2)
  await claimed(database)
  const observer = await openTestControl(database.url)
  // As a kill ends it: no word, no new session.
  await control.close()
  await expect.poll(() => releaseLostWorkers(observer), { timeout: 5000, interval: 100 }).toBe(1)
  expect(await workers(database)).toMatchObject([{ alive: false, end_reason: 'lost' }])
  expect(await run(database)).toEqual([{ status: 'WAITING', reason: 'worker_lost', attempt: 1 }])
  expect(await claim(database, 1)).toBe('')
  expect(registration.id).toBe('1')
})

test('a process that hangs keeps its session, and is given up when its lease is over', async () => {
  const { database, registration } = await registered('hangs', 2)
  await claimed(database)
  const observer = await openTestControl(database.url)
  expect(await releaseLostWorkers(observer)).toBe(0)
  await registration.stop()
  const hung = await registered('hangs too', 1)
  await hung.database.query(`update yardmaster.worker set lease_until = clock_timestamp() - interval '1 second'`)
  const [{ since } = { since: 0 }] = await hung.database.query<{ since: number }>(
    'select extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8 as since',
  )
  const second = await openTestControl(hung.database.url)
  // Behind a restart of the server everybody gets the time of a lease.
  if (since < 15) expect(await releaseLostWorkers(second)).toBe(0)
  await expect
    .poll(
      async () => {
        await hung.database.query(
          `update yardmaster.worker set lease_until = clock_timestamp() - interval '1 second' where ended_at is null`,
        )
        return releaseLostWorkers(second)
      },
      { timeout: 20_000, interval: 200 },
    )
    .toBe(1)
})

test('one that was given up and lives takes its attempt back, unless another has begun', async () => {
  const { database, control, registration } = await registered('back', 2)
  const token = await claimed(database)
  const lose = () =>
    database.query(`update yardmaster.worker set ended_at = clock_timestamp(), end_reason = 'lost' where id = 1`)
  const beat = () => control.session.query(sql`select yardmaster.beat_worker(1)`)
  await lose()
  await database.query('select yardmaster.give_up_attempts(array[1::bigint])')
  expect(await run(database)).toEqual([{ status: 'WAITING', reason: 'worker_lost', attempt: 1 }])
  await beat()
  expect(await run(database)).toEqual([{ status: 'RUNNING', reason: null, attempt: 1 }])
  await lose()
  await database.query('select yardmaster.give_up_attempts(array[1::bigint])')
  await database.query(`select yardmaster.register_worker('other', 'h2', 1)`)
  const other = await claim(database, 2)
  await beat()
  const [mine] = await database.query('select yardmaster.attempt_is_over($1) as over', [token])
  expect(mine).toEqual({ over: true })
  expect(await database.query('select token, status from yardmaster.attempt order by number')).toEqual([
    { token, status: 'CRITICAL' },
    { token: other, status: 'RUNNING' },
  ])
  expect(registration.now()).toBeGreaterThan(0)
})

test.each([
  ['nobody is there by its number', `delete from yardmaster.worker`],
  ['another has its number', `update yardmaster.worker set name = 'other', host = 'elsewhere'`],
])('a control database that was restored does not know it: %s, and it registers anew', async (_, restore) => {
  const { database, control, registration } = await registered('restored', 2)
  await database.query(restore)
  const before = await database.query('select session_pid, lease_until from yardmaster.worker where id = 1')
  await database.query('select pg_terminate_backend($1)', [control.session.pid])
  await expect.poll(() => registration.id, { timeout: 8000 }).toBe('2')
  expect(await database.query('select name, alive from yardmaster.workers where id = 2')).toEqual([
    { name: 'w#restored', alive: true },
  ])
  expect(await database.query('select session_pid, lease_until from yardmaster.worker where id = 1')).toEqual(before)
})

test('a run that has cost five workers is not given to a sixth; its job counts a failure', async () => {
  const { database } = await registered('poison', 9)
  await claimed(database)
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    expect(await run(database)).toMatchObject([{ status: 'RUNNING', attempt }])
    await database.query('select yardmaster.give_up_attempts(array[1::bigint])')
    if (attempt < 5) await claim(database, 1)
  }
  expect(await database.query('select status, reason, message from yardmaster.runs')).toEqual([
    {
      status: 'CRITICAL',
      reason: 'worker_lost',
      message: expect.stringContaining('attempt 5; no worker takes this run any more'),
    },
  ])
  expect(await database.query('select failures, last_finish is not null as ended from yardmaster.job_state')).toEqual([
    { failures: 1, ended: true },
  ])
  expect(await claim(database, 1)).toBe('')
})
