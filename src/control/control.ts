import { Failure } from '../base/failure.ts'
import { connect, type Session, type SessionOptions } from '../postgres/connect.ts'
import type { ConnectionParts } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { isConnectionLoss, toFailure } from '../postgres/sqlstate.ts'
import { identifyCaller, migrate, planMigration } from './migrate.ts'
import type { SecretKey } from './secret-key.ts'

/** Milliseconds within which a control database answers that is there. */
const answerWithin = 8000
/** Milliseconds behind an attempt to connect that failed within which everybody gets that same failure. */
const triesApart = 500

export interface ControlOptions {
  readonly parts: ConnectionParts
  /** Who asks, for the audit: `user@host`. */
  readonly actor: string
  /** By which face: `CLI`, `HTTP`, `demo`. */
  readonly face: string
  readonly key: SecretKey
  /** Its abort ends the wait for a control database that is away. */
  readonly signal?: AbortSignal | undefined
  /** As in `SessionOptions`. */
  readonly passwordFile?: string | undefined
  /** Milliseconds for which one that is away is waited for at the first look. Default: 0. */
  readonly patience?: number
  /** Hears why it waits, before each pause. */
  readonly onWait?: (why: string) => void
}

/** What is told to each new session of a process, before anything else: who it is, what it listens to. */
type Introduction = (session: Session) => Promise<void>

/** The control database: one session for short statements, opened anew when it is lost, and more on request. */
export class Control {
  #session: Session
  #opening: Promise<Session> | undefined
  #refusal: { readonly error: unknown; readonly until: number } | undefined
  #closed = false
  readonly #introductions: Introduction[] = []
  readonly #lostListeners: (() => void)[] = []
  readonly key: SecretKey
  /** What destinations know this control database by. */
  readonly id: string
  readonly #options: ControlOptions

  constructor(session: Session, id: string, options: ControlOptions) {
    this.#options = options
    this.key = options.key
    this.id = id
    this.#session = this.#watched(session)
  }

  get session(): Session {
    return this.#session
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** Says `introduction` to the session that is there, and to each that takes its place. */
  async introduce(introduction: Introduction): Promise<void> {
    this.#introductions.push(introduction)
    await introduction(this.#session)
  }

  /** Opens the session anew when it was lost; a control database that is away is waited for, `patience` milliseconds at most. */
  async revive(patience: number): Promise<void> {
    await this.perform((session) => session.query(sql`select 1`), patience)
  }

  /**
   * Runs short statements that may be sent twice: what is lost with its connection is sent again by a new one. A control
   * database that is away is waited for, `patience` milliseconds at most, without haste. A connection that gives no answer
   * counts as lost.
   */
  async perform<Result>(work: (session: Session) => Promise<Result>, patience: number): Promise<Result> {
    const deadline = Date.now() + patience
    for (let pause = 100; ; pause = Math.min(pause * 2, 2000)) {
      const before = this.#session
      let session: Session | undefined
      try {
        session = await this.#opened()
        return await this.#answered(session, work)
      } catch (error) {
        const failure = (session ?? before).failure(error)
        if (!isConnectionLoss(failure) && !failure.retryable) throw failure
        // Only the one that failed: somebody else may have opened the next one already.
        if (isConnectionLoss(failure)) await session?.end()
        // One that was found dead only now is replaced at once, whatever the patience.
        const fresh = pause === 100 && session === before
        if (this.#closed || (!fresh && Date.now() >= deadline)) throw failure
        await new Promise((resolve) => setTimeout(resolve, fresh ? 0 : pause * (0.5 + Math.random())))
      }
    }
  }

  /** The session that stands, or a new one: one attempt at a time, whoever asks, and soon behind one that failed none. */
  async #opened(): Promise<Session> {
    if (!this.#session.isEnded) return this.#session
    if (this.#refusal && performance.now() < this.#refusal.until) throw this.#refusal.error
    this.#opening ??= this.#open()
      .catch((error: unknown) => {
        this.#refusal = { error, until: performance.now() + triesApart }
        throw error
      })
      .finally(() => {
        this.#opening = undefined
      })
    return this.#opening
  }

  async #open(): Promise<Session> {
    await this.#session.end()
    const session = await openSession(this.#options, 'control').catch((error: unknown) => {
      throw mayComeBack(this.#session.failure(error))
    })
    try {
      for (const introduction of this.#introductions)
        await this.#answered(session, (fresh) => introduction(fresh).then(() => undefined))
    } catch (error) {
      await session.end()
      throw error
    }
    this.#session = this.#watched(session)
    return session
  }

  /** Calls `listener` whenever the session is lost, so that a new one can be opened before it is needed. */
  onLost(listener: () => void): void {
    this.#lostListeners.push(listener)
  }

  #watched(session: Session): Session {
    session.client.once('end', () => {
      if (session !== this.#session || this.#closed) return
      session.destroy()
      for (const listener of this.#lostListeners) listener()
    })
    return session
  }

  /** A connection that is open and dead gives no answer at all: after a while it is cut, and fails as a lost one does. */
  async #answered<Result>(session: Session, work: (session: Session) => Promise<Result>): Promise<Result> {
    const timer = setTimeout(() => session.destroy(), answerWithin)
    try {
      return await work(session)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Another session of the same caller; the caller of this ends it. */
  async open(purpose: string): Promise<Session> {
    return openSession(this.#options, purpose)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.session.end()
  }
}

/**
 * Connects to the control database and makes or updates its schema where that is needed and not breaking.
 * Throws `control_unreachable`, `control_newer` and what `connect` throws.
 */
export async function openControl(options: ControlOptions): Promise<Control> {
  const deadline = Date.now() + (options.patience ?? 0)
  for (let pause = 500; ; pause = Math.min(pause * 2, 4000)) {
    try {
      return await firstOpen(options)
    } catch (error) {
      const failure = toFailure(error, { side: 'control', object: 'the control database' })
      if (!failure.retryable || options.signal?.aborted || Date.now() + pause > deadline) throw failure
      options.onWait?.(failure.message)
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())))
    }
  }
}

async function firstOpen(options: ControlOptions): Promise<Control> {
  const session = await openSession(options, 'control')
  try {
    const plan = await planMigration(session)
    if (plan.pending.length > 0 || plan.api) await migrate(session)
    const row = await session.one<{ id: string }>(sql`select id from yardmaster.control_identity`)
    return new Control(session, row.id, options)
  } catch (error) {
    await session.end()
    throw error
  }
}

/** It let us in before: what keeps us out now (a password, a rule, a standby that is not promoted yet) may change again. */
function mayComeBack(failure: Failure): Failure {
  const { code, message, object, remedy, sqlstate } = failure
  return new Failure(code, { message, object: object ?? undefined, remedy, sqlstate, retryable: true, cause: failure })
}

async function openSession(options: ControlOptions, purpose: string): Promise<Session> {
  const details: SessionOptions = {
    side: 'control',
    purpose,
    object: 'the control database',
    passwordFile: options.passwordFile,
  }
  const session = await connect(options.parts, details)
  await identifyCaller(session, options.actor, options.face)
  return session
}
