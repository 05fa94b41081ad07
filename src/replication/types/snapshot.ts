import { crashPoint } from '../../base/crash-point.ts'
import { Failure } from '../../base/failure.ts'
import { findRelation, type Relation } from '../../postgres/catalog.ts'
import type { Session } from '../../postgres/connect.ts'
import { displayQualified, type QualifiedName, quoteQualified } from '../../postgres/identifier.ts'
import { relation, sql, trusted } from '../../postgres/sql.ts'
import { isConnectionLoss } from '../../postgres/sqlstate.ts'
import { createTableStatements, hasSameShape, matchColumns, type PlannedColumn, planColumns } from '../column-plan.ts'
import { destinationLabel, sourceLabel } from '../definition.ts'
import { dressingOf, refuseBlockedChange, runStatements } from '../dependents.ts'
import {
  dropStatement,
  type PlannedIndex,
  planIndexes,
  primaryKeyStatement,
  standingIndexes,
} from '../destination-indexes.ts'
import { inTransaction, type Link } from '../link.ts'
import { buildInParallel, type Fence, grantIndexMemory, type Loaded, loadFrozen, loadInParallel } from '../load.ts'
import { withCommitLookedUp } from '../lost-commit.ts'
import { describeTransaction, type OpenTransaction, openTransactions, waitForEnd } from '../open-transactions.ts'
import { findPosition, holdPosition, movePosition, type Position, type PositionState } from '../position.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult } from '../reporter.ts'
import { otherSide, type Side, sideTable, viewChange } from '../snapshot-sides.ts'
import { type Chunk, chunkedRead, openSource, type SourceRead, wholeRead } from '../source-read.ts'
import { withShortLocks } from '../swap-lock.ts'
import { replaceView } from '../view-swap.ts'

/** From this size on a source is read in several streams; below, their set-up costs more than it gains. Bytes of heap. */
const parallelFrom = 32 * 1024 * 1024
/** A transaction of the destination that is open for so long may last: one frozen stream then, whose swap needs no wait. Seconds. */
const longTransaction = 5

interface SnapshotPlan {
  readonly side: Side
  readonly idle: QualifiedName
  readonly idleRelation: Relation | undefined
  readonly view: Relation | undefined
  readonly columns: readonly PlannedColumn[]
  readonly rebuild: boolean
  readonly structureChanged: boolean
  readonly format: 'binary' | 'text'
  readonly indexes: readonly PlannedIndex[]
  /** Undefined: one stream, in one transaction that also empties the table, with rows frozen. */
  readonly chunks: readonly Chunk[] | undefined
}

/**
 * snapshot: loads the idle one of two tables, then points the view at it. Readers see the old rows or the new ones,
 * whatever dies when; the swap, the counters that the copy rests on and the live side are one transaction.
 */
