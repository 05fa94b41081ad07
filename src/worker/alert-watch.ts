import { crashPoint } from '../base/crash-point.ts'
import type { Service } from '../base/service.ts'
import type { Control } from '../control/control.ts'
import { evaluateAlerts } from '../monitoring/alerts.ts'
import { trimHistory } from '../monitoring/history.ts'
import { deliverDue } from '../monitoring/webhook-delivery.ts'
import type { Session } from '../postgres/connect.ts'
import { toFailure } from '../postgres/sqlstate.ts'

/** Seconds between two evaluations, over all workers; more where one takes so long that it would cost more than this share of a core. */
const evaluateEvery = 5
const evaluateShare = 0.02
/** Milliseconds between two looks. Each worker looks; whoever is first evaluates. */
const lookEvery = 2500
/** Milliseconds between two looks at old history. */
const trimEvery = 5000
/** Milliseconds before the control database is asked again after failures, at most. */
const longestPause = 30_000
/** Milliseconds within which it answers, or its session counts as dead. */
const answerWithin = 30_000

export interface AlertWatchOptions {
  /** Hears what people may want to know. */
  readonly say?: (line: string) => void
}

/**
 * What any worker does beside its runs, so that none has to lead: it looks what is wrong, tells webhooks of it, and clears history.
 * It has a session of its own: what takes a tenth of a second there must not hold up a claim. While the control database is away it
 * waits; what was to be told is told later.
 */
export class AlertWatch implements Service {
  readonly #control: Control
  readonly #say: (line: string) => void
  #session: Session | undefined
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined
  #stopped = true
  #pause = lookEvery
  #trimmedAt = Number.NEGATIVE_INFINITY
  /** Seconds that the last evaluation of this worker took. */
  #took = 0

  constructor(control: Control, options: AlertWatchOptions = {}) {
    this.#control = control
    this.#say = options.say ?? (() => undefined)
  }

  async start(): Promise<void> {
    this.#stopped = false
    this.#next(0)
  }

  /** What it is sending may take its five seconds to end. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#looking
    await this.#session?.end()
  }

  #next(pause: number): void {
    if (this.#stopped) return
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().then((next) => this.#next(next))
    }, pause)
  }

  /** Returns the milliseconds until the next look. */
  async #look(): Promise<number> {
    try {
      await this.#evaluate()
      crashPoint('alerts-after-evaluation')
      // One after the other, until nothing is due.
      while (!this.#stopped && (await deliverDue(this.#ask, this.#control.key)) > 0);
      if (!this.#stopped) await this.#trim()
      this.#pause = lookEvery
    } catch (error) {
      const { message } = toFailure(error, { side: 'control', object: 'the control database' })
      this.#pause = Math.min(this.#pause * 2, longestPause)
      await this.#session?.end()
      this.#say(`Alerts are not looked at: ${message} Next try in ${(this.#pause / 1000).toFixed(0)} s.`)
    }
    return this.#pause * (0.9 + 0.2 * Math.random())
  }

  async #evaluate(): Promise<void> {
    const began = performance.now()
    const changes = await evaluateAlerts(this.#ask, Math.max(evaluateEvery, this.#took / evaluateShare))
    if (changes !== null) this.#took = (performance.now() - began) / 1000
  }

  async #trim(): Promise<void> {
    if (performance.now() - this.#trimmedAt < trimEvery) return
    await trimHistory(this.#ask)
    this.#trimmedAt = performance.now()
  }

  readonly #ask = async <Result>(work: (session: Session) => Promise<Result>): Promise<Result> => {
    if (this.#session === undefined || this.#session.isEnded) this.#session = await this.#control.open('alerts')
    const session = this.#session
    const timer = setTimeout(() => session.destroy(), answerWithin)
    try {
      return await work(session)
    } catch (error) {
      throw session.failure(error)
    } finally {
      clearTimeout(timer)
    }
  }
}
