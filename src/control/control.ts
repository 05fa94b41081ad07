import { connect, type Session, type SessionOptions } from '../postgres/connect.ts'
import type { ConnectionParts } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { isConnectionLoss } from '../postgres/sqlstate.ts'
import { identifyCaller, migrate, planMigration } from './migrate.ts'
import type { SecretKey } from './secret-key.ts'

/** Milliseconds within which a control database answers that is there. */
const answerWithin = 10_000

export interface ControlOptions {
  readonly parts: ConnectionParts
  /** Who asks, for the audit: `user@host`. */
  readonly actor: string
  /** By which face: `CLI`, `HTTP`, `demo`. */
  readonly face: string
  readonly key: SecretKey
  readonly signal?: AbortSignal | undefined
  /** As in `SessionOptions`. */
  readonly passwordFile?: string | undefined
}

/** The control database: one session for short statements, and more on request. */
export class Control {
  #session: Session
  readonly key: SecretKey
  /** What destinations know this control database by. */
  readonly id: string
  readonly #options: ControlOptions

  constructor(session: Session, id: string, options: ControlOptions) {
    this.#session = session
    this.id = id
    this.key = options.key
    this.#options = options
  }

  get session(): Session {
    return this.#session
  }

  /** Opens the session anew when it was lost; a control database that is away is waited for, `patience` milliseconds at most. */
  async revive(patience: number): Promise<void> {
    const deadline = Date.now() + patience
    for (;;) {
      const session = this.#session
      const timer = setTimeout(() => session.destroy(), answerWithin)
      try {
        if (session.isEnded) this.#session = await openSession(this.#options, 'control')
        else await session.query(sql`select 1`)
        return
      } catch (error) {
        const failure = session.failure(error)
        if (!isConnectionLoss(failure) || (session.isEnded && Date.now() > deadline)) throw failure
        if (session.isEnded) await new Promise((resolve) => setTimeout(resolve, 500))
        await session.end()
      } finally {
        clearTimeout(timer)
      }
    }
  }

  /** Another session of the same caller; the caller of this ends it. */
  async open(purpose: string): Promise<Session> {
    return openSession(this.#options, purpose)
  }

  async close(): Promise<void> {
    await this.session.end()
  }
}

/**
 * Connects to the control database and makes or updates its schema where that is needed and not breaking.
 * Throws `control_unreachable`, `control_newer` and what `connect` throws.
 */
export async function openControl(options: ControlOptions): Promise<Control> {
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
