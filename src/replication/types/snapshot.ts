import { identify } from '../../postgres/catalog.ts'
import type { Session } from '../../postgres/connect.ts'
import { destinationLabel, sourceLabel } from '../definition.ts'
import type { Link } from '../link.ts'
import type { Loaded } from '../load.ts'
import type { Position } from '../position.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult } from '../reporter.ts'
import { fillIdle } from '../snapshot-load.ts'
import { describePlan, planSnapshot } from '../snapshot-plan.ts'
import { sideTable } from '../snapshot-sides.ts'
import { finishLeftover, notShown, swapAndFinish } from '../snapshot-swap.ts'
import { lockSource, readIndexed, readSource } from '../source-read.ts'

/** Seconds that a write may be older than a look at the source, and not be seen (`source-fingerprint.ts`). */
const unseenFor = 60

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
  const planning = context.reporter.step('plan')
  const copiedAt = new Date().toISOString()
  const sampledAt = performance.now()
  const [locked, isStanding] = await Promise.all([
    lockSource(link, context.replication),
    hasStoodFast(context, destination, position),
  ])
  if (isStanding && locked.fingerprint !== null && locked.fingerprint === position.state.fingerprint) {
    planning.done(`No change at ${sourceLabel(context.replication)} older than 60 s since the last copy.`)
    await Promise.all([link.end(locked.session), finishLeftover(context, link, destination, position)])
    return skipped(context, sampledAt)
  }
  const source = await readIndexed(await readSource(locked, context.replication))
  const plan = await planSnapshot(context, destination, position, source)
  planning.done(describePlan(plan, source))
  let loaded: Loaded
  try {
    loaded = await fillIdle(context, link, destination, source, plan, position.state)
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.code !== 'lock_timeout') throw failure
    return notShown(context, failure.message, { rows: 0, bytes: 0 })
  }
  await link.end(source.session)
  // A destination that was made without rows is no copy: the next refresh pulls, whatever the source's counters say.
  const fingerprint = plan.withData ? locked.fingerprint : null
  const result = await swapAndFinish(context, link, destination, plan, loaded, { fingerprint, copiedAt })
  const reaches = plan.withData && result.tookEffect
  return reaches ? { ...result, reach: { position: null, sampledAt, behind: 0 } } : result
}

function skipped(context: RefreshContext, sampledAt: number): RefreshResult {
  const message = `${destinationLabel(context.replication)}: skipped, the source shows no change older than 60 s.`
  const reach = { position: null, sampledAt, behind: unseenFor }
  return { level: 'OK', reason: 'skipped', tookEffect: true, message, rows: 0, bytes: 0, reach }
}

/** Whether what the last copy left is there, and may be left as it is. */
async function hasStoodFast(context: RefreshContext, destination: Session, { state }: Position): Promise<boolean> {
  const { live, liveOid, fingerprint } = state
  if (context.force || live === undefined || fingerprint == null) return false
  const names = [sideTable(context.replication.destination, live), context.replication.destination]
  const there = await identify(destination, names)
  const [table, view] = names.map((name) => there.find((one) => one.name === name.name))
  return table?.oid === liveOid && table?.persistence === 'p' && view?.kind === 'view'
}
