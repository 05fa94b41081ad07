import { crashPoint } from '../base/crash-point.ts'
import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { forPeople, isConnectionLoss } from '../postgres/sqlstate.ts'
import { type Action, type Candidate, callOf, candidatesOf, chooseAction, schemasOf } from './action.ts'
import { asAuthors, jobSettings } from './author-settings.ts'
import { type CallEnd, CallTally } from './call-tally.ts'
import { effectOf, keepsEffects, type OwnPart, ownPart, type RunIds, recordEffect } from './effect-table.ts'
import { type EarlierSession, Fence, type Fenced } from './fence.ts'
import { type JobReporter, Narration } from './narration.ts'
import type { Level, NextStart } from './notices.ts'
import type { ServerProcess } from './server-process.ts'
import { TargetSession, type TargetSurroundings } from './target-session.ts'
import { UnreadAnswer } from './unread-answer.ts'

/** One attempt at one run of a job, as its target shall see it. */
export interface JobCall extends Fenced, RunIds {
  /** `NAME [ID]`: the name of its session. */
  readonly applicationName: string
  readonly kind: 'procedure' | 'sql'
  /** null: the database's own search path decides. */
  readonly procSchema: string | null
  /** null: of kind `sql`. */
  readonly procName: string | null
  /** Of kind `sql`: each is sent alone; several statements in one are one transaction. */
  readonly statements: readonly string[] | null
  /** jsonb as text, so that no digit is lost; null is SQL NULL. */
  readonly config: string | null
  /** Of this run, jsonb as text: laid over `config`, key by key. */
  readonly params: string | null
  /** Milliseconds; 0: as long as it takes. */
  readonly maxRuntime: number
  /** What its action is told as its number, where that is another than the job's. */
  readonly number?: string | undefined
}

/** What a call needs of whoever makes it. */
export interface CallSurroundings extends TargetSurroundings {
  readonly reporter: JobReporter
  /**
   * Records in the control database that this process works for the attempt. `mine` false: the attempt is over. `earlier`:
   * sessions of earlier attempts whose end nobody saw.
   */
  readonly claimSession: (
    pid: number,
    backendStart: string,
  ) => Promise<{ readonly mine: boolean; readonly earlier: readonly EarlierSession[] }>
  /** Hears at once when the procedure says when it wants to be started next: that holds also when it fails. */
  readonly nextStart: (start: NextStart) => void
  /** Counts the call in the target as well. Where it throws, the run is a WARNING, or keeps its failure. */
  readonly count?: ((session: Session, end: CallEnd) => Promise<void>) | undefined
}

/** What a call came to. */
export interface CallOutcome {
  /** CRITICAL only where the procedure asked for it; what it did stays done. */
  readonly level: Level
  readonly message: string
  readonly process: ServerProcess
}

/** Milliseconds by which the server's own limit is behind ours: it counts only when this process hangs. */
const serverSlack = 10_000
/** What `statement_timeout` takes at most. */
const longestTimeout = 2 ** 31 - 1

/**
 * Calls a job in its target, behind the fence. Throws `fenced`, `job_locked`, `action_missing`, `job_failed`, `job_timeout`,
 * `cancelled`, `job_outcome_unknown` (after a connection that broke), and what opening a session throws. Whatever it ends
 * with but `job_outcome_unknown`: its server process is gone, or works for nobody.
 */
export async function callJob(call: JobCall, surroundings: CallSurroundings): Promise<CallOutcome> {
  const target = await TargetSession.open(call.applicationName, surroundings)
  const attempt = new CallAttempt(call, surroundings, target)
  let outcome: CallOutcome
  try {
    outcome = await attempt.carryOut()
  } catch (error) {
    await target.close()
    throw error
  }
  // What was done is done, also where its end can't be seen.
  await target.close().catch(() => undefined)
  return outcome
}

/** How a transaction of the call is ended. */
interface Way {
  /** Absent for kind `sql`. */
  readonly action: Action | undefined
  /** One transaction with a row that says so. */
  readonly once: boolean
}

class CallAttempt {
  readonly #call: JobCall
  readonly #surroundings: CallSurroundings
  readonly #target: TargetSession
  readonly #fence: Fence
  readonly #narration: Narration
  readonly #label: string
  #began = 0
  /** What a failure left behind, for people. */
  #left: string | undefined
  /** What keeps the count of the target's own readers. */
  readonly #tally: CallTally

  constructor(call: JobCall, surroundings: CallSurroundings, target: TargetSession) {
    this.#call = call
    this.#surroundings = surroundings
    this.#target = target
    this.#fence = new Fence(target.session, target.process, call)
    const { procSchema: schema, procName: name } = call
    if (name === null) this.#label = 'SQL'
    else this.#label = schema === null ? displayName(name) : displayQualified({ schema, name })
    this.#narration = new Narration(surroundings.reporter, this.#label, surroundings.nextStart)
    this.#tally = new CallTally(surroundings)
  }

