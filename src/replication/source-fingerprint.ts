import { createHash } from 'node:crypto'
import type { Session } from '../postgres/connect.ts'
import type { QualifiedName } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { Replication } from './definition.ts'

/** A session reports what it counted within 60 s (`PGSTAT_MAX_INTERVAL`), but never in the midst of a transaction. */
const reportedWithin = 60

/** A look at a source. */
export interface SourceSample {
  /** Of the table that was looked at. */
  readonly oid: number
  readonly fingerprint: string
}

/**
 * What the source looked like: equal fingerprints mean that no write older than 60 s lies between them (sessions report
 * their counts with that delay; a later report changes the next fingerprint). Undefined where nothing can tell: views, foreign
 * tables, standbys (their counters stand still), counting switched off, conditions (they may look at the clock or at other
 * tables), and while a session is in a transaction for longer than that delay, because it holds its report on earlier
 * ones back until the end; on PostgreSQL 14 while anybody else is connected, because there an idle session does so too.
 *
 * Made of: the server's identity and start, the database's last reset of counters, and for the table and each leaf its
 * oid, file node (TRUNCATE and rewrites change it), writes counted, and columns; and of what is asked of the source.
 */
export async function readFingerprint(
  session: Session,
  source: QualifiedName,
  definition: Pick<Replication, 'columns' | 'condition' | 'buildIndexes'>,
  heldBackAfter = reportedWithin,
): Promise<SourceSample | undefined> {
  if (definition.condition !== null) return undefined
  // The functions behind the statistics views: planning those would cost more than all the rest.
  const seen = await session.first<{
    oid: number
    countable: boolean
    held_back: boolean
    parts: readonly unknown[]
  }>(sql`
    with recursive source as (
      select c.oid, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = ${source.schema} and c.relname = ${source.name} and c.relkind in ('r', 'p', 'm')),
    member as (select s.oid from source s union select i.inhrelid from member m join pg_inherits i on i.inhparent = m.oid)
    select s.oid,
      not pg_is_in_recovery() and current_setting('track_counts') = 'on' and not leaf.foreign and not exists (
        select from pg_db_role_setting r, unnest(r.setconfig) as c where c ilike 'track_counts=%') as countable,
      exists (select from pg_stat_get_activity(null) a where a.datid = d.oid and a.pid <> pg_backend_pid()
        and a.backend_type = 'client backend'
        -- Up to 14, a session that goes idle holds its last report back until it does something else.
        and (${session.major} < 15
          or a.backend_start < a.xact_start and a.xact_start < clock_timestamp() - make_interval(secs => ${heldBackAfter}))) as held_back,
      jsonb_build_array(s.oid::int8, pg_postmaster_start_time(), pg_stat_get_db_stat_reset_time(d.oid), leaf.counters, (
        select jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull and not exists (
            select from pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
              and k.conkey = array[a.attnum]), a.attcollation::int8) order by a.attnum)
        from pg_attribute a where a.attrelid = s.oid and a.attnum > 0 and not a.attisdropped)) as parts
    from source s, pg_database d, (
      select coalesce(bool_or(c.relkind = 'f'), false) as foreign,
        jsonb_agg(jsonb_build_array(c.oid::int8, pg_relation_filenode(c.oid)::int8, pg_stat_get_tuples_inserted(c.oid),
          pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_deleted(c.oid)) order by c.oid) as counters
      from member m join pg_class c on c.oid = m.oid where c.relkind in ('r', 'm', 'f') and c.relpersistence <> 't') as leaf
    where d.datname = current_database()`)
  if (!seen?.countable || seen.held_back) return undefined
  const asked = [definition.columns, definition.buildIndexes]
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([seen.parts, asked]))
    .digest('hex')
  return { oid: seen.oid, fingerprint }
}
