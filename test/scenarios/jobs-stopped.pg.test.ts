import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'
import { startProxy } from '../support/proxy.ts'
import { JobYard } from './job-yard.ts'

/** Seconds for which the worker stands still, and for which the procedure would go on. */
const still = process.env.YARDMASTER_CHAOS === 'long' ? 60 : 20

/** Everything that is written down, in the target and in the control database, but for the workers' beats. */
async function everything(yard: JobYard): Promise<unknown> {
  return {
    marks: await yard.ledger.database.query('select * from public.mark order by n'),
    runs: await yard.query('select * from yardmaster.run order by id'),
    attempts: await yard.query(
      'select id, run_id, number, status, finished_at, target_pid from yardmaster.attempt order by id',
    ),
    steps: await yard.query('select * from yardmaster.step order by attempt_id, ordinal'),
    states: await yard.query('select * from yardmaster.job_state order by job_id'),
  }
}

/** Whether the session of an attempt still works in the target. */
async function sessionsOf(target: TestDatabase, pid: number): Promise<number> {
  return (await target.query('select from pg_stat_activity where pid = $1', [pid])).length
}

test('a worker is cut off before it says which session works for it: once another has taken its run, it begins nothing', async () => {
  const yard = await JobYard.open('cut off', [{ name: 'crm' }])
  const control = await startProxy(yard.controlUrl)
  const job = await yard.idle('marks', { retry_on_crash: 'now' })
  const first = await yard.worker('h1', { control: control.url })
  control.when('toServer', 'claim_sessions', () => control.set('both', { kind: 'half-open' }))
  const run = await yard.request(job)
  await expect.poll(() => yard.run(run)).toMatchObject({ status: 'RUNNING', attempt: 1 })
  await yard.worker('h2')
  await yard.becomes(run, { status: 'OK', attempt: 2 }, 60_000)
  const before = await everything(yard)
  control.set('both', { kind: 'pass' })
  await first.waitForOutput(/run \d+ \w+ in .*(gave up|given up|another attempt took its place)/)
  expect(await everything(yard)).toEqual(before)
  expect(await yard.ledger.marks(job)).toHaveLength(2)
}, 120_000)

test(`a worker stands still inside a procedure for ${still} s: the next attempt waits for its session's end; awake again it changes nothing`, {
  timeout: 200_000,
}, async () => {
  const yard = await JobYard.open('stopped', [{ name: 'crm' }])
  const job = await yard.idle('beats', { config: { seconds: 3 * still }, retry_on_crash: 'now' })
  const first = await yard.worker('h1')
  const run = await yard.request(job)
  await yard.ledger.comesTo(job, 'beat', 2)
  const [session] = await yard.query<{ pid: number }>('select target_pid as pid from yardmaster.attempt')
  process.kill(first.pid, 'SIGSTOP')
  const stopped = performance.now()
  const second = await yard.worker('h2')
  await yard.becomes(run, { status: 'RUNNING', attempt: 2 }, 40_000)
  // The one before it works until it is ended; its beats end before the next one begins.
  await yard.ledger.comesTo(job, 'start', 2)
  expect(await sessionsOf(yard.ledger.database, session?.pid ?? 0)).toBe(0)
  const marks = await yard.ledger.marks(job)
  const begun = marks.findIndex(({ what, attempt }) => what === 'start' && attempt === 2)
  expect(marks[begun]?.others).toBe(0)
  expect(marks.slice(0, begun).filter(({ what }) => what === 'beat').length).toBeGreaterThan(10)
  expect(marks.slice(begun).filter(({ attempt }) => attempt !== 2)).toEqual([])

  await yard.query('select yardmaster.cancel_run($1)', [run])
  await yard.becomes(run, { status: 'CRITICAL', reason: 'cancelled', attempt: 2 })
  // It stands still for as long as the scenario says.
  await delay(Math.max(0, still * 1000 - (performance.now() - stopped)))
  const before = await everything(yard)
  process.kill(first.pid, 'SIGCONT')
  await first.waitForOutput(/run \d+ \w+ in .*another attempt took its place/)
  expect(await everything(yard)).toEqual(before)
  await yard.ledger.neverTwice()
  // It works on.
  await second.kill('SIGTERM')
  await yard.becomes(await yard.request(await yard.idle('marks')), { status: 'OK' })
  await yard.nothingRuns()
})
