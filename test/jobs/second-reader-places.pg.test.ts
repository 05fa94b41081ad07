import { beforeAll, expect, test } from 'vitest'
import { JobDesk } from '../scenarios/job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await JobDesk.open('places second reader')
})

const tag = (name: string, tags: string) =>
  ['select yardmaster.alter_database($1, tags => $2::text[])', [name, tags]] as const

function states(job: number): Promise<object[]> {
  return desk.database.query(
    `select d.name, s.in_scope, s.scheduled from yardmaster.job_state s join yardmaster.managed_database d on d.id = s.database_id
     where s.job_id = $1 order by d.name`,
    [job],
  )
}

/** Does one thing while another is done and not committed yet; resolves when both are. */
async function whileOpen(
  first: readonly [string, readonly unknown[]],
  second: readonly [string, readonly unknown[]],
): Promise<void> {
  const [one, other] = [await desk.database.client(), await desk.database.client()]
  await one.query('begin')
  await one.query(first[0], [...first[1]])
  let over = false
  const doing = other.query(second[0], [...second[1]]).finally(() => {
    over = true
  })
  doing.catch(() => undefined)
  const waits = async () =>
    over ||
    (
      await desk.database.query(
        `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      )
    ).length > 0
  await expect.poll(waits, { interval: 5 }).toBe(true)
  await one.query('commit')
  await doing
}

test('a database that gets a tag while a job of that tag is resumed: the job starts there too', async () => {
  const job = await desk.job({ schedule_interval: '1 hour', database: 'tag:a' })
  await desk.database.query('select yardmaster.pause_job($1)', [job])
  await whileOpen(tag('south', '{a}'), ['select yardmaster.resume_job($1)', [job]])
  expect(await states(job)).toEqual([{ name: 'south', in_scope: true, scheduled: true }])
})

test('a database that gets a tag while a job of that tag is paused: no slot becomes a run there', async () => {
  const job = await desk.job({ schedule_interval: '1 hour', database: 'tag:b' })
  await whileOpen(tag('south', '{b}'), ['select yardmaster.pause_job($1)', [job]])
  expect(await states(job)).toMatchObject([{ name: 'south', scheduled: false }])
})

test('a database that gets a tag while a job of that tag is made: the job runs there', async () => {
  const definition = { proc: 'public.any', database: 'tag:c', schedule_interval: '1 hour', verified: true }
  await whileOpen(tag('west', '{c}'), ['select yardmaster.define_job($1)', [JSON.stringify(definition)]])
  const made = await desk.database.query<{ id: number }>('select max(id) as id from yardmaster.job')
  expect(await states(made[0]?.id ?? 0)).toMatchObject([{ name: 'west', in_scope: true, scheduled: true }])
  await whileOpen(
    ['select yardmaster.define_job($1)', [JSON.stringify({ ...definition, database: 'tag:d' })]],
    tag('west', '{d}'),
  )
  const [last] = await desk.database.query<{ id: number }>('select max(id) as id from yardmaster.job')
  expect(await states(last?.id ?? 0)).toMatchObject([{ name: 'west', in_scope: true, scheduled: true }])
})

test('a job that moves to a tag while a database gets it runs there', async () => {
  const job = await desk.job({ schedule_interval: '1 hour' })
  await whileOpen(tag('west', '{e}'), [
    'select yardmaster.change_job($1, $2)',
    [job, '{"database": "tag:e", "verified": true}'],
  ])
  expect(await states(job)).toMatchObject([
    { name: 'north', in_scope: false },
    { name: 'west', in_scope: true, scheduled: true },
  ])
})

test('slots that were left out are forgotten as the history is: no job fills the database by being late', async () => {
  const [often, old] = [await desk.job({ schedule_interval: '1 s' }), await desk.job({ schedule_interval: '1 s' })]
  await desk.database.query(
    `select yardmaster.set_history_limit(keep_for => '30 days', successes => 20, failures => 10)`,
  )
  await desk.database.query(
    `insert into yardmaster.skipped_slots (job_id, database_id, first_slot, last_slot, slots, reason)
     select $1, 1, now() - n * interval '1 s', now() - n * interval '1 s', 1, 'overlap' from generate_series(1, 100) n`,
    [often],
  )
  await desk.database.query(
    `insert into yardmaster.skipped_slots (job_id, database_id, first_slot, last_slot, slots, reason, at)
     values ($1, 1, now() - interval '40 days', now() - interval '40 days', 1, 'missed', now() - interval '40 days'),
       ($1, 1, now() - interval '20 days', now() - interval '20 days', 1, 'missed', now() - interval '20 days')`,
    [old],
  )
  await desk.database.query('select yardmaster.trim_history()')
  const kept = await desk.database.query<{ job_id: number; n: number; newest: boolean }>(
    `select job_id, count(*)::int as n, max(last_slot) > now() - interval '1 min' as newest from yardmaster.skipped_slots group by 1 order by 1`,
  )
  expect(kept).toEqual([
    { job_id: often, n: 30, newest: true },
    { job_id: old, n: 1, newest: false },
  ])
})

test('a database that comes to a tag later has missed no slot of before, and runs the job at once as any new one does', async () => {
  const job = await desk.job({ schedule_interval: '1 hour', catch_up: '30 days', database: 'tag:f' })
  await desk.database.query(
    `update yardmaster.job set schedule_since = now() - interval '20 days', schedule_origin = now() - interval '20 days' where id = $1`,
    [job],
  )
  await desk.database.query('select yardmaster.alter_database($1, tags => $2::text[])', ['west', '{f}'])
  const [state] = await desk.database.query<{ since: Date }>(
    'select since from yardmaster.undecided_states(500) where job_id = $1',
    [job],
  )
  expect(Date.now() - (state?.since.getTime() ?? 0)).toBeLessThan(60_000)
})

test('a next start for a job without a schedule is refused, and says what would run it', async () => {
  const job = await desk.job({ scheduled: false, schedule_interval: undefined })
  const asked = desk.database.query(`select yardmaster.alter_job($1, next_start => now())`, [job])
  await expect(asked).rejects.toMatchObject({ code: 'YM002', message: expect.stringContaining('has no schedule') })
})
