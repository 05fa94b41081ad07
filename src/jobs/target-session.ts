import { setTimeout as delay } from 'node:timers/promises'
import { atEnd } from '../base/deadline.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { maxNameBytes } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { StallWatch } from '../postgres/stall-watch.ts'
import { cancelGrace } from './fence.ts'
import { endProcess, introduceAs, type ServerProcess } from './server-process.ts'

/** What the session of a call needs of whoever calls. */
export interface TargetSurroundings {
  /** Opens sessions in the target, possibly pooled. Never refuses for the signal's sake: what was begun has to be ended. */
  readonly connector: (purpose: string) => Promise<Session>
  /** The target cannot be asked whether a session still lives: why. Called again when the reason changes. */
  readonly unknown: (reason: string) => void
  readonly signal: AbortSignal
}

/** Why a call was broken off. */
export type Stop = 'cancelled' | 'timeout'

/** Milliseconds that a procedure has to heed a cancel: by a person or a worker that stops, and when its time is over. */
const grace: Readonly<Record<Stop, number>> = { cancelled: cancelGrace, timeout: 5000 }
/** Milliseconds between two tries at a target that is away, first and longest: never more than one a second. */
const pauses = { first: 1000, longest: 10_000 }
/** Milliseconds for which a target is still asked when the call was cancelled: a worker that stops can't wait for ever. */
const abortPatience = 5000

/** The one session that works for a job in its target. Whoever ends it knows that its server process is gone. */
export class TargetSession {
  readonly session: Session
  readonly process: ServerProcess
  readonly #surroundings: TargetSurroundings
  readonly #watch: StallWatch
  #stop: Stop | undefined
  #gone = false

  private constructor(session: Session, process: ServerProcess, surroundings: TargetSurroundings) {
    this.session = session
    this.process = process
    this.#surroundings = surroundings
    this.#watch = new StallWatch(
      () => surroundings.connector('look for a job'),
      sql`backend_start = ${process.backendStart}::timestamptz`,
    )
    this.#watch.add(session)
  }

  /** Opens it under the job's name: from here on others see whose it is. Throws what the connector throws. */
  static async open(name: string, surroundings: TargetSurroundings): Promise<TargetSession> {
    const session = await surroundings.connector('call a job')
    const watch = new StallWatch(() => surroundings.connector('look for a job'))
    watch.add(session)
    try {
      return new TargetSession(session, await introduceAs(session, shownName(name)), surroundings)
    } catch (error) {
      await session.end()
      throw error
    } finally {
      watch.remove(session)
    }
  }

  /** Why the call was broken off; undefined: it was not. */
  get stopped(): Stop | undefined {
    return this.#stop
  }

  /** Throws `cancelled`, also where it is time that is over: nothing more is begun. */
  throwIfStopped(): void {
    if (!this.#stop && !this.#surroundings.signal.aborted) return
    throw new Failure('cancelled', { message: 'Cancelled.', object: this.session.object })
  }

  /**
   * Does the work of the call. When the signal is aborted, or `maxRuntime` milliseconds (0: none) are over, what runs on the
   * server is cancelled, and terminated if it does not heed that; then this rejects like any query that was cancelled.
   */
  async perform<Result>(work: () => Promise<Result>, maxRuntime: number): Promise<Result> {
    const { signal } = this.#surroundings
    const running = work()
    const settled = running.then(
      () => undefined,
      () => undefined,
    )
    let ending: Promise<void> | undefined
    const stop = (why: Stop) => {
      this.#stop ??= why
      ending ??= this.#breakOff(settled, grace[why])
      // Heard of below.
      ending.catch(() => undefined)
    }
    const onAbort = () => stop('cancelled')
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort)
    const disarm = atEnd(maxRuntime, () => stop('timeout'))
    try {
      return await running
    } finally {
      disarm()
      signal.removeEventListener('abort', onAbort)
      await ending
    }
  }

  /**
   * Resolves when the server process is certainly gone: cancels and terminates it from another session. A target that cannot
   * be asked is asked again and again; throws `job_outcome_unknown` when the signal is aborted before it answers.
   */
  async settle(): Promise<void> {
    if (this.#gone) return
    this.session.destroy()
    await this.ask((other) => endProcess(other, this.process, cancelGrace))
    this.#gone = true
  }

  /** Asks the target something by another session, until it answers; throws as `settle` does. */
  async ask<Result>(question: (other: Session) => Promise<Result>): Promise<Result> {
    const { signal, unknown } = this.#surroundings
    let deadline: number | undefined
    let said: string | undefined
    for (let pause = pauses.first; ; pause = Math.min(pause * 2, pauses.longest)) {
      try {
        return await this.#inOther(question)
      } catch (error) {
        const failure = this.session.failure(error)
        if (signal.aborted) deadline ??= performance.now() + abortPatience
        if (deadline !== undefined && performance.now() >= deadline) throw this.#unsettled(failure)
        if (said !== failure.code) unknown(failure.message)
        said = failure.code
      }
      await waitFor(deadline === undefined ? pause : pauses.first, deadline === undefined ? signal : undefined)
    }
  }

  async #inOther<Result>(question: (other: Session) => Promise<Result>): Promise<Result> {
    const other = await this.#surroundings.connector('end a job')
    return question(other).finally(() => other.end())
  }

  /**
   * Ends the session: in health its connection goes back to where it came from, as new. One that was broken off, or broke,
   * is closed, and its process is looked for. Throws what `settle` throws.
   */
  async close(): Promise<void> {
    const healthy = !this.#stop && !this.session.connection.stream.destroyed && !this.session.isEnded
    this.#watch.remove(this.session)
    await this.session.end()
    if (!healthy) await this.settle()
  }

  async #breakOff(settled: Promise<void>, patience: number): Promise<void> {
    const deadline = performance.now() + patience
    await Promise.race([settled, this.session.cancel()])
    if (await isOver(settled, deadline - performance.now())) return
    try {
      await this.#inOther((other) => endProcess(other, this.process, 0))
      this.#gone = true
    } catch {
      // It is asked again, for as long as it takes, once the call has ended here.
    }
    if (!(await isOver(settled, 1000))) this.session.destroy()
  }

  #unsettled(failure: Failure): Failure {
    const { object } = this.session
    return new Failure('job_outcome_unknown', {
      message: `${object} cannot be asked whether process ${this.process.pid}, which worked for this job, is gone: ${failure.message}`,
      object,
      cause: failure,
    })
  }
}

/** As PostgreSQL keeps it, 63 bytes; what is cut is the name, never the job's id behind it. */
function shownName(name: string): string {
  const [, head = name, id = ''] = /^(.*?)( \[\d+\])$/s.exec(name) ?? []
  let kept = head
  while (Buffer.byteLength(kept + id) > maxNameBytes) kept = [...kept].slice(0, -1).join('')
  return kept + id
}

/** Resolves after so many milliseconds, or at the signal's abort. */
async function waitFor(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(milliseconds, undefined, signal ? { signal } : {}).catch(() => undefined)
}

async function isOver(settled: Promise<void>, patience: number): Promise<boolean> {
  const late = new AbortController()
  const waiting = delay(Math.max(0, patience), false, { signal: late.signal }).catch(() => false)
  return Promise.race([settled.then(() => true), waiting]).finally(() => late.abort())
}
