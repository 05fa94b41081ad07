import { Failure } from '../base/failure.ts'
import type { Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel, type Replication } from './definition.ts'
import type { SourceRead } from './source-read.ts'

type Destination = Pick<Replication, 'destination' | 'destinationDatabase' | 'type'>

type TableRight = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE' | 'TRUNCATE'

/** What emptying a table and filling it anew needs. */
const reloadRights: readonly TableRight[] = ['SELECT', 'INSERT', 'DELETE', 'TRUNCATE']

/** Throws `destination_unsuitable`, `permission_denied` for a destination that we cannot write as a whole. */
export async function refuseUnsuitable(
  session: Session,
  table: Relation,
  replication: Destination,
  source: Pick<SourceRead, 'session' | 'relation'>,
  rights: readonly TableRight[] = reloadRights,
): Promise<void> {
  const label = destinationLabel(replication)
  if (table.kind !== 'table' && table.kind !== 'partitioned') {
    throw new Failure('destination_unsuitable', {
      message: `${label} is a ${table.kind}; type ${replication.type} copies into a table.`,
      object: label,
    })
  }
  if (source.relation.oid === table.oid && (await databaseOf(source.session)) === (await databaseOf(session))) {
    throw new Failure('destination_unsuitable', { message: `${label} is its own source.`, object: label })
  }
  const found = await session.one<{ limited: boolean; lacks: string[] }>(sql`
    select row_security_active(${table.oid}::oid) as limited,
      array(select p from unnest(${rights}::text[]) p
        where not has_table_privilege(${table.oid}::oid, p)
          and (p <> 'INSERT' or not has_any_column_privilege(${table.oid}::oid, p))) as lacks`)
  const role = quoteIdentifier(session.parts.user)
  if (found.lacks.length > 0) {
    throw new Failure('permission_denied', {
      message: `Our role may not ${rights.includes('TRUNCATE') ? 'empty and fill' : 'write into'} ${label}: it lacks ${found.lacks.join(', ')}.`,
      object: label,
      remedy: `As its owner: GRANT ${found.lacks.join(', ')} ON ${quoteQualified(table)} TO ${role};`,
    })
  }
  if (found.limited) {
    throw new Failure('permission_denied', {
      message: `${label} has row-level security that holds for our role, so that it could neither empty nor fill it as a whole; nothing was changed.`,
      object: label,
      remedy: `As an administrator: ALTER ROLE ${role} BYPASSRLS; or as its owner: ALTER TABLE ${quoteQualified(table)} DISABLE ROW LEVEL SECURITY;`,
    })
  }
}

/** The same for all sessions on one database, by whatever address and name, standbys included. */
async function databaseOf(session: Session): Promise<string> {
  const row = await session.one<{ id: string }>(sql`
    select (select system_identifier from pg_control_system()) || '/' || oid as id
    from pg_database where datname = current_database()`)
  return row.id
}

/**
 * Tables that are emptied together with this one: those that refer to it by foreign keys, and its inheritance children.
 * Throws `dependent_objects` when that was not allowed.
 */
export async function tablesEmptiedToo(
  session: Session,
  table: Relation,
  replication: Destination & Pick<Replication, 'truncateCascade'>,
): Promise<QualifiedName[]> {
  const rows = await session.query<QualifiedName & { child: boolean }>(sql`
    with recursive member as (
      select ${table.oid}::oid as oid
      union select i.inhrelid from member m join pg_inherits i on i.inhparent = m.oid),
    emptied as (
      select m.oid from member m
      union select k.conrelid from emptied e join pg_constraint k on k.confrelid = e.oid and k.contype = 'f')
    select n.nspname as schema, c.relname as name, c.oid in (select m.oid from member m) as child
    from emptied e join pg_class c on c.oid = e.oid join pg_namespace n on n.oid = c.relnamespace
    where e.oid <> ${table.oid}::oid and not (c.relispartition and e.oid in (select m.oid from member m)) order by 1, 2`)
  if (rows.length === 0 || replication.truncateCascade) return rows
  const label = destinationLabel(replication)
  const names = rows.map(displayQualified).join(', ')
  const are = rows.length === 1
  const why = rows.every((row) => row.child)
    ? `${are ? 'is a child' : 'are children'} of`
    : `refer${are ? 's' : ''} by foreign keys to`
  throw new Failure('dependent_objects', {
    message: `${names} ${why} ${label}, so it cannot be emptied alone; nothing was changed.`,
    object: label,
    remedy:
      replication.type === 'table'
        ? `Drop those foreign keys or children; or empty those tables too, each time: yardmaster replication set ${label} truncate-cascade=true`
        : 'Drop those foreign keys or children, then run the command again.',
  })
}
