import { crashPoint } from '../base/crash-point.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified } from '../postgres/identifier.ts'
import { destinationLabel, type ReplicationType } from './definition.ts'
import { Link } from './link.ts'
import {
  adoptPosition,
  claimDestination,
  findHolder,
  findPosition,
  lockHolder,
  type Position,
  refuseForeign,
} from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { RefreshResult } from './reporter.ts'
import { adoptedExisting, registerDestination } from './setup.ts'
import { refreshIncremental } from './types/incremental.ts'
import { refreshSnapshot } from './types/snapshot.ts'
import { refreshTable } from './types/table.ts'

type TypeRefresh = (
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
) => Promise<RefreshResult>

const refreshers: Readonly<Record<ReplicationType, TypeRefresh>> = {
  snapshot: refreshSnapshot,
  table: refreshTable,
  inserter: refreshIncremental,
  updater: refreshIncremental,
}

/**
 * One refresh: the lock first, then the position, then the type's own work. Also finishes a set-up: a replication that is
 * `setting_up` is registered in the destination and gets its first copy. Nothing of it outlives the call: all sessions are
 * closed, and with them locks and open transactions.
 */
export async function refreshReplication(context: RefreshContext): Promise<RefreshResult> {
  const { replication } = context
  const label = destinationLabel(replication)
  const link = new Link(context.connector, displayQualified(replication.destination), context.signal)
  try {
    const destination = await link.destination()
    const foreign = context.takeOver ? await foreignHolder(context, destination) : undefined
    if (foreign) {
      if (!(await claim(context, link, destination, foreign))) return await locked(context, destination, foreign)
      await adoptPosition(destination, foreign, replication, context.controlId)
      crashPoint('refresh-after-take-over')
    }
    const position = await registerDestination(destination, replication, context.controlId)
    refuseForeign(position, replication, context.controlId)
    const claimed = await claim(context, link, destination, position)
    if (!claimed) return await locked(context, destination, position)
    crashPoint('refresh-after-claim')
    if (replication.type === 'table' && replication.status === 'setting_up' && adoptedExisting(replication, claimed)) {
      return {
        level: 'OK',
        reason: null,
        tookEffect: true,
        message: `${label} existed: no data was pulled and no index built; the next refresh replaces its rows.`,
        rows: 0,
        bytes: 0,
      }
    }
    return await refreshers[replication.type](context, link, destination, claimed)
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}

/** Whoever holds this destination and is to be replaced: only while it does nothing there. */
async function foreignHolder(context: RefreshContext, destination: Session): Promise<Position | undefined> {
  const { replication } = context
  const holder = await findHolder(destination, replication)
  const same =
    holder?.type === replication.type &&
    displayQualified(holder.destination) === displayQualified(replication.destination)
  if (same) return holder
  const own = await findPosition(destination, replication.id)
  return own && own.controlId !== context.controlId ? own : undefined
}

async function claim(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<Position | undefined> {
  return claimDestination(destination, () => link.destination(), position, context)
}

async function locked(context: RefreshContext, destination: Session, position: Position): Promise<RefreshResult> {
  const holder = await lockHolder(destination, position.lockNumber)
  const message = `${destinationLabel(context.replication)}: another refresh holds the lock: ${holder}.`
  return { level: 'WARNING', reason: 'locked', tookEffect: false, message, rows: 0, bytes: 0 }
}
