import { Failure } from '../base/failure.ts'
import { findRelation, type Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName } from '../postgres/identifier.ts'
import { hasSameShape, matchColumns, type PlannedColumn, planColumns, plannedTable } from './column-plan.ts'
import { destinationLabel, sourceLabel } from './definition.ts'
import { refuseBlockedChange } from './dependents.ts'
import { type PlannedIndex, planIndexes } from './destination-indexes.ts'
import { openTransactions } from './open-transactions.ts'
import type { Position } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import { otherSide, type Side, sideTable, viewChange } from './snapshot-sides.ts'
import { type Chunk, chunkedRead, type IndexedSource, type SourceRead } from './source-read.ts'

/** From this size on a source is read in several streams; below, their set-up costs more than it gains. Bytes of heap. */
const parallelFrom = 32 * 1024 * 1024
/** A transaction of the destination that is open for so long may last: one frozen stream then, whose swap needs no wait. Seconds. */
const longTransaction = 5

/** What one copy of a snapshot will do. */
export interface SnapshotPlan {
  readonly side: Side
  readonly idle: QualifiedName
  readonly idleRelation: Relation | undefined
  /** The table that readers see now. */
  readonly live: Relation | undefined
  readonly view: Relation | undefined
  readonly columns: readonly PlannedColumn[]
  /** The idle table has to be made, or made anew. */
  readonly rebuild: boolean
  readonly structureChanged: boolean
  readonly format: 'binary' | 'text'
  readonly indexes: readonly PlannedIndex[]
  /** False where the set-up was asked for a destination without rows. */
  readonly withData: boolean
  /** Undefined: one stream, in one transaction that also empties the table, with rows frozen. */
  readonly chunks: readonly Chunk[] | undefined
}

/** Decides, and refuses what cannot work, before anything is changed. */
export async function planSnapshot(
  context: RefreshContext,
  destination: Session,
  position: Position,
  source: IndexedSource,
): Promise<SnapshotPlan> {
  const { replication } = context
  const side = otherSide(position.state.live)
  const idle = sideTable(replication.destination, side)
  const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
  const idleRelation = await findRelation(destination, idle)
  const live =
    position.state.live && (await findRelation(destination, sideTable(replication.destination, position.state.live)))
  const view = await findView(context, destination, position, columns)
  const rebuild = idleRelation?.persistence !== 'p' || !hasSameShape(idleRelation, columns)
  const shape = idleRelation && !rebuild ? idleRelation : plannedTable(idle, columns)
  const withData = replication.loadData || replication.status !== 'setting_up'
  return {
    side,
    idle,
    idleRelation,
    live,
    view,
    columns,
    rebuild,
    structureChanged: !live || !hasSameShape(live, columns),
    format: await matchColumns(columns, source.types, shape, destination),
    indexes: replication.buildIndexes
      ? planIndexes(source, idle, { filtered: replication.columns !== null, major: destination.major })
      : [],
    withData,
    chunks: withData ? await chooseChunks(context, destination, source) : undefined,
  }
}

/** The view that readers use. Throws where it is not ours, or cannot take the new structure. */
async function findView(
  context: RefreshContext,
  destination: Session,
  position: Position,
  columns: readonly PlannedColumn[],
): Promise<Relation | undefined> {
  const label = destinationLabel(context.replication)
  const view = await findRelation(destination, context.replication.destination)
  if (!view) return undefined
  // The view and the live side come into being in one transaction: a view without a live side is somebody else's.
  if (view.kind !== 'view' || position.state.live === undefined) {
    throw new Failure('destination_exists', {
      message: `${label} is a ${view.kind} that this snapshot did not make; a snapshot's destination is a view.`,
      object: label,
    })
  }
  const change = viewChange(view, columns)
  if (!change.replaceable) await refuseBlockedChange(destination, { oid: view.oid, label }, change.vanishing)
  return view
}

async function chooseChunks(
  context: RefreshContext,
  destination: Session,
  source: SourceRead,
): Promise<Chunk[] | undefined> {
  if (context.streams < 2) return undefined
  const chunks = chunkedRead(source, parallelFrom)
  if (!chunks) return undefined
  const open = await openTransactions(destination)
  return open.some((one) => one.age === null || one.age > longTransaction) ? undefined : chunks
}

export function describePlan(plan: SnapshotPlan, source: SourceRead): string {
  const how = plan.chunks ? `${plan.chunks.length} parts in parallel` : 'one frozen stream'
  return `${plan.format} copy of ${displayQualified(source.relation)} into ${plan.idle.name}, ${plan.withData ? how : 'without data'}.`
}
