import { randomUUID } from 'node:crypto'
import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { identifier, relation, sql, trusted } from '../postgres/sql.ts'
import { isConnectionLoss } from '../postgres/sqlstate.ts'
import { destinationLabel, type Replication } from './definition.ts'
import { dependentViews, refuseBlockedChange, replaceStatements, runStatements } from './dependents.ts'
import { dressingOf } from './dressing.ts'
import { type Connector, Link } from './link.ts'
import { lookUpPosition } from './lost-commit.ts'
import { type Claimant, claimDestination, findPosition, lockHolder, type Position, refuseForeign } from './position.ts'
import { dropUnusedPositionTable, lockPositionTable, waitForRegistrations } from './position-table.ts'
import { occupiedRelations, otherSide, sideTable } from './snapshot-sides.ts'
import { withShortLocks } from './swap-lock.ts'

/** Milliseconds that undoing waits for locks: shorter than whoever undoes has patience, so that it can say who is in the way. */
const undoWait = 15_000

/** `keep`: the destination table stays, with its rows. `drop`: it goes too. `undo`: all that set-up made goes, and only that. */
export type RemovalMode = 'keep' | 'drop' | 'undo'

export interface RemovalPlan {
  /** What goes, in words. */
  readonly drops: readonly string[]
  readonly keeps: readonly string[]
}

/** What removal would take away. Changes nothing. */
export function planRemoval(replication: Replication, position: Position | undefined, mode: RemovalMode): RemovalPlan {
  const name = displayQualified(replication.destination)
  if (!position) return { drops: [], keeps: [] }
  if (replication.type !== 'snapshot')
    return mode === 'drop' ? { drops: [`table ${name}`], keeps: [] } : { drops: [], keeps: [`table ${name}`] }
  const sides = ([1, 2] as const).map((side) => `table ${displayQualified(sideTable(replication.destination, side))}`)
  if (mode !== 'keep') return { drops: [`view ${name}`, ...sides], keeps: [] }
  const live = position.state.live
  return {
    drops: [`view ${name}`, sides[otherSide(live) - 1] ?? ''],
    keeps: [`${sides[(live ?? 1) - 1]}, renamed to ${name}`],
  }
}

/**
 * Takes a replication out of its destination, in one transaction under short locks. Nothing was made at the source. `by`: only
 * while no other attempt than this one has brought rows there; throws `fenced` else.
 */
