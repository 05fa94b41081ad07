import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { isConnectionLoss, toFailure } from '../postgres/sqlstate.ts'
import { destinationLabel, type Replication } from './definition.ts'
import type { Connector } from './link.ts'
import { findPosition, type Position } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { RefreshResult } from './reporter.ts'

/** Milliseconds for which a destination that is away is asked again: a server that recovers from a crash is back by then. */
const lookUpPatience = 30_000

/** The destination whose answer to a COMMIT is missing, and how to ask it again. */
export interface LostDestination {
  readonly connector: Connector
  readonly replication: Pick<Replication, 'id' | 'destination' | 'destinationDatabase'>
}

/**
 * Asks the destination, from a new session, what became of a position after a COMMIT that got no answer. Nothing is guessed:
 * where the destination stays away, it throws its failure, and says that the outcome is not known.
 */
export async function lookUpPosition(about: LostDestination, lost: Session): Promise<Position | undefined> {
  const label = destinationLabel(about.replication)
  const deadline = Date.now() + lookUpPatience
  for (let pause = 100; ; pause = Math.min(pause * 2, 2000)) {
    try {
      return await settledPosition(about, lost)
    } catch (error) {
      const failure = toFailure(error, { side: 'destination', object: label })
      if (!failure.retryable || Date.now() > deadline) throw unknownOutcome(failure, label)
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }
}

function unknownOutcome(failure: Failure, label: string): Failure {
  return new Failure(failure.code, {
    message: `The connection broke during a COMMIT in ${label}, and the destination can't be asked whether it took effect: ${failure.message}`,
    object: label,
    remedy: 'Run the same command again when the destination can be reached: it looks, and goes on from what is there.',
    retryable: true,
    cause: failure,
  })
}

async function settledPosition(about: LostDestination, lost: Session): Promise<Position | undefined> {
  const session = await about.connector('destination', 'look up a commit')
  try {
    await endBackend(session, lost)
    return await findPosition(session, about.replication.id)
  } finally {
    await session.end()
  }
}

/** The process of the lost session may still be on its way to the commit: what it decided is known when it has ended. */
async function endBackend(session: Session, lost: Session): Promise<void> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const left = await session.query(sql`
      select pg_terminate_backend(pid) from pg_stat_activity where pid = ${lost.pid} and application_name like 'yardmaster load %'`)
    if (left.length === 0) return
    if (Date.now() > deadline) {
      const message = `Process ${lost.pid} of ${lost.object} does not end.`
      throw new Failure('lock_timeout', { message, object: lost.object, retryable: true })
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/**
 * Runs a transaction that moves the position. Returns the failure of a connection that broke *after* the commit took effect,
 * undefined when all went well; throws when it did not take effect. `transaction` calls its argument when COMMIT is all
 * that is left of it.
 */
export async function withCommitLookedUp(
  about: LostDestination & { readonly token: string },
  destination: Session,
  transaction: (committing: () => void) => Promise<void>,
): Promise<Failure | undefined> {
  let atCommit = false
  try {
    await transaction(() => {
      atCommit = true
    })
    return undefined
  } catch (error) {
    const failure = destination.failure(error)
    if (!atCommit || !isConnectionLoss(failure)) throw failure
    const after = await lookUpPosition(about, destination)
    if (after?.state.appliedBy !== about.token) throw failure
    return failure
  }
}

/** The rows are committed, so what breaks behind them makes no failed refresh; `left` says what is still to be done. */
export function committedThenBroken(
  context: RefreshContext,
  failure: Failure,
  loaded: { readonly rows: number; readonly bytes: number },
  left: string,
): RefreshResult {
  const label = destinationLabel(context.replication)
  if (context.signal.aborted) throw new Failure('cancelled', { message: `Cancelled. ${left}`, object: label })
  const message = `${label}: ${loaded.rows} rows copied. ${left} (${failure.message})`
  return { level: 'WARNING', reason: null, tookEffect: true, message, ...loaded }
}
