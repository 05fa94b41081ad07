import type { Session } from './connect.ts'
import { displayQualified, quoteIdentifier, quoteLiteral, quoteQualified } from './identifier.ts'
import { sql } from './sql.ts'

/** Objects with lower ids are PostgreSQL's own and the same on every server. */
const firstUserOid = 16384

interface TypeRow {
  oid: number
  schema: string
  name: string
  kind: 'b' | 'c' | 'd' | 'e' | 'p' | 'r' | 'm'
  element: number
  base: number
  base_typmod: number
  subtype: number
  binary: boolean
  extension: string | null
  extension_version: string | null
  labels: string[] | null
  attributes: { name: string; oid: number; typmod: number; type: string }[] | null
  definition: string | null
}

/** The types of one server that were asked for, with all that they are made of. */
export class TypeCatalog {
  readonly #rows: ReadonlyMap<number, TypeRow>

  constructor(rows: ReadonlyMap<number, TypeRow>) {
    this.#rows = rows
  }

  #row(oid: number): TypeRow {
    const row = this.#rows.get(oid)
    if (!row) throw new Error(`Type ${oid} was not read from the catalog.`)
    return row
  }

  /** Two types are the same when their signatures are: name for PostgreSQL's own, else what it is made of, recursively. */
  signature(oid: number): string {
    const row = this.#row(oid)
    if (row.element !== 0) return `${this.signature(row.element)}[]`
    if (row.kind === 'e') return `enum(${JSON.stringify(row.labels)})`
    if (row.kind === 'd') return `domain(${this.signature(row.base)}:${row.base_typmod})`
    if (row.kind === 'c') {
      const parts = row.attributes?.map((part) => [part.name, this.signature(part.oid), part.typmod])
      return `composite(${JSON.stringify(parts)})`
    }
    if ((row.kind === 'r' || row.kind === 'm') && oid >= firstUserOid)
      return `${row.kind}(${this.signature(row.subtype)})`
    if (oid < firstUserOid) return row.name
    return row.extension ? `${row.extension}/${row.extension_version}/${row.name}` : `user(${row.schema}.${row.name})`
  }

  /**
   * True when the binary form of a value means the same on every server with an equal signature. `reg*` types carry the
   * source's object ids, and xml carries an encoding; a base type that no extension owns is only a name to us.
   */
  isBinarySafe(oid: number): boolean {
    const row = this.#row(oid)
    if (row.element !== 0) return this.isBinarySafe(row.element)
    if (!row.binary) return false
    if (row.kind === 'd') return this.isBinarySafe(row.base)
    if (row.kind === 'c') return row.attributes?.every((part) => this.isBinarySafe(part.oid)) ?? false
    if (row.kind === 'r' || row.kind === 'm') return oid < firstUserOid || this.isBinarySafe(row.subtype)
    if (row.kind === 'e') return true
    if (oid >= firstUserOid) return row.extension !== null
    return row.kind === 'b' && !row.name.startsWith('reg') && row.name !== 'xml' && row.name !== 'aclitem'
  }

  kind(oid: number): TypeRow['kind'] | 'array' {
    const row = this.#row(oid)
    return row.element !== 0 ? 'array' : row.kind
  }

  /** The type that a domain stands for, through all levels; any other type itself. */
  baseOf(oid: number): { oid: number; typmod: number } {
    const row = this.#row(oid)
    if (row.kind !== 'd') return { oid, typmod: -1 }
    const below = this.baseOf(row.base)
    return below.typmod === -1 ? { oid: below.oid, typmod: row.base_typmod } : below
  }

  name(oid: number): string {
    return this.#row(oid).name
  }

  element(oid: number): number {
    return this.#row(oid).element
  }

  isBuiltIn(oid: number): boolean {
    return oid < firstUserOid
  }

  /** How another server would find this type: its qualified name, or its extension and name. */
  reference(oid: number): { name: string; schema: string; extension: string | null; element: number } {
    const { name, schema, extension, element } = this.#row(oid)
    return { name, schema, extension, element }
  }

  /** The statements that make this type, and what it is made of, on a server that lacks it: for people to run. */
  statements(oid: number, lacks: (oid: number) => boolean): string[] {
    const row = this.#row(oid)
    if (oid < firstUserOid || !lacks(oid)) return []
    if (row.element !== 0) return this.statements(row.element, lacks)
    if (row.extension) return [`CREATE EXTENSION IF NOT EXISTS ${quoteIdentifier(row.extension)};`]
    const name = quoteQualified({ schema: row.schema, name: row.name })
    const needs = (oids: number[]) => oids.flatMap((one) => this.statements(one, lacks))
    switch (row.kind) {
      case 'e':
        return [`CREATE TYPE ${name} AS ENUM (${(row.labels ?? []).map(quoteLiteral).join(', ')});`]
      case 'd':
        return [...needs([row.base]), `CREATE DOMAIN ${name} AS ${row.definition ?? ''};`]
      case 'c': {
        const parts = row.attributes ?? []
        return [
          ...needs(parts.map((part) => part.oid)),
          `CREATE TYPE ${name} AS (${parts.map((part) => `${quoteIdentifier(part.name)} ${part.type}`).join(', ')});`,
        ]
      }
      case 'r':
        return [...needs([row.subtype]), `CREATE TYPE ${name} AS RANGE (subtype = ${row.definition ?? ''});`]
      case 'm':
        return []
      default:
        return [`-- ${displayQualified(row)}: a base type; install what defines it.`]
    }
  }
}

