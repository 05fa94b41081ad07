import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import {
  derivedName,
  displayName,
  displayQualified,
  type QualifiedName,
  quoteIdentifier,
  quoteQualified,
} from '../postgres/identifier.ts'
import { type Index, identityOf, indexStatement, plainColumns } from '../postgres/index-catalog.ts'
import { sql } from '../postgres/sql.ts'
import { staysInParentheses } from './condition.ts'
import { destinationLabel, type Replication, sourceLabel } from './definition.ts'
import type { IndexedSource } from './source-read.ts'

/** An index to build at the destination: its name there, and the statement. */
export interface PlannedIndex {
  readonly name: string
  readonly statement: string
  /** Set where it becomes the primary key when all indexes stand. */
  readonly primary: boolean
}

/**
 * The source's indexes for another table: the key first, then every other valid index; with a column filter only the key.
 * Names are made from the source's name and the table, so that no two destinations in one schema collide. Throws
 * `index_refused` for an index whose printed text would not stay in its place.
 */
export function planIndexes(
  source: Pick<IndexedSource, 'columns' | 'indexes' | 'relation'>,
  table: QualifiedName,
  how: { filtered: boolean; major: number },
): PlannedIndex[] {
  const chosen = new Set(source.columns.map((column) => column.name))
  const notNull = new Set(source.columns.filter((column) => column.notNull).map((column) => column.name))
  const key = identityOf(source.indexes, notNull)?.index
  const wanted = source.indexes
    .filter((index) => !index.exclusion && (index === key || !how.filtered))
    .map((index) => ({ ...index, isKey: index === key, include: index.include.filter((column) => chosen.has(column)) }))
    .filter((index) => plainColumns(index)?.every((column) => chosen.has(column)) ?? !how.filtered)
  return [...wanted.filter((index) => index.isKey), ...wanted.filter((index) => !index.isKey)].map((index) => {
    refuseStrangeText(index, source.relation)
    const name = indexName(index, table)
    const statement = indexStatement(index, name, table, how.major)
    return { name, statement, primary: index.primary && index.isKey }
  })
}

/** An expression is the source server's text, and runs here: it may be nothing but an expression. */
function refuseStrangeText(index: Index, source: QualifiedName): void {
  const texts = [...index.parts.filter((part) => part.column === null).map((part) => part.expression), index.predicate]
  if (texts.every((text) => text === null || staysInParentheses(text))) return
  throw new Failure('index_refused', {
    message: `The index ${displayName(index.name)} of ${displayQualified(source)} is printed by its server as something else than an expression; nothing was copied.`,
    object: displayQualified(source),
  })
}

/** A failed index statement, with what to do about it: most often a function or operator class that the destination lacks. */
export function explainIndexFailure(failure: Failure, replication: Replication): Failure {
  if (!failure.sqlstate?.startsWith('42') || failure.code === 'permission_denied') return failure
  const label = destinationLabel(replication)
  return new Failure('index_refused', {
    message: `An index of ${sourceLabel(replication)} cannot be made in ${replication.destinationDatabase}: ${failure.message}; nothing was copied.`,
    object: label,
    remedy: `Make there what it needs; or copy without indexes: yardmaster replication set ${label} index=false (with add: --no-index).`,
    sqlstate: failure.sqlstate,
    cause: failure,
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
  /** Whether our role may drop it. */
  readonly ours: boolean
}

export async function standingIndexes(session: Session, table: QualifiedName): Promise<StandingIndex[]> {
  return session.query<StandingIndex>(sql`
    select c.relname as name, pg_get_indexdef(i.indexrelid) as definition, k.conname as constraint,
      pg_get_constraintdef(k.oid) as "constraintDefinition", pg_has_role(t.relowner, 'USAGE') as ours
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
