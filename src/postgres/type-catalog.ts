import type { Session } from './connect.ts'
import { sql } from './sql.ts'

/** Objects with lower ids came with the server; those below 10,000 have the same ids everywhere. */
const firstUserOid = 16384

/** xml carries an encoding; of the last three PostgreSQL (14 to 18) refuses the empty value that it sends itself. */
const textOnly: ReadonlySet<string> = new Set(['xml', 'aclitem', 'tsquery', 'oidvector', 'int2vector'])

/** One type as its server's catalog has it; ids are that server's. */
export interface TypeRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: 'b' | 'c' | 'd' | 'e' | 'p' | 'r' | 'm'
  /** Of a true array (what `type[]` makes), else 0: `oidvector` and its like only look like one. */
  readonly element: number
  readonly delimiter: string
  /** Of a domain, with its type modifier. */
  readonly base: number
  readonly base_typmod: number
  /** Of a range or multirange. */
  readonly subtype: number
  /** Of a multirange: its range. */
  readonly range: number
  readonly binary: boolean
  readonly extension: string | null
  readonly extension_version: string | null
  readonly labels: readonly string[] | null
  readonly attributes: readonly { name: string; oid: number; typmod: number; type: string }[] | null
  /** What follows the base type in CREATE DOMAIN, or the subtype in CREATE TYPE … AS RANGE. */
  readonly definition: string | null
  /** The base type or subtype, as `format_type` of its own server prints it. */
  readonly base_type: string | null
}

/** The types of one server that were asked for, with all that they are made of. */
export class TypeCatalog {
  readonly #rows: ReadonlyMap<number, TypeRow>

  constructor(rows: Iterable<TypeRow>) {
    this.#rows = new Map([...rows].map((row) => [row.oid, row]))
  }

  row(oid: number): TypeRow {
    const row = this.#rows.get(oid)
    if (!row) throw new Error(`Type ${oid} was not read from the catalog.`)
    return row
  }

  /**
   * Two types hold the same values when their signatures are equal: the name for PostgreSQL's own and an extension's, else
   * what it is made of, recursively. With `exact` their binary forms are the same too: an extension may change its own.
   */
  signature(oid: number, exact = false): string {
    const row = this.row(oid)
    const of = (part: number) => this.signature(part, exact)
    if (row.element !== 0) return `${of(row.element)}[]`
    if (row.kind === 'e') return `enum(${JSON.stringify(row.labels)})`
    if (row.kind === 'd') return `domain(${of(row.base)}:${row.base_typmod})`
    if (row.kind === 'c')
      return `composite(${JSON.stringify(row.attributes?.map((part) => [part.name, of(part.oid), part.typmod]))})`
    if ((row.kind === 'r' || row.kind === 'm') && !this.isBuiltIn(oid)) return `${row.kind}(${of(row.subtype)})`
    if (this.isBuiltIn(oid)) return row.name
    if (!row.extension) return `user(${row.schema}.${row.name})`
    return `${row.extension}${exact ? `/${row.extension_version}` : ''}/${row.name}`
  }

  /**
   * True when the binary form of a value means the same on every server with an equal exact signature. `reg*` types carry
   * the source's object ids; a base type that no extension owns is only a name to us.
   */
  isBinarySafe(oid: number): boolean {
    const row = this.row(oid)
    if (row.element !== 0) return this.isBinarySafe(row.element)
    if (!row.binary) return false
    if (row.kind === 'd') return this.isBinarySafe(row.base)
    if (row.kind === 'c') return row.attributes?.every((part) => this.isBinarySafe(part.oid)) ?? false
    if (row.kind === 'r' || row.kind === 'm') return this.isBuiltIn(oid) || this.isBinarySafe(row.subtype)
    if (row.kind === 'e') return true
    if (!this.isBuiltIn(oid)) return row.extension !== null
    return row.kind === 'b' && !row.name.startsWith('reg') && !textOnly.has(row.name)
  }

  /** The type that a domain stands for, through all levels; any other type itself. */
  baseOf(oid: number): { oid: number; typmod: number } {
    const row = this.row(oid)
    if (row.kind !== 'd') return { oid, typmod: -1 }
    const below = this.baseOf(row.base)
    return row.base_typmod === -1 ? below : { oid: below.oid, typmod: row.base_typmod }
  }

  name(oid: number): string {
    return this.row(oid).name
  }

