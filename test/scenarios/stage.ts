import { afterAll, expect } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { releaseLostWorkers } from '../../src/control/registration.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { RunRecorder } from '../../src/monitoring/run-recorder.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { definitionDefaults } from '../../src/replication/definition.ts'
import type { NewReplication } from '../../src/replication/store.ts'
import type { Workplace } from '../../src/worker/workplace.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type CliResult, type RunningCli, runCli, startCli } from '../support/process.ts'

const key = '42'.repeat(32)
const stages: Stage[] = []

afterAll(async () => {
  for (const stage of stages) await stage.control.close()
})

/** What a reader of a relation sees: how many rows, and one hash over all of them; `absent` where it does not exist. */
export type Content = string

/**
 * A source and a destination, registered as `crm` and `dwh` in a control database of their own. Commands that are to be
 * killed run as processes; what comes before and after runs in the test's process, by the same functions.
 */
export class Stage {
  readonly source: TestDatabase
  readonly destination: TestDatabase
  readonly controlDatabase: TestDatabase
  readonly control: Control
  readonly #recorder: RunRecorder

  constructor(databases: [TestDatabase, TestDatabase, TestDatabase], control: Control) {
    ;[this.source, this.destination, this.controlDatabase] = databases
    this.control = control
    this.#recorder = new RunRecorder(control, { name: `test#${process.pid}`, host: 'here', slots: 0 })
  }

  get environment(): Record<string, string> {
    return {
      YARDMASTER_CONTROL_URL: this.controlDatabase.url,
      YARDMASTER_KEY: key,
      YARDMASTER_DATA_DIR: '/nonexistent',
    }
  }

  run(args: string[], env: Record<string, string> = {}): Promise<CliResult> {
    return runCli(args, { env: { ...this.environment, ...env } })
  }

  start(args: string[], env: Record<string, string> = {}): RunningCli {
    return startCli(args, { env: { ...this.environment, ...env } })
  }

  /** The same, with other connections to a database whose server was restarted. */
  with(databases: { source?: TestDatabase; destination?: TestDatabase; controlDatabase?: TestDatabase }): Stage {
    const { source, destination, controlDatabase } = { ...this, ...databases }
    return new Stage([source, destination, controlDatabase], this.control)
  }

  /** This process as a place where runs are carried out. */
  place(signal = new AbortController().signal): Workplace {
    return {
      control: this.control,
      environment: () => undefined,
      signal,
      recorder: this.#recorder,
      streams: 2,
    }
  }

  /** Every object of both databases that is not PostgreSQL's own. */
  async objects(): Promise<string[]> {
    const [source, destination] = await Promise.all([objectsOf(this.source), objectsOf(this.destination)])
    return [...source.map((one) => `source ${one}`), ...destination.map((one) => `destination ${one}`)]
  }

  /** The content that a reader of the destination sees in one statement. */
  content(relation: string): Promise<Content> {
    return contentOf(this.destination, relation)
  }

  /** Reads again and again, as people do; `stop` returns every content that was seen. */
  async watch(relation: string): Promise<{ stop: () => Promise<Content[]> }> {
    const client = await this.destination.client()
    const reader = { query: async (text: string, values?: unknown[]) => (await client.query(text, values)).rows }
    const seen = new Set<Content>()
    let goesOn = true
    const look = async () => {
      while (goesOn) {
        seen.add(await contentOf(reader, relation))
        await new Promise((resolve) => setTimeout(resolve, 15))
      }
      await client.end()
    }
    const looking = look()
    return {
      stop: async () => {
        goesOn = false
        await looking
        return [...seen]
      },
    }
  }

  /** Which table the view of a snapshot shows, and which one the position says. */
  async sides(view: string): Promise<{ shown: string | undefined; said: string | undefined }> {
    const shown = await this.destination.query(
      `select distinct d.refobjid::regclass::text as name from pg_rewrite r join pg_depend d on d.objid = r.oid
       where d.classid = 'pg_rewrite'::regclass and r.ev_class = to_regclass($1) and d.refobjid <> r.ev_class
         and d.refclassid = 'pg_class'::regclass`,
      [view],
    )
    const said = await this.destination.query(
      `select schema_name || '.' || table_name || '_snap' || (state ->> 'live') as name from yardmaster.position where type = 'snapshot'`,
    )
    return { shown: shown[0]?.name, said: said[0]?.name ?? undefined }
  }

  async rows(relation: string): Promise<number> {
    const [row] = await this.destination.query<{ rows: number }>(`select count(*)::int as rows from ${relation}`)
    return row?.rows ?? 0
  }

  /** Resolves when no session of ours is left on any of the three databases, but for this process's own. */
  async sessionsEnd(): Promise<void> {
    const names = [this.source.name, this.destination.name, this.controlDatabase.name]
    await expect
      .poll(
        () =>
          this.source.query(
            `select datname, pid, state, application_name, query from pg_stat_activity
             where datname = any($1) and application_name like 'yardmaster%' and application_name <> 'yardmaster test'
               and pid <> $2`,
            [names, this.control.session.pid],
          ),
        { timeout: 15_000, interval: 20 },
      )
      .toEqual([])
  }

  /** The newest runs, after the dead were told from the living; `n` of them. */
  async runs(n = 1): Promise<{ operation: string; status: string; reason: string | null; message: string }[]> {
    await releaseLostWorkers(this.control)
    return this.controlDatabase.query(
      'select operation, status, reason, message from yardmaster.runs order by id desc limit $1',
      [n],
    )
  }

  /** Resolves when the newest run is told to be lost with its worker, and no run and no step goes on. */
  async workerIsLost(): Promise<void> {
    await expect
      .poll(() => this.runs(), { timeout: 5000, interval: 20 })
      .toMatchObject([{ status: 'CRITICAL', reason: 'worker_lost' }])
    await this.nothingRuns()
  }

