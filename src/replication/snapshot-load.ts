import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { relation, sql, trusted } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { createTableStatements } from './column-plan.ts'
import { destinationLabel } from './definition.ts'
import { runStatements } from './dependents.ts'
import { dropStatement, explainIndexFailure, primaryKeyStatement, standingIndexes } from './destination-indexes.ts'
import { dressingOf, sameGrants, undressing } from './dressing.ts'
import type { Link } from './link.ts'
import { buildInParallel, type Fence, grantIndexMemory, type Loaded, loadFrozen, loadInParallel } from './load.ts'
import { holdPosition, movePosition, type PositionState } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { StepReport } from './reporter.ts'
import type { SnapshotPlan } from './snapshot-plan.ts'
import { type Chunk, type SourceRead, wholeRead } from './source-read.ts'
import { withShortLocks } from './swap-lock.ts'

/** One load of the idle side, and whom to tell. */
interface Filling {
  readonly context: RefreshContext
  readonly link: Link
  readonly destination: Session
  readonly source: SourceRead
  readonly plan: SnapshotPlan
  readonly fence: Fence
  readonly kept: readonly KeptIndex[]
}

/** An index that the people of the destination made on the idle side. */
type KeptIndex = { name: string; definition: string; constraint: string | null }

/**
 * Empties the idle side, loads it, builds its indexes and analyzes it. Until all of it has committed, nobody reads that
 * side. Throws `lock_timeout` when somebody holds it, before anything was loaded.
 */
export async function fillIdle(
  context: RefreshContext,
  link: Link,
  destination: Session,
  source: SourceRead,
  plan: SnapshotPlan,
  state: PositionState,
): Promise<Loaded> {
  const fence: Fence = { replicationId: context.replication.id, token: context.token }
  const kept = await keptIndexes(destination, plan, state)
  const filling: Filling = { context, link, destination, source, plan, fence, kept }
  const loaded = plan.chunks ? await fillInParallel(filling, plan.chunks) : await fillFrozen(filling)
  const step = context.reporter.step('analyze')
  await destination.query(sql`analyze ${relation(plan.idle)}`)
  step.done()
  crashPoint('load-after-analyze')
  return loaded
}

/** All in one transaction: an older snapshot that reads the table later sees the frozen rows, not an empty table. */
async function fillFrozen(filling: Filling): Promise<Loaded> {
  const { context, destination, source, plan } = filling
  const target = targetOf(plan)
  let loaded: Loaded = { rows: 0, bytes: 0 }
  await emptyUnderLock(filling, 'share', async () => {
    await destination.script('set local lock_timeout = 0')
    const step = context.reporter.step('load')
    if (plan.withData) loaded = await loadFrozen(source, wholeRead(source), destination, target, true, step)
    step.done(plan.withData ? describeLoad(loaded) : 'no data was asked for')
    await index(filling, async () => {
      await grantIndexMemory(destination)
      await runStatements(
        destination,
        plan.indexes.map((one) => one.statement),
      )
      return finishIndexes(filling)
    })
    crashPoint('load-before-commit')
  })
  crashPoint('load-after-commit')
  return loaded
}

async function fillInParallel(filling: Filling, chunks: readonly Chunk[]): Promise<Loaded> {
  const { destination, plan, kept } = filling
  await emptyUnderLock(filling, 'update', async (held) => {
    await movePosition(
      destination,
      held,
      { ...held.state, indexes: { ...held.state.indexes, [plan.side]: kept } },
      false,
    )
  })
  crashPoint('load-after-idle-emptied')
  try {
    return await fillEmptied(filling, chunks)
  } catch (error) {
    throw await giveBack(filling, destination.failure(error))
  }
}

