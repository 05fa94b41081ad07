import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, type QualifiedName, quoteIdentifier } from '../postgres/identifier.ts'
import { relation, type Sql, sql } from '../postgres/sql.ts'
import { toOurSettings, toUserSettings } from './hdbpp-session.ts'

/** Rows of other applications are not ours to run. */
const application = 'HDB++ postprocessing'
const jobsName = 'postprocessing_jobs'
const statsName = 'postprocessing_jobs_stats'

/** The tables of hdbpp-postprocessing in one database. */
export interface HdbppTables {
  readonly jobs: QualifiedName
  readonly stats: QualifiedName
}

/** A row of `postprocessing_jobs`. */
export interface HdbppJob {
  /** A bigint. */
  readonly job_id: string
  readonly proc_name: string | null
  /** JSON. */
  readonly config: string | null
}

/** A row of `postprocessing_jobs_stats`, as text where a bigint or an interval is meant. */
export interface HdbppStats {
  readonly last_run_started_at: Date | null
  readonly last_successful_finish: Date | null
  readonly last_run_status: string | null
  readonly job_status: string | null
  readonly last_run_duration: string | null
  readonly total_runs: string
  readonly total_successes: string
  readonly total_failures: string
}

/** How one call ended. */
export interface HdbppOutcome {
  readonly job_id: string
  /** By the server's clock, as `serverTime` gives it. */
  readonly startedAt: string
  readonly seconds: number
  readonly ok: boolean
}

interface FoundTables {
  readonly jobs: QualifiedName | null
  readonly stats: QualifiedName | null
  /** Schemas of the user's search_path that exist; tables are made in the first. */
  readonly path: readonly string[]
}

/** The tables that the user's own search_path shows, as the script saw them. Throws `hdbpp_tables_missing`. */
export async function requireTables(session: Session): Promise<HdbppTables> {
  const { jobs, stats, path } = await findTables(session)
  if (jobs && stats) return { jobs, stats }
  const lacking = jobs ? statsName : stats ? jobsName : `${jobsName} and ${statsName}`
  throw new Failure('hdbpp_tables_missing', {
    message: `${displayName(session.parts.user)} sees no table ${lacking} in the database ${displayName(session.parts.database)}; the search_path has ${listed(path)}.`,
    object: session.object,
  })
}

/** Makes the tables that are absent, all or nothing; says of each what was done. */
export async function createMissingTables(session: Session): Promise<string[]> {
  const { jobs, stats, path } = await findTables(session)
  const schema = path[0]
  if ((!jobs || !stats) && schema === undefined) {
    throw new Failure('hdbpp_tables_missing', {
      message: `No schema of the search_path of ${displayName(session.parts.user)} exists in the database ${displayName(session.parts.database)}, so there is nowhere to make the tables.`,
      object: session.object,
      remedy: `CREATE SCHEMA ${quoteIdentifier(session.parts.user)} AUTHORIZATION ${quoteIdentifier(session.parts.user)}; or correct the search_path.`,
    })
  }
  const wanted = { jobs: jobs ?? inSchema(schema, jobsName), stats: stats ?? inSchema(schema, statsName) }
  const statements = [
    ...(jobs
      ? []
      : [
          sql`create table ${relation(wanted.jobs)} (
            job_id bigint generated always as identity primary key,
            application_name text,
            proc_name text,
            config jsonb)`,
        ]),
    ...(stats
      ? []
      : [
          sql`create table ${relation(wanted.stats)} (
            job_id bigint primary key references ${relation(wanted.jobs)},
            last_run_started_at timestamptz,
            last_successful_finish timestamptz,
            last_run_status text,
            job_status text,
            last_run_duration interval,
            total_runs bigint,
            total_successes bigint,
            total_failures bigint)`,
        ]),
  ]
  await session.queries(statements)
  const said = (found: QualifiedName | null, name: QualifiedName) =>
    found ? `${displayQualified(found)} is there already` : `${displayQualified(name)} was made`
  return [said(jobs, wanted.jobs), said(stats, wanted.stats)]
}

function inSchema(schema: string | undefined, name: string): QualifiedName {
  return { schema: schema ?? '', name }
}

function listed(path: readonly string[]): string {
  return path.length === 0 ? 'no schema that exists' : path.map(displayName).join(', ')
}

/** Only the look-up of the two names goes by the user's path; what is called for it is the catalog's, whatever the path has. */
async function findTables(session: Session): Promise<FoundTables> {
  await toUserSettings(session)
  const found = await session.one<{ jobs: number | null; stats: number | null; path: string[] }>(sql`
    select pg_catalog.to_regclass(${jobsName})::pg_catalog.oid as jobs, pg_catalog.to_regclass(${statsName})::pg_catalog.oid as stats,
      pg_catalog.current_schemas(false)::pg_catalog.text[] as path`)
  await toOurSettings(session)
  const names = await session.query<QualifiedName & { oid: number }>(sql`
    select c.oid, n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = any(${[found.jobs, found.stats].filter((oid) => oid !== null)}::oid[])`)
  const named = (oid: number | null) => {
    const row = names.find((one) => one.oid === oid)
    return row ? { schema: row.schema, name: row.name } : null
  }
  return { jobs: named(found.jobs), stats: named(found.stats), path: found.path }
}

