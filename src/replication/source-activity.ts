import type { Session } from '../postgres/connect.ts'
import { type Sql, sql } from '../postgres/sql.ts'
import type { Running } from './bound-sample.ts'

/** Another session of the source's database, as our role sees it. */
export interface Activity {
  readonly pid: number
  readonly user: string | null
  /** Whether our role may see what it does. */
  readonly isVisible: boolean
  /** `disabled` where `track_activities` is off for it, or was when its transaction began. */
  readonly state: string | null
  /** Start of its transaction, microseconds since 1970; null where it has none, or none is shown. */
  readonly start: number | null
}

/** A transaction that waits for its COMMIT PREPARED. */
export interface Prepared {
  /** Tells it from all others: a gid can be used again. */
  readonly id: string
  readonly gid: string
  readonly owner: string
  /** When it was prepared (not begun), microseconds since 1970. */
  readonly since: number
}

/** An open transaction of whatever session, known by its virtual id: also one that has written nothing yet. */
export interface OpenVirtual {
  readonly id: string
  readonly pid: number
  readonly user: string | null
  /** Seconds; null where our role may not see it. */
  readonly age: number | null
}

/** Our own sessions that read a source: their server refuses every write. */
const ownReader = sql`(a.usename = session_user and a.application_name like 'yardmaster read %')`
const here = sql`(select oid from pg_database where datname = current_database())`

/** A statement of a second has a start, unless its transaction is older than the tracking, which was off then. */
const state = sql`case when a.xact_start is null and a.state = 'active' and a.backend_type = 'client backend'
  and a.query_start < clock_timestamp() - interval '1 second' then 'disabled' else a.state end`

/**
 * Everybody in this database who could be writing. The server's own processes (autovacuum) have no user. Whatever begins
 * later starts later than the clock that was read before.
 */
export async function readActivity(session: Session): Promise<Activity[]> {
  const rows = await session.query<Omit<Activity, 'start'> & { start: string | null }>(sql`
    select a.pid, a.usename as user, ${state} as state, (extract(epoch from a.xact_start) * 1000000)::int8::text as start,
      pg_has_role('pg_read_all_stats', 'USAGE') or pg_has_role(a.usesysid, 'USAGE') as "isVisible"
    from pg_stat_activity a
    where a.datid = ${here} and a.usesysid is not null and a.pid <> pg_backend_pid() and not ${ownReader}`)
  return rows.map((row) => ({ ...row, start: row.start === null ? null : Number(row.start) }))
}

/** To be read after what is open: a transaction that is being prepared then shows in one of both. */
export async function readPrepared(session: Session): Promise<Prepared[]> {
  const rows = await session.query<Omit<Prepared, 'since'> & { since: string }>(sql`
    select p.transaction::text || ' ' || extract(epoch from p.prepared)::text as id, p.gid, p.owner::text as owner,
      (extract(epoch from p.prepared) * 1000000)::int8::text as since
    from pg_prepared_xacts p where p.database = current_database() order by p.prepared`)
  return rows.map((row) => ({ ...row, since: Number(row.since) }))
}

/**
 * The largest value that is committed, and every transaction open in this database. The one snapshot of the statement is
 * older than what it reads of the locks, so that whoever took a smaller number is visible in the value or among the open.
 */
export async function readLargest(
  session: Session,
  largest: Sql,
): Promise<{ value: string | null; open: OpenVirtual[] }> {
  const row = await session.one<{ value: string | null; open: OpenVirtual[] }>(sql`
    select (${largest}) as value, coalesce((
      select json_agg(json_build_object('id', l.virtualtransaction, 'pid', l.pid, 'user', a.usename,
        'age', extract(epoch from statement_timestamp() - a.xact_start)::float8))
      from pg_locks l left join pg_stat_activity a on a.pid = l.pid
      where ${virtual} and l.pid <> pg_backend_pid()
        and (a.pid is null or (a.datid = ${here} and a.usesysid is not null and not ${ownReader}))), '[]') as open`)
  return row
}

/** A transaction's own lock, which it holds from its beginning to its end. */
const virtual = sql`l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock' and l.virtualtransaction = l.virtualxid`

/** Which of these transactions are open still, and what is prepared by then. */
export async function readRunning(session: Session, open: readonly string[]): Promise<Running> {
  const still =
    open.length === 0
      ? []
      : await session.query<{ id: string }>(sql`
          select l.virtualtransaction as id from pg_locks l where ${virtual} and l.virtualtransaction = any(${open}::text[])`)
  const prepared = await readPrepared(session)
  return { open: new Set(still.map((one) => one.id)), prepared: new Set(prepared.map((one) => one.id)) }
}
