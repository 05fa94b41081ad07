import { Failure } from '../base/failure.ts'
import type { Column, Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import {
  displayName,
  displayQualified,
  type QualifiedName,
  quoteIdentifier,
  quoteLiteral,
  quoteQualified,
} from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { readTypes, type TypeCatalog } from '../postgres/type-catalog.ts'
import { type Conversion, conversionOf } from './conversion.ts'

/** A source column and what it is at the destination. */
export interface PlannedColumn {
  readonly name: string
  readonly source: Column
  /** The destination's type, as its own `format_type` prints it. */
  readonly type: string
  readonly typeOid: number
  readonly notNull: boolean
  readonly collation: QualifiedName | null
  readonly comment: string | null
}

/** Live columns of the source that the filter lets through. Throws `filter_empty`, `column_unknown`, `permission_denied`. */
export function selectColumns(source: Relation, filter: readonly string[] | null, object: string): Column[] {
  if (filter !== null && filter.length === 0) {
    throw new Failure('filter_empty', { message: `The column filter of ${object} names no column.`, object })
  }
  const unknown = filter?.filter((name) => !source.columns.some((column) => column.name === name)) ?? []
  if (unknown.length > 0) {
    throw new Failure('column_unknown', {
      message: `${object} has no column ${unknown.map(displayName).join(', ')}; it has ${source.columns.map((column) => displayName(column.name)).join(', ')}.`,
      object,
    })
  }
  const chosen = source.columns.filter((column) => filter === null || filter.includes(column.name))
  if (chosen.length === 0) throw new Failure('column_unknown', { message: `${object} has no columns.`, object })
  const unreadable = chosen.filter((column) => !column.readable)
  if (unreadable.length > 0) {
    throw new Failure('permission_denied', {
      message: `Our role may not read ${unreadable.length === source.columns.length ? object : `the column ${unreadable.map((column) => displayName(column.name)).join(', ')} of ${object}`}.`,
      object,
      remedy: `As the owner of the table: GRANT SELECT ON ${quoteQualified(source)} TO …; yardmaster database prepare prints it with the role.`,
    })
  }
  return chosen
}

/**
 * What the chosen columns become at the destination: its own names for their types. Throws `type_missing` with the
 * statements that make every type the destination lacks.
 */
export async function planColumns(
  columns: readonly Column[],
  sourceTypes: TypeCatalog,
  destination: Session,
  object: string,
): Promise<PlannedColumn[]> {
  const found = new Map<number, number | null>()
  const resolve = async (oid: number): Promise<number | null> => {
    const known = found.get(oid)
    if (known !== undefined) return known
    const at = await resolveType(destination, sourceTypes, oid, resolve)
    found.set(oid, at)
    return at
  }
  for (const column of columns) await resolve(column.typeOid)
  const missing = columns.filter((column) => found.get(column.typeOid) === null)
  if (missing.length > 0) throw typesMissing(missing, sourceTypes, found, destination, object)
  const oids = columns.map((column) => found.get(column.typeOid) ?? 0)
  const printed = await destination.query<{ type: string }>(sql`
    select format_type(t.oid, t.typmod) as type
    from unnest(${oids.map(String)}::oid[], ${columns.map((column) => column.typmod)}::int[]) with ordinality as t(oid, typmod, n)
    order by n`)
  const collations = await destinationCollations(destination, columns)
  return columns.map((column, index) => ({
    name: column.name,
    source: column,
    type: printed[index]?.type ?? '',
    typeOid: oids[index] ?? 0,
    notNull: column.notNull,
    collation: column.collation && collations.has(displayQualified(column.collation)) ? column.collation : null,
    comment: column.comment,
  }))
}

async function resolveType(
  destination: Session,
  types: TypeCatalog,
  oid: number,
  resolve: (oid: number) => Promise<number | null>,
): Promise<number | null> {
  const { name, schema, extension, element } = types.reference(oid)
  if (types.isBuiltIn(oid)) {
    const row = await destination.one<{ oid: number | null }>(
      sql`select (select oid from pg_type where oid = ${oid}::oid and typname = ${name}) as oid`,
    )
    return row.oid
  }
  if (element !== 0) {
    const at = await resolve(element)
    if (at === null) return null
    const row = await destination.one<{ oid: number }>(sql`select typarray as oid from pg_type where oid = ${at}::oid`)
    return row.oid === 0 ? null : row.oid
  }
  const row = await destination.first<{ oid: number }>(sql`
    select t.oid from pg_type t join pg_namespace n on n.oid = t.typnamespace
    left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
      and d.refclassid = 'pg_extension'::regclass
    left join pg_extension e on e.oid = d.refobjid
    where t.typname = ${name} and case when ${extension}::text is null
      then n.nspname = ${schema} and e.oid is null else e.extname = ${extension}::text end`)
  return row?.oid ?? null
}

function typesMissing(
  missing: readonly Column[],
  types: TypeCatalog,
  found: ReadonlyMap<number, number | null>,
  destination: Session,
  object: string,
): Failure {
  const lacks = (oid: number) => (found.has(oid) ? found.get(oid) === null : !types.isBuiltIn(oid))
  const statements = [...new Set(missing.flatMap((column) => types.statements(column.typeOid, lacks)))]
  const named = missing.map((column) => `${displayName(column.name)} ${column.type}`).join(', ')
  return new Failure('type_missing', {
    message: `${destination.object} lacks the types of these columns of ${object}: ${named}.`,
    object,
    remedy: `In ${destination.object} run: ${statements.join(' ')}`,
  })
}

async function destinationCollations(destination: Session, columns: readonly Column[]): Promise<Set<string>> {
  const wanted = columns.flatMap((column) => (column.collation ? [column.collation] : []))
  if (wanted.length === 0) return new Set()
  const rows = await destination.query<{ schema: string; name: string }>(sql`
    select n.nspname as schema, c.collname as name from pg_collation c join pg_namespace n on n.oid = c.collnamespace
    where c.collname = any(${wanted.map((one) => one.name)}::name[])
      and c.collencoding in (-1, (select encoding from pg_database where datname = current_database()))`)
  return new Set(rows.map(displayQualified))
}

/** How each column is carried into an existing table. Throws `destination_column_missing`, `column_type_mismatch`, `column_generated`. */
export async function matchColumns(
  planned: readonly PlannedColumn[],
  sourceTypes: TypeCatalog,
  table: Relation,
  destination: Session,
): Promise<Exclude<Conversion, 'refused'>> {
  const object = `${destination.object}:${displayQualified(table)}`
  const missing = planned.filter((column) => !table.columns.some((one) => one.name === column.name))
  if (missing.length > 0) {
    const additions = missing.map((column) => `ADD COLUMN ${columnDefinition(column, false)}`).join(', ')
    throw new Failure('destination_column_missing', {
      message: `${object} lacks the source's column ${missing.map((column) => displayName(column.name)).join(', ')}; nothing was copied.`,
      object,
      remedy: `In ${destination.object} run: ALTER TABLE ${quoteQualified(table)} ${additions};`,
    })
  }
  const types = await readTypes(
    destination,
    table.columns.map((column) => column.typeOid),
  )
  let format: Exclude<Conversion, 'refused'> = 'binary'
  for (const column of planned) {
    const target = table.columns.find((one) => one.name === column.name)
    if (!target) continue
    if (target.generated) {
      throw new Failure('column_generated', {
        message: `The column ${displayName(column.name)} of ${object} is generated; the source's values cannot be stored in it.`,
        object,
        remedy: `ALTER TABLE ${quoteQualified(table)} ALTER COLUMN ${quoteIdentifier(column.name)} DROP EXPRESSION; or leave it out with --columns.`,
      })
    }
    const how = conversionOf({ column: column.source, types: sourceTypes }, { column: target, types })
    if (how === 'refused') {
      throw new Failure('column_type_mismatch', {
        message: `The column ${displayName(column.name)} is ${column.source.type} at the source and ${target.type} in ${object}; not every value would arrive as it is, so nothing was copied.`,
        object,
        remedy: `ALTER TABLE ${quoteQualified(table)} ALTER COLUMN ${quoteIdentifier(column.name)} TYPE ${column.type};`,
      })
    }
    if (how === 'text') format = 'text'
  }
  return format
}

/** `"name" type [COLLATE …] [NOT NULL]`. */
export function columnDefinition(column: PlannedColumn, withNotNull = true): string {
  const collation = column.collation ? ` COLLATE ${quoteQualified(column.collation)}` : ''
  return `${quoteIdentifier(column.name)} ${column.type}${collation}${withNotNull && column.notNull ? ' NOT NULL' : ''}`
}

/** The statements that make a table of these columns, comments included. */
export function createTableStatements(table: QualifiedName, columns: readonly PlannedColumn[]): string[] {
  return [
    `CREATE TABLE ${quoteQualified(table)} (${columns.map((column) => columnDefinition(column)).join(', ')})`,
    ...columns
      .filter((column) => column.comment !== null)
      .map(
        (column) =>
          `COMMENT ON COLUMN ${quoteQualified(table)}.${quoteIdentifier(column.name)} IS ${quoteLiteral(column.comment ?? '')}`,
      ),
  ]
}

/** Whether a table of ours still has exactly the planned columns: else it is made anew. */
export function hasSameShape(table: Relation, planned: readonly PlannedColumn[]): boolean {
  const actual = table.columns.map((column) => [
    column.name,
    column.typeOid,
    column.typmod,
    column.notNull,
    column.collation,
  ])
  const wanted = planned.map((column) => [
    column.name,
    column.typeOid,
    column.source.typmod,
    column.notNull,
    column.collation,
  ])
  return JSON.stringify(actual) === JSON.stringify(wanted)
}
