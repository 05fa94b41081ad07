import { beforeEach, expect, test } from 'vitest'
import { type Claimant, ClaimDesk, type Claimed, claim, finish } from './claim-desk.ts'

let desk: ClaimDesk

beforeEach(async () => {
  desk = await ClaimDesk.open('claims')
})

/** Resolves when somebody waits for a lock in this database. */
async function somebodyWaits(): Promise<void> {
  const waiting = () =>
    desk.database.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
  await expect.poll(waiting, { timeout: 10_000, interval: 5 }).not.toEqual([])
}

test('50 claimers at once over 500 runs: each run is given once, never more than a worker has slots, oldest first', async () => {
  const jobs = await desk.jobs(500, 'many')
  await desk.database.query(
    `insert into yardmaster.run (job_id, slot, database_id, operation, object, status, queued)
     select id, timestamptz '2026-01-01' + n * interval '1 s', 2, 'refresh', 'one', 'WAITING', true
     from unnest($1::int[]) with ordinality as j(id, n)`,
    [jobs],
  )
  const workers = await Promise.all(Array.from({ length: 50 }, (_, n) => desk.worker(`w${n}`, 4)))
  const given: Claimed[] = []
  const work = async (worker: Claimant) => {
    for (;;) {
      const claims = await claim(worker, 9)
      expect(claims.length).toBeLessThanOrEqual(4)
      const ids = claims.map((one) => Number(one.run_id))
      expect(ids).toEqual(ids.toSorted((a, b) => a - b))
      given.push(...claims)
      if (claims.length === 0) return
      for (const { token } of claims) expect(await finish(worker, token)).toBe(true)
    }
  }
  await Promise.all(workers.map(work))
  expect(given.length).toBe(500)
  expect(new Set(given.map((one) => one.run_id)).size).toBe(500)
  expect(given.every((one) => one.attempt === 1)).toBe(true)
  await desk.rulesHold()
  for (const { client, id } of workers) {
    await client.query('select yardmaster.end_worker($1)', [id])
    await client.end()
  }
})

test('two claims of one worker at once give no more than its slots', async () => {
  const jobs = await desk.jobs(8, 'slots')
  for (const job of jobs) await desk.queue(job)
  const one = await desk.worker('one', 3)
  const second = await desk.database.client()
  await one.client.query('begin')
  const first = await claim(one, 3)
  const other = claim({ client: second, id: one.id }, 3)
  await somebodyWaits()
  await one.client.query('commit')
  expect([first.length, (await other).length]).toEqual([3, 0])
  await desk.rulesHold()
})

test('two runs of one job wait: the older one is given alone, the younger one when it has ended', async () => {
  const [job = 0] = await desk.jobs(1, 'pair')
  const [younger, older] = [await desk.wait(job, '1 minute'), await desk.wait(job, '2 minutes')]
  const [one, two] = [await desk.worker('one', 4), await desk.worker('two', 4)]
  await one.client.query('begin')
  const first = await claim(one, 4)
  expect(first.map((run) => run.run_id)).toEqual([older])
  expect(await claim(two, 4)).toEqual([])
  await one.client.query('commit')
  expect(await claim(two, 4)).toEqual([])
  await finish(one, first[0]?.token ?? '')
  expect((await claim(two, 4)).map((run) => run.run_id)).toEqual([younger])
  await desk.rulesHold()
})

test('a run that comes to stand before one that is just being taken: nothing is given that was not kept', async () => {
  const [job = 0, ...others] = await desk.jobs(3, 'before')
  const requested = await desk.queue(job)
  const [one, two] = [await desk.worker('one', 4), await desk.worker('two', 4)]
  await one.client.query('begin')
  expect((await claim(one, 4)).map((run) => run.run_id)).toEqual([requested])
  await desk.wait(job, '1 hour')
  for (const other of others) await desk.queue(other)
  const racing = claim(two, 4)
  await somebodyWaits()
  await one.client.query('commit')
  const given = await racing
  const kept = await desk.database.query(
    `select token from yardmaster.attempt where worker_id = $1 and status = 'RUNNING'`,
    [two.id],
  )
  expect(given.map((run) => run.token).sort()).toEqual(kept.map((row) => row.token).sort())
  await desk.rulesHold()
  expect([...given, ...(await claim(two, 4))].map((run) => run.job_id).sort()).toEqual(others)
})

