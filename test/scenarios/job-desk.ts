import type pg from 'pg'
import { afterAll, expect } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { decideNextStarts } from '../../src/jobs/next-starts.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import type { Claimant } from './claim-desk.ts'

export interface JobClaim {
  readonly run_id: string
  readonly job_id: number
  readonly attempt: number
  readonly token: string
}

const desks: JobDesk[] = []

afterAll(async () => {
  for (const desk of desks) await desk.control.close()
})

/** A control database alone, with jobs that nobody carries out: what is claimed ends as the test says. */
export class JobDesk {
  readonly database: TestDatabase
  readonly control: Control

  private constructor(database: TestDatabase, control: Control) {
    this.database = database
    this.control = control
  }

  /** With the databases `north`, `south` and `west`. */
  static async open(label: string): Promise<JobDesk> {
    const database = await createDatabase(label)
    const control = await openControl({
      parts: parseConnectionUrl(database.url),
      actor: 'test@here',
      face: 'test',
      key: loadSecretKey({ text: '42'.repeat(32), file: '/nonexistent' }),
    })
    for (const name of ['north', 'south', 'west'])
      await addDatabase(control, name, `postgresql://nobody@127.0.0.1:1/${name}`, [])
    const desk = new JobDesk(database, control)
    desks.push(desk)
    return desk
  }

  /** Makes a job of a definition; in `north`, unless that says otherwise. */
  async job(definition: Readonly<Record<string, unknown>>): Promise<number> {
    const whole = { proc: 'public.any', database: 'north', verified: true, ...definition }
    const [row] = await this.database.query<{ id: number }>('select yardmaster.define_job($1) as id', [
      JSON.stringify(whole),
    ])
    return row?.id ?? 0
  }

  async change(job: number, changes: Readonly<Record<string, unknown>>): Promise<void> {
    await this.database.query('select yardmaster.change_job($1, $2)', [job, JSON.stringify(changes)])
  }

  async request(job: number): Promise<string> {
    const [row] = await this.database.query<{ runs: string[] }>('select yardmaster.request_run($1) as runs', [job])
    return row?.runs[0] ?? ''
  }

  async worker(name: string, slots: number): Promise<Claimant> {
    const client = await this.database.client()
    const { rows } = await client.query('select yardmaster.register_worker($1, $1, $2) as id', [name, slots])
    return { id: rows[0].id, client }
  }

  decide(): Promise<number> {
    return decideNextStarts(this.control)
  }

  /** Has the slots of these jobs' schedules come, as if time had passed. */
  async passes(job: number, slot: string): Promise<void> {
    await this.database.query(
      `update yardmaster.job_state set next_start = $2::timestamptz, next_slot = $2::timestamptz where job_id = $1 and scheduled`,
      [job, slot],
    )
  }

  /** Of one job, in the order in which they were made. */
  runs(job: number): Promise<{ id: string; status: string; reason: string | null; queued: boolean }[]> {
    return this.database.query('select id, status, reason, queued from yardmaster.run where job_id = $1 order by id', [
      job,
    ])
  }

  skipped(job: number): Promise<{ reason: string; slots: number }[]> {
    return this.database.query(
      'select reason, slots::int from yardmaster.skipped_slots where job_id = $1 order by first_slot',
      [job],
    )
  }

  /** What must hold at any time, whatever happens at once. */
  async rulesHold(): Promise<void> {
    const broken = await this.database.query(`
      select 'job runs twice in one database' as rule, job_id::text as what from yardmaster.run
      where status = 'RUNNING' and queued and not shares group by job_id, database_id having count(*) > 1
      union all select 'run without exactly one attempt', r.id::text from yardmaster.run r
      left join yardmaster.attempt a on a.run_id = r.id and a.status = 'RUNNING'
      where r.status = 'RUNNING' group by r.id having count(a.id) <> 1
      union all select 'attempt of a run that does not go on', a.id::text from yardmaster.attempt a
      join yardmaster.run r on r.id = a.run_id where a.status = 'RUNNING' and r.status <> 'RUNNING'
      union all select 'slot twice', job_id::text from yardmaster.run group by job_id, slot, database_id having count(*) > 1
      union all select 'open run of a deleted job', r.id::text from yardmaster.run r join yardmaster.job j on j.id = r.job_id
      where j.deleted_at is not null and r.status = 'WAITING'
      union all select 'totals are not the runs', s.job_id || ' in ' || s.database_id from yardmaster.job_state s
      where s.total_runs <> (select count(*) from yardmaster.run r join yardmaster.attempt a on a.run_id = r.id and a.number = 1
        where r.job_id = s.job_id and r.database_id = s.database_id and r.status in ('OK', 'WARNING', 'CRITICAL'))
        and not exists (select from yardmaster.run r where r.job_id = s.job_id and r.status = 'CRITICAL' and r.reason = 'cancelled')`)
    expect(broken).toEqual([])
  }
}

export async function claimJobs({ client, id }: Claimant, slots: number): Promise<JobClaim[]> {
  const { rows } = await client.query(
    `select run_id, job_id, attempt, token from yardmaster.claim_runs($1, '{procedure}', $2)`,
    [id, slots],
  )
  return rows
}

export async function endJob(
  { client }: { readonly client: pg.Client },
  token: string,
  status: 'OK' | 'WARNING' | 'CRITICAL' | 'WAITING' = 'OK',
): Promise<boolean> {
  const reason = status === 'CRITICAL' ? 'failed' : null
  const { rows } = await client.query(
    `select yardmaster.finish_run($1::uuid, $2, $3, 'ended by ' || $1::text, 0, 0) as mine`,
    [token, status, reason],
  )
  return rows[0].mine
}
