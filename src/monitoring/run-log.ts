import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { type Sql, sql } from '../postgres/sql.ts'

/** A step's or run's level: 1, 2, 3 in pg_jobmon's counting. */
export type Level = 'OK' | 'WARNING' | 'CRITICAL'

export interface Outcome {
  readonly level: Level
  readonly reason: string | null
  readonly message: string
  readonly rows: number
  readonly bytes: number
}

export interface StepFigures {
  readonly rows: number
  readonly bytes: number
  readonly totalRows?: number | undefined
}

export interface LiveStep {
  readonly action: string
  readonly figures: StepFigures | undefined
}

/** Milliseconds for which a control database that is away is waited for when a run has ended. */
const controlPatience = 60_000
/** Milliseconds within which each of our short statements is answered, or the connection is as good as lost. */
const answerWithin = 10_000

/**
 * The record of one run: its attempt, its steps, its end, written to the control database outside of the run's own
 * transactions, so that it survives their rollback. Writes are queued: a control database that is away holds no copy up,
 * however long it takes; what it missed is written when it is back. The session of this record is the attempt's life: when
 * it is lost and the process with it, everybody sees that the run is over.
 */
export class RunLog {
  readonly runId: string
  readonly token: string
  readonly #attemptId: string
  readonly #control: Control
  readonly #listener: ((step: LiveStep) => void) | undefined
  #session: Session
  #queue: Promise<void> = Promise.resolve()
  #ordinal = 0
  #open: { ordinal: number; action: string } | undefined
  #figures: { ordinal: number; latest: StepFigures } | undefined
  #accepting = true
  /** When a control database that is away is given up; not before the run's work is done. */
  #deadline = Number.POSITIVE_INFINITY

  private constructor(
    control: Control,
    session: Session,
    ids: { run_id: string; attempt_id: string; token: string },
    listener: ((step: LiveStep) => void) | undefined,
  ) {
    this.#control = control
    this.#session = this.#adopt(session)
    this.runId = ids.run_id
    this.#attemptId = ids.attempt_id
    this.token = ids.token
    this.#listener = listener
  }

  /**
   * Begins a run that somebody asked for. `register` may make the job in the same transaction, so that nobody ever sees a
   * new job without the run that sets it up. `listener` hears of steps and progress in this process.
   */
  static async begin(
    control: Control,
    run: {
      database: string
      operation: 'setup' | 'refresh' | 'remove'
      object: string
      site: string | null
      worker: string
      host: string
    },
    register: (session: Session) => Promise<number>,
    listener?: (step: LiveStep) => void,
  ): Promise<RunLog> {
    const session = await control.open(`run ${run.object}`)
    try {
      await session.script('begin')
      const jobId = await register(session)
      const ids = await session.one<{ run_id: string; attempt_id: string; token: string }>(sql`
        select * from yardmaster.begin_run(${jobId}, yardmaster.database_id_of(${run.database}), ${run.operation},
          ${run.object}, ${run.site}::text, ${run.worker}, ${run.host})`)
      await session.script('commit')
      return new RunLog(control, session, ids, listener)
    } catch (error) {
      await session.end()
      throw error
    }
  }

  /** Opens a step. One that is still open ends first: its body was tried again. */
  step(action: string) {
    if (this.#open) this.#end(this.#open.ordinal, 'OK', 'tried again')
    this.#ordinal += 1
    const ordinal = this.#ordinal
    this.#open = { ordinal, action }
    this.#write(sql`
      insert into yardmaster.step (attempt_id, ordinal, action, status, started_at)
      values (${this.#attemptId}, ${ordinal}, ${action}, 'RUNNING', ${new Date().toISOString()})
      on conflict (attempt_id, ordinal) do nothing`)
    this.#listener?.({ action, figures: undefined })
    return {
      progress: (figures: StepFigures) => {
        this.#listener?.({ action, figures })
        this.#progress(ordinal, figures)
      },
      done: (message?: string, level: Level = 'OK') => {
        if (this.#open?.ordinal !== ordinal) return
        this.#end(ordinal, level, message)
      },
    }
  }

  /** Ends the run. Waits for a control database that is away, at most a minute. False when another attempt replaced this one. */
  async finish(outcome: Outcome): Promise<boolean> {
    if (this.#open) this.#end(this.#open.ordinal, outcome.level, outcome.level === 'OK' ? undefined : outcome.message)
    let mine = false
    this.#enqueue(async () => {
      const row = await this.#session.one<{ mine: boolean }>(sql`
        select yardmaster.finish_run(${this.token}, ${outcome.level}, ${outcome.reason}::text, ${outcome.message},
          ${outcome.rows}, ${outcome.bytes}) as mine`)
      mine = row.mine
    })
    this.#accepting = false
    this.#deadline = Date.now() + controlPatience
    try {
      await this.#queue
    } finally {
      await this.#session.end()
    }
    return mine
  }

  #end(ordinal: number, level: Level, message: string | undefined): void {
    this.#open = undefined
    this.#write(sql`
      update yardmaster.step set status = ${level}, finished_at = ${new Date().toISOString()}, message = ${message ?? null}::text
      where attempt_id = ${this.#attemptId} and ordinal = ${ordinal} and status = 'RUNNING'`)
  }

  /** Only the latest figures are kept while the control database is away. */
  #progress(ordinal: number, latest: StepFigures): void {
    if (this.#figures?.ordinal === ordinal) {
      this.#figures.latest = latest
      return
    }
    const figures = { ordinal, latest }
    this.#figures = figures
    this.#enqueue(async () => {
      if (this.#figures === figures) this.#figures = undefined
      await this.#session.query(sql`
        update yardmaster.step set rows = ${figures.latest.rows}, bytes = ${figures.latest.bytes}
        where attempt_id = ${this.#attemptId} and ordinal = ${ordinal} and status = 'RUNNING'`)
    })
  }

  #write(statement: Sql): void {
    this.#enqueue(async () => {
      await this.#session.query(statement)
    })
  }

