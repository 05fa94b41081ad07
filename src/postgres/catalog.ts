import { Failure } from '../base/failure.ts'
import type { Session } from './connect.ts'
import { displayQualified, type QualifiedName } from './identifier.ts'
import { type Sql, sql } from './sql.ts'

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

/** What tells a relation from another one of that name. */
export interface RelationIdentity extends QualifiedName {
  readonly oid: number
  readonly kind: RelationKind
  readonly persistence: 'p' | 'u' | 't'
}

/** As the catalog has it in one row. */
export interface RelationRow {
  readonly oid: number
  readonly kind: string
  readonly persistence: 'p' | 'u' | 't'
  readonly comment: string | null
  readonly columns: readonly Column[] | null
  readonly leaves: readonly LeafRow[] | null
}

type LeafRow = Leaf & { kind: string; bytes: number | string }

const holdsRows = sql`c.relkind in ('r', 'p', 'v', 'm', 'f')`

/** Gives a `RelationRow`, or none where no relation that holds rows has that name. One statement, so one look. */
export function selectRelation(name: QualifiedName): Sql {
  return sql`
    select c.oid, c.relkind as kind, c.relpersistence as persistence,
      (select d.description from pg_description d
        where d.objoid = c.oid and d.classoid = 'pg_class'::regclass and d.objsubid = 0) as comment,
      (select jsonb_agg(to_jsonb(o) order by o.number) from (${selectColumns(sql`c.oid`)}) as o) as columns,
      (select jsonb_agg(to_jsonb(l) order by l.oid) from (${selectLeaves(sql`c.oid`)}) as l) as leaves
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${name.schema} and c.relname = ${name.name} and ${holdsRows}`
}

export function relationOf({ schema, name }: QualifiedName, row: RelationRow | undefined): Relation | undefined {
  const kind = row && kinds[row.kind]
  if (!row || !kind) return undefined
  return { ...row, schema, name, kind, columns: row.columns ?? [], leaves: (row.leaves ?? []).map(leafOf) }
}

/** Looks a relation up by its real names; undefined when there is none (or one that holds no rows: index, sequence, type). */
export async function findRelation(session: Session, name: QualifiedName): Promise<Relation | undefined> {
  return relationOf(name, await session.first<RelationRow>(selectRelation(name)))
}

/** Gives the `oid` of that name; no row as in `selectRelation`. */
export function selectOid(name: QualifiedName): Sql {
  return sql`
    select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${name.schema} and c.relname = ${name.name} and ${holdsRows}`
}

/** Which of these there are, in no order. */
export async function identify(session: Session, names: readonly QualifiedName[]): Promise<RelationIdentity[]> {
  const rows = await session.query<RelationIdentity & { kind: string }>(sql`
    select n.nspname as schema, c.relname as name, c.oid, c.relkind as kind, c.relpersistence as persistence
    from unnest(${names.map((one) => one.schema)}::text[], ${names.map((one) => one.name)}::text[]) as w(schema, name)
    join pg_namespace n on n.nspname = w.schema join pg_class c on c.relnamespace = n.oid and c.relname = w.name
    where ${holdsRows}`)
  return rows.flatMap((row) => {
    const kind = kinds[row.kind]
    return kind ? [{ ...row, kind }] : []
  })
}

/** As `findRelation`; throws `table_unknown` with the nearest names. */
export async function getRelation(session: Session, name: QualifiedName): Promise<Relation> {
  const found = await findRelation(session, name)
  if (found) return found
  throw await unknownRelation(session, name)
}

export async function unknownRelation(session: Session, name: QualifiedName): Promise<Failure> {
  const near = await session.query<{ schema: string; name: string }>(sql`
    select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and lower(c.relname) = lower(${name.name})
    order by lower(n.nspname) <> lower(${name.schema}), 1, 2 limit 3`)
  const hints = near.map(displayQualified).join(', ')
  return new Failure('table_unknown', {
    message: `${session.object} has no table or view ${displayQualified(name)}${hints ? `; it has ${hints}` : ''}.`,
    object: `${session.object}:${displayQualified(name)}`,
    remedy: hints
      ? `Write one of these as shown, quotes included: ${near.map((one) => `'${displayQualified(one)}'`).join(', ')}.`
      : undefined,
  })
}

function selectColumns(oid: Sql): Sql {
  return sql`
    select a.attname as name, a.attnum::int as number, a.atttypid::int8 as "typeOid", a.atttypmod as typmod,
      format_type(a.atttypid, a.atttypmod) as type, a.attgenerated <> '' as generated,
      a.attnotnull and not exists (
        select from pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
          and k.conkey = array[a.attnum]) as "notNull",
      case when a.attcollation <> 0 and a.attcollation <> (select t.typcollation from pg_type t where t.oid = a.atttypid) then (
        select jsonb_build_object('schema', n.nspname, 'name', co.collname)
        from pg_collation co join pg_namespace n on n.oid = co.collnamespace where co.oid = a.attcollation) end as collation,
      (select d.description from pg_description d
        where d.objoid = a.attrelid and d.classoid = 'pg_class'::regclass and d.objsubid = a.attnum) as comment,
      has_column_privilege(a.attrelid, a.attnum, 'SELECT') as readable
    from pg_attribute a where a.attrelid = ${oid} and a.attnum > 0 and not a.attisdropped`
}

/** A relation's own rows and those of its partitions and children, of all levels. */
function selectLeaves(oid: Sql): Sql {
  return sql`
    with recursive member as (
      select ${oid} as oid
      union select i.inhrelid from member m join pg_inherits i on i.inhparent = m.oid)
    select c.oid::int8 as oid, n.nspname as schema, c.relname as name, c.relkind as kind,
      has_table_privilege(c.oid, 'SELECT') and has_schema_privilege(n.oid, 'USAGE') and not row_security_active(c.oid) as readable,
      case when c.relkind in ('r', 'm') then pg_relation_size(c.oid) else 0 end as bytes, c.reltuples::float8 as rows
    from member m join pg_class c on c.oid = m.oid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm', 'f') and c.relpersistence <> 't'`
}

function leafOf(row: LeafRow): Leaf {
  return { ...row, oid: Number(row.oid), kind: kinds[row.kind] ?? 'table', bytes: Number(row.bytes) }
}

export async function readLeaves(session: Session, oid: number): Promise<Leaf[]> {
  const leaves = await session.query<LeafRow>(sql`${selectLeaves(sql`${oid}::oid`)} order by c.oid`)
  return leaves.map(leafOf)
}