test('a worker that was given up gets nothing, and its old token ends nothing', async () => {
  const [job = 0] = await desk.jobs(1, 'given up')
  const run = await desk.queue(job)
  const [one, two] = [await desk.worker('one', 2), await desk.worker('two', 2)]
  const [mine] = await claim(one, 2)
  await desk.database.query(
    `update yardmaster.worker set lease_until = clock_timestamp() - interval '1 s' where id = $1`,
    [one.id],
  )
  // The test's server may be younger than a lease; only then is a lease that is over no reason yet.
  const lost = async () => (await two.client.query('select yardmaster.release_lost_workers() as lost')).rows[0].lost
  await expect.poll(lost, { timeout: 20_000, interval: 50 }).toBe(1)
  expect(await claim(one, 2)).toEqual([])
  const [theirs] = await claim(two, 2)
  expect([theirs?.run_id, theirs?.attempt]).toEqual([run, 2])
  expect(await finish(one, mine?.token ?? '')).toBe(false)
  const report = (token: string) =>
    one.client.query(`select * from yardmaster.record_progress($1, '[]')`, [
      JSON.stringify([{ token, ordinal: 1, action: 'load', status: 'RUNNING', started_at: '2026-01-01T00:00:00Z' }]),
    ])
  await report(mine?.token ?? '')
  const steps = () =>
    desk.database.query('select attempt from yardmaster.steps where run_id = $1 order by attempt', [run])
  expect(await steps()).toEqual([])
  await report(theirs?.token ?? '')
  expect(await steps()).toEqual([{ attempt: 2 }])
  const [row] = await desk.database.query('select status from yardmaster.runs where id = $1', [run])
  expect(row?.status).toBe('RUNNING')

  // Awake again, it lives, but takes nothing back that another one has.
  await one.client.query('select yardmaster.beat_worker($1)', [one.id])
  expect((await one.client.query('select * from yardmaster.held_runs($1)', [one.id])).rows).toEqual([])
  expect(await finish(two, theirs?.token ?? '')).toBe(true)
  await desk.rulesHold()
})

test('a worker that comes back before anybody else goes on with its own attempt', async () => {
  const [job = 0] = await desk.jobs(1, 'come back')
  const run = await desk.queue(job)
  const one = await desk.worker('one', 2)
  const [mine] = await claim(one, 2)
  await desk.database.query(
    `update yardmaster.worker set ended_at = clock_timestamp(), end_reason = 'lost' where id = $1`,
    [one.id],
  )
  await desk.database.query(`select yardmaster.give_up_attempts(array[$1::bigint])`, [one.id])
  await one.client.query('select yardmaster.beat_worker($1)', [one.id])
  const held = await one.client.query('select run_id, token from yardmaster.held_runs($1)', [one.id])
  expect(held.rows).toEqual([{ run_id: run, token: mine?.token }])
  expect(await finish(one, mine?.token ?? '')).toBe(true)
  // The answer may have been lost: the same again is true again, another outcome is not.
  expect(await finish(one, mine?.token ?? '')).toBe(true)
  expect(await finish(one, mine?.token ?? '', 'WARNING')).toBe(false)
  await desk.rulesHold()
})

test('of a paused job the run that somebody asked for is given, its schedule is not; of a removed one nothing', async () => {
  const [paused = 0, removed = 0] = await desk.jobs(2, 'paused', '1 hour')
  const due = (job: number) =>
    desk.database.query(
      `update yardmaster.job_state set next_start = clock_timestamp() - interval '1 s', next_slot = clock_timestamp() - interval '1 s' where job_id = $1`,
      [job],
    )
  const one = await desk.worker('one', 4)
  await desk.wait(paused, '1 minute')
  await desk.database.query('select yardmaster.pause_replication($1)', [paused])
  await due(paused)
  expect(await claim(one, 4)).toEqual([])
  await desk.database.query(`update yardmaster.run set status = 'OK' where job_id = $1`, [paused])
  const requested = await desk.queue(paused)
  await desk.queue(removed)
  await desk.database.query('select yardmaster.remove_replication($1)', [removed])
  expect((await claim(one, 4)).map((run) => run.run_id)).toEqual([requested])
  const [row] = await desk.database.query('select status, reason from yardmaster.runs where job_id = $1', [removed])
  expect(row).toEqual({ status: 'CRITICAL', reason: 'cancelled' })
})

test('a start that is set while one of the schedule runs waits for the end of that run', async () => {
  const [job = 0] = await desk.jobs(1, 'swallowed', '1 hour')
  const one = await desk.worker('one', 4)
  await desk.database.query(
    `update yardmaster.job_state set next_start = '2026-03-01T09:00:00Z', next_slot = '2026-03-01T09:00:00Z' where job_id = $1`,
    [job],
  )
  const [run] = await claim(one, 4)
  const slot = '2026-03-01T10:00:00Z'
  await desk.database.query('update yardmaster.job_state set next_start = $2, next_slot = $2 where job_id = $1', [
    job,
    slot,
  ])
  const undecided = () => desk.database.query('select job_id from yardmaster.undecided_states(10)')
  expect(await claim(one, 4)).toEqual([])
  expect(await desk.database.query(`select from yardmaster.run where job_id = $1`, [job])).toHaveLength(1)
  await finish(one, run?.token ?? '')
  expect(await undecided()).toEqual([])
  const [second] = await claim(one, 4)
  const [state] = await desk.database.query(
    'select next_start, last_slot from yardmaster.job_state where job_id = $1',
    [job],
  )
  expect(state).toEqual({ next_start: null, last_slot: new Date(slot) })
  expect(await undecided()).toEqual([])
  await finish(one, second?.token ?? '')
  expect(await undecided()).toEqual([{ job_id: job }])
})

