import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

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
  /** When it was due, or asked for. */
  slot: Date
  /** The rule's code by which its host got it; null where a command ran it itself. */
  placement: string | null
}

/** One thing that must be so before a run starts. */
export interface WaitingCheck {
  readonly check: 'scheduled' | 'due' | 'dependency' | 'overlap' | 'limit' | 'host' | 'slot'
  readonly ok: boolean
  readonly code: string
  readonly why: string
}

export interface StepRow {
  ordinal: number
  action: string
  status: string
  started_at: Date
  elapsed_seconds: number
  rows: string | null
  bytes: string | null
  message: string | null
}

const runColumns = sql`id, job_id, operation, kind, object, site, status, reason, started_at, finished_at, rows, bytes, message,
  worker, host, attempt, attempt_id, slot, placement`

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

/** The newest run of each of these jobs that has begun. */
export async function lastRuns(control: Control, jobIds: readonly number[]): Promise<Map<number, RunRow>> {
  const rows = await control.session.query<RunRow>(sql`
    select r.* from unnest(${[...jobIds]}::int[]) as j(id)
    cross join lateral (select ${runColumns} from yardmaster.runs where job_id = j.id and started_at is not null
      order by id desc limit 1) r`)
  return new Map(rows.map((row) => [row.job_id, row]))
}

/** How current a copy is, and when it is refreshed next; by the control server's clock. */
export interface CopyState {
  job_id: number
  next_start: Date | null
  /** From when the slots of an interval are counted. */
  schedule_origin: Date
  /** The copy holds what the source held then; null where no refresh has said so yet. */
  as_of: Date | null
  lag_seconds: number | null
  /** Null where nothing is late: without a schedule and a target. */
  late_after_seconds: number | null
  is_late: boolean
  /** The last look at the source found nothing that the copy lacks. */
  is_idle: boolean
  position: string | null
  paused_at: Date | null
  paused_by: string | null
  pause_note: string | null
}

/** By job. */
export async function copyStates(control: Control): Promise<Map<number, CopyState>> {
  const rows = await control.session.query<CopyState>(sql`
    with aged as (
      select r.*, clock_timestamp() - coalesce(r.as_of, r.created_at) as age from yardmaster.replications r)
    select a.job_id, a.next_start, a.schedule_origin, a.as_of, a.position, a.paused_at, a.paused_by, a.pause_note,
      case when a.as_of is not null then extract(epoch from a.age)::float8 end as lag_seconds,
      extract(epoch from a.late_after)::float8 as late_after_seconds,
      coalesce(a.status = 'active' and a.age > a.late_after, false) as is_late,
      coalesce(a.as_of is not null and ended.reason in ('skipped', 'nothing_new'), false) as is_idle
    from aged a
    left join lateral (select u.reason from yardmaster.run u where u.job_id = a.job_id and u.status in ('OK', 'WARNING', 'CRITICAL')
      order by u.id desc limit 1) ended on true`)
  return new Map(rows.map((row) => [row.job_id, row]))
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
    select ordinal, action, status, started_at, elapsed_seconds, rows, bytes, message from yardmaster.steps
    where attempt_id = ${run.attempt_id} order by ordinal`)
}

/** Why runs that wait do not start, in words, with a code: `paused`, `overlap`, `no_worker` … By run. */
export async function whyWaiting(
  control: Control,
  runIds: readonly string[],
): Promise<Map<string, { code: string; why: string }>> {
  const rows = await control.session.query<{ id: string; code: string; why: string }>(sql`
    select w.id, y.code, y.why from unnest(${[...runIds]}::bigint[]) as w(id) cross join lateral yardmaster.why_waiting(w.id) y`)
  return new Map(rows.map((row) => [row.id, row]))
}

/** What must be so before a run starts, in order; nothing for one that does not wait. */
export async function waitingChecks(control: Control, runId: string): Promise<WaitingCheck[]> {
  return control.session.query<WaitingCheck>(
    sql`select c."check", c.ok, c.code, c.why from yardmaster.waiting_checks(${runId}::bigint) c order by c.place`,
  )
}

/** Calls a run off; returns its status: RUNNING until whoever carries it out has seen that. */
export async function cancelRun(control: Control, id: string): Promise<string> {
  const row = await control.session.one<{ status: string }>(sql`select yardmaster.cancel_run(${id}::bigint) as status`)
  return row.status
}
