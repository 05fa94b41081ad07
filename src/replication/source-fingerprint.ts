import { createHash } from 'node:crypto'
import type { Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Replication } from './definition.ts'

/** A session reports what it counted within 60 s (`PGSTAT_MAX_INTERVAL`), but never in the midst of a transaction. */
const reportedWithin = 60

/**
 * What the source looked like: equal fingerprints mean that no write older than 60 s lies between them (sessions report
 * their counts with that delay; a later report changes the next fingerprint). Null where nothing can tell: views, foreign
 * tables, standbys (their counters stand still), counting switched off, conditions (they may look at the clock or at other
 * tables), and while a session is in a transaction for longer than that delay, because it holds its report on earlier
 * ones back until the end; on PostgreSQL 14 while anybody else is connected, because there an idle session does so too.
 *
 * Made of: the server's identity and start, the database's last reset of counters, and for the table and each leaf its
 * oid, file node (TRUNCATE and rewrites change it), writes counted, and columns; and of what is asked of the source.
 */
export async function readFingerprint(
  session: Session,
  relation: Relation,
  definition: Pick<Replication, 'columns' | 'condition' | 'buildIndexes'>,
  heldBackAfter = reportedWithin,
): Promise<string | null> {
  const countable = relation.leaves.every((leaf) => leaf.kind === 'table' || leaf.kind === 'matview')
  if (relation.kind === 'view' || relation.kind === 'foreign' || !countable || definition.condition !== null)
    return null
  const leaves = relation.leaves.map((leaf) => String(leaf.oid))
  // The functions behind the statistics views: planning those would cost more than all the rest.
  const seen = await session.one<{
    standby: boolean
    counts: boolean
    start: string
    reset: string | null
    held_back: boolean
    counters: unknown
  }>(sql`
    select pg_is_in_recovery() as standby,
      current_setting('track_counts') = 'on' and not exists (
        select from pg_db_role_setting s, unnest(s.setconfig) as c where c ilike 'track_counts=%') as counts,
      pg_postmaster_start_time()::text as start, pg_stat_get_db_stat_reset_time(d.oid)::text as reset,
      exists (select from pg_stat_get_activity(null) a where a.datid = d.oid and a.pid <> pg_backend_pid()
        and a.backend_type = 'client backend'
        -- Up to 14, a session that goes idle holds its last report back until it does something else.
        and (${session.major} < 15
          or a.backend_start < a.xact_start and a.xact_start < clock_timestamp() - make_interval(secs => ${heldBackAfter}))) as held_back,
      (select jsonb_agg(jsonb_build_array(o.oid::int8, pg_relation_filenode(o.oid)::int8, pg_stat_get_tuples_inserted(o.oid),
          pg_stat_get_tuples_updated(o.oid), pg_stat_get_tuples_deleted(o.oid)) order by o.oid)
        from unnest(${leaves}::oid[]) as o(oid)) as counters
    from pg_database d where d.datname = current_database()`)
  if (seen.standby || !seen.counts || seen.held_back) return null
  const shape = relation.columns.map((column) => [column.name, column.type, column.notNull, column.collation])
  const asked = [definition.columns, definition.buildIndexes]
  const parts = [seen.start, seen.reset, relation.oid, seen.counters, shape, asked]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
