import type { Session } from '../postgres/connect.ts'
import {
  derivedName,
  displayQualified,
  type QualifiedName,
  quoteIdentifier,
  quoteQualified,
} from '../postgres/identifier.ts'
import { type Index, identityOf, indexStatement, plainColumns } from '../postgres/index-catalog.ts'
import { sql } from '../postgres/sql.ts'
import type { SourceRead } from './source-read.ts'

/** An index to build at the destination: its name there, and the statement. */
export interface PlannedIndex {
  readonly name: string
  readonly statement: string
  /** Set where it becomes the primary key when all indexes stand. */
  readonly primary: boolean
}

/**
 * The source's indexes for another table: the key first, then every other valid index; with a column filter only the key.
 * Names are made from the source's name and the table, so that no two destinations in one schema collide.
 */
export function planIndexes(source: SourceRead, table: QualifiedName, filtered: boolean): PlannedIndex[] {
  const chosen = new Set(source.columns.map((column) => column.name))
  const notNull = new Set(source.columns.filter((column) => column.notNull).map((column) => column.name))
  const key = identityOf(source.indexes, notNull)?.index
  const wanted = source.indexes
    .filter((index) => !index.exclusion && (index === key || !filtered))
    .filter((index) => plainColumns(index)?.every((column) => chosen.has(column)) ?? !filtered)
  return [...wanted.filter((index) => index === key), ...wanted.filter((index) => index !== key)].map((index) => {
    const name = indexName(index, table)
    return { name, statement: indexStatement(index, name, table), primary: index.primary && index === key }
  })
}

function indexName(index: Index, table: QualifiedName): string {
  return derivedName(index.name, '', [displayQualified(table)])
}

/** The statement that turns a finished unique index into the table's primary key. */
export function primaryKeyStatement(table: QualifiedName, index: PlannedIndex): string {
  const name = quoteIdentifier(index.name)
  return `ALTER TABLE ${quoteQualified(table)} ADD CONSTRAINT ${name} PRIMARY KEY USING INDEX ${name}`
}

/** An index that stands at the destination. */
export interface StandingIndex {
  readonly name: string
  /** `CREATE INDEX …` by the destination's own server, of our own table. */
  readonly definition: string
  /** The constraint that owns it, with its definition. */
  readonly constraint: string | null
  readonly constraintDefinition: string | null
}

export async function standingIndexes(session: Session, table: QualifiedName): Promise<StandingIndex[]> {
  return session.query<StandingIndex>(sql`
    select c.relname as name, pg_get_indexdef(i.indexrelid) as definition, k.conname as constraint,
      pg_get_constraintdef(k.oid) as "constraintDefinition"
    from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
    left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
    where n.nspname = ${table.schema} and t.relname = ${table.name} order by c.relname`)
}

/** Drops an index or the constraint that owns it. */
export function dropStatement(table: QualifiedName, index: StandingIndex): string {
  return index.constraint === null
    ? `DROP INDEX ${quoteQualified({ schema: table.schema, name: index.name })}`
    : `ALTER TABLE ${quoteQualified(table)} DROP CONSTRAINT ${quoteIdentifier(index.constraint)}`
}
