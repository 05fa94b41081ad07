import { expect, onTestFinished, test } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import type { Control } from '../control/control.ts'
import { decideNextStarts } from './next-starts.ts'

async function jobs(
  label: string,
  schedules: readonly string[],
): Promise<{ database: TestDatabase; control: Control }> {
  const database = await createDatabase(`next starts ${label}`)
  const control = await openTestControl(database.url)
  onTestFinished(() => control.close())
  await database.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
  for (const [index, options] of schedules.entries()) {
    await database.query(
      `select yardmaster.set_replication_status(yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', $1, $2), 'active')`,
      [`t${index}`, options],
    )
  }
  return { database, control }
}

const starts = (database: TestDatabase) =>
  database.query<{ name: string; seconds: number | null; period: number | null; status: string; note: string | null }>(`
    select destination_name as name, round(extract(epoch from v.next_start - j.schedule_origin))::int as seconds,
      extract(epoch from v.period)::int as period, v.status, v.pause_note as note
    from yardmaster.replications v join yardmaster.job j on j.id = v.job_id order by v.job_id`)

test('every schedule gets its next start and period, however many there are; those without a schedule none', async () => {
  const many = Array.from({ length: 620 }, () => '{"schedule_interval": "90 seconds"}')
  const { database, control } = await jobs('all', [...many, '{}'])
  expect(await decideNextStarts(control)).toBe(620)
  const found = await starts(database)
  expect(found.slice(0, 620).every((one) => one.seconds === 90 && one.period === 90)).toBe(true)
  expect(found[620]).toMatchObject({ seconds: null, period: null })
  expect(await decideNextStarts(control)).toBe(0)
})

test('a cron expression that was written in SQL is read here; one that makes no sense pauses its job and says why', async () => {
  const { database, control } = await jobs('cron', [
    '{"cron": "0 30 2 * * *", "timezone": "Europe/London"}',
    '{"cron": "61 * * * *"}',
    '{"cron": "0 0 30 2 *"}',
  ])
  expect(await decideNextStarts(control)).toBe(1)
  const [good, bad, never] = await starts(database)
  expect(good).toMatchObject({ status: 'active', period: 86_400 })
  const [{ local } = { local: '' }] = await database.query<{ local: string }>(
    `select to_char(next_start at time zone 'Europe/London', 'HH24:MI:SS') as local from yardmaster.replications where next_start is not null`,
  )
  expect(local).toBe('02:30:00')
  expect(bad).toMatchObject({ status: 'paused', seconds: null, note: expect.stringContaining('61') })
  expect(never).toMatchObject({ status: 'paused', seconds: null, note: expect.stringMatching(/^Its schedule: /) })
})

test('a decision is not written when what it rests on has changed meanwhile', async () => {
  const { database } = await jobs('changed', ['{"schedule_interval": "90 seconds"}'])
  const [state] = await database.query<{ job_id: number; database_id: string; facts: string }>(
    'select job_id, database_id, facts from yardmaster.undecided_states(9)',
  )
  await database.query(`select yardmaster.alter_replication(1000, '{"schedule_interval": "1 hour"}')`)
  const written = await database.query('select yardmaster.set_next_starts($1) as n', [
    JSON.stringify([{ ...state, start: new Date(), slot: new Date(), period: 90, catch_up: [], skipped: [] }]),
  ])
  expect(written).toEqual([{ n: 0 }])
})

test('nothing is decided while a run of the schedule is open, and everything anew when the schedule changes', async () => {
  const { database, control } = await jobs('open', ['{"schedule_interval": "90 seconds"}'])
  await database.query('select yardmaster.queue_run(1000)')
  await database.query('update yardmaster.run set requested = false')
  expect(await decideNextStarts(control)).toBe(0)
  await database.query(`update yardmaster.run set status = 'OK'`)
  expect(await decideNextStarts(control)).toBe(1)
  await database.query(`select yardmaster.alter_replication(1000, '{"schedule_interval": "2 hours"}')`)
  expect(await starts(database)).toMatchObject([{ seconds: null, period: null }])
  expect(await decideNextStarts(control)).toBe(1)
  expect(await starts(database)).toMatchObject([{ seconds: 7200, period: 7200 }])
})
