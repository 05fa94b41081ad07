import { Failure } from '../base/failure.ts'
import type { Side } from '../postgres/sqlstate.ts'

/** Connections that are being made to one database at the same time. */
const width = 4
/** Milliseconds of the first pause, of the shortest one after it, and of the longest. */
const [firstPause, shortestPause, longestPause] = [500, 1000, 30_000]
/** A pause is this part of the time for which the database has been dead: it is found again within an eighth of that. */
const partOfOutage = 1 / 8
/** What chance may add to a pause, so that many databases that died together are not all tried together. */
const jitter = 0.2
/** Milliseconds for which the outcome of another's try is waited for while the database counts as dead. */
const tryPatience = 1000

/** Milliseconds until the next try at a database that has been dead for `outage` milliseconds. `random` is in [0, 1). */
export function pauseAfter(outage: number, random: number): number {
  const pause = outage <= 0 ? firstPause : Math.min(longestPause, Math.max(shortestPause, outage * partOfOutage))
  return pause * (1 + jitter * random)
}

/** Who asks; a failure is worded for him. */
export interface Asking {
  readonly side: Side
  readonly object: string
  readonly signal?: AbortSignal | undefined
}

interface Refusal {
  readonly failure: Failure
  /** By the gate's clock: when the first try failed, when the last did, and when the next may be made. */
  readonly since: number
  readonly at: number
  readonly nextTry: number
}

/**
 * Stands before the connections to one database, so that one that is dead, full or closed to us is not stormed. While all
 * is well, a few are made at a time. After a failure everybody is refused at once with that same failure, until a pause is
 * over; then one try is let through, whose success opens the gate and whose failure makes the pause longer.
 */
export class ConnectGate {
  readonly #clock: () => number
  readonly #random: () => number
  #refusal: Refusal | undefined
  #lastSuccess = Number.NEGATIVE_INFINITY
  #running = 0
  #asking = 0
  #changed = Promise.withResolvers<void>()

  /** `clock` gives milliseconds that never go back. */
  constructor(clock = () => performance.now(), random = Math.random) {
    this.#clock = clock
    this.#random = random
  }

  /** Nobody asks, and nothing is known against the database, or nothing recent. */
  get isForgettable(): boolean {
    return this.#asking === 0 && (!this.#refusal || this.#clock() > this.#refusal.nextTry + longestPause)
  }

  /** Makes `attempt` when its turn comes. Throws what it throws, or what the last one threw, or `cancelled`. */
  async pass<Result>(asking: Asking, attempt: () => Promise<Result>): Promise<Result> {
    this.#asking += 1
    try {
      return await this.#try(await this.#turn(asking), attempt)
    } finally {
      this.#asking -= 1
    }
  }

  async #try<Result>(begun: number, attempt: () => Promise<Result>): Promise<Result> {
    try {
      const result = await attempt()
      this.#refusal = undefined
      this.#lastSuccess = this.#clock()
      return result
    } catch (error) {
      // One that was on its way when another came through says nothing of now.
      const late = this.#lastSuccess > begun
      if (error instanceof Failure && error.code !== 'cancelled' && !late) this.#refuse(error)
      throw error
    } finally {
      this.#running -= 1
      this.#changed.resolve()
      this.#changed = Promise.withResolvers()
    }
  }

  #refuse(failure: Failure): void {
    const at = this.#clock()
    const since = this.#refusal?.since ?? at
    this.#refusal = { failure, since, at, nextTry: at + pauseAfter(at - since, this.#random()) }
  }

  /** Resolves when an attempt may run, which counts as running from here on; to the time. */
  async #turn(asking: Asking): Promise<number> {
    const arrived = this.#clock()
    for (;;) {
      if (asking.signal?.aborted) throw new Failure('cancelled', { message: 'Cancelled.', object: asking.object })
      const refusal = this.#refusal
      if (refusal && this.#clock() < refusal.nextTry) throw this.#again(refusal, asking)
      if (this.#running < (refusal ? 1 : width)) {
        // At once: whoever comes in the same tick must see it.
        this.#running += 1
        return this.#clock()
      }
      if (refusal && this.#clock() - arrived >= tryPatience) throw this.#again(refusal, asking)
      await this.#change(asking.signal, refusal ? tryPatience : undefined)
    }
  }

  /** Resolves when an attempt has ended, or after `patience` milliseconds, or at the signal's abort. */
  async #change(signal: AbortSignal | undefined, patience: number | undefined): Promise<void> {
    const woken = Promise.withResolvers<void>()
    const timer = patience === undefined ? undefined : setTimeout(woken.resolve, patience)
    const onAbort = () => woken.resolve()
    signal?.addEventListener('abort', onAbort)
    await Promise.race([this.#changed.promise, woken.promise])
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }

  /** The last failure in the words of whoever asks now. */
  #again({ failure, at, nextTry }: Refusal, asking: Asking): Failure {
    const seconds = (ms: number) => `${Math.max(0, ms / 1000).toFixed(1)} s`
    const now = this.#clock()
    const next = now < nextTry ? `the next one is made in ${seconds(nextTry - now)}` : 'another one is being made now'
    const unreachable = failure.code.endsWith('_unreachable')
    return new Failure(unreachable ? `${asking.side}_unreachable` : failure.code, {
      message: `${failure.message} (That try failed ${seconds(now - at)} ago; ${next}.)`,
      object: asking.object,
      // The registry's own remedy names the side.
      ...(unreachable ? {} : { remedy: failure.remedy }),
      retryable: failure.retryable,
      sqlstate: failure.sqlstate,
      cause: failure.cause,
    })
  }
}