/** Reads the given types and everything that they are made of. */
export async function readTypes(session: Session, oids: Iterable<number>): Promise<TypeCatalog> {
  const rows = new Map<number, TypeRow>()
  let wanted = [...new Set(oids)]
  while (wanted.length > 0) {
    for (const row of await readRows(session, wanted)) rows.set(row.oid, row)
    const next = [...rows.values()].flatMap((row) => [
      row.element,
      row.base,
      row.subtype,
      ...(row.attributes ?? []).map((part) => part.oid),
    ])
    wanted = [...new Set(next)].filter((oid) => oid !== 0 && !rows.has(oid))
  }
  return new TypeCatalog(rows)
}

async function readRows(session: Session, oids: readonly number[]): Promise<TypeRow[]> {
  return session.query<TypeRow>(sql`
    select t.oid, n.nspname as schema, t.typname as name, t.typtype as kind,
      case when t.typcategory = 'A' and t.typelem <> 0 and t.typlen = -1 then t.typelem else 0 end as element,
      t.typbasetype as base, t.typtypmod as base_typmod,
      coalesce(r.rngsubtype, m.rngsubtype, 0::oid) as subtype,
      t.typsend <> 0 and t.typreceive <> 0 as binary,
      e.extname as extension, e.extversion as extension_version,
      (select array_agg(l.enumlabel::text order by l.enumsortorder) from pg_enum l where l.enumtypid = t.oid) as labels,
      case when t.typtype = 'c' then (
        select jsonb_agg(jsonb_build_object('name', a.attname, 'oid', a.atttypid::int8, 'typmod', a.atttypmod,
          'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
        from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end as attributes,
      case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod)
          || case when t.typnotnull then ' NOT NULL' else '' end
          || coalesce((select string_agg(' ' || pg_get_constraintdef(k.oid), '' order by k.conname)
               from pg_constraint k where k.contypid = t.oid and k.contype = 'c'), '')
        when t.typtype = 'r' then format_type(r.rngsubtype, null) end as definition
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    left join pg_range r on r.rngtypid = t.oid
    left join pg_range m on m.rngmultitypid = t.oid
    left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid
      and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
    left join pg_extension e on e.oid = d.refobjid
    where t.oid = any(${oids.map(String)}::oid[])`)
}
