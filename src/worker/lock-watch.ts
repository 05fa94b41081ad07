import type { Control } from '../control/control.ts'
import { type BlockedProcess, blockedProcesses } from '../jobs/lock-holders.ts'
import type { ServerProcess } from '../jobs/server-process.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'

export interface LockWatchOptions {
  /** Milliseconds for which a call runs before anybody looks. Default: 5,000. */
  readonly after?: number
  /** Milliseconds between two looks. Default: 10,000. */
  readonly every?: number
  /** Milliseconds within which a database answers, or it is not asked until the next look. Default: 5,000. */
  readonly answerWithin?: number
}

/** A call that is under way. */
export interface WatchedCall extends ServerProcess {
  readonly token: string
  /** Name of the registered database. */
  readonly database: string
  /** Opens another session there, unless the signal is aborted first. */
  readonly open: (signal: AbortSignal) => Promise<Session>
}

interface Watched extends WatchedCall {
  readonly since: number
  /** Who was said to hold it up; undefined: nobody. */
  told: string | undefined
}

/**
 * Says of calls that wait for a lock in their database who holds it, and since when. Calls that end within seconds cost an entry
 * in a set; of the others each database is asked once for all of them, now and then, and never while it owes an answer.
 */
export class LockWatch {
  readonly #control: Control
  readonly #after: number
  readonly #every: number
  readonly #answerWithin: number
  /** The oldest first. */
  readonly #calls = new Set<Watched>()
  /** Databases that owe an answer. */
  readonly #asked = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  readonly #ending = new AbortController()

  constructor(control: Control, { after = 5000, every = 10_000, answerWithin = 5000 }: LockWatchOptions = {}) {
    this.#control = control
    this.#after = after
    this.#every = every
    this.#answerWithin = answerWithin
  }

  /** Looks after a call until what this returns is called. */
  watch(call: WatchedCall): () => void {
    const watched: Watched = { ...call, since: performance.now(), told: undefined }
    this.#calls.add(watched)
    if (this.#timer === undefined) this.#lookIn(this.#after)
    return () => void this.#calls.delete(watched)
  }

  /** Looks no more. Waits for nobody. */
  stop(): void {
    this.#ending.abort()
    clearTimeout(this.#timer)
  }

  #lookIn(milliseconds: number): void {
    if (!this.#ending.signal.aborted) this.#timer = setTimeout(() => this.#look(), milliseconds).unref()
  }

  #look(): void {
    this.#timer = undefined
    const [oldest] = this.#calls
    if (!oldest) return
    const now = performance.now()
    const long = [...this.#calls].filter(({ since }) => now - since >= this.#after)
    for (const [database, calls] of Map.groupBy(long, (call) => call.database)) {
      if (!this.#asked.has(database)) void this.#ask(database, calls)
    }
    this.#lookIn(long.length > 0 ? this.#every : Math.max(1, this.#after - (now - oldest.since)))
  }

  /** Never rejects: what could not be asked, or not be told, is asked again at the next look. */
  async #ask(database: string, calls: readonly Watched[]): Promise<void> {
    this.#asked.add(database)
    const over = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(this.#answerWithin)])
    try {
      const blocked = await this.#blocked(calls, over)
      const byPid = new Map(blocked.map((one) => [one.pid, one]))
      for (const call of calls) await this.#tell(call, byPid.get(call.pid))
    } catch {
      // A hint for people; the call itself knows best whether its database is there.
    } finally {
      this.#asked.delete(database)
    }
  }

  async #blocked(calls: readonly Watched[], over: AbortSignal): Promise<readonly BlockedProcess[]> {
    const session = await calls[0]?.open(over)
    if (!session) return []
    const cut = () => session.destroy()
    over.addEventListener('abort', cut)
    try {
      return await blockedProcesses(session, calls)
    } finally {
      over.removeEventListener('abort', cut)
      await session.end()
    }
  }

  async #tell(call: Watched, blocked: BlockedProcess | undefined): Promise<void> {
    if (call.told === blocked?.holder || !this.#calls.has(call)) return
    await this.#control.perform(
      (session) =>
        session.query(
          sql`select yardmaster.report_blocked(${call.token}, ${blocked?.holder ?? null}::text, ${blocked?.seconds ?? null}::float8)`,
        ),
      0,
    )
    call.told = blocked?.holder
  }
}