async function fillEmptied(filling: Filling, chunks: readonly Chunk[]): Promise<Loaded> {
  const { context, link, destination, source, plan, fence } = filling
  const step = context.reporter.step('load')
  const loaded = await loadInParallel(link, source, chunks, context.streams, targetOf(plan), fence, step)
  step.done(describeLoad(loaded))
  crashPoint('load-after-commit')
  await index(filling, async () => {
    const statements = plan.indexes.map((one) => one.statement)
    await buildInParallel(link, statements, context.streams, fence)
    const notes = await inTransaction(destination, 'begin', async () => {
      await holdPosition(destination, fence.replicationId, fence.token, 'share')
      return finishIndexes(filling)
    })
    crashPoint('load-after-key')
    return notes
  })
  return loaded
}

/**
 * What several transactions wrote, committed or not, stays on the disk until the table is emptied: after a failure (a full
 * disk, for one) nobody should have to wait for the next refresh. Returns the failure, with what kept the room from being given back.
 *
 * On a full disk not even TRUNCATE works (it makes the files anew before it drops the old ones, and would fail in each
 * refresh to come); dropping needs no room, and a missing side is made again like the other one.
 */
async function giveBack(filling: Filling, failure: Failure): Promise<Failure> {
  const { context, plan, fence, kept } = filling
  const isAway = failure.code === 'destination_unreachable' && !context.signal.aborted
  if (failure.code === 'fenced' || isAway) return failure
  const drops = failure.code === 'disk_full' && kept.length === 0
  try {
    const session = await context.connector('destination', `load ${displayQualified(plan.idle)}`)
    try {
      await inTransaction(session, `begin; set local lock_timeout = '1s'`, async () => {
        await holdPosition(session, fence.replicationId, fence.token, 'update')
        await session.query(drops ? sql`drop table ${relation(plan.idle)}` : sql`truncate ${relation(plan.idle)}`)
      })
    } finally {
      await session.end()
    }
    crashPoint('load-after-given-back')
    return failure
  } catch (error) {
    // The next refresh empties it; that matters to whoever waits for room.
    if (failure.code !== 'disk_full') return failure
    const reason = toFailure(error, { side: 'destination' }).message
    const message = `${failure.message}. What ${displayQualified(plan.idle)} takes could not be given back: ${reason}`
    return new Failure('disk_full', { message, object: failure.object ?? undefined, retryable: true, cause: failure })
  }
}

function targetOf(plan: SnapshotPlan) {
  return { table: plan.idle, columns: plan.columns.map((column) => column.name), format: plan.format }
}

/** Empties the idle table and goes on with `body` in the same transaction. */
async function emptyUnderLock(
  filling: Filling,
  strength: 'share' | 'update',
  body: (held: Awaited<ReturnType<typeof holdPosition>>) => Promise<void>,
): Promise<void> {
  const { context, destination, plan, fence, kept } = filling
  const deadline = Date.now() + context.replication.swapWait
  const about = { what: `Emptying ${displayQualified(plan.idle)}`, relations: [plan.idle] }
  const step = context.reporter.step('empty the idle table')
  const work = async () => {
    const held = await holdPosition(destination, fence.replicationId, fence.token, strength)
    step.done(await emptyIdle(destination, plan, kept))
    await body(held)
  }
  try {
    await withShortLocks(destination, about, deadline, work, context.signal)
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.code === 'lock_timeout') step.done(failure.message, 'WARNING')
    throw failure.sqlstate === '2BP01' ? inUse(failure, context, plan) : failure
  }
}

function inUse(failure: Failure, context: RefreshContext, plan: SnapshotPlan): Failure {
  return new Failure('dependent_objects', {
    message: `${displayQualified(plan.idle)} has to be made anew, but something of yours hangs on it: ${failure.message}. Readers go on with the last copy.`,
    object: destinationLabel(context.replication),
    remedy: `Let it read ${displayQualified(context.replication.destination)} instead, or drop it; then refresh again.`,
    cause: failure,
  })
}

