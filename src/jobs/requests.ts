import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { type Job, jobLabel, refusing } from './store.ts'

/** Hands runs of a job to the workers: one in each of its databases, or in the one that is named. Returns their ids. */
export async function requestRuns(
  control: Control,
  job: Job,
  params: string | null,
  database: string | null,
): Promise<string[]> {
  const { session } = control
  return refusing(session, jobLabel(job), async () => {
    const row = await session.one<{ runs: string[] }>(
      sql`select yardmaster.request_run(${job.job_id}, ${params}::jsonb, ${database}::text) as runs`,
    )
    return row.runs
  })
}

/** Those of these slots, in each of the job's databases, that a run was made for already. */
export async function slotsTaken(
  control: Control,
  job: Job,
  slots: readonly Date[],
): Promise<{ slot: Date; database_id: string }[]> {
  return control.session.query(sql`
    select r.slot, r.database_id from yardmaster.runs r
    where r.job_id = ${job.job_id} and r.slot = any (${slots.map((slot) => slot.toISOString())}::timestamptz[])`)
}

/** Makes the runs of slots that have none, in each of the job's databases. Returns their ids. */
export async function backfillSlots(control: Control, job: Job, slots: readonly Date[]): Promise<string[]> {
  const { session } = control
  return refusing(session, jobLabel(job), async () => {
    const row = await session.one<{ runs: string[] }>(sql`
      select yardmaster.backfill_slots(${job.job_id}, ${slots.map((slot) => slot.toISOString())}::timestamptz[]) as runs`)
    return row.runs
  })
}

/** Runs once more what has ended; returns the new run's id. Throws `run_unknown`, `job_refused`. */
export async function retryRun(control: Control, runId: string): Promise<string> {
  const { session } = control
  return refusing(session, `run ${runId}`, async () => {
    const row = await session.one<{ id: string }>(sql`select yardmaster.retry_run(${runId}::bigint) as id`)
    return row.id
  })
}

/** Calls off every run of a job that is open; returns how many. */
export async function cancelJobRuns(control: Control, job: Job): Promise<number> {
  const { session } = control
  return refusing(session, jobLabel(job), async () => {
    const row = await session.one<{ count: number }>(sql`select yardmaster.cancel_job_runs(${job.job_id}) as count`)
    return row.count
  })
}