  isBuiltIn(oid: number): boolean {
    return oid < firstUserOid
  }

  /** The types that this one is directly made of. */
  parts(oid: number): number[] {
    const row = this.row(oid)
    return partsOf(row)
  }
}

function partsOf(row: TypeRow): number[] {
  const attributes = row.attributes?.map((part) => part.oid) ?? []
  return [row.element, row.base, row.subtype, row.range, ...attributes].filter((oid) => oid !== 0)
}

/** Below it, types have the same ids and the same shape on every server of a version. */
const firstUnfixedOid = 10000

/** What connections have read of such types. By connection: no server's word counts for another one. */
const fixedTypes = new WeakMap<object, Map<number, TypeRow>>()

/** Reads the given types and everything that they are made of; what a version brings, once for each connection. */
export async function readTypes(session: Session, oids: Iterable<number>): Promise<TypeCatalog> {
  const fixed = fixedTypes.get(session.connection) ?? new Map<number, TypeRow>()
  fixedTypes.set(session.connection, fixed)
  const rows = new Map<number, TypeRow>()
  let wanted = [...new Set(oids)]
  while (wanted.length > 0) {
    const unknown = wanted.filter((oid) => !fixed.has(oid))
    const read = unknown.length > 0 ? await readRows(session, unknown) : []
    for (const row of read) if (row.oid < firstUnfixedOid) fixed.set(row.oid, row)
    for (const row of [...read, ...wanted.flatMap((oid) => fixed.get(oid) ?? [])]) rows.set(row.oid, row)
    wanted = [...new Set([...rows.values()].flatMap(partsOf))].filter((oid) => !rows.has(oid))
  }
  return new TypeCatalog(rows.values())
}

async function readRows(session: Session, oids: readonly number[]): Promise<TypeRow[]> {
  return session.query<TypeRow>(sql`
    select t.oid, n.nspname as schema, t.typname as name, t.typtype as kind,
      coalesce(el.oid, 0::oid) as element, coalesce(el.typdelim, t.typdelim)::text as delimiter,
      t.typbasetype as base, t.typtypmod as base_typmod,
      coalesce(r.rngsubtype, m.rngsubtype, 0::oid) as subtype, coalesce(m.rngtypid, 0::oid) as range,
      t.typsend <> 0 and t.typreceive <> 0 as binary,
      e.extname as extension, e.extversion as extension_version,
      (select array_agg(l.enumlabel::text order by l.enumsortorder) from pg_enum l where l.enumtypid = t.oid) as labels,
      case when t.typtype = 'c' then (
        select jsonb_agg(jsonb_build_object('name', a.attname, 'oid', a.atttypid::int8, 'typmod', a.atttypmod,
          'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
        from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end as attributes,
      case when t.typtype = 'd' then
          case when t.typcollation <> b.typcollation then ' COLLATE ' || t.typcollation::regcollation else '' end
          || case when t.typnotnull then ' NOT NULL' else '' end
          || coalesce((select string_agg(' ' || pg_get_constraintdef(k.oid), '' order by k.conname)
               from pg_constraint k where k.contypid = t.oid and k.contype = 'c' and k.convalidated), '')
        when t.typtype = 'r' then
          case when not oc.opcdefault then format(', subtype_opclass = %I.%I', ocn.nspname, oc.opcname) else '' end
          || case when r.rngcollation <> s.typcollation then ', collation = ' || r.rngcollation::regcollation else '' end
          || case when mt.oid is not null then format(', multirange_type_name = %I.%I', mtn.nspname, mt.typname) else '' end
      end as definition,
      case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod)
        when 'r' then format_type(r.rngsubtype, null) end as base_type
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    left join pg_type el on el.typarray = t.oid and t.oid <> 0
    left join pg_type b on b.oid = t.typbasetype
    left join pg_range r on r.rngtypid = t.oid
    left join pg_type s on s.oid = r.rngsubtype
    left join pg_opclass oc on oc.oid = r.rngsubopc left join pg_namespace ocn on ocn.oid = oc.opcnamespace
    left join pg_type mt on mt.oid = r.rngmultitypid left join pg_namespace mtn on mtn.oid = mt.typnamespace
    left join pg_range m on m.rngmultitypid = t.oid
    left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid
      and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
    left join pg_extension e on e.oid = d.refobjid
    where t.oid = any(${oids.map(String)}::oid[])`)
}
