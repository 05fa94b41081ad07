import { Failure } from '../base/failure.ts'
import type { Column } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { TypeCatalog } from '../postgres/type-catalog.ts'
import { type KnownTypes, typeStatements, unmakeableTypes } from '../postgres/type-statements.ts'

/** The destination's ids for the source's types, looked up by name, or by extension and name; null where it has none. */
export class TypeResolution {
  readonly #types: TypeCatalog
  readonly #destination: Session
  readonly #found = new Map<number, number | null>()

  constructor(types: TypeCatalog, destination: Session) {
    this.#types = types
    this.#destination = destination
  }

  async resolve(oid: number): Promise<number | null> {
    const known = this.#found.get(oid)
    if (known !== undefined) return known
    const at = await this.#lookUp(oid)
    this.#found.set(oid, at)
    return at
  }

  async #lookUp(oid: number): Promise<number | null> {
    const { name, schema, extension, element } = this.#types.row(oid)
    if (element !== 0) {
      const at = await this.resolve(element)
      if (at === null) return null
      const row = await this.#destination.one<{ oid: number }>(
        sql`select typarray as oid from pg_type where oid = ${at}::oid`,
      )
      return row.oid === 0 ? null : row.oid
    }
    const row = await this.#destination.first<{ oid: number }>(sql`
      select t.oid from pg_type t join pg_namespace n on n.oid = t.typnamespace
      left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
        and d.refclassid = 'pg_extension'::regclass
      left join pg_extension e on e.oid = d.refobjid
      where t.typname = ${name} and case when ${extension}::text is null
        then n.nspname = ${schema} and e.oid is null else e.extname = ${extension}::text end`)
    return row?.oid ?? null
  }

  /** `type_missing`, with the statements that make everything that these columns lack. */
  async failure(missing: readonly Column[], object: string): Promise<Failure> {
    const known = await this.#known(missing.map((column) => column.typeOid))
    const collect = <Item>(of: (types: TypeCatalog, oid: number, known: KnownTypes) => Item[]) =>
      missing.flatMap((column) => of(this.#types, column.typeOid, known))
    const statements = [...new Set(collect(typeStatements))]
    const unmakeable = [...new Set(collect(unmakeableTypes).map(displayQualified))]
    const named = missing.map((column) => `${displayName(column.name)} ${column.type}`).join(', ')
    const where = this.#destination.object
    return new Failure('type_missing', {
      message: `${where} lacks the types of these columns of ${object}: ${named}.`,
      object,
      remedy: [
        ...(unmakeable.length > 0 ? [`Install in ${where} what defines ${unmakeable.join(', ')}.`] : []),
        ...(statements.length > 0 ? [`In ${where} run: ${statements.join(' ')}`] : []),
      ].join(' '),
    })
  }

  async #known(oids: readonly number[]): Promise<KnownTypes> {
    const known = new Map<number, string | null>()
    const queue = [...oids]
    for (let oid = queue.shift(); oid !== undefined; oid = queue.shift()) {
      if (known.has(oid)) continue
      const at = await this.resolve(oid)
      const row = await this.#destination.one<{ name: string | null }>(
        sql`select format_type(${at}::oid, null) as name`,
      )
      known.set(oid, row.name)
      if (at === null) queue.push(...this.#types.parts(oid))
    }
    return known
  }
}
