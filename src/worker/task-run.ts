import { atEnd } from '../base/deadline.ts'
import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { Claim, ClaimedCall } from '../jobs/claim.ts'
import type { RunLog } from '../monitoring/run-log.ts'
import { cancellable } from './cancellation.ts'
import { carryOut, type RunResult, type WorkRemarks, type WorkResult } from './run-outcome.ts'
import type { Task, TaskContext } from './tasks.ts'
import type { Workplace } from './workplace.ts'

const severity = ['OK', 'WARNING', 'CRITICAL'] as const
/** Milliseconds that a task has to return once its signal is aborted, as a procedure has. */
const heedWithin = 5000

/** Runs of tasks that were ended without their functions, which go on in this process: by control database, job and database. */
const lingering = new Map<string, string>()

/** Carries out a run of a task that was claimed. */
export async function claimedTask(place: Workplace, claim: Claim): Promise<RunResult> {
  const { run_id: runId, object, token, call } = claim
  const task = place.tasks?.get(call?.task ?? '')
  if (!call || !task) throw new Error(`A worker that does not know the task ${call?.task} was given run ${runId}.`)
  const log = place.recorder.record({ runId, token }, place.onStep && ((step) => place.onStep?.(object, step)))
  return cancellable(place, token, async (here) => {
    const giving = {
      signal: here.signal,
      // Looked at when the run has ended: what somebody cancelled meanwhile does not go back.
      get givesBack() {
        return here.givesBack === true && call.repeatable
      },
    }
    const run = new TaskRun(task, place.control.id, claim, call, log, here.signal)
    const patience = Number.POSITIVE_INFINITY
    const result = await carryOut(giving, object, log, () => run.carryOut(), patience, run.remarks)
    const { lingers } = run
    return lingers === undefined ? result : { ...result, lingers }
  })
}

/** One attempt at a run of a task. */
class TaskRun {
  /** Absent as long as nobody knows that its function goes on without it. */
  lingers: Promise<void> | undefined
  readonly remarks: WorkRemarks = {}
  readonly #task: Task
  readonly #claim: Claim
  readonly #call: ClaimedCall
  readonly #log: RunLog
  readonly #name: string
  /** One run of the job in one place. */
  readonly #key: string
  readonly #maxRuntime: number
  readonly #overtime = new AbortController()
  readonly #signal: AbortSignal
  #step: ReturnType<RunLog['step']> | undefined
  #level: (typeof severity)[number] = 'OK'
  #said: string | undefined
  /** What the function says from here on is not heard. */
  #isOver = false

  constructor(task: Task, controlId: string, claim: Claim, call: ClaimedCall, log: RunLog, signal: AbortSignal) {
    this.#task = task
    this.#claim = claim
    this.#call = call
    this.#log = log
    this.#name = call.task ?? ''
    this.#key = `${controlId} ${claim.job_id} ${call.database ?? ''}`
    const limits = [call.max_runtime, task.maxRuntime].filter((limit) => limit > 0)
    this.#maxRuntime = limits.length > 0 ? Math.min(...limits) : 0
    this.#signal = AbortSignal.any([signal, this.#overtime.signal])
  }

