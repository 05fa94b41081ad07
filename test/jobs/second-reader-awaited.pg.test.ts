import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import type { Claimant } from '../scenarios/claim-desk.ts'
import { claimJobs, endJob, JobDesk } from '../scenarios/job-desk.ts'

let desk: JobDesk
let worker: Claimant
const idle = { schedule_interval: null }

beforeAll(async () => {
  desk = await JobDesk.open('awaited second reader')
  worker = await desk.worker('one', 50)
})

async function taken(job: number): Promise<string> {
  const mine = (await claimJobs(worker, 50)).find(({ job_id }) => job_id === job)
  expect(mine, JSON.stringify(await desk.runs(job))).toBeDefined()
  return mine?.token ?? ''
}

/** Runs a job that somebody asked for to its end. */
async function runs(job: number, status: 'OK' | 'CRITICAL' = 'OK'): Promise<void> {
  await desk.request(job)
  await endJob(worker, await taken(job), status)
}

/** One outcome, as the outbox of a worker sends it. */
const record = (client: pg.Client, token: string) =>
  client.query('select mine from yardmaster.record_progress($1, $2)', [
    '[]',
    JSON.stringify([{ token, status: 'OK', reason: null, message: 'done', rows: 0, bytes: 0 }]),
  ])

test('two predecessors whose ends are recorded at once, each alone, start what waits for both', async () => {
  const [first, second] = [await desk.job(idle), await desk.job({ ...idle, database: 'south' })]
  const behind = await desk.job({ ...idle, after: [first, second] })
  await desk.request(first)
  await desk.request(second)
  const [one = '', other = ''] = (await claimJobs(worker, 50)).map(({ token }) => token)
  const slow = await desk.database.client()
  await slow.query('begin')
  await record(slow, one)
  // Whoever is second sees what the first one wrote, or waits for it.
  const ending = record(worker.client, other)
  await expect
    .poll(async () => {
      const [row] = await desk.database.query<{ over: boolean }>(
        `select not exists (select from pg_stat_activity where datname = current_database() and state = 'active' and pid <> pg_backend_pid()
          and coalesce(wait_event_type, '') <> 'Lock') as over`,
      )
      return row?.over
    })
    .toBe(true)
  await slow.query('commit')
  await ending
  expect(await desk.runs(behind)).toMatchObject([{ status: 'WAITING', queued: true }])
  await endJob(worker, await taken(behind))
})

/** A job whose slot is held for another that has not run. */
async function held(more: object = {}): Promise<{ before: number; behind: number }> {
  const before = await desk.job(idle)
  const behind = await desk.job({ schedule_interval: '1 hour', after: [before], ...more })
  await desk.decide()
  await desk.passes(behind, '2026-01-01 00:00Z')
  await claimJobs(worker, 50)
  expect(await desk.runs(behind)).toMatchObject([{ status: 'WAITING', queued: false }])
  return { before, behind }
}

test('what is held is let go when its job does not start after others any more', async () => {
  const { behind } = await held()
  await desk.change(behind, { after: [] })
  await endJob(worker, await taken(behind))
  expect(await desk.runs(behind)).toMatchObject([{ status: 'OK' }])
})

test('what is held is let go when its job needs less than before, and that is there', async () => {
  const { before, behind } = await held()
  await runs(before, 'CRITICAL')
  expect(await desk.runs(behind)).toMatchObject([{ queued: false }])
  await desk.change(behind, { after: [`${before}:done`] })
  await endJob(worker, await taken(behind))
})

test('what is held is let go when its predecessor does not run any more where it failed', async () => {
  await desk.database.query(
    `select yardmaster.alter_database(n, tags => '{both}') from unnest('{south,west}'::text[]) n`,
  )
  const before = await desk.job({ ...idle, database: 'tag:both' })
  const behind = await desk.job({ schedule_interval: '1 hour', after: [before] })
  await desk.decide()
  await desk.passes(behind, '2026-01-01 00:00Z')
  await claimJobs(worker, 50)
  await desk.request(before)
  const [south, west] = await claimJobs(worker, 50)
  await endJob(worker, south?.token ?? '')
  await endJob(worker, west?.token ?? '', 'CRITICAL')
  expect(await desk.runs(behind)).toMatchObject([{ queued: false }])
  await desk.database.query(`select yardmaster.alter_database('west', tags => '{}')`)
  await endJob(worker, await taken(behind))
})

test('a predecessor that ends while a job is paused lets go what is held, when the job goes on', async () => {
  const { before, behind } = await held()
  await desk.database.query('select yardmaster.pause_job($1)', [behind])
  await runs(before)
  await desk.database.query('select yardmaster.resume_job($1)', [behind])
  await endJob(worker, await taken(behind))
})

test('a predecessor that ends while a worker looks into a job starts it, once that was done', async () => {
  const before = await desk.job(idle)
  const behind = await desk.job({ ...idle, after: [before] })
  await desk.change(behind, { proc: 'public.other' })
  await runs(before)
  expect(await desk.runs(behind)).toEqual([])
  await desk.database.query('select yardmaster.settle_verification($1, null, null, null)', [behind])
  await endJob(worker, await taken(behind))
})

test('a slot that failed behind its predecessor is tried again without another run of that', async () => {
  const { before, behind } = await held({ retry_period: '0' })
  await runs(before)
  await endJob(worker, await taken(behind), 'CRITICAL')
  await desk.decide()
  await desk.passes(behind, '2026-01-01 00:05Z')
  await endJob(worker, await taken(behind))
  // The next slot needs the next run of it.
  await desk.decide()
  await desk.passes(behind, '2026-01-01 01:00Z')
  await claimJobs(worker, 50)
  expect((await desk.runs(behind)).map((run) => [run.status, run.queued])).toEqual([
    ['CRITICAL', true],
    ['OK', true],
    ['WAITING', false],
  ])
})

async function loses(token: string): Promise<void> {
  await desk.database.query(
    'select yardmaster.give_up_attempts(array(select worker_id from yardmaster.attempt where token = $1))',
    [token],
  )
}

test('what is never to be repeated after a crash is not started again behind the same run of its predecessor', async () => {
  const before = await desk.job(idle)
  const behind = await desk.job({ ...idle, after: [before], retry_on_crash: 'never', retry_period: '0' })
  await runs(before)
  await loses(await taken(behind))
  expect(await desk.runs(behind)).toMatchObject([{ status: 'CRITICAL', reason: 'worker_lost' }])
})

test('a run behind others that found its lock taken is tried again', async () => {
  const before = await desk.job(idle)
  const behind = await desk.job({ ...idle, after: [before] })
  await runs(before)
  const token = await taken(behind)
  await worker.client.query(`select yardmaster.finish_run($1, 'CRITICAL', 'locked', 'locked by 17', 0, 0)`, [token])
  expect(await desk.runs(behind)).toMatchObject([{ status: 'CRITICAL' }, { status: 'WAITING', queued: true }])
})

test('its dependencies are changed while a run of a predecessor ends: both come through', async () => {
  const { before, behind } = await held()
  await desk.request(before)
  const token = await taken(before)
  const person = await desk.database.client()
  await person.query('begin')
  await person.query('select yardmaster.set_dependencies($1, $2)', [behind, '[]'])
  const ending = endJob(worker, token)
  ending.catch(() => undefined)
  await expect
    .poll(() =>
      desk.database.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      ),
    )
    .toHaveLength(1)
  await person.query('select yardmaster.change_job($1, $2)', [behind, '{"next_start": "2030-01-01 00:00Z"}'])
  await person.query('commit')
  expect(await ending).toBe(true)
})
