import { crashPoint } from '../base/crash-point.ts'
import type { Service } from '../base/service.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { type Claim, claimRuns, heldClaims, millisecondsUntilWork } from '../jobs/claim.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { pauseOrphans } from '../jobs/orphans.ts'
import { sql } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { claimedRun, kindsOf } from './claimed-run.ts'
import { JobVerification } from './job-verification.ts'
import { LockWatch } from './lock-watch.ts'
import type { RunResult } from './run-outcome.ts'
import { SessionPool } from './session-pool.ts'
import type { Workplace } from './workplace.ts'

/** Milliseconds between two looks for work when nothing wakes the worker: what hints and timers miss costs no more. */
const backstop = 5000
/** Milliseconds between two looks for workers that are gone. */
const sweepEvery = 1000
/** Milliseconds between two looks for jobs whose owner is gone. */
const orphansEvery = 60_000
/** Milliseconds between two looks for runs that are this worker's without its knowing. */
const heldEvery = 10_000
/** Milliseconds before the control database is asked again after a failure. */
const pauses = { first: 250, longest: 5000 }

/** Milliseconds that runs get to end when they were broken off. */
const breakOffPatience = 20_000

export interface WorkerOptions {
  /** Runs at once. */
  readonly slots: number
  /** Milliseconds that runs get to end by themselves when the worker stops; then they are broken off and given back. */
  readonly grace: number
  /** Hears what people may want to know. */
  readonly say?: (line: string) => void
  readonly onResult?: (result: RunResult) => void
}

/**
 * Takes runs from the control database and carries them out. What is due is known by a timer; a hint (NOTIFY) or a free slot
 * wakes it, and it looks every few seconds in any case. It also gives up workers that are gone, and decides next starts: any
 * worker does, so none has to lead. A control database that is away is waited for; what runs goes on meanwhile.
 */
export class Worker implements Service {
  readonly #place: Workplace
  readonly #options: WorkerOptions
  /** Connections to sources and destinations outlive the runs: half of an unchanged refresh was spent on opening them. */
  readonly #sessions: SessionPool
  readonly #locks: LockWatch
  readonly #verification: JobVerification
  /** Aborted when runs are to be broken off. */
  readonly #breakOff = new AbortController()
  /** What this worker carries out, by its attempt's token, until its outcome is written. */
  readonly #running = new Map<string, Promise<void>>()
  /** Tasks whose runs were ended without them; each has its slot until it returns. */
  #lingering = 0
  #looking: Promise<void> | undefined
  #again = false
  /** The answer to a claim was lost: what it gave is to be found. Now and then in any case: that claim may still be on its way. */
  #unsure = false
  #heldAt = 0
  #orphansAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #sweeper: NodeJS.Timeout | undefined
  #pause = pauses.first
  /** Looks in a row that found nothing to take though something is due: somebody else has his hands on it. */
  #fruitless = 0
  #stopping: Promise<void> | undefined
  #started = false