  async carryOut(): Promise<CallOutcome> {
    await this.#standBehindFence()
    await this.#tally.start(this.#target.session)
    let way: Way
    try {
      way = await this.#findWay()
    } catch (error) {
      throw await this.#tally.afterFailure(this.#target.session.failure(error))
    }
    const before = way.once ? await effectOf(this.#target.session, this.#call) : undefined
    if (before !== undefined) return this.#outcome(`Attempt ${before} of this run took effect already.`)
    const { client } = this.#target.session
    const onNotice = (notice: { message?: string | undefined }) => this.#narration.hear(notice.message ?? '')
    client.on('notice', onNotice)
    this.#began = performance.now()
    this.#narration.begin()
    try {
      const message = await this.#perform(way)
      const lost = await this.#lostFence()
      const uncounted = await this.#tally.afterSuccess(this.#target.session)
      this.#narration.close()
      const said = [message, lost, uncounted].filter((part) => part !== undefined).join(' ')
      return this.#outcome(said, lost || uncounted ? 'WARNING' : 'OK')
    } catch (error) {
      const failure = this.#target.session.failure(error)
      const { message } = failure
      const isSaid = this.#left === undefined || message.includes(this.#left)
      this.#narration.close(isSaid ? message : `${message}; ${this.#left}`)
      throw await this.#tally.afterFailure(failure)
    } finally {
      client.removeListener('notice', onNotice)
    }
  }

  /** The claim stands before the lock, so that whoever finds the lock taken knows by whom. */
  async #standBehindFence(): Promise<void> {
    const { pid, backendStart } = this.#target.process
    const { claimSession, signal } = this.#surroundings
    const { mine, earlier } = await claimSession(pid, backendStart)
    if (!mine) {
      const message = 'This attempt was given up before it began; it did nothing.'
      throw new Failure('fenced', { message, object: this.#target.session.object })
    }
    crashPoint('call-after-claim')
    await this.#fence.take(earlier, signal)
    crashPoint('call-after-fence')
  }

  async #findWay(): Promise<Way> {
    const { kind, procSchema: schema, procName: name } = this.#call
    if (kind === 'sql') return { action: undefined, once: false }
    // Never as no statements at all, which would be a success.
    if (name === null) throw new Error('A job that is to call something names nothing.')
    const { session } = this.#target
    const routine = { schema, name }
    const path = await schemasOf(session, routine)
    const [candidates, [own]] = await session.queries<[Candidate[], OwnPart[]]>([candidatesOf(routine, path), ownPart])
    const action = chooseAction(session, routine, candidates)
    return { action, once: own !== undefined && !action.mayCommit && (await keepsEffects(session, own)) }
  }

  async #perform(way: Way): Promise<string> {
    const { maxRuntime } = this.#call
    try {
      return await this.#target.perform(() => this.#work(way), maxRuntime)
    } catch (error) {
      return await this.#explain(this.#target.session.failure(error), way)
    }
  }