async function index(filling: Filling, build: () => Promise<string[]>): Promise<void> {
  const { context, destination, plan } = filling
  const step: StepReport = context.reporter.step('index')
  try {
    const lost = await build()
    const standing = await standingIndexes(destination, plan.idle)
    const gone = lost.map((one) => ` Your own index ${one} does not fit the new structure, and is gone.`).join('')
    step.done(`${standing.length} indexes.${gone}`, lost.length > 0 ? 'WARNING' : 'OK')
  } catch (error) {
    throw explainIndexFailure(destination.failure(error), context.replication)
  }
}

/** In the caller's transaction: the key, and what people of the destination had made. Returns what could not be made again. */
async function finishIndexes({ destination, plan, kept }: Filling): Promise<string[]> {
  await runStatements(
    destination,
    plan.indexes.filter((one) => one.primary).map((one) => primaryKeyStatement(plan.idle, one)),
  )
  const lost: string[] = []
  for (const one of kept) {
    await destination.script('savepoint own_index')
    try {
      await destination.query(trusted(one.definition))
      await destination.script('release savepoint own_index')
    } catch (error) {
      const failure = destination.failure(error)
      // A column that is gone, or a type that its operator class does not know; anything else is no matter of structure.
      if (!failure.sqlstate?.startsWith('42')) throw failure
      await destination.script('rollback to savepoint own_index')
      lost.push(one.name)
    }
  }
  return lost
}

/** Indexes of the people of the destination survive the load, also one that died half-way. */
async function keptIndexes(destination: Session, plan: SnapshotPlan, state: PositionState): Promise<KeptIndex[]> {
  const ours = new Set([...plan.indexes.map((one) => one.name), ...(state.built?.[plan.side] ?? [])])
  const standing = (await standingIndexes(destination, plan.idle)).filter((one) => !ours.has(one.name))
  const now = standing.map((one) => ({
    name: one.name,
    definition:
      one.constraint === null
        ? one.definition
        : `ALTER TABLE ${quoteQualified(plan.idle)} ADD CONSTRAINT ${quoteIdentifier(one.constraint)} ${one.constraintDefinition}`,
    constraint: one.constraint,
  }))
  const before = (state.indexes?.[plan.side] ?? []).filter((one) => !now.some((other) => other.name === one.name))
  return [...now, ...before]
}

/** In the caller's transaction: an empty idle table of the planned shape without indexes, with the grants of the live one. */
async function emptyIdle(
  destination: Session,
  plan: SnapshotPlan,
  kept: readonly KeptIndex[],
): Promise<string | undefined> {
  const { idle, idleRelation, live } = plan
  if (plan.rebuild) {
    const model = live ?? idleRelation
    const columns = new Set(plan.columns.map((column) => column.name))
    const dressing = model ? await dressingOf(destination, model.oid, idle, 'TABLE', columns) : []
    if (idleRelation) await destination.query(sql`drop table ${relation(idle)}`)
    await runStatements(destination, [...createTableStatements(idle, plan.columns), ...withoutComments(dressing)])
    return idleRelation === undefined ? 'made' : 'structure changed: made anew'
  }
  await destination.query(sql`truncate ${relation(idle)}`)
  for (const standing of await standingIndexes(destination, idle)) {
    await destination.query(trusted(dropStatement(idle, standing)))
  }
  if (live && idleRelation && !(await sameGrants(destination, live.oid, idleRelation.oid))) {
    const columns = new Set(plan.columns.map((column) => column.name))
    const dressing = await dressingOf(destination, live.oid, idle, 'TABLE', columns)
    await runStatements(destination, [
      ...(await undressing(destination, idleRelation.oid, idle)),
      ...withoutComments(dressing),
    ])
  }
  return kept.length > 0 ? `${kept.length} indexes of your own are made again after the load` : undefined
}

/** Of the columns' comments the source decides. */
function withoutComments(dressing: readonly string[]): string[] {
  return dressing.filter((one) => !one.startsWith('COMMENT'))
}

function describeLoad(loaded: Loaded): string {
  return `${loaded.rows} rows, ${loaded.bytes} bytes`
}
