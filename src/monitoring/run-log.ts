import { printable, shortened } from '../postgres/identifier.ts'
import type { Level, Outbox, OutcomeRecord, StepRecord } from './outbox.ts'

export interface StepFigures {
  readonly rows: number
  readonly bytes: number
  readonly totalRows?: number | undefined
  /** The newest that is said of the step. */
  readonly message?: string | undefined
}

export interface LiveStep {
  readonly action: string
  readonly figures: StepFigures | undefined
}

/** One attempt at a run, as whoever began it knows it. */
export interface AttemptIds {
  readonly runId: string
  /** Whoever writes as this attempt, here or in a destination, must hold it. */
  readonly token: string
}

/** The record of one attempt at a run: its steps and its end, on their way to the control database. */
export class RunLog {
  readonly runId: string
  readonly token: string
  readonly #outbox: Outbox
  readonly #listener: ((step: LiveStep) => void) | undefined
  #ordinal = 0
  #open: StepRecord | undefined

  constructor(ids: AttemptIds, outbox: Outbox, listener?: (step: LiveStep) => void) {
    this.runId = ids.runId
    this.token = ids.token
    this.#outbox = outbox
    this.#listener = listener
  }

  /** Opens a step. One that is still open ends first: its body was tried again. */
  step(action: string) {
    if (this.#open) this.#end(this.#open, 'OK', 'tried again')
    this.#ordinal += 1
    const ordinal = this.#ordinal
    this.#write({
      token: this.token,
      ordinal,
      action: shown(action),
      status: 'RUNNING',
      started_at: new Date().toISOString(),
      finished_at: null,
      rows: null,
      bytes: null,
      message: null,
    })
    this.#listener?.({ action, figures: undefined })
    return {
      progress: (figures: StepFigures) => {
        this.#listener?.({ action, figures })
        if (this.#open?.ordinal === ordinal)
          this.#write({
            ...this.#open,
            rows: Math.round(figures.rows),
            bytes: Math.round(figures.bytes),
            message: figures.message === undefined ? this.#open.message : shown(figures.message),
          })
      },
      done: (message?: string, level: Level = 'OK') => {
        if (this.#open?.ordinal === ordinal) this.#end(this.#open, level, message)
      },
    }
  }

  /** Ends the run; `patience` as in `Outbox.outcome`. False when another attempt replaced this one. */
  async finish(outcome: Omit<OutcomeRecord, 'token'>, patience: number): Promise<boolean> {
    const level = outcome.status === 'WAITING' ? 'CRITICAL' : outcome.status
    if (this.#open) this.#end(this.#open, level, level === 'OK' ? undefined : outcome.message)
    return this.#outbox.outcome({ ...outcome, message: shown(outcome.message), token: this.token }, patience)
  }

  #write(record: StepRecord): void {
    this.#open = record
    this.#outbox.step(record)
  }

  #end(step: StepRecord, status: Level, message: string | undefined): void {
    this.#write({
      ...step,
      status,
      finished_at: new Date().toISOString(),
      message: message === undefined ? step.message : shown(message),
    })
    this.#open = undefined
  }
}

/** What a run says is kept for months: no control characters, and no more than people read. */
function shown(text: string): string {
  return printable(shortened(text))
}
