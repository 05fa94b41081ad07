import type pg from 'pg'
import { expect } from 'vitest'
import { openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

export interface Claimed {
  run_id: string
  job_id: number
  attempt: number
  token: string
}

/** A worker as the control database knows one: a session that registered. */
export interface Claimant {
  readonly id: string
  readonly client: pg.Client
}

/** A control database alone, with replications whose databases nobody reaches: what is claimed is never carried out. */
export class ClaimDesk {
  readonly database: TestDatabase

  private constructor(database: TestDatabase) {
    this.database = database
  }

  static async open(label: string): Promise<ClaimDesk> {
    const database = await createDatabase(label)
    const control = await openControl({
      parts: parseConnectionUrl(database.url),
      actor: 'test@here',
      face: 'test',
      key: loadSecretKey({ text: '42'.repeat(32), file: '/nonexistent' }),
    })
    for (const name of ['crm', 'dwh']) await addDatabase(control, name, `postgresql://nobody@127.0.0.1:1/${name}`, [])
    await control.close()
    return new ClaimDesk(database)
  }

  /** Active replications; with `schedule`, due at once. */
  async jobs(count: number, prefix: string, schedule?: string): Promise<number[]> {
    const options = JSON.stringify(schedule === undefined ? {} : { schedule_interval: schedule })
    const rows = await this.database.query<{ id: number }>(
      `select yardmaster.add_replication('table', 'crm', 'public', $1 || n, 'dwh', 'copies', $1 || n, $2) as id
       from generate_series(1, $3::int) n`,
      [prefix, options, count],
    )
    const ids = rows.map((row) => row.id)
    await this.database.query(`select yardmaster.set_replication_status(id, 'active') from unnest($1::int[]) id`, [ids])
    return ids
  }

  /** `session`: by one that is there. */
  async worker(name: string, slots: number, host = name, session?: pg.Client): Promise<Claimant> {
    const client = session ?? (await this.database.client())
    const { rows } = await client.query('select yardmaster.register_worker($1, $2, $3) as id', [name, host, slots])
    return { id: rows[0].id, client }
  }

  async queue(jobId: number): Promise<string> {
    const [row] = await this.database.query<{ id: string }>('select yardmaster.queue_run($1) as id', [jobId])
    return row?.id ?? ''
  }

  /** Makes a run wait for a slot that was due so long ago, as `queue_due_slots` does. */
  async wait(jobId: number, ago: string): Promise<string> {
    const [row] = await this.database.query<{ id: string }>(
      `insert into yardmaster.run (job_id, slot, database_id, operation, object, status, queued, requested)
       values ($1, clock_timestamp() - $2::interval, 2, 'refresh', 'one', 'WAITING', true, false) returning id`,
      [jobId, ago],
    )
    return row?.id ?? ''
  }

  /** What must hold at any time: no job runs twice, each run that goes on has one attempt, by a worker with a slot for it. */
  async rulesHold(): Promise<void> {
    const broken = await this.database.query(`
      select 'job runs twice' as rule, job_id::text as what from yardmaster.run where status = 'RUNNING' and queued
      group by job_id having count(*) > 1
      union all select 'run without exactly one attempt', r.id::text from yardmaster.run r
      left join yardmaster.attempt a on a.run_id = r.id and a.status = 'RUNNING'
      where r.status = 'RUNNING' group by r.id having count(a.id) <> 1
      union all select 'attempt of a run that does not go on', a.id::text from yardmaster.attempt a
      join yardmaster.run r on r.id = a.run_id where a.status = 'RUNNING' and r.status <> 'RUNNING'
      union all select 'attempt of a worker that ended', a.id::text from yardmaster.attempt a
      join yardmaster.worker w on w.id = a.worker_id where a.status = 'RUNNING' and w.ended_at is not null
      union all select 'too many at once', w.id::text from yardmaster.worker w
      join yardmaster.attempt a on a.worker_id = w.id and a.status = 'RUNNING' group by w.id having count(*) > w.slots
      union all select 'slot twice', job_id::text from yardmaster.run group by job_id, slot having count(*) > 1`)
    expect(broken).toEqual([])
  }
}

/** `jobs`: only of these. */
export async function claim({ client, id }: Claimant, slots: number, jobs?: number[]): Promise<Claimed[]> {
  const { rows } = await client.query(
    `select run_id, job_id, attempt, token from yardmaster.claim_runs($1, '{replication}', $2, $3)`,
    [id, slots, jobs ?? null],
  )
  return rows
}

export async function finish({ client }: Pick<Claimant, 'client'>, token: string, status = 'OK'): Promise<boolean> {
  const { rows } = await client.query(
    `select yardmaster.finish_run($1::uuid, $2, null, 'done by ' || $1::text, 1, 1) as mine`,
    [token, status],
  )
  return rows[0].mine
}
