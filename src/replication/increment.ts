import { crashPoint } from '../base/crash-point.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName } from '../postgres/identifier.ts'
import { inTransaction } from '../postgres/transaction.ts'
import type { Bound } from './bound.ts'
import { matchColumns, type PlannedColumn, planColumns } from './column-plan.ts'
import type { Control } from './control-column.ts'
import { destinationLabel, sourceLabel } from './definition.ts'
import { highestOf, type Standing } from './increment-destination.ts'
import type { RangeLook } from './increment-range.ts'
import type { Link } from './link.ts'
import type { Loaded } from './load.ts'
import { withCommitLookedUp } from './lost-commit.ts'
import type { Mark } from './mark.ts'
import { holdPosition, movePosition, type Position, type PositionState, refuseMoved } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { Level, Reach, RefreshResult, StepReport } from './reporter.ts'
import { type RowKey, requireKeyIndex } from './row-key.ts'
import type { SourceRead } from './source-read.ts'
import { refuseUnsuitable } from './table-destination.ts'

/** One refresh of an incremental type: both sides opened, the position read, the bound sampled. */
export interface Increment {
  readonly context: RefreshContext
  readonly link: Link
  readonly destination: Session
  readonly position: Position
  readonly source: SourceRead
  readonly control: Control
  readonly key: RowKey | undefined
  readonly bound: Bound
  /** When the bound was sampled, by `performance.now()`. */
  readonly sampledAt: number
  /** What the result is to say beside what it did, and at least how bad it is. */
  readonly notes: readonly string[]
  readonly level: Level
}

/** What a transaction of an increment needs to know of the destination table. */
export interface IncrementPlan {
  readonly standing: Standing
  readonly columns: readonly PlannedColumn[]
  readonly format: 'binary' | 'text'
}

/** Looks at the destination table as each refresh that writes does. Throws what does not fit. */
export async function planIncrement(
  work: Omit<Increment, 'bound' | 'sampledAt'>,
  standing: Standing,
  deletes: boolean,
): Promise<IncrementPlan> {
  const { context, destination, source, key } = work
  const { replication } = context
  const rights = [
    'SELECT',
    'INSERT',
    ...(key ? (['UPDATE', 'DELETE'] as const) : deletes ? (['DELETE'] as const) : []),
  ] as const
  await refuseUnsuitable(destination, standing.table, replication, source, rights)
  const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
  const format = await matchColumns(columns, source.types, standing.table, destination)
  if (key) await requireKeyIndex(destination, standing.table, key, replication)
  return { standing, columns, format }
}

/**
 * Rows and position in one transaction of the destination: the position is held first, and must be the one that the range
 * was made from; `apply` brings the rows; then it is moved.
 */
export async function applyIncrement(
  work: Increment,
  plan: IncrementPlan,
  mark: Mark | null,
  apply: () => Promise<Loaded>,
): Promise<Loaded> {
  const { context, destination, position } = work
  let loaded: Loaded = { rows: 0, bytes: 0 }
  await withCommitLookedUp(context, destination, (committing) =>
    inTransaction(destination, 'begin', async () => {
      const held = await holdPosition(destination, context.replication.id, context.token, 'update')
      refuseMoved(destination, held, position)
      loaded = await apply()
      const highest = await highestOf(destination, plan.standing)
      await movePosition(destination, held, stateAfter(work, held.state, mark, highest), true)
      crashPoint('increment-before-commit')
      committing()
    }),
  )
  crashPoint('increment-after-commit')
  return loaded
}

/** The state that belongs to rows up to `mark`. */
export function stateAfter(
  work: Pick<Increment, 'bound'>,
  before: PositionState,
  mark: Mark | null,
  highest: string | null | undefined,
): PositionState {
  const { highest: _, ...rest } = before
  const copiedAt = new Date().toISOString()
  return { ...rest, copiedAt, mark, memory: work.bound.memory, ...(highest === undefined ? {} : { highest }) }
}

const order: readonly Level[] = ['OK', 'WARNING', 'CRITICAL']

export function worse(one: Level, other: Level): Level {
  return order.indexOf(one) > order.indexOf(other) ? one : other
}

/** The result of a refresh that ends well, or as badly as the notes say. */
export function ended(
  work: Pick<Increment, 'context' | 'level' | 'notes'>,
  message: string,
  more: Partial<RefreshResult> = {},
): RefreshResult {
  const text = [`${destinationLabel(work.context.replication)}: ${message}`, ...work.notes].join(' ')
  return {
    reason: null,
    tookEffect: true,
    rows: 0,
    bytes: 0,
    ...more,
    level: worse(work.level, more.level ?? 'OK'),
    message: text,
  }
}

/** How far the copy goes, with `extra` seconds more than the bound says. */
export function reachOf(work: Increment, mark: Mark | null, extra = 0): { reach: Reach } {
  const { behind, leavesOut } = work.bound
  const reach = { position: mark?.value ?? null, sampledAt: work.sampledAt, behind: (behind ?? 0) + extra }
  return { reach: leavesOut === undefined ? reach : { ...reach, leavesOut } }
}

/** One single value has more rows than the limit allows: no cut would keep its rows together. */
export function refuseCrowd(work: Increment, step: StepReport, look: RangeLook): RefreshResult {
  const { context, control } = work
  const limit = context.limit ?? context.replication.rowLimit
  const message = `${look.crowd} rows have the ${displayName(control.name)} '${look.cut}', and the limit is ${limit}: nothing was copied, and the position stays. A limit of ${look.crowd} would do.`
  step.done(message, 'CRITICAL')
  return ended(work, message, { level: 'CRITICAL', tookEffect: false })
}