export async function refreshSnapshot(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<RefreshResult> {
  const { replication, reporter } = context
  const label = destinationLabel(replication)
  const planning = reporter.step('plan')
  const startedAt = new Date().toISOString()
  const source = await openSource(link, replication)
  if (await isUnchanged(context, destination, position, source)) {
    planning.done(`No change at ${sourceLabel(replication)} older than 60 s since the last copy.`)
    await link.end(source.session)
    await emptyLeftover(context, destination, position)
    return {
      level: 'OK',
      reason: 'skipped',
      tookEffect: true,
      message: `${label}: skipped, the source shows no change.`,
      rows: 0,
      bytes: 0,
    }
  }
  const plan = await planSnapshot(context, destination, position, source)
  planning.done(describePlan(plan, source))
  const fence: Fence = { replicationId: replication.id, token: context.token }
  const loaded =
    replication.loadData || replication.status !== 'setting_up'
      ? await fillIdle(context, link, destination, source, plan, fence, position.state)
      : await fillIdle(context, link, destination, source, { ...plan, chunks: [] }, fence, position.state)
  await link.end(source.session)
  await analyze(context, destination, plan.idle)
  return swapAndFinish(context, destination, plan, loaded, { fingerprint: source.fingerprint, copiedAt: startedAt })
}

async function isUnchanged(
  context: RefreshContext,
  destination: Session,
  position: Position,
  source: SourceRead,
): Promise<boolean> {
  const { live, liveOid, fingerprint, postScriptDue } = position.state
  if (context.force || live === undefined || fingerprint == null || postScriptDue || fingerprint !== source.fingerprint)
    return false
  const [table, view] = await Promise.all([
    findRelation(destination, sideTable(context.replication.destination, live)),
    findRelation(destination, context.replication.destination),
  ])
  return table?.oid === liveOid && table?.persistence === 'p' && view?.kind === 'view'
}

async function planSnapshot(
  context: RefreshContext,
  destination: Session,
  position: Position,
  source: SourceRead,
): Promise<SnapshotPlan> {
  const { replication } = context
  const label = destinationLabel(replication)
  const side = otherSide(position.state.live)
  const idle = sideTable(replication.destination, side)
  const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
  const [idleRelation, view] = [
    await findRelation(destination, idle),
    await findRelation(destination, replication.destination),
  ]
  // The view and the live side come into being in one transaction: a view without a live side is somebody else's.
  if (view && (view.kind !== 'view' || position.state.live === undefined)) {
    throw new Failure('destination_exists', {
      message: `${label} is a ${view.kind} that this snapshot did not make; a snapshot's destination is a view.`,
      object: label,
    })
  }
  const change = view && viewChange(view, columns)
  if (view && change && !change.replaceable)
    await refuseBlockedChange(destination, { oid: view.oid, label }, change.vanishing)
  const rebuild = idleRelation?.persistence !== 'p' || !hasSameShape(idleRelation, columns)
  const format =
    idleRelation && !rebuild
      ? await matchColumns(columns, source.types, idleRelation, destination)
      : await formatOfNewTable(idle, columns, source, destination)
  const liveTable = position.state.live
    ? await findRelation(destination, sideTable(replication.destination, position.state.live))
    : undefined
  return {
    side,
    idle,
    idleRelation,
    view,
    columns,
    rebuild,
    structureChanged: !liveTable || !hasSameShape(liveTable, columns),
    format,
    indexes: replication.buildIndexes ? planIndexes(source, idle, replication.columns !== null) : [],
    chunks: await chooseChunks(context, destination, source),
  }
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

async function formatOfNewTable(
  table: QualifiedName,
  columns: readonly PlannedColumn[],
  source: SourceRead,
  destination: Session,
): Promise<'binary' | 'text'> {
  const asTable = columns.map((column, index) => ({
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
  }))
  const shape: Relation = { ...source.relation, ...table, columns: asTable }
  return matchColumns(columns, source.types, shape, destination)
}

function describePlan(plan: SnapshotPlan, source: SourceRead): string {
  const how = plan.chunks ? `${plan.chunks.length} parts in parallel` : 'one frozen stream'
  return `${plan.format} copy of ${displayQualified(source.relation)} into ${plan.idle.name}, ${how}.`
}

/** Empties the idle side, loads it and builds its indexes. Until all of it has committed, nobody reads that side. */
async function fillIdle(
  context: RefreshContext,
  link: Link,
  destination: Session,
  source: SourceRead,
  plan: SnapshotPlan,
  fence: Fence,
  state: PositionState,
): Promise<Loaded> {
  const target = { table: plan.idle, columns: plan.columns.map((column) => column.name), format: plan.format }
  const kept = await keptIndexes(destination, plan, state)
  const statements = [
    ...plan.indexes.map((index) => index.statement),
    ...kept.filter((one) => !one.constraint).map((one) => one.definition),
  ]
  const finish = [
    ...plan.indexes.filter((index) => index.primary).map((index) => primaryKeyStatement(plan.idle, index)),
    ...kept.flatMap((one) => (one.constraint ? [one.definition] : [])),
  ]
  const deadline = Date.now() + context.replication.swapWait
  const about = { what: `Emptying ${displayQualified(plan.idle)}`, relations: [plan.idle] }
  const emptying = context.reporter.step('empty the idle table')
  if (!plan.chunks) {
    return withShortLocks(
      destination,
      about,
      deadline,
      async () => {
        await holdPosition(destination, fence.replicationId, fence.token, 'share')
        emptying.done(await emptyIdle(context, destination, plan, kept))
        await destination.script('set local lock_timeout = 0')
        const step = context.reporter.step('load')
        const loaded = await loadFrozen(link, source, wholeRead(source), destination, target, true, step)
        step.done(describeLoad(loaded))
        await index(context, destination, plan, () => buildHere(destination, [...statements, ...finish]))
        crashPoint('load-before-commit')
        return loaded
      },
      context.signal,
    ).then((loaded) => {
      crashPoint('load-after-commit')
      return loaded
    })
  }
  await withShortLocks(
    destination,
    about,
    deadline,
    async () => {
      const held = await holdPosition(destination, fence.replicationId, fence.token, 'update')
      emptying.done(await emptyIdle(context, destination, plan, kept))
      await movePosition(
        destination,
        held,
        { ...held.state, indexes: { ...held.state.indexes, [plan.side]: kept } },
        false,
      )
    },
    context.signal,
  )
  crashPoint('load-after-idle-emptied')
  const step = context.reporter.step('load')
  const loaded =
    plan.chunks.length === 0
      ? { rows: 0, bytes: 0 }
      : await loadInParallel(link, source, plan.chunks, context.streams, target, fence, step)
  step.done(describeLoad(loaded))
  crashPoint('load-after-commit')
  await index(context, destination, plan, async () => {
    await buildInParallel(link, statements, context.streams, fence)
    await inTransaction(destination, 'begin', async () => {
      await holdPosition(destination, fence.replicationId, fence.token, 'share')
      await runStatements(destination, finish)
    })
    crashPoint('load-after-key')
  })
  return loaded
}

async function index(
  context: RefreshContext,
  destination: Session,
  plan: SnapshotPlan,
  build: () => Promise<void>,
): Promise<void> {
  const step = context.reporter.step('index')
  await build()
  const standing = await standingIndexes(destination, plan.idle)
  step.done(`${standing.length} indexes.`)
}

async function buildHere(session: Session, statements: readonly string[]): Promise<void> {
  await grantIndexMemory(session)
  await runStatements(session, statements)
}

type KeptIndex = { name: string; definition: string; constraint: string | null }

/** Indexes that people of the destination made on the idle side: they survive the load, also one that died half-way. */
async function keptIndexes(destination: Session, plan: SnapshotPlan, state: PositionState): Promise<KeptIndex[]> {
  if (plan.rebuild) return []
  const ours = new Set([...plan.indexes.map((one) => one.name), ...(state.built?.[plan.side] ?? [])])
  const standing = (await standingIndexes(destination, plan.idle)).filter((one) => !ours.has(one.name))
  const now = standing.map((one) => ({
    name: one.name,
    definition:
      one.constraintDefinition === null
        ? one.definition
        : `ALTER TABLE ${quoteQualified(plan.idle)} ADD CONSTRAINT ${quoteName(one.constraint)} ${one.constraintDefinition}`,
    constraint: one.constraint,
  }))
  const before = (state.indexes?.[plan.side] ?? []).filter((one) => !now.some((other) => other.name === one.name))
  return [...now, ...before]
}

function quoteName(name: string | null): string {
  return `"${(name ?? '').replaceAll('"', '""')}"`
}

/** In the caller's transaction: an empty idle table of the planned shape without indexes. */
async function emptyIdle(
  context: RefreshContext,
  destination: Session,
  plan: SnapshotPlan,
  kept: readonly KeptIndex[],
): Promise<string | undefined> {
  const other = await findRelation(destination, sideTable(context.replication.destination, otherSide(plan.side)))
  if (plan.rebuild) {
    const model = plan.idleRelation ?? other
    const dressing = model ? await dressingOf(destination, model.oid, plan.idle, 'TABLE') : []
    if (plan.idleRelation) await destination.query(sql`drop table ${relation(plan.idle)}`)
    await runStatements(destination, [
      ...createTableStatements(plan.idle, plan.columns),
      ...dressing.filter((one) => !one.startsWith('COMMENT')),
    ])
    return plan.idleRelation === undefined ? 'made' : 'structure changed: made anew'
  }
  await destination.query(sql`truncate ${relation(plan.idle)}`)
  for (const standing of await standingIndexes(destination, plan.idle)) {
    await destination.query(trusted(dropStatement(plan.idle, standing)))
  }
  return kept.length > 0 ? `${kept.length} indexes of your own are made again after the load` : undefined
}

function describeLoad(loaded: Loaded): string {
  return `${loaded.rows} rows, ${loaded.bytes} bytes`
}

async function analyze(context: RefreshContext, destination: Session, table: QualifiedName): Promise<void> {
  const step = context.reporter.step('analyze')
  await destination.query(sql`analyze ${relation(table)}`)
  step.done()
  crashPoint('load-after-analyze')
}

async function swapAndFinish(
  context: RefreshContext,
  destination: Session,
  plan: SnapshotPlan,
  loaded: Loaded,
  copied: { fingerprint: string | null; copiedAt: string },
): Promise<RefreshResult> {
  const { replication } = context
  const label = destinationLabel(replication)
  const deadline = Date.now() + replication.swapWait
  const step = context.reporter.step('swap')
  const figures = { rows: loaded.rows, bytes: loaded.bytes }
  const blocked = (why: string): RefreshResult => {
    step.done(why, 'WARNING')
    return {
      level: 'WARNING',
      reason: null,
      tookEffect: false,
      message: `${label}: the new rows are not shown yet; readers go on with the last copy. ${why}`,
      ...figures,
    }
  }
  if (plan.chunks) {
    // Rows that several transactions wrote are invisible to older snapshots: such a reader would find the table empty.
    const left = await waitForEnd(destination, await openTransactions(destination), deadline, context.signal)
    if (left.length > 0) return blocked(`${describeTransaction(left[0])} holds a snapshot that is older than the load.`)
  }
  let broken: Failure | undefined
  try {
    broken = await swap(context, destination, plan, copied, deadline)
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.code === 'lock_timeout') return blocked(failure.message)
    throw failure
  }
  if (broken) return shownThenBroken(context, broken, figures)
  step.done(plan.view ? `readers now see ${plan.idle.name}` : `made the view over ${plan.idle.name}`)
  crashPoint('swap-after-commit')
  try {
    await runPostScript(context, destination)
    const old = sideTable(replication.destination, otherSide(plan.side))
    await emptyOld(context, destination, old, await openTransactions(destination), deadline)
  } catch (error) {
    const failure = destination.failure(error)
    if (!isConnectionLoss(failure) && failure.code !== 'fenced' && !context.signal.aborted) throw failure
    return shownThenBroken(context, failure, figures)
  }
  crashPoint('swap-after-old-emptied')
  return { level: 'OK', reason: null, tookEffect: true, message: `${label}: ${loaded.rows} rows copied.`, ...figures }
}

/** The swap is committed, so whatever breaks behind it makes no failed refresh of it: readers have the new rows. */
function shownThenBroken(
  context: RefreshContext,
  failure: Failure,
  figures: { rows: number; bytes: number },
): RefreshResult {
  const label = destinationLabel(context.replication)
  const left = 'Readers see the new rows; what was left to do behind the swap is done by the next refresh.'
  if (context.signal.aborted) throw new Failure('cancelled', { message: `Cancelled. ${left}`, object: label })
  const message = `${label}: ${figures.rows} rows copied. ${left} (${failure.message})`
  return { level: 'WARNING', reason: null, tookEffect: true, message, ...figures }
}

/**
 * The moment of truth: view, live side, counters and read number change together, or not at all. Returns the failure of a
 * connection that broke after the commit.
 */
async function swap(
  context: RefreshContext,
  destination: Session,
  plan: SnapshotPlan,
  copied: { fingerprint: string | null; copiedAt: string },
  deadline: number,
): Promise<Failure | undefined> {
  const { replication } = context
  const about = { what: `The swap of ${destinationLabel(replication)}`, relations: [replication.destination] }
  return withCommitLookedUp(context, destination, (committing) =>
    withShortLocks(
      destination,
      about,
      deadline,
      async () => {
        const held = await holdPosition(destination, replication.id, context.token, 'update')
        await replaceView(destination, replication.destination, plan.idle, plan.columns)
        const idle = await findRelation(destination, plan.idle)
        const { indexes: _kept, ...rest } = held.state
        const state: PositionState = {
          ...rest,
          live: plan.side,
          ...(idle ? { liveOid: idle.oid } : {}),
          fingerprint: copied.fingerprint,
          copiedAt: copied.copiedAt,
          built: { ...held.state.built, [plan.side]: plan.indexes.map((one) => one.name) },
          postScriptDue:
            (held.state.postScriptDue ?? false) || (plan.structureChanged && replication.postScript.length > 0),
          oldSideFull: held.state.live !== undefined,
        }
        await movePosition(destination, held, state, true)
        crashPoint('swap-before-commit')
        committing()
      },
      context.signal,
    ),
  )
}

async function runPostScript(context: RefreshContext, destination: Session): Promise<void> {
  const { replication } = context
  const position = await findPosition(destination, replication.id)
  if (!position?.state.postScriptDue) return
  const step = context.reporter.step('post_script')
  // One transaction with its mark: it takes effect once, and never for an attempt that was replaced.
  await inTransaction(destination, 'begin', async () => {
    const held = await holdPosition(destination, replication.id, context.token, 'update')
    await runStatements(destination, replication.postScript)
    await movePosition(destination, held, { ...held.state, postScriptDue: false }, false)
  })
  step.done(`${replication.postScript.length} statements`)
  crashPoint('swap-after-post-script')
}

/** TRUNCATE is seen by old snapshots too: it waits for them, or leaves the old rows to the next refresh. */
async function emptyOld(
  context: RefreshContext,
  destination: Session,
  old: QualifiedName,
  older: readonly OpenTransaction[],
  deadline: number,
): Promise<void> {
  const table = await findRelation(destination, old)
  if (!table) return
  const step = context.reporter.step('empty the old table')
  const left = await waitForEnd(destination, older, deadline, context.signal)
  if (left.length > 0) {
    step.done(`left for the next refresh: ${describeTransaction(left[0])} may still read it`)
    return
  }
  try {
    await withShortLocks(
      destination,
      { what: `Emptying ${displayQualified(old)}`, relations: [old] },
      deadline,
      async () => {
        const held = await holdPosition(destination, context.replication.id, context.token, 'update')
        await destination.query(sql`truncate ${relation(old)}`)
        await movePosition(destination, held, { ...held.state, oldSideFull: false }, false)
      },
      context.signal,
    )
    step.done()
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.code !== 'lock_timeout') throw failure
    step.done(`left for the next refresh: ${failure.message}`)
  }
}

/** A skipped refresh still empties an old side that a reader kept us from emptying. */
async function emptyLeftover(context: RefreshContext, destination: Session, position: Position): Promise<void> {
  if (!position.state.oldSideFull) return
  const old = sideTable(context.replication.destination, otherSide(position.state.live))
  await emptyOld(context, destination, old, await openTransactions(destination), Date.now())
}
