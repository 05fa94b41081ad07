import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import type { Side } from '../postgres/sqlstate.ts'
import { StallWatch } from '../postgres/stall-watch.ts'

/** Opens sessions on the two databases of a replication. Whoever starts a refresh hands one in. */
export type Connector = (side: Extract<Side, 'source' | 'destination'>, purpose: string) => Promise<Session>

/**
 * All sessions of one refresh: opened as needed, closed together, cut at once when the signal says so. One whose server
 * has silently gone is noticed within 30 s.
 */
export class Link {
  readonly #connector: Connector
  readonly #signal: AbortSignal
  readonly #label: string
  readonly #sessions = new Set<Session>()
  readonly #watch: StallWatch
  readonly #onAbort = () => this.#cut()

  constructor(connector: Connector, label: string, signal: AbortSignal) {
    this.#connector = connector
    this.#label = label
    this.#signal = signal
    this.#watch = new StallWatch((quiet) =>
      connector(quiet.side === 'source' ? 'source' : 'destination', 'look for it'),
    )
    signal.addEventListener('abort', this.#onAbort)
  }

  /** A session that reads the source. */
  async source(): Promise<Session> {
    return this.#open('source', `read ${this.#label}`)
  }

  /** A session that works in the destination. Sessions of the purpose `load` never read what people read. */
  async destination(): Promise<Session> {
    return this.#open('destination', `load ${this.#label}`)
  }

  async #open(side: 'source' | 'destination', purpose: string): Promise<Session> {
    this.throwIfAborted()
    const session = await this.#connector(side, purpose)
    this.#sessions.add(session)
    this.#watch.add(session)
    if (this.#signal.aborted) this.#cut()
    this.throwIfAborted()
    return session
  }

  throwIfAborted(): void {
    if (!this.#signal.aborted) return
    throw new Failure('cancelled', { message: 'Cancelled; what was begun was rolled back.', object: this.#label })
  }

  async end(session: Session): Promise<void> {
    this.#sessions.delete(session)
    this.#watch.remove(session)
    await session.end()
  }

  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort)
    await Promise.all([...this.#sessions].map((session) => this.end(session)))
  }

  /** Ends everything that runs, on both servers. */
  #cut(): void {
    for (const session of this.#sessions) {
      void session.cancel()
      session.destroy()
    }
  }

  /** A cut connection after an abort is a cancellation, not a server that is away. */
  failure(error: unknown): unknown {
    if (!this.#signal.aborted) return error
    return error instanceof Failure && error.code === 'cancelled'
      ? error
      : new Failure('cancelled', {
          message: 'Cancelled; what was begun was rolled back.',
          object: this.#label,
          cause: error,
        })
  }
}

/** Runs `work` for each item, at most `width` at a time; the first failure stops new work, and is thrown when all have ended. */
export async function inParallel<Item>(
  items: readonly Item[],
  width: number,
  work: (item: Item, lane: number) => Promise<void>,
): Promise<void> {
  const queue = [...items]
  let failed: { error: unknown } | undefined
  const lanes = Array.from({ length: Math.min(width, items.length) }, async (_, lane) => {
    for (let item = queue.shift(); item !== undefined && !failed; item = queue.shift()) {
      try {
        await work(item, lane)
      } catch (error) {
        failed ??= { error }
      }
    }
  })
  await Promise.all(lanes)
  if (failed) throw failed.error
}
