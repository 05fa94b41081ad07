import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import type { Control } from '../control/control.ts'
import { Registration, type WorkerIdentity } from '../control/registration.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { Outbox } from './outbox.ts'
import { type AttemptIds, type LiveStep, RunLog } from './run-log.ts'

/** Milliseconds for which what is still unwritten is waited for when a process ends. */
const drainPatience = 10_000

/** Keeps the records of all runs that this process carries out, under one registration. */
export class RunRecorder implements Service {
  readonly control: Control
  readonly registration: Registration
  readonly #outbox: Outbox
  readonly #host: string

  constructor(control: Control, identity: WorkerIdentity) {
    this.control = control
    this.registration = new Registration(control, identity)
    this.#outbox = new Outbox(control)
    this.#host = identity.host
  }

  /** Registers this process as a worker; more than once is fine. */
  async start(): Promise<void> {
    await this.registration.start()
  }

  async stop(): Promise<void> {
    await this.#outbox.drain(drainPatience)
    await this.registration.stop()
  }

  /** Throws `host_forbidden` where a binding forbids this host the work of a site; null is work of no site. */
  async refuseForbidden(site: string | null, object: string): Promise<void> {
    try {
      await this.control.session.query(sql`select yardmaster.refuse_forbidden(${this.#host}, ${site}::text)`)
    } catch (error) {
      throw aboutObject(error, object)
    }
  }

  /**
   * Begins a run that somebody asked for, of a job or of one that `register` makes in the same transaction: nobody ever sees a
   * new job without the run that sets it up. `listener` hears of steps and progress in this process.
   */
  async begin(
    run: { database: string; operation: 'setup' | 'refresh' | 'remove'; object: string; site: string | null },
    register: number | ((session: Session) => Promise<number>),
    listener?: (step: LiveStep) => void,
  ): Promise<RunLog> {
    await this.start()
    const begin = (session: Session, jobId: number) =>
      session.one<AttemptIds>(sql`
        select run_id as "runId", token from yardmaster.begin_run(${jobId}, yardmaster.database_id_of(${run.database}),
          ${run.operation}, ${run.object}, ${run.site}::text, ${this.registration.id})`)
    if (typeof register === 'number') {
      const ids = await begin(this.control.session, register).catch((error: unknown) => {
        throw aboutObject(error, run.object)
      })
      return new RunLog(ids, this.#outbox, listener)
    }
    const session = await this.control.open(`begin ${run.object}`)
    try {
      await session.script('begin')
      const ids = await begin(session, await register(session))
      await session.script('commit')
      return new RunLog(ids, this.#outbox, listener)
    } catch (error) {
      throw aboutObject(error, run.object)
    } finally {
      await session.end()
    }
  }

  /** Goes on with an attempt that a claim made. */
  record(ids: AttemptIds, listener?: (step: LiveStep) => void): RunLog {
    return new RunLog(ids, this.#outbox, listener)
  }

  /** Whether the attempt with this token is over, so that what it left in a destination may be ended. */
  async isOver(token: string): Promise<boolean> {
    const row = await this.control.perform(
      (session) => session.one<{ over: boolean }>(sql`select yardmaster.attempt_is_over(${token}) as over`),
      0,
    )
    return row.over
  }
}

/** What a binding forbids is about the copy, not about the control database that said so. */
function aboutObject(error: unknown, object: string): unknown {
  if (!(error instanceof Failure) || error.code !== 'host_forbidden') return error
  const { code, message, remedy, sqlstate } = error
  return new Failure(code, { message, object, remedy, sqlstate, cause: error })
}
