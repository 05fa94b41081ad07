import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** A step's or run's level: 1, 2, 3 in pg_jobmon's counting. */
export type Level = 'OK' | 'WARNING' | 'CRITICAL'

/** The newest state of one step of an attempt. */
export interface StepRecord {
  readonly token: string
  readonly ordinal: number
  readonly action: string
  readonly status: Level | 'RUNNING'
  /** ISO times. */
  readonly started_at: string
  readonly finished_at: string | null
  readonly rows: number | null
  readonly bytes: number | null
  readonly message: string | null
}

/** How an attempt ended. `WAITING` gives its run back to the queue. */
export interface OutcomeRecord {
  readonly token: string
  readonly status: Level | 'WAITING'
  readonly reason: string | null
  readonly message: string
  readonly rows: number
  readonly bytes: number
  /** Seconds by which the copy is behind, `position` for people; null where the run says nothing about it. */
  readonly lag: number | null
  readonly position: string | null
  /** The part of the lag that is so on purpose, as an interval; null for none. */
  readonly leaves_out: string | null
  readonly sqlstate?: string | null
  /** When the run wants its job to start next: a time, `infinity`, or `in` an interval. */
  readonly next_start?: string | null
}

interface PendingOutcome {
  readonly record: OutcomeRecord
  /** It stands in the place of one that was refused. */
  readonly isPlain?: boolean
  readonly settle: PromiseWithResolvers<boolean>
}

/** Milliseconds between two attempts while the control database is away. */
const pauses = { first: 200, longest: 2000 }
/** Milliseconds for which steps wait for the end of their run: of a short one everything is written at once. */
const stepPatience = 15

/**
 * What the attempts of this process report, on its way to the control database: written together, in the order of each
 * attempt, outside of the runs' own transactions, so that it survives their rollback. While the control database is away it is
 * kept, of each step only the newest state, and written later; nothing waits for it but whoever asks for an outcome.
 */
export class Outbox {
  readonly #control: Control
  #steps = new Map<string, StepRecord>()
  #outcomes: PendingOutcome[] = []
  #flushing: Promise<void> | undefined
  #hurry = Promise.withResolvers<void>()
  #lastFailure: Failure | undefined

  constructor(control: Control) {
    this.#control = control
  }

  step(record: StepRecord): void {
    this.#steps.set(`${record.token} ${record.ordinal}`, record)
    this.#flush()
  }

  /**
   * Resolves when the outcome is written: false when another attempt took this one's place. Rejects when the control database
   * refuses it, or stays away for `patience` milliseconds; it is still written when it comes back before this process ends.
   */
  async outcome(record: OutcomeRecord, patience: number): Promise<boolean> {
    const settle = Promise.withResolvers<boolean>()
    // Nobody may be waiting any more when it fails.
    settle.promise.catch(() => undefined)
    this.#outcomes.push({ record, settle })
    this.#hurry.resolve()
    this.#flush()
    if (!Number.isFinite(patience)) return settle.promise
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      const message = 'The control database is away.'
      late.reject(this.#lastFailure ?? new Failure('control_unreachable', { message, object: 'the control database' }))
    }, patience)
    return Promise.race([settle.promise, late.promise]).finally(() => clearTimeout(timer))
  }

  /** Resolves when everything is written, at the latest after `patience` milliseconds. */
  async drain(patience: number): Promise<void> {
    if (this.#flushing === undefined) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patience)
    })
    await Promise.race([this.#flushing, late])
    clearTimeout(timer)
  }

  get isEmpty(): boolean {
    return this.#steps.size === 0 && this.#outcomes.length === 0
  }

  #flush(): void {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined
      if (!this.isEmpty && !this.#control.isClosed) this.#flush()
    })
  }

  async #write(): Promise<void> {
    // What comes in the same moment goes together.
    await new Promise((resolve) => setImmediate(resolve))
    for (let pause = pauses.first; !this.isEmpty && !this.#control.isClosed; ) {
      if (this.#outcomes.length === 0) await this.#pauseForOutcome()
      this.#hurry = Promise.withResolvers()
      const steps = new Map(this.#steps)
      const outcomes = [...this.#outcomes]
      try {
        await this.#send(steps, outcomes)
        pause = pauses.first
      } catch (error) {
        const failure = this.#control.session.failure(error)
        this.#lastFailure = failure
        if (isAtFault(failure)) await this.#sendSingly(steps, outcomes)
        await new Promise((resolve) => setTimeout(resolve, pause).unref())
        pause = Math.min(pause * 2, pauses.longest)
      }
    }
  }

  async #pauseForOutcome(): Promise<void> {
    const over = Promise.withResolvers<void>()
    const timer = setTimeout(over.resolve, stepPatience)
    await Promise.race([this.#hurry.promise, over.promise])
    clearTimeout(timer)
  }

  async #send(steps: Map<string, StepRecord>, outcomes: PendingOutcome[]): Promise<void> {
    const rows = await this.#control.perform(
      (session) =>
        session.query<{ token: string; mine: boolean }>(sql`
          select token, mine from yardmaster.record_progress(${JSON.stringify([...steps.values()])}::jsonb,
            ${JSON.stringify(outcomes.map((one) => one.record))}::jsonb)`),
      0,
    )
    // What was replaced by a newer state meanwhile stays.
    for (const [key, record] of steps) if (this.#steps.get(key) === record) this.#steps.delete(key)
    this.#outcomes = this.#outcomes.filter((one) => !outcomes.includes(one))
    const mine = new Map(rows.map((row) => [row.token, row.mine]))
    for (const { record, settle } of outcomes) settle.resolve(mine.get(record.token) ?? false)
  }

  /** One record that the control database refuses must not hold up the others. */
  async #sendSingly(steps: Map<string, StepRecord>, outcomes: PendingOutcome[]): Promise<void> {
    for (const [key, record] of steps) {
      await this.#send(new Map([[key, record]]), []).catch((error: unknown) => {
        if (isAtFault(this.#control.session.failure(error))) this.#steps.delete(key)
      })
    }
    for (const outcome of outcomes) {
      await this.#send(new Map(), [outcome]).catch((error: unknown) => {
        const failure = this.#control.session.failure(error)
        if (!isAtFault(failure)) return
        // Without any end, its run would be carried out again and again.
        const plain = { ...outcome, record: plainly(outcome.record, failure), isPlain: true }
        this.#outcomes = this.#outcomes.flatMap((one) => (one !== outcome ? [one] : outcome.isPlain ? [] : [plain]))
        if (outcome.isPlain) outcome.settle.reject(failure)
      })
    }
  }
}

/** The same end without what may be wrong with it. */
function plainly({ token, status, reason }: OutcomeRecord, { message }: Failure): OutcomeRecord {
  const said = `What this run said at its end could not be kept: ${message}`
  return { token, status, reason, message: said, rows: 0, bytes: 0, lag: null, position: null, leaves_out: null }
}

/** Whether the record is what the control database refuses; else (read-only, full, overloaded) it takes it later. */
function isAtFault({ sqlstate }: Failure): boolean {
  return /^(22|23|54|P0|YM)/.test(sqlstate ?? '')
}
