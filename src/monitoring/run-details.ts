import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** One try at a run. */
export interface AttemptRow {
  readonly attempt: number
  readonly status: string
  readonly worker: string
  readonly host: string
  /** The server process that worked for it in the target. */
  readonly target_pid: number | null
  readonly started_at: Date
  readonly finished_at: Date | null
  /** Nobody has seen yet that its session in the target is gone. */
  readonly is_left: boolean
  readonly blocked_since: Date | null
  /** Who holds the lock that it waits for. */
  readonly blocked_by: string | null
}

/** What a run of a job was called with, and what comes after it. */
export interface CallDetails {
  /** JSON; undefined in SQL is null here. */
  readonly config: unknown
  readonly sqlstate: string | null
  /** In a row, of the newest run that has ended. */
  readonly failures: number | null
  /** -1: as many as there are. */
  readonly max_retries: number
  /** Infinity: never. null: it is not known, or there is none. */
  readonly next_attempt: Date | number | null
  /** Why nothing starts by itself, as a sentence. */
  readonly pause: string | null
  readonly same_failures: number | null
  readonly same_since: Date | null
}

/** The first one first. */
export async function listAttempts(control: Control, runId: string): Promise<AttemptRow[]> {
  return control.session.query<AttemptRow>(sql`
    select attempt, status, worker, host, target_pid, started_at, finished_at, is_left, blocked_since, blocked_by
    from yardmaster.attempts where run_id = ${runId}::bigint order by attempt`)
}

/** undefined for what is no run of such a job. */
export async function callDetails(control: Control, runId: string): Promise<CallDetails | undefined> {
  return control.session.first<CallDetails>(sql`
    select config, sqlstate, failures, max_retries, next_attempt, pause, same_failures, same_since from yardmaster.call_details(${runId}::bigint)`)
}

/** The control server's clock, by which all of this is told. */
export async function serverNow(control: Control): Promise<Date> {
  const { now } = await control.session.one<{ now: Date }>(sql`select clock_timestamp() as now`)
  return now
}
