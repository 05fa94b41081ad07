import { Failure } from '../base/failure.ts'
import type { Session } from './connect.ts'
import { displayQualified, type QualifiedName } from './identifier.ts'
import { sql } from './sql.ts'

export type RelationKind = 'table' | 'partitioned' | 'view' | 'matview' | 'foreign'

/** One column as the catalog has it. */
export interface Column {
  readonly name: string
  readonly number: number
  readonly typeOid: number
  /** Type modifier as in `pg_attribute.atttypmod`; -1 for none. */
  readonly typmod: number
  /** As `format_type` of its own server prints it. */
  readonly type: string
  /** True when every stored row holds a value (a NOT NULL that was never validated does not count). */
  readonly notNull: boolean
  /** Only where it differs from the type's own. */
  readonly collation: QualifiedName | null
  readonly generated: boolean
  readonly comment: string | null
  /** Whether our role may read it. */
  readonly readable: boolean
}

/** A relation that stores rows: the table itself, or one of its partitions or inheritance children. */
export interface Leaf {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: RelationKind
  /** Whether our role may read it by its own name, and would see every row. */
  readonly readable: boolean
  /** Bytes of the main fork. */
  readonly bytes: number
  /** Estimate of the last VACUUM or ANALYZE; -1 when there was none. */
  readonly rows: number
}

export interface Relation extends QualifiedName {
  readonly oid: number
  readonly kind: RelationKind
  readonly persistence: 'p' | 'u' | 't'
  readonly comment: string | null
  readonly columns: readonly Column[]
  readonly leaves: readonly Leaf[]
}

const kinds: Readonly<Record<string, RelationKind>> = {
  r: 'table',
  p: 'partitioned',
  v: 'view',
  m: 'matview',
  f: 'foreign',
}

/** Looks a relation up by its real names; undefined when there is none (or one that holds no rows: index, sequence, type). */
export async function findRelation(session: Session, name: QualifiedName): Promise<Relation | undefined> {
  const row = await session.first<{
    oid: number
    kind: string
    persistence: 'p' | 'u' | 't'
    comment: string | null
  }>(sql`
    select c.oid, c.relkind as kind, c.relpersistence as persistence, obj_description(c.oid, 'pg_class') as comment
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${name.schema} and c.relname = ${name.name} and c.relkind in ('r', 'p', 'v', 'm', 'f')`)
  const kind = row && kinds[row.kind]
  if (!row || !kind) return undefined
  return {
    schema: name.schema,
    name: name.name,
    oid: row.oid,
    kind,
    persistence: row.persistence,
    comment: row.comment,
    columns: await readColumns(session, row.oid),
    leaves: kind === 'view' ? [] : await readLeaves(session, row.oid),
  }
}

/** As `findRelation`; throws `table_unknown` with the nearest names. */
export async function getRelation(session: Session, name: QualifiedName): Promise<Relation> {
  const found = await findRelation(session, name)
  if (found) return found
  const near = await session.query<{ schema: string; name: string }>(sql`
    select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and lower(c.relname) = lower(${name.name})
    order by lower(n.nspname) <> lower(${name.schema}), 1, 2 limit 3`)
  const hints = near.map(displayQualified).join(', ')
  throw new Failure('table_unknown', {
    message: `${session.object} has no table or view ${displayQualified(name)}${hints ? `; it has ${hints}` : ''}.`,
    object: `${session.object}:${displayQualified(name)}`,
    remedy: hints
      ? `Write one of these as shown, quotes included: ${near.map((one) => `'${displayQualified(one)}'`).join(', ')}.`
      : undefined,
  })
}

async function readColumns(session: Session, oid: number): Promise<Column[]> {
  return session.query<Column>(sql`
    select a.attname as name, a.attnum::int as number, a.atttypid as "typeOid", a.atttypmod as typmod,
      format_type(a.atttypid, a.atttypmod) as type, a.attgenerated <> '' as generated,
      a.attnotnull and not exists (
        select from pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
          and k.conkey = array[a.attnum]) as "notNull",
      case when a.attcollation <> t.typcollation and a.attcollation <> 0
        then jsonb_build_object('schema', cn.nspname, 'name', co.collname) end as collation,
      col_description(a.attrelid, a.attnum) as comment,
      has_column_privilege(a.attrelid, a.attnum, 'SELECT') as readable
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_collation co on co.oid = a.attcollation
    left join pg_namespace cn on cn.oid = co.collnamespace
    where a.attrelid = ${oid} and a.attnum > 0 and not a.attisdropped
    order by a.attnum`)
}

/** A relation's own rows and those of its partitions and children, of all levels. */
export async function readLeaves(session: Session, oid: number): Promise<Leaf[]> {
  const rows = await session.query<Leaf & { kind: string; bytes: string; rows: number }>(sql`
    with recursive member as (
      select ${oid}::oid as oid
      union select i.inhrelid from member m join pg_inherits i on i.inhparent = m.oid)
    select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind,
      has_table_privilege(c.oid, 'SELECT') and has_schema_privilege(n.oid, 'USAGE') and not row_security_active(c.oid) as readable,
      case when c.relkind in ('r', 'm') then pg_relation_size(c.oid) else 0 end as bytes, c.reltuples::float8 as rows
    from member m join pg_class c on c.oid = m.oid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm', 'f') and c.relpersistence <> 't' order by c.oid`)
  return rows.map((row) => ({ ...row, kind: kinds[row.kind] ?? 'table', bytes: Number(row.bytes) }))
}
