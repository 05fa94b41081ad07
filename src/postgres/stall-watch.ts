import type { Socket } from 'node:net'
import { Failure } from '../base/failure.ts'
import type { Session } from './connect.ts'
import { type Sql, sql } from './sql.ts'
import { isConnectionLoss } from './sqlstate.ts'

/**
 * Milliseconds between two looks; looks without a byte after which the server is asked; and how long it has to answer.
 * Together well below 30 s also when a new connection gets no answer either: 4 × 2 + 2 + 8.
 */
const lookEvery = 2000
const quietLooks = 4
const answerWithin = 8000
/** Milliseconds between the two times that the server has to say that it waits for us. */
const secondLookAfter = 1500

interface Watched {
  moved: number
  quiet: number
  asking: boolean
}

/** What the server says of a session that has gone quiet. */
type Verdict = 'works' | 'waits for us' | 'gone'

/**
 * Notices connections that are open and dead: nothing comes, nothing ends (a host that vanished, a firewall that forgot).
 * A session that owes us an answer and moved no byte for eight seconds is looked for in `pg_stat_activity`, by a connection
 * of its own: an index build or a lock wait goes on for as long as it likes, because the server says that it works. When
 * the server says instead that it waits for *us*, or knows nothing of the session, or gives no answer at all, the session
 * ends with `…_unreachable`.
 *
 * Node can't set TCP_USER_TIMEOUT, and TCP's own keepalive notices dead hosts only, not what a proxy holds open.
 */
export class StallWatch {
  readonly #watched = new Map<Session, Watched>()
  readonly #openProbe: (quiet: Session) => Promise<Session>
  readonly #isOurs: Sql
  #timer: NodeJS.Timeout | undefined

  /** `isOurs`: a condition on `pg_stat_activity` by which a session's process is not another one with its old pid. */
  constructor(openProbe: (quiet: Session) => Promise<Session>, isOurs = sql`application_name like 'yardmaster%'`) {
    this.#openProbe = openProbe
    this.#isOurs = isOurs
  }

  add(session: Session): void {
    this.#watched.set(session, { moved: 0, quiet: 0, asking: false })
    this.#timer ??= setInterval(() => this.#look(), lookEvery).unref()
  }

  remove(session: Session): void {
    this.#watched.delete(session)
    if (this.#watched.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    for (const [session, watched] of this.#watched) {
      // Whoever opened it may have ended it by itself; its connection may be another's by now.
      if (session.isEnded) continue
      const moved = movedBytes(session)
      watched.quiet = moved === watched.moved && isServersTurn(session) ? watched.quiet + 1 : 0
      watched.moved = moved
      if (watched.quiet >= quietLooks && !watched.asking) void this.#ask(session, watched)
    }
  }

  async #ask(session: Session, watched: Watched): Promise<void> {
    watched.asking = true
    try {
      const why = await this.#deathOf(session)
      const still = this.#watched.get(session) === watched && isServersTurn(session)
      if (why && still && movedBytes(session) === watched.moved) end(session, why)
    } finally {
      watched.asking = false
      watched.quiet = 0
    }
  }

  /** Why the session is dead; undefined when it lives or nobody can tell. */
  async #deathOf(session: Session): Promise<string | undefined> {
    let probe: Session | undefined
    const late = deadline(answerWithin)
    try {
      const opening = this.#openProbe(session)
      probe = await Promise.race([opening, late.promise])
      if (!probe) {
        void opening.then((opened) => opened.end()).catch(() => undefined)
        return 'its server gives no answer to a new connection either'
      }
      return await Promise.race([
        verdictIn(probe, session, this.#isOurs),
        late.promise.then(() => 'its server gives no answer'),
      ])
    } catch (error) {
      const failure = session.failure(error)
      return isConnectionLoss(failure) && !isNameless(failure)
        ? `its server cannot be reached (${failure.message})`
        : undefined
    } finally {
      late.clear()
      await probe?.end()
    }
  }
}

async function verdictIn(probe: Session, session: Session, isOurs: Sql): Promise<string | undefined> {
  const first = await ask(probe, session, isOurs)
  if (first === 'works') return undefined
  await new Promise((resolve) => setTimeout(resolve, secondLookAfter))
  const second = await ask(probe, session, isOurs)
  if (second === 'works') return undefined
  if (second === 'gone') return 'its server process is gone'
  // It answered meanwhile, and may serve another session by now.
  if (!isServersTurn(session)) return undefined
  // What it holds there would stand in everybody's way for ever.
  await probe.query(sql`
    select pg_terminate_backend(pid) from pg_stat_activity where pid = ${session.pid} and ${isOurs}`)
  return 'its server process waits for us, and nothing arrives'
}

async function ask(probe: Session, session: Session, isOurs: Sql): Promise<Verdict> {
  const row = await probe.first<{ waits: boolean }>(sql`
    select coalesce(state like 'idle%' or wait_event_type = 'Client', false) as waits from pg_stat_activity
    where pid = ${session.pid} and ${isOurs}`)
  if (!row) return 'gone'
  return row.waits ? 'waits for us' : 'works'
}

/** It owes an answer that we would read, or has to take what we wrote. */
function isServersTurn(session: Session): boolean {
  if (session.isEnded) return false
  const { stream } = session.connection
  return (session.awaited > 0 && !stream.isPaused()) || stream.writableLength > 0
}

function movedBytes(session: Session): number {
  // With TLS its socket is a wrapper that counts as well.
  const stream = session.connection.stream as Socket
  return stream.bytesRead + stream.bytesWritten - stream.writableLength
}

function end(session: Session, why: string): void {
  const failure = new Failure(`${session.side}_unreachable`, {
    message: `The connection to ${session.object} is dead: no byte came for ${(quietLooks * lookEvery) / 1000} s, and ${why}.`,
    object: session.object,
    retryable: true,
  })
  session.connection.stream.destroy(failure)
}

/** A name that can't be looked up says nothing about connections that stand. */
function isNameless(failure: Failure): boolean {
  const { code } = (failure.cause ?? {}) as { code?: string }
  return code === 'ENOTFOUND' || code === 'EAI_AGAIN'
}

function deadline(ms: number): { promise: Promise<undefined>; clear: () => void } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => resolve(undefined), ms)
  return { promise, clear: () => clearTimeout(timer) }
}
