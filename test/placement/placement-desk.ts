import type pg from 'pg'
import { addDatabase } from '../../src/control/databases.ts'
import { openTestControl } from '../security/control-database.ts'
import type { TestDatabase } from '../support/databases.ts'
import type { Binding, HostState } from './rule-in-words.ts'

export interface BindingRow {
  readonly site: string
  readonly host: string
  readonly binding: Exclude<Binding, 'none'>
}

/** A line of placement_matrix. */
export interface MatrixRow {
  readonly site: string | null
  readonly host: string
  readonly binding: Binding
  readonly active: boolean
  readonly drained: boolean
  readonly may_run: boolean
  readonly code: string
  readonly why: string
}

/** What a claim gave: whose work, by which code. */
export interface Given {
  readonly run_id: string
  readonly site: string | null
  readonly object: string
  readonly placement: string
}

/** A control database with hosts, sites and work that waits; what is claimed is never carried out. All on one session. */
export class PlacementDesk {
  readonly database: TestDatabase
  readonly client: pg.Client
  #jobs = 0

  private constructor(database: TestDatabase, client: pg.Client) {
    this.database = database
    this.client = client
  }

  static async open(database: TestDatabase): Promise<PlacementDesk> {
    const control = await openTestControl(database.url)
    for (const name of ['crm', 'dwh']) await addDatabase(control, name, `postgresql://nobody@127.0.0.1:1/${name}`, [])
    const client = await database.client()
    await client.query("set yardmaster.actor = 'clerk@desk'")
    return new PlacementDesk(database, client)
  }

  async rows<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.client.query<Row>(text, values)).rows
  }

  /** Work of a site that has been due for so long, each piece of a job of its own; `object` is `ago` of it. Returns the runs. */
  async work(sites: readonly (string | null)[], ago: readonly string[] = ['1 second']): Promise<string[]> {
    const rows = await this.rows<{ id: string }>(
      `with piece as materialized (
         select s.site, a.ago, yardmaster.add_replication('table', 'crm', 'public', 'work' || $3 + row_number() over (), 'dwh', 'copies',
           'work' || $3 + row_number() over (), jsonb_build_object('site', s.site)) as job_id
         from unnest($1::text[]) with ordinality s(site, n), unnest($2::text[]) with ordinality a(ago, m) order by n, m),
       active as materialized (select p.*, yardmaster.set_replication_status(p.job_id, 'active') from piece p)
       insert into yardmaster.run (job_id, slot, database_id, operation, object, site, status, queued, requested)
       select job_id, clock_timestamp() - ago::interval, 2, 'refresh', ago, site, 'WAITING', true, false from active order by job_id returning id`,
      [sites, ago, this.#jobs],
    )
    this.#jobs += rows.length
    return rows.map((row) => row.id)
  }

  /** Starts a worker on a host; returns its id. It is alive as long as this desk's session. */
  async start(host: string, slots = 10_000): Promise<string> {
    const [row] = await this.rows<{ id: string }>('select yardmaster.register_worker($1, $1, $2) as id', [host, slots])
    return row?.id ?? ''
  }

  /** Brings a host into a state, from none; returns its worker where it has one. */
  async bring(host: string, { up, drained }: HostState): Promise<string | undefined> {
    if (drained) {
      await this.rows('select yardmaster.set_host($1)', [host])
      await this.rows('select yardmaster.drain_host($1)', [host])
    }
    return up ? this.start(host) : undefined
  }

  async bind(wanted: readonly BindingRow[], force = false): Promise<number> {
    const [row] = await this.rows<{ n: number }>('select yardmaster.set_bindings($1, $2) as n', [
      JSON.stringify(wanted),
      force,
    ])
    return row?.n ?? -1
  }

  /** `wanted`, `up`: as if. `due`: how long ago. */
  matrix(
    sites: readonly (string | null)[],
    { wanted, up, due }: { wanted?: readonly BindingRow[]; up?: readonly string[]; due?: string } = {},
  ): Promise<MatrixRow[]> {
    return this.rows<MatrixRow>(
      'select * from yardmaster.placement_matrix($1, $2, $3, clock_timestamp() - $4::interval)',
      [sites, wanted === undefined ? null : JSON.stringify(wanted), up ?? null, due ?? null],
    )
  }

  async claim(worker: string, slots = 10_000): Promise<Given[]> {
    const taken = await this.rows<{ run_id: string }>(
      "select run_id from yardmaster.claim_runs($1, '{replication}', $2)",
      [worker, slots],
    )
    return this.rows<Given>(
      'select r.id as run_id, r.site, r.object, r.placement from yardmaster.runs r where r.id = any ($1) order by r.id',
      [taken.map((row) => row.run_id)],
    )
  }

  /** What an action answers, which then never happened. */
  async tried<T>(action: () => Promise<T>): Promise<T> {
    await this.client.query('savepoint tried')
    const result = await action()
    await this.client.query('rollback to savepoint tried')
    return result
  }

  /** SQLSTATE and text of a refusal, behind which the transaction goes on. */
  async refused(text: string, values: unknown[] = []): Promise<string> {
    await this.client.query('savepoint refused')
    const refusal = await this.rows(text, values).then(
      () => 'not refused',
      (error: { code: string; message: string }) => `${error.code} ${error.message}`,
    )
    await this.client.query('rollback to savepoint refused')
    return refusal
  }

  /** Returns when this session has done what it was asked, or waits for another: whether it waits. */
  async waits(session: pg.Client & { processID?: number | null }, asked: Promise<unknown>): Promise<boolean> {
    let isDone = false
    const done = () => {
      isDone = true
    }
    asked.then(done, done)
    for (;;) {
      const [row] = await this.database.query('select cardinality(pg_blocking_pids($1)) > 0 as blocked', [
        session.processID,
      ])
      if (isDone || row.blocked) return !isDone
    }
  }

  /** As `tried`, from no transaction. */
  async supposed<T>(action: () => Promise<T>): Promise<T> {
    await this.client.query('begin')
    try {
      return await action()
    } finally {
      await this.client.query('rollback')
    }
  }
}
