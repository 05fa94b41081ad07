import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName } from '../postgres/identifier.ts'
import { relation, sql } from '../postgres/sql.ts'
import { isConnectionLoss } from '../postgres/sqlstate.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { destinationLabel } from './definition.ts'
import { runStatements } from './dependents.ts'
import type { Link } from './link.ts'
import type { Loaded } from './load.ts'
import { committedThenBroken, withCommitLookedUp } from './lost-commit.ts'
import { describeTransaction, type OpenTransaction, openTransactions, waitForEnd } from './open-transactions.ts'
import { findPosition, holdPosition, movePosition, type Position, type PositionState } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { RefreshResult } from './reporter.ts'
import type { SnapshotPlan } from './snapshot-plan.ts'
import { otherSide, sideTable } from './snapshot-sides.ts'
import { withShortLocks } from './swap-lock.ts'
import { replaceView } from './view-swap.ts'

/** What the source was when its rows were read. */
export interface CopiedSource {
  readonly fingerprint: string | null
  /** ISO time. */
  readonly copiedAt: string
}

/** Shows the loaded side to readers, and does what is left behind that. */
export async function swapAndFinish(
  context: RefreshContext,
  link: Link,
  destination: Session,
  plan: SnapshotPlan,
  loaded: Loaded,
  copied: CopiedSource,
): Promise<RefreshResult> {
  const label = destinationLabel(context.replication)
  const deadline = Date.now() + context.replication.swapWait
  const step = context.reporter.step('swap')
  const blocked = (why: string): RefreshResult => {
    step.done(why, 'WARNING')
    return notShown(context, why, loaded)
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
  if (broken) return shownThenBroken(context, broken, loaded)
  step.done(plan.view ? `readers now see ${plan.idle.name}` : `made the view over ${plan.idle.name}`)
  crashPoint('swap-after-commit')
  try {
    const position = await findPosition(destination, context.replication.id)
    if (position?.state.postScriptDue) await runPostScript(context, link)
    const old = sideTable(context.replication.destination, otherSide(plan.side))
    await emptyOld(context, destination, old, await openTransactions(destination), deadline)
  } catch (error) {
    const failure = destination.failure(error)
    if (!isConnectionLoss(failure) && failure.code !== 'fenced' && !context.signal.aborted) throw failure
    return shownThenBroken(context, failure, loaded)
  }
  crashPoint('swap-after-old-emptied')
  return { level: 'OK', reason: null, tookEffect: true, message: `${label}: ${loaded.rows} rows copied.`, ...loaded }
}

/** Somebody was in the way until the deadline: no failure, and no new rows. */
export function notShown(context: RefreshContext, why: string, loaded: Loaded): RefreshResult {
  const label = destinationLabel(context.replication)
  const message = `${label}: the new rows are not shown yet; readers go on with the last copy. ${why}`
  return { level: 'WARNING', reason: null, tookEffect: false, message, ...loaded }
}

/** What a refresh comes to whose connection broke behind the swap. */
function shownThenBroken(context: RefreshContext, failure: Failure, loaded: Loaded): RefreshResult {
  const left = 'Readers see the new rows; what was left to do behind the swap is done by the next refresh.'
  return committedThenBroken(context, failure, loaded, left)
}

/**
 * The moment of truth: view, live side, counters and read number change together, or not at all. Returns the failure of a
 * connection that broke after the commit.
 */
async function swap(
  context: RefreshContext,
  destination: Session,
  plan: SnapshotPlan,
  copied: CopiedSource,
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

/**
 * Runs the post_script, which is due, in one transaction with the mark that it ran: it takes effect once, and never for
 * an attempt that was replaced. On a session of its own: what it sets, or unlocks, is no setting or lock of ours.
 */
async function runPostScript(context: RefreshContext, link: Link): Promise<void> {
  const { replication } = context
  const step = context.reporter.step('post_script')
  const session = await link.destination()
  try {
    await inTransaction(session, 'begin', async () => {
      const held = await holdPosition(session, replication.id, context.token, 'update')
      await runStatements(session, replication.postScript)
      await movePosition(session, held, { ...held.state, postScriptDue: false }, false)
    })
  } catch (error) {
    throw postScriptFailure(context, session.failure(error))
  } finally {
    await link.end(session)
  }
  step.done(`${replication.postScript.length} statements`)
  crashPoint('swap-after-post-script')
}

function postScriptFailure(context: RefreshContext, failure: Failure): Failure {
  if (failure.sqlstate === undefined || isConnectionLoss(failure)) return failure
  const label = destinationLabel(context.replication)
  return new Failure(failure.code, {
    message: `The post_script of ${label} failed and was rolled back: ${failure.message}. Readers see the new rows; the next refresh runs it again.`,
    object: label,
    remedy: `Correct it: yardmaster replication set ${label} post-script='…'; names in it need their schema, and each statement must be one that can run in a transaction.`,
    sqlstate: failure.sqlstate,
    cause: failure,
  })
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

/** What the last refresh left, where there is nothing to copy: a post_script that was cut off, an old side with rows. */
export async function finishLeftover(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<void> {
  if (position.state.postScriptDue) await runPostScript(context, link)
  if (!position.state.oldSideFull) return
  const old = sideTable(context.replication.destination, otherSide(position.state.live))
  await emptyOld(context, destination, old, await openTransactions(destination), Date.now())
}