/** In the order of their ids. */
export function readJobs(session: Session, tables: HdbppTables): Promise<HdbppJob[]> {
  return session.query<HdbppJob>(sql`
    select job_id::text as job_id, proc_name::text as proc_name, config::text as config from ${relation(tables.jobs)}
    where application_name = ${application} order by ${relation(tables.jobs)}.job_id`)
}

/** By job. */
export async function readStats(session: Session, tables: HdbppTables): Promise<Map<string, HdbppStats>> {
  const rows = await session.query<HdbppStats & { job_id: string }>(sql`
    select job_id::text as job_id, last_run_started_at, last_successful_finish, last_run_status, job_status,
      last_run_duration::text as last_run_duration, coalesce(total_runs, 0)::text as total_runs,
      coalesce(total_successes, 0)::text as total_successes, coalesce(total_failures, 0)::text as total_failures
    from ${relation(tables.stats)}`)
  return new Map(rows.map(({ job_id, ...stats }) => [job_id, stats]))
}

/** The server's clock, as a text that means the same under every setting. */
export async function serverTime(session: Session): Promise<string> {
  const { now } = await session.one<{ now: string }>(sql`
    select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' as now`)
  return now
}

/**
 * Adds one run to its job's row, as the script did: the words are its own, and `job_status` is the command tag, which a call
 * that failed has none of. Throws `lock_timeout` where somebody holds the row for longer than `patience` milliseconds.
 */
export async function writeStats(
  session: Session,
  tables: Pick<HdbppTables, 'stats'>,
  outcome: HdbppOutcome,
  patience: number,
): Promise<void> {
  await session.query(sql`select set_config('lock_timeout', ${String(patience)}, false)`)
  await session.query(addition(tables.stats, outcome))
}

/**
 * The same within a transaction that is open, by whatever settings: where it fails, nothing of it is left, and the transaction
 * goes on as before. Throws as `writeStats` does.
 */
export async function writeStatsWithin(
  session: Session,
  tables: Pick<HdbppTables, 'stats'>,
  outcome: HdbppOutcome,
  patience: number,
): Promise<void> {
  const settings = (role: string, limit: string) => sql`
    select pg_catalog.set_config('role', ${role}, true), pg_catalog.set_config('lock_timeout', ${limit}, true)`
  const before = await session.one<{ role: string; limit: string }>(sql`
    select pg_catalog.current_setting('role') as role, pg_catalog.current_setting('lock_timeout') as "limit"`)
  await session.script('savepoint yardmaster_stats')
  try {
    const statements = [settings('none', String(patience)), addition(tables.stats, outcome)]
    await session.queries([...statements, settings(before.role, before.limit)])
  } catch (error) {
    await session.script('rollback to savepoint yardmaster_stats')
    throw error
  }
  await session.script('release savepoint yardmaster_stats')
}

/** Every name has its schema: a procedure may have left any search_path. */
function addition(stats: QualifiedName, { job_id: id, startedAt, seconds, ok }: HdbppOutcome): Sql {
  const took = sql`pg_catalog.make_interval(secs => ${seconds}::double precision)`
  return sql`
    insert into ${relation(stats)} as s (job_id, last_run_started_at, last_successful_finish, last_run_status, job_status,
      last_run_duration, total_runs, total_successes, total_failures)
    values (${id}::bigint, ${startedAt}::timestamptz,
      case when ${ok}::boolean then ${startedAt}::timestamptz operator(pg_catalog.+) ${took} end,
      ${ok ? 'Job run ok' : 'Job run in error'}, ${ok ? 'CALL' : ''}, ${took}, 1, ${ok ? 1 : 0}::bigint, ${ok ? 0 : 1}::bigint)
    on conflict (job_id) do update set
      last_run_started_at = excluded.last_run_started_at,
      last_successful_finish = coalesce(excluded.last_successful_finish, s.last_successful_finish),
      last_run_status = excluded.last_run_status,
      job_status = excluded.job_status,
      last_run_duration = excluded.last_run_duration,
      total_runs = coalesce(s.total_runs, 0) operator(pg_catalog.+) 1,
      total_successes = coalesce(s.total_successes, 0) operator(pg_catalog.+) excluded.total_successes,
      total_failures = coalesce(s.total_failures, 0) operator(pg_catalog.+) excluded.total_failures`
}
