import type { Control } from '../control/control.ts'
import { listSteps, type RunRow, type StepRow } from '../monitoring/run-history.ts'
import { sql } from '../postgres/sql.ts'

/** What the runs of one job came to. */
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
  /** Since the newest run began after which the copy was what the source was; a set-up that pulled nothing is none. */
  readonly age_seconds: number | null
}

/** By job. */
export async function jobHistories(
  control: Control,
  jobIds: readonly number[],
): Promise<ReadonlyMap<number, JobHistory>> {
  const rows = await control.session.query<JobHistory>(sql`
    select j.id as job_id, ended.id, ended.status, ended.reason, ended.finished_at, ended.message, copied.rows, copied.bytes,
      extract(epoch from clock_timestamp() - fresh.started_at)::float8 as age_seconds
    from unnest(${[...jobIds]}::int[]) as j(id)
    left join lateral (
      select * from yardmaster.runs r where r.job_id = j.id and r.status in ('OK', 'WARNING', 'CRITICAL')
      order by r.id desc limit 1) ended on true
    left join lateral (
      select r.rows, r.bytes from yardmaster.runs r
      where r.job_id = j.id and r.status in ('OK', 'WARNING') and r.reason is null and r.operation <> 'remove'
      order by r.id desc limit 1) copied on true
    left join lateral (
      select r.started_at from yardmaster.runs r
      where r.job_id = j.id and r.status in ('OK', 'WARNING') and r.reason is distinct from 'locked'
        and (r.operation = 'refresh' or r.operation = 'setup' and r.rows > 0)
      order by r.id desc limit 1) fresh on true`)
  return new Map(rows.map((row) => [row.job_id, row]))
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
