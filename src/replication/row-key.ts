import { Failure } from '../base/failure.ts'
import type { Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import {
  derivedName,
  displayName,
  displayQualified,
  type QualifiedName,
  quoteIdentifier,
  quoteQualified,
} from '../postgres/identifier.ts'
import { identityOf, readIndexes } from '../postgres/index-catalog.ts'
import { refuseIncomplete } from './control-column.ts'
import { destinationLabel, type Replication, sourceLabel } from './definition.ts'
import { type PlannedIndex, planIndexes } from './destination-indexes.ts'
import { type IndexedSource, readIndexed, type SourceRead } from './source-read.ts'

/** The columns that tell an updater's rows apart. */
export interface RowKey {
  readonly columns: readonly string[]
  /** True when somebody named them: then no constraint of the source vouches for them. */
  readonly isGiven: boolean
}

type Source = Pick<IndexedSource, 'relation' | 'columns' | 'indexes'>
type Definition = Pick<Replication, 'sourceDatabase' | 'source' | 'columns' | 'type' | 'key'>

/**
 * The key of an updater: as given, else the primary key, else a unique index that identifies a row. Undefined for the types
 * that need none. Throws `key_missing`, `column_unknown`, `filter_incomplete`.
 */
export async function keyOf(read: SourceRead, definition: Definition): Promise<RowKey | undefined> {
  if (definition.type !== 'updater') return undefined
  const source = await readIndexed(read)
  const object = sourceLabel(definition)
  const key = definition.key ? givenKey(source, definition.key, object) : identity(source)
  if (!key) {
    throw new Failure('key_missing', {
      message: `${object} has no primary key, and no unique index whose columns are all NOT NULL and that is neither partial nor deferrable nor of expressions; an updater replaces rows by their key.`,
      object,
    })
  }
  refuseIncomplete(definition, key.columns, 'of the key')
  return key
}

function givenKey(source: Source, columns: readonly string[], object: string): RowKey {
  const unknown = columns.filter((name) => !source.relation.columns.some((column) => column.name === name))
  if (unknown.length === 0 && columns.length > 0) return { columns: [...new Set(columns)], isGiven: true }
  throw new Failure('column_unknown', {
    message: `${object} has no column ${unknown.map(displayName).join(', ')}, which --key names; it has ${source.relation.columns.map((column) => displayName(column.name)).join(', ')}.`,
    object,
    remedy: 'Correct --key.',
  })
}

function identity(source: Source): RowKey | undefined {
  const notNull = source.relation.columns.filter((column) => column.notNull).map((column) => column.name)
  const found = identityOf(source.indexes, new Set(notNull))
  return found && { columns: found.columns, isGiven: false }
}

/** The indexes of an incremental destination that we make: an updater's always has its key. */
export function planKeyedIndexes(
  source: Source,
  replication: Pick<Replication, 'destination' | 'columns' | 'buildIndexes'>,
  key: RowKey | undefined,
  major: number,
): PlannedIndex[] {
  const { destination, buildIndexes } = replication
  const filtered = replication.columns !== null || !buildIndexes
  const planned = buildIndexes || key ? planIndexes(source, destination, { filtered, major }) : []
  if (!key?.isGiven) return planned
  const wanted = buildIndexes ? planned : []
  return sameColumns(identity(source)?.columns ?? [], key.columns)
    ? planned
    : [ownKeyIndex(destination, key), ...wanted]
}

function ownKeyIndex(table: QualifiedName, key: RowKey): PlannedIndex {
  const name = derivedName(`${table.name}_key`, '', [displayQualified(table), ...key.columns])
  return { name, primary: false, statement: keyIndexStatement(table, key, `${quoteIdentifier(name)} `) }
}

function keyIndexStatement(table: QualifiedName, key: RowKey, name = ''): string {
  return `CREATE UNIQUE INDEX ${name}ON ${quoteQualified(table)} (${key.columns.map(quoteIdentifier).join(', ')})`
}

/** Throws `key_index_missing` where ON CONFLICT would find no index on exactly the key's columns. */
export async function requireKeyIndex(
  destination: Session,
  table: Relation,
  key: RowKey,
  replication: Replication,
): Promise<void> {
  const usable = (await readIndexes(destination, table.oid)).some(
    (index) =>
      index.unique &&
      index.immediate &&
      !index.exclusion &&
      index.predicate === null &&
      sameColumns(
        index.parts.map((part) => part.column),
        key.columns,
      ),
  )
  if (usable) return
  const label = destinationLabel(replication)
  throw new Failure('key_index_missing', {
    message: `${label} has no unique index on exactly (${key.columns.map(displayName).join(', ')}), the key by which an updater replaces rows; nothing was copied.`,
    object: label,
    remedy: `In ${replication.destinationDatabase} run: ${keyIndexStatement(table, key)};`,
  })
}

function sameColumns(some: readonly (string | null)[], others: readonly string[]): boolean {
  return some.length === others.length && others.every((name) => some.includes(name))
}