  #enqueue(work: () => Promise<void>): void {
    if (!this.#accepting) return
    this.#queue = this.#queue.then(() => this.#persist(work))
    // Whoever ends the run hears of it; until then a failed write must not end the process.
    this.#queue.catch(() => undefined)
  }

  async #persist(work: () => Promise<void>): Promise<void> {
    for (let pause = 200; ; pause = Math.min(pause * 2, 2000)) {
      try {
        if (this.#session.isEnded) await this.#reconnect()
        await this.#answered(work)
        return
      } catch (error) {
        const failure = this.#session.failure(error)
        if (!failure.retryable || Date.now() > this.#deadline) throw failure
        await this.#session.end()
        await new Promise((resolve) => setTimeout(resolve, pause))
      }
    }
  }

  /** A connection that is open and dead gives no answer at all: after a while it is cut, and fails as a lost one does. */
  async #answered(work: () => Promise<void>): Promise<void> {
    const session = this.#session
    const timer = setTimeout(() => session.destroy(), answerWithin)
    try {
      await work()
    } finally {
      clearTimeout(timer)
    }
  }

  /** A new session takes the place of the lost one as the attempt's life, if no other attempt took this one's place. */
  async #reconnect(): Promise<void> {
    const session = await this.#control.open(`run ${this.runId}`)
    this.#session = this.#adopt(session)
    await this.#answered(async () => {
      await session.query(sql`select yardmaster.resume_attempt(${this.token})`)
    })
  }

  /** A session that is lost is replaced at once, not only when there is something to write. */
  #adopt(session: Session): Session {
    session.client.once('end', () => {
      if (session !== this.#session) return
      this.#enqueue(async () => {
        if (session === this.#session) await session.query(sql`select 1`)
      })
    })
    return session
  }
}

export interface RunRow {
  id: string
  job_id: number
  operation: string
  kind: string
  object: string
  site: string | null
  status: string
  reason: string | null
  started_at: Date | null
  finished_at: Date | null
  rows: string | null
  bytes: string | null
  message: string | null
  worker: string | null
  host: string | null
  attempt: number | null
  attempt_id: string | null
}

export interface StepRow {
  action: string
  status: string
  started_at: Date
  elapsed_seconds: number
  rows: string | null
  bytes: string | null
  message: string | null
}

/** Ends the runs whose worker died. Everybody who reads or starts runs calls it first. */
export async function markLostAttempts(control: Control): Promise<void> {
  await control.session.query(sql`select yardmaster.mark_lost_attempts()`)
}

const runColumns = sql`id, job_id, operation, kind, object, site, status, reason, started_at, finished_at, rows, bytes, message,
  worker, host, attempt, attempt_id`

/** The run of a job that a living worker carries out now. */
export async function runningRun(control: Control, jobId: number): Promise<RunRow | undefined> {
  return control.session.first<RunRow>(sql`
    select ${runColumns} from yardmaster.runs where job_id = ${jobId} and status = 'RUNNING' order by id desc limit 1`)
}

/** Newest first. */
export async function listRuns(
  control: Control,
  filter: { jobId?: number | undefined; status?: string | undefined; limit: number },
): Promise<RunRow[]> {
  return control.session.query<RunRow>(sql`
    select ${runColumns} from yardmaster.runs
    where (${filter.jobId ?? null}::int is null or job_id = ${filter.jobId ?? null}::int)
      and (${filter.status ?? null}::text is null or status = ${filter.status ?? null}::text)
    order by id desc limit ${filter.limit}`)
}

/** The newest run of each of these jobs. */
export async function lastRuns(control: Control, jobIds: readonly number[]): Promise<Map<number, RunRow>> {
  const rows = await control.session.query<RunRow>(sql`
    select r.* from unnest(${[...jobIds]}::int[]) as j(id)
    cross join lateral (select ${runColumns} from yardmaster.runs where job_id = j.id order by id desc limit 1) r`)
  return new Map(rows.map((row) => [row.job_id, row]))
}

/** When the newest copy that took effect began, by job. */
export async function lastSuccess(control: Control, jobIds: readonly number[]): Promise<Map<number, number>> {
  const rows = await control.session.query<{ job_id: number; age: number }>(sql`
    select j.id as job_id, extract(epoch from clock_timestamp() - r.started_at)::float8 as age
    from unnest(${[...jobIds]}::int[]) as j(id)
    cross join lateral (select started_at from yardmaster.run where job_id = j.id and status = 'OK' and operation <> 'remove'
      order by id desc limit 1) r`)
  return new Map(rows.map((row) => [row.job_id, row.age]))
}

/** Throws `run_unknown`. */
export async function getRun(control: Control, id: string): Promise<RunRow> {
  const row = /^\d{1,18}$/.test(id)
    ? await control.session.first<RunRow>(sql`select ${runColumns} from yardmaster.runs where id = ${id}::bigint`)
    : undefined
  if (row) return row
  throw new Failure('run_unknown', { message: `There is no run ${printable(id)}.`, object: printable(id) })
}

/** The steps of the run's newest attempt. */
export async function listSteps(control: Control, run: RunRow): Promise<StepRow[]> {
  return control.session.query<StepRow>(sql`
    select action, status, started_at, elapsed_seconds, rows, bytes, message from yardmaster.steps
    where attempt_id = ${run.attempt_id} order by ordinal`)
}
