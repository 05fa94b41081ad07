import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName, quoteIdentifier } from '../postgres/identifier.ts'
import { identifier, sql } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { matchColumns, planColumns } from './column-plan.ts'
import { sourceControl } from './control-column.ts'
import { destinationLabel, type Replication, sourceLabel } from './definition.ts'
import { refuseUnlogged } from './increment-destination.ts'
import { type Connector, Link } from './link.ts'
import {
  findHolder,
  findPosition,
  type MadeObject,
  type Position,
  refuseForeign,
  registerPosition,
} from './position.ts'
import { ensurePositionTable, lockPositionTable } from './position-table.ts'
import { keyOf, type RowKey, requireKeyIndex } from './row-key.ts'
import { findSequence } from './sequences.ts'
import { sideTable } from './snapshot-sides.ts'
import { openSource, type SourceRead } from './source-read.ts'
import { refuseUnsuitable } from './table-destination.ts'

/** What a set-up would do; made without changing anything. */
export interface SetupPlan {
  /** True when the destination table is there: it is adopted, no data is pulled and no index built. */
  readonly existed: boolean
  readonly makes: readonly MadeObject[]
  readonly columns: readonly { name: string; type: string }[]
  /** Bytes of the source's heap, and its estimated rows; 0 where nobody knows. */
  readonly bytes: number
  readonly rows: number
}

/**
 * Looks at both sides and refuses what cannot work: unknown or unreadable source, bad filter or condition, missing types,
 * a destination that is taken or does not fit. Changes nothing.
 */
export async function planSetup(
  replication: Replication,
  controlId: string,
  connector: Connector,
  signal: AbortSignal,
): Promise<SetupPlan> {
  const link = new Link(connector, displayQualified(replication.destination), signal)
  try {
    const source = await openSource(link, replication)
    const key = await checkIncremental(source, replication)
    const destination = await link.destination()
    refuseForeign(await findHolder(destination, replication), replication, controlId)
    const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
    const table = await findRelation(destination, replication.destination)
    if (table) {
      if (replication.type === 'snapshot') throw existing(replication, table.kind)
      await refuseUnsuitable(destination, table, replication, source)
      await matchColumns(columns, source.types, table, destination)
      if (replication.control) refuseUnlogged(table, replication)
      if (key) await requireKeyIndex(destination, table, key, replication)
    }
    for (const sequence of replication.sequences)
      await findSequence(destination, sequence, destinationLabel(replication))
    const leaves = source.relation.leaves
    return {
      existed: table !== undefined,
      makes: await objectsToMake(destination, replication, table !== undefined),
      columns: columns.map(({ name, type }) => ({ name, type })),
      bytes: leaves.reduce((sum, leaf) => sum + leaf.bytes, 0),
      rows: leaves.reduce((sum, leaf) => sum + Math.max(0, leaf.rows), 0),
    }
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}

/** What an incremental type needs of its source. Throws what is missing. */
async function checkIncremental(
  source: SourceRead,
  definition: Pick<Replication, 'sourceDatabase' | 'source' | 'columns' | 'type' | 'key' | 'control'>,
): Promise<RowKey | undefined> {
  if (!definition.control) return undefined
  sourceControl(source, definition)
  return keyOf(source, definition)
}

/** Refuses a filter or condition that the source does not understand, or that leaves out what the type needs. Changes nothing. */
export async function checkSource(
  definition: Pick<
    Replication,
    'sourceDatabase' | 'source' | 'columns' | 'condition' | 'destination' | 'buildIndexes' | 'type' | 'key' | 'control'
  >,
  connector: Connector,
  signal: AbortSignal,
): Promise<void> {
  const link = new Link(connector, displayQualified(definition.destination), signal)
  try {
    await checkIncremental(await openSource(link, definition), definition)
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}

async function objectsToMake(destination: Session, replication: Replication, existed: boolean): Promise<MadeObject[]> {
  const { schema, name } = replication.destination
  const row = await destination.one<{ there: boolean; may: boolean; may_make: boolean; database: string }>(sql`
    select n.oid is not null as there, coalesce(has_schema_privilege(n.oid, 'CREATE'), false) as may,
      has_database_privilege(current_database(), 'CREATE') as may_make, current_database() as database
    from (select 1) as one left join pg_namespace n on n.nspname = ${schema}`)
  if (existed) return []
  const label = destinationLabel(replication)
  const role = quoteIdentifier(destination.parts.user)
  if (row.there ? !row.may : !row.may_make) {
    throw new Failure('permission_denied', {
      message: row.there
        ? `Our role may not make tables in the schema ${schema} of ${destination.object}.`
        : `Our role may not make the schema ${schema} in ${destination.object}.`,
      object: label,
      remedy: row.there
        ? `As its owner: GRANT USAGE, CREATE ON SCHEMA ${quoteIdentifier(schema)} TO ${role};`
        : `As an administrator: CREATE SCHEMA ${quoteIdentifier(schema)} AUTHORIZATION ${role};`,
    })
  }
  const made: MadeObject[] = row.there ? [] : [{ kind: 'schema', name: schema }]
  if (replication.type !== 'snapshot') return [...made, { kind: 'table', schema, name }]
  for (const side of [1, 2] as const) {
    const table = sideTable(replication.destination, side)
    const there = await findRelation(destination, table)
    if (there) throw existing({ ...replication, destination: table }, there.kind)
    made.push({ kind: 'table', ...table })
  }
  return [...made, { kind: 'view', schema, name }]
}

function existing(replication: { destination: QualifiedName; destinationDatabase: string }, kind: string): Failure {
  const label = destinationLabel(replication)
  return new Failure('destination_exists', {
    message: `${label} exists already (a ${kind}); nothing was changed.`,
    object: label,
  })
}

/**
 * Registers the replication in the destination, in one transaction with the schema that it needs. What is written there as
 * made is all that removal may take away. Where it is registered already (a set-up that was broken off), it says so.
 */
export async function registerDestination(
  destination: Session,
  replication: Replication,
  controlId: string,
): Promise<Position> {
  const known = await findPosition(destination, replication.id)
  if (known) return known
  refuseForeign(await findHolder(destination, replication), replication, controlId)
  const table = await findRelation(destination, replication.destination)
  const existed = table !== undefined && replication.type !== 'snapshot'
  const made = replication.status === 'setting_up' ? await objectsToMake(destination, replication, existed) : []
  await inTransaction(destination, 'begin', async () => {
    await lockPositionTable(destination)
    await ensurePositionTable(destination)
    // Again, now that nobody else registers meanwhile.
    refuseForeign(await findHolder(destination, replication), replication, controlId)
    for (const object of made) {
      if (object.kind === 'schema') await destination.query(sql`create schema if not exists ${identifier(object.name)}`)
    }
    await registerPosition(destination, replication, controlId, made)
  })
  crashPoint('setup-after-destination-objects')
  const position = await findPosition(destination, replication.id)
  if (position) return position
  throw new Failure('destination_taken', {
    message: `${destinationLabel(replication)} was registered by another replication at the same moment.`,
    object: destinationLabel(replication),
  })
}

/** True when set-up found the destination table there and adopted it as it was. */
export function adoptedExisting(replication: Replication, position: Position): boolean {
  return replication.type !== 'snapshot' && !position.made.some((object) => object.kind === 'table')
}
