import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { isConnectionLoss } from '../postgres/sqlstate.ts'
import { instantFormat } from './server-process.ts'

/** How one call ended, for whoever counts it in the target. */
export interface CallEnd {
  readonly ok: boolean
  /** By the target's clock, in UTC: `2030-01-31T02:30:00.000000Z`. */
  readonly startedAt: string
  readonly seconds: number
  /** The transaction of the call is open, and its settings are what the call left; else none is, and ours hold. */
  readonly within: boolean
}

interface TallySurroundings {
  readonly connector: (purpose: string) => Promise<Session>
  readonly count?: ((session: Session, end: CallEnd) => Promise<void>) | undefined
}

/**
 * Has a call counted in its target, where somebody wants that: together with what the call did where it is one transaction,
 * else right after it. Costs nothing where nobody does.
 */
export class CallTally {
  readonly #surroundings: TallySurroundings
  #startedAt = ''
  #began = 0
  /** Counted in the call's own transaction, or tried there. */
  #isDone = false
  #complaint: string | undefined

  constructor(surroundings: TallySurroundings) {
    this.#surroundings = surroundings
  }

  /** For sessions whose search_path is empty. */
  async start(session: Session): Promise<void> {
    if (!this.#surroundings.count) return
    const { now } = await session.one<{ now: string }>(
      sql`select to_char(clock_timestamp() at time zone 'UTC', ${instantFormat}) as now`,
    )
    this.#startedAt = now
    this.#began = performance.now()
  }

  /** Before the COMMIT of a call that is one transaction. Throws only what ends the session. */
  async within(session: Session): Promise<void> {
    if (!this.#surroundings.count) return
    this.#isDone = true
    this.#complaint = await this.#count(session, true, true)
  }

  /** Returns what to say where it was not counted. For sessions without a transaction. */
  async afterSuccess(session: Session): Promise<string | undefined> {
    if (!this.#surroundings.count || this.#isDone) return this.#complaint
    try {
      // Whatever the call left.
      await session.script("reset session authorization; set search_path = ''")
      return await this.#count(session, true, false)
    } catch (error) {
      return uncounted(session.failure(error))
    } finally {
      crashPoint('call-after-tally')
    }
  }

  /** The failure, which says so where it was not counted. By another session: this one may be broken, or about to be cancelled. */
  async afterFailure(failure: Failure): Promise<Failure> {
    if (!this.#surroundings.count) return failure
    let said: string | undefined
    try {
      const session = await this.#surroundings.connector('count a call')
      said = await this.#count(session, false, false).finally(() => session.end())
    } catch (error) {
      said = uncounted(error as Failure)
    }
    if (said === undefined) return failure
    const { code, object, remedy, sqlstate, retryable, cause } = failure
    const message = `${failure.message} ${said}`
    return new Failure(code, { message, object: object ?? undefined, remedy, sqlstate, retryable, cause })
  }

  async #count(session: Session, ok: boolean, within: boolean): Promise<string | undefined> {
    const seconds = (performance.now() - this.#began) / 1000
    try {
      await this.#surroundings.count?.(session, { ok, startedAt: this.#startedAt, seconds, within })
      return undefined
    } catch (error) {
      const failure = session.failure(error)
      if (isConnectionLoss(failure)) throw failure
      return uncounted(failure)
    }
  }
}

function uncounted(failure: Failure): string {
  return `It was not counted in its database: [${failure.code}] ${failure.message}`
}