export async function removeFromDestination(
  replication: Replication,
  controlId: string,
  mode: RemovalMode,
  connector: Connector,
  signal: AbortSignal,
  isOver: Claimant['isOver'] = async () => false,
  by?: string,
): Promise<void> {
  const link = new Link(connector, displayQualified(replication.destination), signal)
  try {
    const destination = await link.destination()
    await waitForRegistrations(destination)
    const found = await findPosition(destination, replication.id)
    if (found) {
      refuseForeign(found, replication, controlId)
      // Only behind the lock is known which side is live. A worker that lost it and does not know that yet can change nothing
      // from here on.
      const position = await claimOrRefuse(link, destination, replication, found, isOver, signal)
      crashPoint('remove-after-claim')
      if (by !== undefined && (position?.state.appliedBy ?? by) !== by) throw finished(replication)
      if (position) await removeUnderLocks({ connector, replication }, destination, position, mode, signal)
    }
    crashPoint(mode === 'undo' ? 'undo-after-destination' : 'remove-after-destination')
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}

function finished(replication: Replication): Failure {
  const object = destinationLabel(replication)
  return new Failure('fenced', {
    message: `Another attempt has finished ${object} meanwhile; nothing was removed.`,
    object,
  })
}

async function removeUnderLocks(
  about: { connector: Connector; replication: Replication },
  destination: Session,
  position: Position,
  mode: RemovalMode,
  signal: AbortSignal,
): Promise<void> {
  const { replication } = about
  const deadline = Date.now() + (mode === 'undo' ? undoWait : Math.max(replication.swapWait, 5000))
  const what = { what: `Removing ${destinationLabel(replication)}`, relations: occupiedRelations(replication) }
  try {
    const remove = () => removeObjects(destination, replication, position, mode)
    await withShortLocks(destination, what, deadline, remove, signal)
  } catch (error) {
    const failure = destination.failure(error)
    if (!isConnectionLoss(failure) || (await lookUpPosition(about, destination))) throw failure
  }
}

/** Undefined where somebody else has removed it meanwhile. */
async function claimOrRefuse(
  link: Link,
  destination: Session,
  replication: Replication,
  position: Position,
  isOver: Claimant['isOver'],
  signal: AbortSignal,
): Promise<Position | undefined> {
  const claimant = { token: randomUUID(), wait: 10_000, isOver, signal }
  try {
    const claimed = await claimDestination(destination, () => link.destination(), position, claimant)
    if (claimed) return claimed
  } catch (error) {
    if (destination.failure(error).code === 'replication_unknown') return undefined
    throw error
  }
  throw new Failure('lock_timeout', {
    message: `A refresh of ${destinationLabel(replication)} runs: ${await lockHolder(destination, position.lockNumber)}; nothing was removed.`,
    object: destinationLabel(replication),
    retryable: true,
  })
}

async function removeObjects(
  destination: Session,
  replication: Replication,
  position: Position,
  mode: RemovalMode,
): Promise<void> {
  await lockPositionTable(destination)
  const name = replication.destination
  if (replication.type !== 'snapshot') {
    const ours = position.made.some((object) => object.kind === 'table')
    if (mode === 'drop' || (mode === 'undo' && ours)) await dropIf(destination, name, ['table', 'partitioned'])
  } else if (mode === 'keep' && position.state.live !== undefined)
    await keepLiveTable(destination, replication, position.state.live)
  else {
    await dropIf(destination, name, ['view'])
    await dropIf(destination, sideTable(name, 1), ['table'])
    await dropIf(destination, sideTable(name, 2), ['table'])
  }
  if (mode !== 'keep') await dropMadeSchema(destination, position)
  await destination.query(sql`delete from yardmaster.position where replication_id = ${replication.id}`)
  await dropUnusedPositionTable(destination)
}

/** Drops what is there under this name, if it is still of the kind that we made. */
async function dropIf(destination: Session, name: QualifiedName, kinds: readonly string[]): Promise<void> {
  const found = await findRelation(destination, name)
  if (!found || !kinds.includes(found.kind)) return
  const kind = found.kind === 'view' ? 'view' : 'table'
  try {
    await destination.query(sql`drop ${trusted(kind)} ${relation(name)}`)
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.sqlstate !== '2BP01') throw failure
    throw new Failure('dependent_objects', { message: failure.message, object: displayQualified(name), cause: failure })
  }
}

/** The view gives way to the live table, which takes its name, owner and grants; views above it read the table then. */
async function keepLiveTable(destination: Session, replication: Replication, live: 1 | 2): Promise<void> {
  const name = replication.destination
  const table = sideTable(name, live)
  const view = await findRelation(destination, name)
  if (view && view.kind !== 'view') return
  const rename = `ALTER TABLE ${quoteQualified(table)} RENAME TO ${quoteIdentifier(name.name)}`
  await dropIf(destination, sideTable(name, otherSide(live)), ['table'])
  if (!view) {
    await destination.query(trusted(rename))
    return
  }
  const label = destinationLabel(replication)
  await refuseBlockedChange(destination, { oid: view.oid, label }, [], `${label} is to become a table`)
  const above = await replaceStatements(destination, await dependentViews(destination, view.oid))
  const dressing = await dressingOf(destination, view.oid, name, 'TABLE')
  await runStatements(destination, [
    ...above.drop,
    `DROP VIEW ${quoteQualified(name)}`,
    rename,
    ...dressing.filter((statement) => !statement.startsWith('COMMENT')),
    ...above.create,
  ])
}

async function dropMadeSchema(destination: Session, position: Position): Promise<void> {
  for (const object of position.made) {
    if (object.kind !== 'schema') continue
    const empty = await destination.first<{ empty: boolean }>(sql`
      select not exists (select from pg_class c where c.relnamespace = n.oid)
        and not exists (select from pg_proc p where p.pronamespace = n.oid)
        and not exists (select from pg_type t where t.typnamespace = n.oid) as empty
      from pg_namespace n where n.nspname = ${object.name}`)
    if (empty?.empty) await destination.query(sql`drop schema ${identifier(object.name)}`)
  }
}
