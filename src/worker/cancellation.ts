import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'

/** Milliseconds between two looks whether somebody has cancelled a run. A run that ends before the first costs none. */
const lookEvery = 1000

/** The part of a `Workplace` that matters here. */
interface Place {
  readonly control: Control
  readonly signal: AbortSignal
  readonly givesBack?: boolean
}

/**
 * Does the work of an attempt in a place whose signal is also aborted when somebody cancels the run (`cancelRun`): what is
 * cancelled ends there and does not go back to the queue. While the control database is away nobody can cancel.
 */
export async function cancellable<Here extends Place, Result>(
  place: Here,
  token: string,
  body: (here: Here) => Promise<Result>,
): Promise<Result> {
  const cancelled = new AbortController()
  let looking = false
  const look = async () => {
    if (looking) return
    looking = true
    try {
      const who = await cancelledBy(place.control, token)
      if (who !== null) cancelled.abort(new Failure('cancelled', { message: `Cancelled by ${who}.` }))
    } catch {
      // The next look sees it.
    } finally {
      looking = false
    }
  }
  // A run whose outcome cannot be written, as its control database is away, must not keep a process that is to end.
  const timer = setInterval(() => void look(), lookEvery).unref()
  try {
    const signal = AbortSignal.any([place.signal, cancelled.signal])
    // Looked at when the run has ended.
    const givesBack = () => place.givesBack === true && !cancelled.signal.aborted
    return await body({
      ...place,
      signal,
      get givesBack() {
        return givesBack()
      },
    })
  } finally {
    clearInterval(timer)
  }
}

/** The failure that ended a run; of one that somebody cancelled, who did. */
export function orCancellation(error: unknown, signal: AbortSignal): unknown {
  const cancelledByPerson = signal.aborted && signal.reason instanceof Failure ? signal.reason : undefined
  return cancelledByPerson && toFailure(error, { side: 'database' }).code === 'cancelled' ? cancelledByPerson : error
}

async function cancelledBy(control: Control, token: string): Promise<string | null> {
  const row = await control.perform(
    (session) => session.one<{ who: string | null }>(sql`select yardmaster.cancelled_by(${token}) as who`),
    0,
  )
  return row.who
}