  async #work(way: Way): Promise<string> {
    const { session } = this.#target
    const { maxRuntime } = this.#call
    const statementTimeout = maxRuntime > 0 ? Math.min(maxRuntime + serverSlack, longestTimeout) : 0
    const { config } = await session.one<{ config: string | null }>(jobSettings({ ...this.#call, statementTimeout }))
    await session.script(asAuthors)
    if (!way.action) return this.#runStatements(this.#call.statements ?? [])
    const statement = callOf(way.action, this.#call.number ?? String(this.#call.jobId), config)
    if (!way.once) {
      this.#target.throwIfStopped()
      await UnreadAnswer.of(session, statement)
      crashPoint('call-after-call')
      return `${this.#label} ended.`
    }
    await session.script('begin')
    // Before the call, whose code may change the role and everything else for what follows it.
    await session.query(recordEffect(this.#call))
    this.#target.throwIfStopped()
    await UnreadAnswer.of(session, statement)
    await this.#tally.within(session)
    this.#target.throwIfStopped()
    crashPoint('call-before-commit')
    await session.script('commit')
    crashPoint('call-after-commit')
    return `${this.#label} ended.`
  }

  async #runStatements(statements: readonly string[]): Promise<string> {
    const { session } = this.#target
    let rows = 0
    for (const [index, text] of statements.entries()) {
      this.#target.throwIfStopped()
      if (statements.length > 1) this.#narration.begin(`statement ${index + 1} of ${statements.length}`)
      const changed = await UnreadAnswer.ofText(session, text)
      rows += changed
      this.#narration.end(`${changed} ${changed === 1 ? 'row' : 'rows'}`)
      crashPoint('call-after-statement')
    }
    if (session.client.getTransactionStatus() !== 'I') {
      const message = 'The statements left a transaction open; it was rolled back.'
      throw new Failure('job_failed', { message, object: session.object, remedy: 'End them with COMMIT.' })
    }
    return `${statements.length === 1 ? 'The statement' : `${statements.length} statements`} ended: ${rows} ${rows === 1 ? 'row' : 'rows'}.`
  }

  /** Throws what the call failed with; resolves where it took effect for all that. */
  async #explain(failure: Failure, way: Way): Promise<string> {
    const lost = isConnectionLoss(failure)
    if (lost) {
      await this.#target.settle().catch((unsettled: unknown) => {
        throw this.#unknown(failure, this.#target.session.failure(unsettled).message)
      })
      if (way.once && (await this.#tookEffect(failure))) {
        return `${this.#label} ended; the connection broke before the answer came, and the database says that it took effect.`
      }
    }
    const whole = way.once || (!lost && way.action?.kind === 'function')
    const left = whole ? 'nothing of it took effect' : 'what it had committed stays'
    this.#left = left
    throw this.#target.stopped || !lost ? this.#failed(failure, left) : this.#broken(failure, way, left)
  }

  #failed(failure: Failure, left: string): Failure {
    const { maxRuntime } = this.#call
    const { object } = this.#target.session
    const late = maxRuntime > 0 && performance.now() - this.#began >= maxRuntime
    if (this.#target.stopped === 'timeout' || (failure.sqlstate === '57014' && late && !this.#target.stopped)) {
      const limit = formatDuration(maxRuntime / 1000)
      const message = `${this.#label} ran longer than its max_runtime of ${limit} and was ended; ${left}.`
      return new Failure('job_timeout', { message, object, sqlstate: failure.sqlstate, cause: failure })
    }
    if (this.#target.stopped || this.#surroundings.signal.aborted) {
      const message = `Cancelled while ${this.#label} ran; ${left}.`
      return new Failure('cancelled', { message, object, sqlstate: failure.sqlstate, cause: failure })
    }
    if (failure.code === 'job_failed' || failure.code === 'internal_error') return failure
    const by =
      failure.sqlstate === '57014' ? ' (cancelled in the database, or by a timeout that the job set itself)' : ''
    const { hint } = (failure.cause ?? {}) as { hint?: string }
    return new Failure('job_failed', {
      message: `${failure.message}${by}${hint ? `; hint: ${forPeople(hint)}` : ''}`,
      object,
      sqlstate: failure.sqlstate,
      retryable: failure.retryable,
      cause: failure,
      ...(failure.code === 'sql_failed' ? { remedy: failure.remedy } : {}),
    })
  }

  /** The server ended the session (and said so), or the connection broke. */
  #broken(failure: Failure, way: Way, left: string): Failure {
    const known = way.once || failure.sqlstate !== undefined
    if (!known) return this.#unknown(failure, 'its session is gone')
    const { object } = this.#target.session
    const message = `The session of ${this.#label} was lost: ${failure.message}; ${left}.`
    return new Failure('job_failed', { message, object, sqlstate: failure.sqlstate, retryable: true, cause: failure })
  }

  #unknown(failure: Failure, why: string): Failure {
    const { object } = this.#target.session
    return new Failure('job_outcome_unknown', {
      message: `The connection to ${object} broke while ${this.#label} ran (${failure.message}); it is not known whether it took effect: ${why}.`,
      object,
      retryable: true,
      cause: failure,
    })
  }

  /** Asked in a new session, once the old one is gone. */
  async #tookEffect(failure: Failure): Promise<boolean> {
    const found = await this.#target
      .ask((session) => effectOf(session, this.#call))
      .catch((unsettled: unknown) => {
        throw this.#unknown(failure, this.#target.session.failure(unsettled).message)
      })
    return found === this.#call.attempt
  }

  /** What to say where the session's lock is no longer ours; undefined: it is. */
  async #lostFence(): Promise<string | undefined> {
    const { session } = this.#target
    try {
      const [, [row]] = await session.queries<[object[], { held: boolean }[]]>([
        // What the job left as search_path decides no name of ours.
        sql`select pg_catalog.set_config('search_path', '', false)`,
        this.#fence.isHeld(),
      ])
      if (row?.held !== false) return undefined
      return 'It gave up its session’s advisory locks (pg_advisory_unlock_all), and so the lock that keeps two attempts apart.'
    } catch (error) {
      const failure = session.failure(error)
      // Held until its session is gone, which is waited for.
      if (this.#target.stopped || isConnectionLoss(failure)) return undefined
      return `Its lock could not be looked at afterwards: ${failure.message}`
    }
  }

  #outcome(message: string, level: Level = 'OK'): CallOutcome {
    const { asked } = this.#narration
    const worst = asked.level === 'OK' ? level : asked.level
    const said = asked.message && asked.level !== 'OK' ? `${asked.message} · ${message}` : message
    return { level: worst, message: said, process: this.#target.process }
  }
}
