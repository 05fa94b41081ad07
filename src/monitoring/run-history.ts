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
