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
import { TypeResolution } from './missing-types.ts'

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
  const resolution = new TypeResolution(sourceTypes, destination)
  const found: (number | null)[] = []
  for (const column of columns) found.push(await resolution.resolve(column.typeOid))
  const missing = columns.filter((_, index) => found[index] === null)
  if (missing.length > 0) throw await resolution.failure(missing, object)
  const oids = found.map((oid) => oid ?? 0)
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
      throw mismatch(column, target, table, object, labelsToAdd(column.source, sourceTypes, target, types))
    }
    if (how === 'text') format = 'text'
  }
  return format
}

function mismatch(
  column: PlannedColumn,
  target: Column,
  table: QualifiedName,
  object: string,
  labels: readonly string[],
): Failure {
  const name = displayName(column.name)
  const alter = `ALTER TABLE ${quoteQualified(table)} ALTER COLUMN ${quoteIdentifier(column.name)} TYPE ${column.type};`
  if (column.type !== target.type) {
    return new Failure('column_type_mismatch', {
      message: `The column ${name} is ${column.source.type} at the source and ${target.type} in ${object}; not every value would arrive as it is, so nothing was copied.`,
      object,
      remedy: alter,
    })
  }
  const lacks = labels.map(quoteLiteral).join(', ')
  return new Failure('column_type_mismatch', {
    message: `The column ${name} is ${column.type} on both sides, but the type ${lacks ? `lacks the value ${lacks} in ${object}` : `is not made in the same way in ${object}`}; not every value would arrive as it is, so nothing was copied.`,
    object,
    remedy: lacks
      ? labels.map((label) => `ALTER TYPE ${target.type} ADD VALUE ${quoteLiteral(label)};`).join(' ')
      : `Make the type ${target.type} there what it is at the source, or leave the column out with --columns.`,
  })
}

/** Labels of an enum that the destination's enum of that name lacks. */
function labelsToAdd(column: Column, types: TypeCatalog, target: Column, there: TypeCatalog): string[] {
  const labels = there.row(target.typeOid).labels
  return labels === null ? [] : (types.row(column.typeOid).labels ?? []).filter((label) => !labels.includes(label))
}

/** `"name" type [COLLATE …] [NOT NULL]`. */
function columnDefinition(column: PlannedColumn, withNotNull = true): string {
  const collation = column.collation ? ` COLLATE ${quoteQualified(column.collation)}` : ''
  return `${quoteIdentifier(column.name)} ${column.type}${collation}${withNotNull && column.notNull ? ' NOT NULL' : ''}`
}

/** A table of these columns as the catalog will have it when it is made. */
export function plannedTable(name: QualifiedName, columns: readonly PlannedColumn[]): Relation {
  return {
    ...name,
    oid: 0,
    kind: 'table',
    persistence: 'p',
    comment: null,
    leaves: [],
    columns: columns.map((column, index) => ({
      name: column.name,
      number: index + 1,
      typeOid: column.typeOid,
      typmod: column.source.typmod,
      type: column.type,
      notNull: column.notNull,
      collation: column.collation,
      generated: false,
      comment: null,
      readable: true,
    })),
  }
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
