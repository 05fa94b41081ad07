import { beforeAll, describe, expect, it } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import type { Control } from '../control/control.ts'
import { type JobRow, readAlerts, readJobs } from './job-board.ts'

let database: TestDatabase
let control: Control

beforeAll(async () => {
  database = await createDatabase('job board')
  control = await openTestControl(database.url)
  await database.query(`select yardmaster.add_database(name, 'env:' || name, tags => tags)
    from (values ('crm', '{prod}'::text[]), ('dwh', '{prod}')) d(name, tags)`)
})

/** A job that may start; `more`: keys as define_job has them. */
async function define(name: string, more: object = {}): Promise<number> {
  const definition = {
    name,
    proc: 'public.work',
    database: 'dwh',
    schedule_interval: '10 minutes',
    verified: true,
    ...more,
  }
  const [row] = await database.query<{ id: number }>('select yardmaster.define_job($1) as id', [
    JSON.stringify(definition),
  ])
  return row?.id ?? 0
}

/** What its runs have come to, in the first of its databases. */
async function stand(jobId: number, columns: string): Promise<void> {
  await database.query(
    `update yardmaster.job_state s set ${columns}
     where s.job_id = $1 and s.database_id = (select min(database_id) from yardmaster.job_state where job_id = $1)`,
    [jobId],
  )
}

async function boardOf(...ids: number[]): Promise<JobRow[]> {
  return (await readJobs(control)).filter((row) => ids.includes(row.job_id))
}

describe('the board of jobs', () => {
  it('has the worst first, and levels', async () => {
    const ids = {
      fine: await define('fine'),
      failed: await define('failed'),
      lost: await define('lost'),
      warned: await define('warned'),
      held: await define('held', { scheduled: false }),
      stopped: await define('stopped'),
      nowhere: await define('nowhere', { database: 'tag:nobody' }),
      unseen: await define('unseen', { verified: false }),
      fresh: await define('fresh', { verified: false }),
      partly: await define('partly', { database: 'tag:prod' }),
    }
    await stand(ids.fine, `last_status = 'OK'`)
    await stand(ids.failed, `last_status = 'CRITICAL', failures = 2`)
    await stand(ids.lost, `last_status = 'OK', failures = 1, crashed = true`)
    await stand(ids.warned, `last_status = 'WARNING'`)
    await stand(ids.partly, `paused_at = now(), last_status = 'CRITICAL', failures = 3`)
    await database.query(`update yardmaster.job set status = 'paused', paused_by = 'max_retries' where id = $1`, [
      ids.stopped,
    ])
    await database.query(`update yardmaster.job set created_at = now() - interval '2 minutes' where id = $1`, [
      ids.unseen,
    ])
    const names = new Map(Object.entries(ids).map(([name, id]) => [id, name]))
    const board = await boardOf(...Object.values(ids))
    expect(board.map(({ job_id: id, level }) => [names.get(id), level])).toEqual([
      ['failed', 'CRITICAL'],
      ['stopped', 'CRITICAL'],
      ['partly', 'CRITICAL'],
      ['lost', 'WARNING'],
      ['warned', 'WARNING'],
      ['held', 'WARNING'],
      ['nowhere', 'WARNING'],
      ['unseen', 'WARNING'],
      ['fine', 'OK'],
      ['fresh', 'OK'],
    ])
    expect(board[0]).toMatchObject({ jobs: 10, critical: 3, warnings: 5, label: `failed [${ids.failed}]` })
    expect(board[2]).toMatchObject({ place: 'tag:prod', databases: 2, paused_databases: 1, failures: 3 })
    const some = await database.query<{ job_id: number; jobs: number }>(
      'select job_id, jobs from yardmaster.job_board(2)',
    )
    expect(some).toEqual([ids.failed, ids.stopped].map((id) => ({ job_id: id, jobs: 10 })))
    for (const id of Object.values(ids)) await database.query('select yardmaster.delete_job($1)', [id])
    expect(await readJobs(control)).toEqual([])
  })

  it('says what a job starts after, and what of that is awaited', async () => {
    const [one, other] = [await define('one'), await define('other', { database: 'crm' })]
    const id = await define('both', { after: [one, other], schedule_interval: null })
    expect(await boardOf(id)).toMatchObject([
      {
        after: [`one [${one}]`, `other [${other}]`],
        waits_for: [`one [${one}]`, `other [${other}]`],
        next_start: null,
      },
    ])
    await stand(other, 'last_good_run = 5')
    expect(await boardOf(id)).toMatchObject([{ waits_for: [`one [${one}]`] }])
    await database.query('select yardmaster.pause_job($1)', [id])
    expect(await boardOf(id)).toMatchObject([{ waits_for: [], level: 'WARNING', status: 'paused' }])
  })

  it('shows a start that never comes as none', async () => {
    const id = await define('never')
    await stand(id, `next_start = 'infinity'`)
    expect(await boardOf(id)).toMatchObject([{ next_start: null }])
  })
})

it('reads alerts that are open, worst first, with their count', async () => {
  await database.query(`select yardmaster.open_alert('BLOCKED', 'a', 2, 'waits'), yardmaster.open_alert('FAILED_RUN', 'b', 3, 'fails'),
    yardmaster.open_alert('FAILED_RUN', 'c', 3, 'is over')`)
  await database.query(`update yardmaster.alert set closed_at = now() where job_name = 'c'`)
  expect((await readAlerts(control)).map((one) => [one.job_name, one.level, one.count])).toEqual([
    ['b', 'CRITICAL', 2],
    ['a', 'WARNING', 2],
  ])
})
