import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** A row of the view `job_history`: a run that has begun. */
export interface HistoryRow {
  readonly id: string
  readonly job_id: number
  readonly succeeded: boolean | null
  readonly proc_schema: string | null
  readonly proc_name: string | null
  readonly pid: number | null
  readonly start_time: Date
  readonly finish_time: Date | null
  readonly config: unknown
  readonly sqlerrcode: string | null
  readonly err_message: string | null
  readonly database: string | null
  readonly status: string
  readonly reason: string | null
  readonly message: string | null
  readonly slot: Date
  readonly attempt: number | null
  readonly host: string | null
  readonly requested: boolean
}

/** Newest first. */
export async function jobHistory(control: Control, jobId: number, limit: number): Promise<HistoryRow[]> {
  return control.session.query<HistoryRow>(
    sql`select * from yardmaster.job_history where job_id = ${jobId} order by id desc limit ${limit}`,
  )
}

/** A row of the view `job_errors`: a run that failed. */
export interface ErrorRow {
  readonly job_id: number
  readonly proc_schema: string | null
  readonly proc_name: string | null
  readonly pid: number | null
  readonly start_time: Date
  readonly finish_time: Date | null
  readonly sqlerrcode: string | null
  readonly err_message: string | null
  readonly run_id: string
  readonly database: string | null
  readonly reason: string | null
  readonly attempt: number | null
}

/** Newest first. */
export async function jobErrors(control: Control, limit: number): Promise<ErrorRow[]> {
  return control.session.query<ErrorRow>(sql`select * from yardmaster.job_errors order by run_id desc limit ${limit}`)
}

/** A row of the view `job_stats`: how a job stands in one of its databases. */
export interface JobStats {
  readonly hypertable_schema: null
  readonly hypertable_name: null
  readonly job_id: number
  readonly last_run_started_at: Date | null
  readonly last_successful_finish: Date | null
  readonly last_run_status: 'Success' | 'Failed' | null
  readonly job_status: 'Running' | 'Paused' | 'Scheduled'
  readonly last_run_duration: string | null
  readonly next_start: Date | number | null
  readonly total_runs: string
  readonly total_successes: string
  readonly total_failures: string
  readonly database: string | null
  readonly consecutive_failures: number
  readonly last_level: 'OK' | 'WARNING' | 'CRITICAL' | null
  readonly last_run_finished_at: Date | null
  readonly paused_at: Date | null
}

/** Of one job, or of all. */
export async function jobStats(control: Control, jobId: number | null): Promise<JobStats[]> {
  return control.session.query<JobStats>(sql`
    select hypertable_schema, hypertable_name, job_id, last_run_started_at, last_successful_finish, last_run_status, job_status,
      last_run_duration::text, next_start, total_runs, total_successes, total_failures, database, consecutive_failures, last_level,
      last_run_finished_at, paused_at
    from yardmaster.job_stats where ${jobId}::int is null or job_id = ${jobId}::int order by job_id, database`)
}

/** Slots that no run was made for, and why. */
export interface SkippedRange {
  readonly database: string | null
  readonly first_slot: Date
  readonly last_slot: Date
  readonly slots: string
  readonly reason: 'overlap' | 'missed' | 'retry'
}

/** Of the last day, newest first, at most 20. */
export async function slotsSkipped(control: Control, jobId: number): Promise<SkippedRange[]> {
  return control.session.query<SkippedRange>(sql`
    select database, first_slot, last_slot, slots, reason from yardmaster.slots_skipped
    where job_id = ${jobId} and last_slot > clock_timestamp() - interval '1 day' order by last_slot desc, id desc limit 20`)
}

/** Numbers of the jobs that start after one. */
export async function dependentsOf(control: Control, jobId: number): Promise<number[]> {
  const rows = await control.session.query<{ job_id: number }>(
    sql`select job_id from yardmaster.jobs where after && array[${jobId}::text, ${jobId} || ':done'] order by job_id`,
  )
  return rows.map((row) => row.job_id)
}

/** Runs of a job. */
export interface RunCounts {
  readonly ended: number
  readonly running: number
  readonly waiting: number
}

export async function runCounts(control: Control, jobId: number): Promise<RunCounts> {
  return control.session.one<RunCounts>(sql`
    select count(*) filter (where status not in ('WAITING', 'RUNNING'))::int as ended,
      count(*) filter (where status = 'RUNNING')::int as running, count(*) filter (where status = 'WAITING')::int as waiting
    from yardmaster.run where job_id = ${jobId}`)
}

/** The oldest run of a job that waits. */
export async function oldestWaiting(control: Control, jobId: number): Promise<string | undefined> {
  const row = await control.session.first<{ id: string }>(
    sql`select id from yardmaster.run where job_id = ${jobId} and status = 'WAITING' order by due_at, id limit 1`,
  )
  return row?.id
}