test('a slot that is due while somebody’s own run is open waits behind it, and comes when that one is cancelled', async () => {
  const [job = 0] = await desk.jobs(1, 'own', '1 hour')
  const one = await desk.worker('own', 4)
  await desk.queue(job)
  const [run] = await claim(one, 4)
  await desk.database.query(
    `update yardmaster.job_state set next_start = '2026-03-01T10:00:00Z', next_slot = '2026-03-01T10:00:00Z' where job_id = $1`,
    [job],
  )
  expect(await claim(one, 4)).toEqual([])
  const slots = () =>
    desk.database.query('select status, requested from yardmaster.run where job_id = $1 order by requested', [job])
  expect(await slots()).toEqual([
    { status: 'WAITING', requested: false },
    { status: 'RUNNING', requested: true },
  ])
  await finish(one, run?.token ?? '')
  expect(await claim(one, 4)).toMatchObject([{ job_id: job }])
})

test('what was given back has not ended, whatever else its attempt says afterwards', async () => {
  const [job = 0] = await desk.jobs(1, 'back', '1 hour')
  const one = await desk.worker('gives-back', 1)
  await desk.queue(job)
  const [run] = await claim(one, 1)
  expect(await finish(one, run?.token ?? '', 'WAITING')).toBe(true)
  expect(await finish(one, run?.token ?? '', 'WAITING')).toBe(true)
  expect(await finish(one, run?.token ?? '', 'CRITICAL')).toBe(false)
  expect(await claim(one, 1)).toMatchObject([{ run_id: run?.run_id }])
})

test('a slot is made once, whoever finds it due, and however often it comes', async () => {
  const jobs = await desk.jobs(40, 'slot', '1 hour')
  const slot = '2026-02-01T10:00:00Z'
  const workers = await Promise.all(Array.from({ length: 8 }, (_, n) => desk.worker(`w${n}`, 50)))
  const given: Claimed[] = []
  const takeAll = async (worker: Claimant) => {
    const runs = await claim(worker, 50)
    given.push(...runs)
    for (const { token } of runs) await finish(worker, token)
  }
  for (let round = 0; round < 2; round += 1) {
    await desk.database.query(
      'update yardmaster.job_state set next_start = $2, next_slot = $2 where job_id = any($1)',
      [jobs, slot],
    )
    await Promise.all(workers.map(takeAll))
    // Some were skipped because another claim held them in that moment.
    for (const worker of workers) await takeAll(worker)
  }
  expect(given.map((run) => run.job_id).sort()).toEqual(jobs.toSorted())
  await desk.rulesHold()
})

test('slots that a claim makes into runs and does not take are told to those who may have looked past them', async () => {
  const [job = 0] = await desk.jobs(1, 'told')
  await desk.database.query(
    `select yardmaster.alter_replication($1, '{"site": "told", "schedule_interval": "1 hour"}')`,
    [job],
  )
  await desk.database.query(`select yardmaster.set_binding('told', 'stranger', 'forbid')`)
  const [stranger, other] = [await desk.worker('stranger', 4), await desk.worker('other', 4)]
  const heard = Promise.withResolvers<string>()
  other.client.on('notification', ({ channel }) => heard.resolve(channel))
  await other.client.query('listen yardmaster_work')
  await desk.database.query(
    `update yardmaster.job_state set next_start = clock_timestamp() - interval '1 s', next_slot = clock_timestamp() - interval '1 s' where job_id = $1`,
    [job],
  )
  expect(await claim(stranger, 4)).toEqual([])
  expect(await heard.promise).toBe('yardmaster_work')
  expect((await claim(other, 4)).map((run) => run.job_id)).toEqual([job])
})

test('a backfill does not hold up what its schedule has due, and goes on behind it', async () => {
  const database = desk.database
  const [made] = await database.query<{ id: number }>(
    `select yardmaster.define_job('{"proc": "public.p", "database": "dwh", "schedule_interval": "1 hour", "verified": true}') as id`,
  )
  const job = made?.id ?? 0
  await database.query(
    `select yardmaster.backfill_slots($1, array(select timestamptz '2020-01-01' + n * interval '1 hour' from generate_series(0, 9) n))`,
    [job],
  )
  await database.query(
    `update yardmaster.job_state set next_start = clock_timestamp() - interval '1 s', next_slot = clock_timestamp() - interval '1 s' where job_id = $1`,
    [job],
  )
  const one = await desk.worker('backfilling', 4)
  const given = async () => {
    const [run, ...more] = (
      await one.client.query(`select * from yardmaster.claim_runs($1, '{procedure}', 4)`, [one.id])
    ).rows
    expect(more).toEqual([])
    await finish(one, run.token)
    return 'backfill' in run.options ? 'backfill' : 'schedule'
  }
  expect([await given(), await given(), await given()]).toEqual(['schedule', 'backfill', 'backfill'])
})
