import { crashPoint } from '../base/crash-point.ts'
import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, printable, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { isConnectionLoss, toFailure } from '../postgres/sqlstate.ts'
import { callOf } from './hdbpp-call.ts'
import type { HdbppDeployment } from './hdbpp-file.ts'
import type { HdbppLog } from './hdbpp-log.ts'
import { holderOf, holdPassLock, openHdbpp, toOurSettings, toUserSettings } from './hdbpp-session.ts'
import {
  createMissingTables,
  type HdbppJob,
  type HdbppOutcome,
  type HdbppTables,
  readJobs,
  requireTables,
  serverTime,
  writeStats,
} from './hdbpp-tables.ts'

export interface HdbppPlace {
  readonly log: HdbppLog
  readonly signal: AbortSignal
  readonly passwordFile: string | undefined
  /** Milliseconds for which a row of the stats is waited for while jobs wait, and once none does. Default 5000 and 60,000. */
  readonly statsPatience?: { readonly between: number; readonly last: number }
}

/** One job of a pass. */
interface HdbppJobRun {
  readonly job_id: string
  readonly proc_name: string | null
  readonly ok: boolean
  readonly seconds: number
  readonly message: string
}

/** What became of one deployment. */
export interface HdbppPassResult {
  readonly deployment: string
  readonly jobs: readonly HdbppJobRun[]
  /** Why its jobs, or some of them, were not run or not counted. */
  readonly error: Failure | null
}

/** Longer than a server needs to notice that the process before has died: two seconds, or a dead network's fifteen. */
const lockPatience = { first: 5000, again: 30_000 }

/** Makes the tables where they are absent; gives what was done. */
export async function initHdbpp(deployment: HdbppDeployment, place: HdbppPlace): Promise<string[]> {
  const { session, close } = await openHdbpp(deployment, place)
  try {
    await holdPassLock(session, lockPatience.first)
    return await createMissingTables(session)
  } finally {
    await close()
  }
}

/** Runs all jobs of one deployment, one after the other. Never rejects. */
export async function runHdbpp(deployment: HdbppDeployment, place: HdbppPlace): Promise<HdbppPassResult> {
  const pass = new HdbppPass(deployment, place)
  try {
    await pass.run()
  } catch (error) {
    pass.fail(error)
  } finally {
    await pass.close()
  }
  return pass.result()
}

class HdbppPass {
  readonly #deployment: HdbppDeployment
  readonly #place: HdbppPlace
  readonly #runs: HdbppJobRun[] = []
  #error: Failure | null = null
  #open: Awaited<ReturnType<typeof openHdbpp>> | undefined
  #tables: HdbppTables | undefined
  /** Outcomes that wait for a row that somebody holds. */
  #unwritten: HdbppOutcome[] = []

  constructor(deployment: HdbppDeployment, place: HdbppPlace) {
    this.#deployment = deployment
    this.#place = place
  }

  async run(): Promise<void> {
    const { log, signal } = this.#place
    const { host, port, database } = this.#deployment.connection
    log.say('debug', `${this.#deployment.name}: connects to ${database} at ${host}:${port}.`)
    this.#open = await openHdbpp(this.#deployment, this.#place)
    const { session } = this.#open
    this.#tables = await requireTables(session)
    await holdPassLock(session, lockPatience.first)
    const jobs = await readJobs(session, this.#tables)
    log.say('info', `${this.#deployment.name}: ${jobs.length === 1 ? '1 job' : `${jobs.length} jobs`} to run.`)
    for (const [index, job] of jobs.entries()) {
      if (signal.aborted) throw this.#stopped(jobs.length - index)
      await this.#run(job)
    }
    if (signal.aborted) throw this.#stopped(0)
    await this.#writeRest()
  }

  fail(error: unknown): void {
    const failure = this.#withGrants(toFailure(error, { side: 'database', object: this.#deployment.name }))
    this.#error ??= failure
    this.#place.log.say(
      'error',
      `${this.#deployment.name}: [${failure.code}] ${failure.message} Remedy: ${failure.remedy}`,
    )
    const uncounted = this.#unwritten.map((outcome) => outcome.job_id)
    if (uncounted.length > 0)
      this.#place.log.say('error', `${this.#deployment.name}: not counted in the stats: job ${uncounted.join(', ')}.`)
  }