  async carryOut(): Promise<WorkResult> {
    this.#refuseBesideLingering()
    this.#step = this.#log.step(this.#name)
    const disarm = atEnd(this.#maxRuntime, () => this.#overtime.abort(this.#timeout('')))
    try {
      // What it throws before it awaits anything is no different.
      await this.#heeding((async () => this.#task.run(payloadOf(this.#call), this.#context()))())
    } catch (error) {
      throw this.#failure(error)
    } finally {
      this.#isOver = true
      disarm()
    }
    this.#step.done()
    return {
      level: this.#level,
      reason: null,
      message: this.#said ?? `Task ${this.#name} ended.`,
      rows: 0,
      bytes: 0,
    }
  }

  /** A task has no fence: nothing but its own process knows that the function of an earlier run has not returned. */
  #refuseBesideLingering(): void {
    const earlier = lingering.get(this.#key)
    if (earlier === undefined || this.#call.overlaps) return
    const message = `Task ${this.#name} of run ${earlier}, which was ended, still runs in this process: it did not heed its abort signal.`
    throw new Failure('job_locked', {
      message,
      object: this.#claim.object,
      remedy: 'Restart the process, and have the task heed its abort signal.',
    })
  }

  #context(): TaskContext {
    const heard =
      <Args extends unknown[]>(say: (...args: Args) => void) =>
      (...args: Args) => {
        if (!this.#isOver) say(...args)
      }
    return {
      jobId: this.#claim.job_id,
      runId: this.#claim.run_id,
      attempt: this.#claim.attempt,
      slot: new Date(this.#call.slot),
      database: this.#call.database,
      signal: this.#signal,
      step: heard((action: string) => {
        this.#step?.done()
        this.#step = this.#log.step(action)
      }),
      progress: heard(({ rows = 0, bytes = 0, message }) => this.#step?.progress({ rows, bytes, message })),
      level: heard((wanted, message) => {
        if (severity.indexOf(wanted) > severity.indexOf(this.#level)) this.#level = wanted
        this.#said = message ?? this.#said
      }),
      nextStart: heard((at) => {
        this.remarks.nextStart = at === 'infinity' ? at : at.toISOString()
      }),
    }
  }

  /** Settles as the function does; rejects when it has not returned a while after its signal was aborted. */
  async #heeding(running: Promise<unknown>): Promise<void> {
    const over = Promise.withResolvers<never>()
    let timer: NodeJS.Timeout | undefined
    const onAbort = () => {
      timer = setTimeout(() => {
        this.#leave(running)
        over.reject(this.#unheeded())
      }, heedWithin)
    }
    if (this.#signal.aborted) onAbort()
    else this.#signal.addEventListener('abort', onAbort)
    try {
      await Promise.race([running, over.promise])
    } finally {
      clearTimeout(timer)
      this.#signal.removeEventListener('abort', onAbort)
    }
  }

  #leave(running: Promise<unknown>): void {
    lingering.set(this.#key, this.#claim.run_id)
    this.lingers = running
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        if (lingering.get(this.#key) === this.#claim.run_id) lingering.delete(this.#key)
      })
  }

  #unheeded(): Failure {
    const still = `It did not heed its abort signal within ${heedWithin / 1000} s: its function still runs in its process, and its slot stays taken until it returns.`
    this.#step?.done(still, 'WARNING')
    const { object } = this.#claim
    if (this.#overtime.signal.aborted) return this.#timeout(` ${still}`)
    // Somebody cancelled it.
    if (this.#signal.reason instanceof Failure) return new Failure('cancelled', { message: still, object })
    return new Failure('task_lingers', { message: `The worker stopped while task ${this.#name} ran. ${still}`, object })
  }

  #timeout(more: string): Failure {
    const limit = formatDuration(this.#maxRuntime / 1000)
    const message = `Task ${this.#name} ran longer than its max_runtime of ${limit}.${more}`
    return new Failure('job_timeout', { message, object: this.#claim.object })
  }

  #failure(error: unknown): Failure {
    const { object } = this.#claim
    if (this.lingers && error instanceof Failure) return error
    // What first aborted the signal.
    if (this.#signal.aborted && this.#signal.reason === this.#overtime.signal.reason) return this.#timeout('')
    if (this.#signal.aborted)
      return new Failure('cancelled', { message: `Cancelled while task ${this.#name} ran.`, object, cause: error })
    if (error instanceof Failure) return error
    return new Failure('job_failed', { message: messageOf(error), object, cause: error })
  }
}

/** What people are to read of whatever was thrown. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message === '' ? error.name : error.message
}

/** The job's config with the parameters of the run laid over it. */
function payloadOf({ config, params }: ClaimedCall): unknown {
  const payload: unknown = config === null ? null : JSON.parse(config)
  if (params === null) return payload
  return { ...(payload as object | null), ...(JSON.parse(params) as object) }
}
