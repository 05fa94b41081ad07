import { setTimeout as delay } from 'node:timers/promises'
import type { Failure } from '../base/failure.ts'
import { connectionParts } from '../control/databases.ts'
import { checkAction } from '../jobs/action.ts'
import { connect } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import type { Workplace } from './workplace.ts'

/** Milliseconds between two looks for jobs, however often the worker is woken. */
const lookApart = 250
/** Jobs that are read at once. */
const page = 100
/** Jobs that are looked at side by side: a database that hangs holds up only some of them. */
const width = 8
/** Milliseconds that a job's check has on its server; then it refuses the configuration. */
const checkTimeout = 10_000
/** Milliseconds within which a database answers, or its session counts as dead. */
const answerWithin = 20_000
/** Milliseconds for which a database that did not let us in is not asked again; its gate makes that longer. */
const awayFor = 2000

/** What is wrong with the job, not with the way to its database. */
const verdicts: readonly string[] = ['action_missing', 'config_refused']

interface UnverifiedJob {
  readonly job_id: number
  readonly version: number
  readonly proc_schema: string | null
  readonly proc_name: string
  readonly check_schema: string | null
  readonly check_name: string | null
  /** jsonb as text. */
  readonly config: string | null
  readonly databases: readonly string[]
}

/**
 * Looks whether the databases of jobs that were added in SQL have what these call, and asks their checks. A job that is fine
 * becomes active; one that is not is paused, with what is wrong as its note. Any worker does so, and two at once are harmless:
 * the verdict is written only while the job is as it was read. A database that is away is asked again, as its gate allows; a job
 * that runs in several starts when one of them was fine and none refused, and in the others each run looks for itself.
 */
export class JobVerification {
  readonly #place: Pick<Workplace, 'control' | 'environment' | 'sessions'>
  readonly #say: (line: string) => void
  readonly #stopped = new AbortController()
  readonly #busy = new Map<number, Promise<void>>()
  /** Databases that did not let us in, and until when they are left alone. */
  readonly #away = new Map<string, number>()
  #looking: Promise<void> | undefined
  #again = false

  constructor(place: Pick<Workplace, 'control' | 'environment' | 'sessions'>, say?: (line: string) => void) {
    this.#place = place
    this.#say = say ?? (() => undefined)
  }

  /** Looks for jobs, now or in a moment; holds nobody up. */
  look(): void {
    if (this.#stopped.signal.aborted) return
    this.#again = true
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
      if (this.#again) this.look()
    })
  }

  /** Breaks off what is being looked at: nothing of it was written. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#looking
    await Promise.all(this.#busy.values())
  }

  /** Looks at each of them once, and waits for what is found. A database that is away does not hold it up for long. */
  async pass(): Promise<void> {
    await this.#beginAll()
    await Promise.all(this.#busy.values())
  }

  async #look(): Promise<void> {
    this.#again = false
    await this.#beginAll()
    await delay(lookApart, undefined, { signal: this.#stopped.signal }).catch(() => undefined)
  }

  async #beginAll(): Promise<void> {
    try {
      let jobs: UnverifiedJob[]
      let after = 0
      do {
        jobs = await this.#unverified(after)
        for (const job of jobs) await this.#begin(job)
        after = jobs.at(-1)?.job_id ?? after
      } while (jobs.length === page && !this.#stopped.signal.aborted)
    } catch {
      // The control database is away: the worker says so, and looks again.
    }
  }

  async #unverified(after: number): Promise<UnverifiedJob[]> {
    return this.#place.control.perform(
      (session) =>
        session.query<UnverifiedJob>(sql`
          select job_id, version, proc_schema, proc_name, check_schema, check_name, config::text, databases
          from yardmaster.unverified_jobs(${page}, ${after})`),
      0,
    )
  }

  async #begin(job: UnverifiedJob): Promise<void> {
    if (this.#busy.has(job.job_id) || job.databases.every((database) => this.#isAway(database))) return
    if (this.#busy.size >= width) await Promise.race(this.#busy.values())
    if (this.#stopped.signal.aborted) return
    const looking = this.#verify(job)
      // Not written: the next look finds it again.
      .catch(() => undefined)
      .finally(() => this.#busy.delete(job.job_id))
    this.#busy.set(job.job_id, looking)
  }

  #isAway(database: string): boolean {
    return (this.#away.get(database) ?? 0) > performance.now()
  }

  async #verify(job: UnverifiedJob): Promise<void> {
    const schemas: string[] = []
    for (const database of job.databases) {
      const found = await this.#lookInto(database, job)
      if (found === undefined) continue
      if (typeof found !== 'string') return this.#settle(job, null, found)
      schemas.push(found)
    }
    if (schemas.length === 0) return
    // Where it is not the same everywhere, each run finds it.
    const same = schemas.length === job.databases.length && new Set(schemas).size === 1
    await this.#settle(job, same ? (schemas[0] ?? null) : null, null)
  }

  /** The schema of what the job calls, what is wrong with it, or undefined where the database can't be asked. */
  async #lookInto(database: string, job: UnverifiedJob): Promise<string | Failure | undefined> {
    if (this.#isAway(database)) return undefined
    try {
      const schema = await this.#check(database, job)
      this.#away.delete(database)
      return schema
    } catch (error) {
      const failure = toFailure(error, { side: 'database', object: database })
      if (verdicts.includes(failure.code)) return failure
      if (this.#stopped.signal.aborted) return undefined
      if (!this.#away.has(database)) {
        this.#say(`Jobs wait until ${printable(database)} can be looked into: ${printable(failure.message)}`)
      }
      this.#away.set(database, performance.now() + awayFor)
      return undefined
    }
  }

  async #check(database: string, job: UnverifiedJob): Promise<string> {
    const { control, environment, sessions } = this.#place
    const parts = await connectionParts(control, database, environment)
    const { signal } = this.#stopped
    const options = { side: 'database' as const, purpose: 'look into a job', object: database, signal }
    const session = await (sessions ? sessions.open(parts, options) : connect(parts, options))
    const breakOff = () => session.destroy()
    signal.addEventListener('abort', breakOff)
    const timer = setTimeout(breakOff, answerWithin)
    try {
      await session.query(sql`select set_config('statement_timeout', ${String(checkTimeout)}, false)`)
      const { schema } = await checkAction(session, {
        action: { schema: job.proc_schema, name: job.proc_name },
        check: job.check_name === null ? null : { schema: job.check_schema, name: job.check_name },
        config: job.config,
      })
      return schema
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', breakOff)
      await session.end()
    }
  }

  async #settle({ job_id, version }: UnverifiedJob, schema: string | null, fault: Failure | null): Promise<void> {
    const note = fault && printable(`${fault.message}${/[.!?]$/.test(fault.message) ? '' : '.'} ${fault.remedy}`)
    await this.#place.control.perform(
      (session) =>
        session.query(
          sql`select yardmaster.settle_verification(${job_id}, ${version}, ${schema}::text, ${note}::text)`,
        ),
      0,
    )
    if (note !== null) this.#say(`Job ${job_id} is paused: ${note}`)
  }
}
