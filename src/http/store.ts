import type { Control } from '../control/control.ts'
import { listSteps, type RunRow, type StepRow } from '../monitoring/run-history.ts'
import { sql } from '../postgres/sql.ts'

/** What the runs of one job came to, and when it is run next. */
export interface JobHistory {
  readonly job_id: number
  /** The newest run that has ended. */
  readonly id: string | null
  readonly status: string | null
  readonly reason: string | null
  readonly finished_at: Date | null
  readonly message: string | null
  /** Rows and bytes of the newest run that copied something. */
  readonly rows: string | null
  readonly bytes: string | null
  /** Seconds by which the copy is behind its source by now; null: not known. */
  readonly lag_seconds: number | null
  /** Late is what is further behind. */
  readonly late_after_seconds: number | null
  /** How far an incremental copy goes, in its column's text. */
  readonly position: string | null
  readonly next_start: Date | null
  readonly paused_by: string | null
  readonly pause_note: string | null
}

/** A process that takes runs, or did so until it was lost. */
export interface WorkerRow {
  readonly id: string
  readonly name: string
  readonly host: string
  readonly slots: number
  readonly running: number
  readonly started_at: Date
  readonly last_beat: Date
  readonly alive: boolean
  /** When it was given up; null while it may still come back. */
  readonly lost_at: Date | null
}

/** A run that waits for a worker. */
export interface WaitingRow {
  readonly id: string
  readonly job_id: number
  readonly operation: string
  readonly object: string
  readonly slot: Date
  /** `worker_lost`, `retry`; null at its first try. */
  readonly reason: string | null
  readonly site: string | null
  /** What it waits for, as a code and in a sentence. */
  readonly code: string | null
  readonly why: string | null
  /** How many wait. */
  readonly count: number
}

/** By job. */
export async function jobHistories(control: Control): Promise<ReadonlyMap<number, JobHistory>> {
  const rows = await control.session.query<JobHistory>(sql`
    select j.job_id, ended.id, ended.status, ended.reason, ended.finished_at, ended.message, copied.rows, copied.bytes,
      extract(epoch from clock_timestamp() - j.as_of)::float8 as lag_seconds,
      extract(epoch from j.late_after)::float8 as late_after_seconds, j.position, j.next_start, j.paused_by, j.pause_note
    from yardmaster.replications j
    left join lateral (
      select * from yardmaster.runs r where r.job_id = j.job_id and r.status in ('OK', 'WARNING', 'CRITICAL')
      order by r.id desc limit 1) ended on true
    left join lateral (
      select r.rows, r.bytes from yardmaster.runs r
      where r.job_id = j.job_id and r.status in ('OK', 'WARNING') and r.reason is null and r.operation <> 'remove'
      order by r.id desc limit 1) copied on true`)
  return new Map(rows.map((row) => [row.job_id, row]))
}

/** Those that run, however old, and those that have ended, `limit` at most; newest first. */
export async function recentRuns(control: Control, limit: number): Promise<RunRow[]> {
  return control.session.query<RunRow>(sql`
    (select * from yardmaster.runs where status = 'RUNNING')
    union all
    (select * from yardmaster.runs where status in ('OK', 'WARNING', 'CRITICAL') order by id desc limit ${limit}::int)
    order by id desc`)
}

/** The first ones, in the order in which they will be taken. */
export async function waitingRuns(control: Control, limit: number): Promise<WaitingRow[]> {
  return control.session.query<WaitingRow>(sql`
    select r.id, r.job_id, r.operation, r.object, r.slot, r.reason, r.site, w.code, w.why, r.count
    from (select *, count(*) over ()::int as count from yardmaster.runs where status = 'WAITING' order by slot, id
      limit ${limit}::int) r
    left join lateral yardmaster.why_waiting(r.id) w on true order by r.slot, r.id`)
}

/** The control server's clock, and whether somebody carries out what is due. */
export async function lookAround(control: Control): Promise<{ at: Date; staffed: boolean }> {
  return control.session.one<{ at: Date; staffed: boolean }>(
    sql`select clock_timestamp() as at, yardmaster.is_staffed() as staffed`,
  )
}

/** Workers that take runs: those that are there, and those that were lost within the hour. Commands are none. */
export async function listWorkers(control: Control): Promise<WorkerRow[]> {
  return control.session.query<WorkerRow>(sql`
    select id, name, host, slots, running::int, started_at, lease_until - yardmaster.lease_length() as last_beat, alive,
      case when end_reason = 'lost' then ended_at end as lost_at
    from yardmaster.workers
    where slots > 0 and (ended_at is null or end_reason = 'lost' and ended_at > clock_timestamp() - interval '1 hour')
    order by alive desc, host, id`)
}

/** Steps of runs, kept once a run has ended: what is over does not change. */
export class StepReader {
  readonly #ended = new Map<string, readonly StepRow[]>()

  /** Of these runs, by run. Forgets all others. */
  async read(control: Control, runs: readonly RunRow[]): Promise<ReadonlyMap<string, readonly StepRow[]>> {
    const steps = new Map<string, readonly StepRow[]>()
    for (const run of runs) steps.set(run.id, this.#ended.get(run.id) ?? (await listSteps(control, run)))
    this.#ended.clear()
    for (const run of runs) if (run.status !== 'RUNNING') this.#ended.set(run.id, steps.get(run.id) ?? [])
    return steps
  }
}