  async nothingRuns(): Promise<void> {
    const left = await this.controlDatabase.query(`
      select 'run' as what, id::text from yardmaster.run where status = 'RUNNING'
      union all select 'attempt', id::text from yardmaster.attempt where status = 'RUNNING'
      union all select 'step', action from yardmaster.step where status = 'RUNNING'`)
    expect(left).toEqual([])
  }
}

/** Databases on the run's server, or those that are given, where `urls` says how to reach them (through a proxy). */
export async function setStage(
  label: string,
  given: { source?: TestDatabase; destination?: TestDatabase; control?: TestDatabase } = {},
  urls: { source?: string; destination?: string } = {},
): Promise<Stage> {
  const source = given.source ?? (await createDatabase(`${label} source`))
  const destination = given.destination ?? (await createDatabase(`${label} destination`))
  const controlDatabase = given.control ?? (await createDatabase(`${label} control`))
  const control = await openControl({
    parts: parseConnectionUrl(controlDatabase.url),
    actor: 'test@here',
    face: 'test',
    key: loadSecretKey({ text: key, file: '/nonexistent' }),
  })
  await addDatabase(control, 'crm', urls.source ?? source.url, [])
  await addDatabase(control, 'dwh', urls.destination ?? destination.url, [])
  const stage = new Stage([source, destination, controlDatabase], control)
  stages.push(stage)
  return stage
}

/** The same database by a new connection, after its server has ended the old one. */
export function reopened(database: TestDatabase): TestDatabase {
  let client: ReturnType<TestDatabase['client']> | undefined
  return {
    ...database,
    query: async (text, values) => {
      client ??= database.client()
      return (await (await client).query(text, values)).rows
    },
  }
}

/** A replication of `public.goods` into `copies.goods`, with the program's defaults. */
export function wanted(type: 'snapshot' | 'table', changes: Partial<NewReplication> = {}): NewReplication {
  return {
    ...definitionDefaults,
    type,
    sourceDatabase: 'crm',
    source: { schema: 'public', name: 'goods' },
    destinationDatabase: 'dwh',
    destination: { schema: 'copies', name: 'goods' },
    swapWait: 20_000,
    ...changes,
  }
}

/**
 * Makes `public.goods` with a key and two indexes. `large`: one row a page on 5,000 pages, so that it is read in parallel
 * though it holds few bytes.
 */
export async function makeGoods(source: TestDatabase, size: 'small' | 'large' = 'small'): Promise<void> {
  const rows = size === 'large' ? 5000 : 300
  await source.query(`create table public.goods (id int primary key, price numeric, name text) with (fillfactor = 10)`)
  await source.query(`alter table public.goods alter name set storage plain`)
  await source.query(`insert into public.goods select n, n / 7.0, rpad('good ' || n, ${size === 'large' ? 700 : 20}, '.')
    from generate_series(1, ${rows}) n`)
  await source.query(`create index goods_price on public.goods (price)`)
  await source.query(`create unique index goods_name on public.goods (name)`)
}

/** Writes that any wrong, half or double copy shows: each row changes, some go, some come. Their counters are flushed. */
export async function changeGoods(source: TestDatabase): Promise<void> {
  await source.query(`update public.goods set price = price + 1`)
  await source.query(`delete from public.goods where id = (select min(id) from public.goods)`)
  await source.query(
    `insert into public.goods select max(id) + 1, random()::numeric, 'new ' || max(id) from public.goods`,
  )
  await source.query(`select pg_stat_force_next_flush()`)
}

/** The command line that adds such a replication. */
export function addArguments(replication: NewReplication): string[] {
  const { type, source, destination } = replication
  return [
    ...['replication', 'add', type, `${source.schema}.${source.name}`, '--from', 'crm', '--to', 'dwh'],
    ...['--dest', `${destination.schema}.${destination.name}`],
    ...(replication.condition === null ? [] : ['--where', replication.condition]),
    ...replication.postScript.flatMap((statement) => ['--post-script', statement]),
    ...replication.sequences.flatMap((sequence) => ['--sequence', sequence]),
  ]
}

/** Count and hash of a relation's rows in one statement, so under one snapshot. */
export async function contentOf(
  database: Pick<TestDatabase, 'query'>,
  relation: string,
  columns = '*',
): Promise<Content> {
  const [there] = await database.query<{ there: boolean }>(`select to_regclass($1) is not null as there`, [relation])
  if (!there?.there) return 'absent'
  try {
    const [row] = await database.query<{ rows: string; hash: string }>(
      `select count(*) as rows, coalesce(sum(hashtextextended(t::text, 0)), 0) as hash from (select ${columns} from ${relation}) t`,
    )
    return `${row?.rows} rows, ${row?.hash}`
  } catch (error) {
    if ((error as { code?: string }).code === '42P01') return 'absent'
    throw error
  }
}

async function objectsOf(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ object: string }>(`
    select object from (
      select case c.relkind when 'i' then 'index ' when 'v' then 'view ' when 'S' then 'sequence ' else 'table ' end
        || n.nspname || '.' || c.relname as object
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
      union all select 'function ' || p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      union all select 'constraint ' || c.conname || ' on ' || c.conrelid::regclass from pg_constraint c
        join pg_namespace n on n.oid = c.connamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      union all select 'trigger ' || tgname from pg_trigger where not tgisinternal
      union all select 'slot ' || slot_name from pg_replication_slots where database = current_database()
      union all select 'publication ' || pubname from pg_publication) o
    order by object collate "C"`)
  return rows.map((row) => row.object)
}