  constructor(place: Workplace, options: WorkerOptions) {
    this.#sessions = new SessionPool({ idleLimit: Math.max(4, options.slots) })
    this.#locks = new LockWatch(place.control)
    this.#place = {
      ...place,
      signal: this.#breakOff.signal,
      givesBack: true,
      sessions: this.#sessions,
      locks: this.#locks,
    }
    this.#options = options
    this.#verification = new JobVerification(this.#place, options.say)
  }

  async start(): Promise<void> {
    const { control, recorder } = this.#place
    await recorder.start()
    crashPoint('worker-after-register')
    await this.#sessions.start()
    await control.introduce(async (session) => {
      session.client.on('notification', () => this.wake())
      await session.query(sql`listen yardmaster_work`)
      this.wake()
    })
    this.#started = true
    this.#sweeper = setInterval(() => void this.#sweep(), sweepEvery)
    this.wake()
  }

  /** Takes no more work, lets what runs end within the grace period, then breaks it off and gives it back. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  get running(): number {
    return this.#running.size
  }

  /** Looks for work now. */
  wake(): void {
    if (!this.#started || this.#stopping !== undefined) return
    this.#again = true
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
      if (this.#again) this.wake()
    })
  }

  async #look(): Promise<void> {
    while (this.#again && this.#stopping === undefined) {
      this.#again = false
      clearTimeout(this.#timer)
      let next = backstop
      try {
        next = await this.#takeWork()
        this.#pause = pauses.first
      } catch (error) {
        this.#unsure = true
        next = this.#pause * (0.5 + Math.random())
        this.#pause = Math.min(this.#pause * 2, pauses.longest)
        const { message } = toFailure(error, { side: 'control', object: 'the control database' })
        this.#options.say?.(
          `No work can be taken: the control database: ${message} Next try in ${(next / 1000).toFixed(1)} s.`,
        )
      }
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.wake(), next)
    }
  }

  /** Returns the milliseconds until the next look. */
  async #takeWork(): Promise<number> {
    const { control, recorder } = this.#place
    if (this.#unsure || performance.now() - this.#heldAt > heldEvery) {
      this.#begin(await heldClaims(control, recorder.registration.id))
      this.#unsure = false
      this.#heldAt = performance.now()
    }
    const free = this.#options.slots - this.#running.size - this.#lingering
    const claims = free > 0 ? await claimRuns(control, recorder.registration.id, kindsOf(this.#place), free) : []
    this.#begin(claims)
    this.#verification.look()
    return this.#untilWork(claims.length < free, claims.length > 0)
  }

  async #untilWork(mayTake: boolean, took: boolean): Promise<number> {
    const { control, recorder } = this.#place
    if ((await decideNextStarts(control)) > 0) crashPoint('worker-after-next-starts')
    // Whoever ends next looks again.
    if (!mayTake) return backstop
    const due = await millisecondsUntilWork(control, recorder.registration.id, kindsOf(this.#place))
    this.#fruitless = due > 0 || took ? 0 : Math.min(this.#fruitless + 1, 10)
    return Math.min(backstop, Math.max(2 ** this.#fruitless, due))
  }

  #begin(claims: readonly Claim[]): void {
    for (const claim of claims) {
      if (this.#running.has(claim.token)) continue
      const run = this.#carryOut(claim)
        .catch((error: unknown) => {
          this.#options.say?.(`Run ${claim.run_id}: ${toFailure(error, { side: 'control' }).message}`)
        })
        .finally(() => {
          this.#running.delete(claim.token)
          this.wake()
        })
      this.#running.set(claim.token, run)
    }
  }

  async #carryOut(claim: Claim): Promise<void> {
    // Apart: where nobody listens, the arguments of an optional call are not evaluated.
    const result = await claimedRun(this.#place, claim)
    if (result.lingers) this.#keepSlot(result.lingers)
    this.#options.onResult?.(result)
  }

  #keepSlot(lingers: Promise<void>): void {
    this.#lingering += 1
    void lingers.then(() => {
      this.#lingering -= 1
      this.wake()
    })
  }

  async #sweep(): Promise<void> {
    try {
      await this.#pauseOrphans()
      if ((await releaseLostWorkers(this.#place.control)) === 0) return
      crashPoint('worker-after-release')
      this.wake()
    } catch {
      // The next look says so.
    }
  }

  async #pauseOrphans(): Promise<void> {
    if (performance.now() - this.#orphansAt < orphansEvery) return
    this.#orphansAt = performance.now()
    const paused = await pauseOrphans(this.#place.control)
    if (paused > 0)
      this.#options.say?.(`${paused} jobs are paused: their owners are no roles of the control server any more.`)
  }

  async #stop(): Promise<void> {
    clearInterval(this.#sweeper)
    clearTimeout(this.#timer)
    await this.#looking
    clearTimeout(this.#timer)
    this.#place.recorder.registration.retire()
    const verification = this.#verification.stop()
    const ended = Promise.all(this.#running.values()).then(() => undefined)
    if (!(await within(this.#options.grace, ended))) {
      this.#options.say?.(`${this.#running.size} runs are broken off and given back.`)
      this.#breakOff.abort()
      // Longer only where the control database is away: then the loss of this worker gives them back.
      await within(breakOffPatience, ended)
    }
    await verification
    this.#locks.stop()
    await this.#sessions.stop()
    crashPoint('worker-before-end')
    await this.#place.recorder.stop()
  }
}

/** Whether something ended before so many milliseconds. */
async function within(milliseconds: number, ended: Promise<void>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => late.resolve(false), milliseconds)
  return Promise.race([ended.then(() => true), late.promise]).finally(() => clearTimeout(timer))
}
