import type { Service } from '../base/service.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Control } from './control.ts'

/** Milliseconds between two beats. The lease (SQL function `lease_length`) is 15 s, so three may be lost. */
const beatEvery = 3000
/** SQLSTATE of what `beat_worker` says of a worker that is not there. */
const unknownWorker = 'YM001'

/** Who carries out runs. */
export interface WorkerIdentity {
  /** For example `h2#4711`. */
  readonly name: string
  readonly host: string
  /** Runs at once. 0: a command, which takes nothing that waits. */
  readonly slots: number
}

/**
 * This process as a worker in the control database. The control session is its life: when both are gone, everybody sees that
 * what it ran is free. A session that is lost alone is replaced at once; a process that hangs loses its lease.
 */
export class Registration implements Service {
  readonly #control: Control
  readonly #identity: WorkerIdentity
  #id: string | undefined
  #starting: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Milliseconds from `performance.now()` to the control server's clock. */
  #offset: number | undefined

  constructor(control: Control, identity: WorkerIdentity) {
    this.#control = control
    this.#identity = identity
  }

  /** Registered once, however often it is asked for. */
  start(): Promise<void> {
    this.#starting ??= this.#register()
    return this.#starting
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#timer = undefined
    const id = this.#id
    this.#id = undefined
    this.#starting = undefined
    if (id === undefined || this.#control.isClosed) return
    await this.#control
      .perform((session) => session.query(sql`select yardmaster.end_worker(${id})`), 0)
      .catch(() => undefined)
  }

  /** Takes nothing new from now on: others may take what its host is preferred for. A hint; its end says so in any case. */
  retire(): void {
    const id = this.#id
    if (id === undefined || this.#control.isClosed) return
    this.#control
      .perform((session) => session.query(sql`select yardmaster.stop_worker(${id})`), 0)
      .catch(() => undefined)
  }

  get id(): string {
    if (this.#id === undefined) throw new Error('The worker is not registered.')
    return this.#id
  }

  /** The control server's clock, milliseconds since the epoch: no worker's clock decides anything. */
  now(): number {
    return performance.now() + (this.#offset ?? Date.now() - performance.now())
  }

  async #register(): Promise<void> {
    this.#id = await this.#control.perform((session) => this.#enter(session), 0)
    await this.#control.introduce((session) => this.#beat(session))
    this.#timer = setInterval(() => this.#beatSoon(), beatEvery).unref()
    this.#control.onLost(() => this.#beatSoon())
  }

  /** Where the control database is away, the next beat tries again. */
  #beatSoon(): void {
    if (this.#id === undefined || this.#control.isClosed) return
    this.#control.perform((session) => this.#beat(session), 0).catch(() => undefined)
  }

  async #beat(session: Session): Promise<void> {
    if (this.#id === undefined) return
    const sent = performance.now()
    try {
      const row = await session.one<{ now: number }>(sql`
        select yardmaster.beat_worker(${this.#id}, ${this.#identity.name}) as now`)
      this.#offset = row.now - (sent + performance.now()) / 2
    } catch (error) {
      if (session.failure(error).sqlstate !== unknownWorker) throw error
      // The control database was restored to a time before we were there.
      this.#id = await this.#enter(session)
    }
  }

  async #enter(session: Session): Promise<string> {
    const { name, host, slots } = this.#identity
    const row = await session.one<{ id: string }>(
      sql`select yardmaster.register_worker(${name}, ${host}, ${slots}) as id`,
    )
    return row.id
  }
}

/** Gives up the workers that are gone; what they ran is free then. Everybody who reads or starts runs calls it first. */
export async function releaseLostWorkers(control: Control, patience = 0): Promise<number> {
  const row = await control.perform(
    (session) => session.one<{ lost: number }>(sql`select yardmaster.release_lost_workers() as lost`),
    patience,
  )
  return row.lost
}
