import type { Service } from '../base/service.ts'
import { destinationLabel, type Replication } from '../replication/definition.ts'
import { listReplications } from '../replication/store.ts'
import { refreshRun, type Workplace } from '../worker/replication-run.ts'

/** Refreshes at the same time, at most. */
const width = 2
/** Milliseconds between two looks at what is due. */
const lookEvery = 250

/**
 * Refreshes each active replication again and again, in this process: the demo's stand-in for the scheduler and its
 * workers. It keeps no queue and no memory; a refresh that fails is a CRITICAL run, and is tried again when it is next due.
 */
export class RefreshTimer implements Service {
  readonly #place: Workplace
  readonly #every: (label: string) => number
  readonly #due = new Map<number, number>()
  readonly #running = new Map<number, Promise<unknown>>()
  #clock: NodeJS.Timeout | undefined
  #look: Promise<void> = Promise.resolve()

  /** `every` gives the milliseconds between two refreshes of a destination. */
  constructor(place: Workplace, every: (label: string) => number) {
    this.#place = place
    this.#every = every
  }

  async start(): Promise<void> {
    this.#clock = setInterval(() => {
      this.#look = this.#look.then(() => this.#startDue())
    }, lookEvery)
  }

  /** Waits for the refreshes that run; those of a place whose signal is aborted end at once. */
  async stop(): Promise<void> {
    clearInterval(this.#clock)
    this.#clock = undefined
    await this.#look
    await Promise.all(this.#running.values())
  }

  /** When a replication is refreshed next; null while it runs and before it is known. */
  nextStart(jobId: number): Date | null {
    const due = this.#due.get(jobId)
    return due === undefined || this.#running.has(jobId) ? null : new Date(due)
  }

  async #startDue(): Promise<void> {
    // What a control database that is away for a moment would say is said by the status page.
    const replications = await listReplications(this.#place.control).catch(() => [])
    const now = Date.now()
    // The first ones are spread over their interval, so that not everything comes at once for ever after.
    for (const [index, replication] of replications.entries()) {
      if (this.#due.has(replication.jobId)) continue
      this.#due.set(replication.jobId, now + (this.#interval(replication) * (index + 1)) / replications.length)
    }
    const waiting = replications
      .filter((one) => one.status === 'active' && !this.#running.has(one.jobId) && this.#dueAt(one) <= now)
      .sort((one, other) => this.#dueAt(one) - this.#dueAt(other))
    for (const replication of waiting) {
      if (this.#clock === undefined || this.#running.size >= width) return
      this.#refresh(replication)
    }
  }

  #dueAt(replication: Replication): number {
    return this.#due.get(replication.jobId) ?? 0
  }

  #interval(replication: Replication): number {
    return this.#every(destinationLabel(replication))
  }

  #refresh(replication: Replication): void {
    this.#due.set(replication.jobId, Date.now() + this.#interval(replication))
    const run = refreshRun(this.#place, replication, { force: false, wait: 0, takeOver: false })
      .catch(() => undefined)
      .finally(() => this.#running.delete(replication.jobId))
    this.#running.set(replication.jobId, run)
  }
}
