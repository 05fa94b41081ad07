import { beforeAll, expect, test } from 'vitest'
import type { Claimant } from '../scenarios/claim-desk.ts'
import { claimJobs, endJob, JobDesk } from '../scenarios/job-desk.ts'

let desk: JobDesk
let worker: Claimant
const idle = { schedule_interval: null }

beforeAll(async () => {
  desk = await JobDesk.open('ends second reader')
  worker = await desk.worker('one', 50)
})

async function taken(job: number, by = worker): Promise<string> {
  const mine = (await claimJobs(by, 50)).find(({ job_id }) => job_id === job)
  expect(mine, JSON.stringify(await desk.runs(job))).toBeDefined()
  return mine?.token ?? ''
}

/** A job with a run under way, of a schedule or asked for. */
async function underWay(definition: object, by = worker): Promise<{ job: number; run: string; token: string }> {
  const job = await desk.job({ ...idle, ...definition })
  const run = await desk.request(job)
  return { job, run, token: await taken(job, by) }
}

const loses = (id: string) => desk.database.query('select yardmaster.give_up_attempts(array[$1::bigint])', [id])

async function stats(job: number): Promise<object | undefined> {
  const [row] = await desk.database.query<object>(
    `select total_runs::int as runs, total_successes::int as good, total_failures::int as failed, failures, crashed
     from yardmaster.job_state where job_id = $1`,
    [job],
  )
  return row
}

test('a run that somebody cancelled is over with its worker: no other begins it again', async () => {
  const { job, run } = await underWay({ retry_on_crash: 'now' })
  await desk.database.query('select yardmaster.cancel_run($1)', [run])
  await loses(worker.id)
  expect(await desk.runs(job)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
  expect(await stats(job)).toMatchObject({ failures: 0, crashed: false })
})

test('a run of a job that was deleted is over with its worker', async () => {
  const { job } = await underWay({ retry_on_crash: 'now' })
  await desk.database.query('select yardmaster.delete_job($1)', [job])
  await loses(worker.id)
  expect(await desk.runs(job)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
})

test('a run is over with its worker where its job does not run any more', async () => {
  const { job } = await underWay({ retry_on_crash: 'now' })
  await desk.change(job, { database: 'south', verified: true })
  await loses(worker.id)
  expect(await desk.runs(job)).toMatchObject([{ status: 'CRITICAL' }])
})

test('a run that was cancelled while its worker stopped is not given back', async () => {
  const { job, run, token } = await underWay({})
  await desk.database.query('select yardmaster.cancel_run($1)', [run])
  expect(await endJob(worker, token, 'WAITING')).toBe(true)
  expect(await desk.runs(job)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
  // Said again, by a worker that missed the answer.
  expect(await endJob(worker, token, 'WAITING')).toBe(true)
})

test('what is given back of a deleted job is over', async () => {
  const { job, token } = await underWay({})
  await desk.database.query('select yardmaster.delete_job($1)', [job])
  await endJob(worker, token, 'WAITING')
  expect(await desk.runs(job)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
})

test('a slot of a job that was paused does not hold up what somebody asks for', async () => {
  const job = await desk.job({ schedule_interval: '1 hour' })
  await desk.decide()
  await desk.passes(job, '2026-01-01 00:00Z')
  await desk.database.query(`select yardmaster.queue_due_slots('{procedure}')`)
  await desk.database.query('select yardmaster.pause_job($1)', [job])
  expect(await desk.runs(job)).toMatchObject([{ status: 'WAITING' }])
  const run = await desk.request(job)
  const [why] = await desk.database.query(`select code from yardmaster.why_waiting($1)`, [run])
  expect(why).not.toMatchObject({ code: 'overlap' })
  const claims = await claimJobs(worker, 50)
  expect(claims).toMatchObject([{ run_id: run }])
  await endJob(worker, claims[0]?.token ?? '')
})

test('a worker that comes back takes its run with it, and that counts once', async () => {
  const other = await desk.worker('away', 50)
  const { job, token } = await underWay({ retry_on_crash: 'never' }, other)
  await desk.database.query(`update yardmaster.worker set ended_at = now(), end_reason = 'lost' where id = $1`, [
    other.id,
  ])
  await loses(other.id)
  expect(await stats(job)).toEqual({ runs: 1, good: 0, failed: 1, failures: 1, crashed: true })
  await other.client.query('select yardmaster.beat_worker($1)', [other.id])
  expect(await desk.runs(job)).toMatchObject([{ status: 'RUNNING' }])
  expect(await stats(job)).toEqual({ runs: 0, good: 0, failed: 0, failures: 0, crashed: false })
  await endJob(other, token)
  expect(await stats(job)).toEqual({ runs: 1, good: 1, failed: 0, failures: 0, crashed: false })
})

test('a slot of a task that no worker knows does not have the others look for it all the time', async () => {
  const task = await desk.job({ proc: undefined, task: 'unknown', database: undefined, schedule_interval: '1 hour' })
  await desk.decide()
  await desk.passes(task, '2026-01-01 00:00Z')
  const seconds = () =>
    desk.database.query<{ due: number | null; work: number | null }>(
      `select yardmaster.seconds_until_due('{procedure,task:known}') as due, yardmaster.seconds_until_work($1, '{procedure,task:known}') as work`,
      [worker.id],
    )
  const [row] = await seconds()
  expect(row?.due ?? 1).toBeGreaterThan(0)
  expect(row?.work ?? 1).toBeGreaterThan(0)
  const [known] = await desk.database.query<{ due: number }>(
    `select yardmaster.seconds_until_due('{task:unknown}') as due`,
  )
  expect(known?.due).toBeLessThan(0)
})