  #withGrants(failure: Failure): Failure {
    if (failure.code !== 'permission_denied' || !this.#tables) return failure
    const { jobs, stats } = this.#tables
    const role = quoteIdentifier(this.#deployment.connection.user)
    const remedy = `As their owner: GRANT SELECT ON ${quoteQualified(jobs)} TO ${role}; GRANT SELECT, INSERT, UPDATE ON ${quoteQualified(stats)} TO ${role};`
    const { message, object, cause, sqlstate } = failure
    return new Failure('permission_denied', { message, object: object ?? undefined, cause, sqlstate, remedy })
  }

  async close(): Promise<void> {
    await this.#open?.close()
  }

  result(): HdbppPassResult {
    return { deployment: this.#deployment.name, jobs: this.#runs, error: this.#error }
  }

  get #session(): Session {
    if (!this.#open) throw new Failure('internal_error', { message: 'A pass was used before it began.' })
    return this.#open.session
  }

  #stopped(left: number): Failure {
    const rest = left === 0 ? '' : `; ${left === 1 ? 'the last job was' : `${left} jobs were`} not run`
    return new Failure('cancelled', { message: `Stopped${rest}.`, object: this.#deployment.name })
  }

  async #run(job: HdbppJob): Promise<void> {
    // A procedure may have given it up; and the server process of a lost connection has it until it notices that it works for
    // nobody: no job is started beside that one.
    await holdPassLock(this.#session, lockPatience.again)
    const startedAt = await serverTime(this.#session)
    const began = performance.now()
    const failure = await this.#call(job)
    const seconds = (performance.now() - began) / 1000
    const ok = failure === undefined
    const message = failure?.message ?? 'done'
    this.#runs.push({ ...pick(job), ok, seconds, message })
    const words = `${this.#deployment.name}: job ${job.job_id} (${printable(job.proc_name ?? 'NULL')})`
    if (ok) this.#place.log.say('info', `${words} is done (${formatDuration(seconds)}).`)
    else this.#place.log.say('error', `${words} failed: [${failure.code}] ${message}`)
    const outcome = { job_id: job.job_id, startedAt, seconds, ok }
    this.#unwritten.push(outcome)
    await this.#afresh()
    crashPoint('postprocess-after-call')
    await this.#write(outcome, this.#place.statsPatience?.between ?? 5000)
    crashPoint('postprocess-after-stats')
  }

  /** In autocommit, with the user's own settings: a COMMIT inside is the procedure's business. */
  async #call(job: HdbppJob): Promise<Failure | undefined> {
    const { log, signal } = this.#place
    const session = this.#session
    const cancel = () => void session.cancel()
    try {
      const call = callOf(job)
      log.say('debug', `${this.#deployment.name}: ${call.text}`)
      await toUserSettings(session)
      signal.addEventListener('abort', cancel, { once: true })
      crashPoint('postprocess-before-call')
      await session.query(call)
      return undefined
    } catch (error) {
      return session.failure(error)
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  /** A session for what follows: the same one, or another in its place when it is lost, or a request to cancel is under way. */
  async #afresh(): Promise<void> {
    if (!this.#place.signal.aborted) {
      try {
        await toOurSettings(this.#session)
        return
      } catch (error) {
        if (!isConnectionLoss(this.#session.failure(error))) throw error
      }
    }
    await this.#open?.close()
    const { passwordFile } = this.#place
    this.#open = await openHdbpp(this.#deployment, { passwordFile })
  }

  async #write(outcome: HdbppOutcome, patience: number): Promise<void> {
    if (!this.#tables) return
    const { log } = this.#place
    const { name } = this.#deployment
    try {
      await writeStats(this.#session, this.#tables, outcome, patience)
    } catch (error) {
      const failure = this.#session.failure(error)
      if (isConnectionLoss(failure)) throw failure
      if (failure.code === 'lock_timeout') {
        const holder = await holderOf(this.#session, this.#tables.stats)
        const by = holder === undefined ? '' : ` by ${holder}`
        const table = displayQualified(this.#tables.stats)
        log.say(
          'warn',
          `${name}: the row of job ${outcome.job_id} in ${table} is locked${by}; it is written when the others are done.`,
        )
        return
      }
      log.say(
        'error',
        `${name}: the stats of job ${outcome.job_id} were not written: [${failure.code}] ${failure.message}`,
      )
      this.#error ??= failure
    }
    this.#unwritten = this.#unwritten.filter((one) => one !== outcome)
  }

  async #writeRest(): Promise<void> {
    for (const outcome of [...this.#unwritten]) await this.#write(outcome, this.#place.statsPatience?.last ?? 60_000)
    if (this.#unwritten.length === 0) return
    throw new Failure('lock_timeout', {
      message: `Somebody holds rows of the stats${this.#tables ? ` (${displayQualified(this.#tables.stats)})` : ''} for too long; the jobs were run, but not counted.`,
      object: this.#deployment.name,
      remedy: 'End the transaction that is named above, then look at the stats; the next run counts again.',
    })
  }
}

function pick({ job_id, proc_name }: HdbppJob) {
  return { job_id, proc_name }
}
