import type { Control } from '../control/control.ts'
import type { QualifiedName } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

/** A run that a worker was given, with the attempt that is now its own. */
export interface Claim {
  readonly run_id: string
  readonly job_id: number
  readonly kind: 'replication' | 'procedure' | 'sql' | 'task'
  readonly object: string
  readonly operation: 'setup' | 'refresh' | 'call'
  /** What was asked for when it was queued; empty for a slot of the schedule. */
  readonly options: Readonly<Record<string, unknown>>
  readonly attempt: number
  readonly token: string
  /** Of an operation `call`: what is to be called. */
  readonly call: ClaimedCall | null
}

/** What a run of a job calls. JSON is text, so that no digit is lost. */
export interface ClaimedCall {
  /** Name of the registered database; null where a task has none. */
  readonly database: string | null
  readonly application_name: string
  readonly proc_schema: string | null
  readonly proc_name: string | null
  readonly statements: readonly string[] | null
  readonly task: string | null
  readonly config: string | null
  readonly params: string | null
  /** Milliseconds; 0: as long as it takes. */
  readonly max_runtime: number
  readonly overlaps: boolean
  /** What a worker breaks off when it stops may be begun again by another. */
  readonly repeatable: boolean
  /** What it was due for, as ISO 8601 text. */
  readonly slot: string
  /** Of a job that was taken over: what its action knows it by. */
  readonly origin_number: string | null
  /** That program's table in which its runs are counted still. */
  readonly stats_table: QualifiedName | null
}

/**
 * Takes at most `slots` runs of these kinds (`replication`, `procedure`, `sql`, `task:NAME`) for a worker, the highest priority
 * and then the oldest first, in one transaction; `jobs`: only of these. Not to be sent twice: whoever misses the answer finds what
 * it was given by `heldClaims`.
 */
export async function claimRuns(
  control: Control,
  workerId: string,
  kinds: readonly string[],
  slots: number,
  jobs: readonly number[] | null = null,
): Promise<Claim[]> {
  return control.session.query<Claim>(sql`
    select run_id, job_id, kind, object, operation, options, attempt, token, call
    from yardmaster.claim_runs(${workerId}, ${[...kinds]}::text[], ${slots}, ${jobs && [...jobs]}::int[])`)
}

/**
 * Jobs that have something to do now, and how many runs that is, those first that were not run for longest. `type`: only
 * replications of this type.
 */
export async function dueJobs(
  control: Control,
  kinds: readonly string[],
  type: string | null,
): Promise<{ job_id: number; runs: number }[]> {
  return control.perform(
    (session) =>
      session.query<{ job_id: number; runs: number }>(
        sql`select job_id, runs from yardmaster.due_jobs(${[...kinds]}::text[], ${type}::text)`,
      ),
    0,
  )
}

/** What the control database believes that a worker carries out. */
export async function heldClaims(control: Control, workerId: string): Promise<Claim[]> {
  return control.perform(
    (session) =>
      session.query<Claim>(sql`
        select run_id, job_id, kind, object, operation, options, attempt, token, call from yardmaster.held_runs(${workerId})`),
    0,
  )
}

/**
 * Milliseconds until there may be something new for a worker, by the control server's clock: a slot that is due, or a run that its
 * host may take by then. Infinity when nothing is known.
 */
export async function millisecondsUntilWork(
  control: Control,
  workerId: string,
  kinds: readonly string[],
): Promise<number> {
  const row = await control.perform(
    (session) =>
      session.one<{ seconds: number | null }>(
        sql`select yardmaster.seconds_until_work(${workerId}, ${[...kinds]}::text[]) as seconds`,
      ),
    0,
  )
  return row.seconds === null ? Number.POSITIVE_INFINITY : Math.max(0, row.seconds * 1000)
}

/** Hands a run to the workers. Returns its id; one that waits already for the same is not made twice. */
export async function queueRun(
  control: Control,
  jobId: number,
  operation: 'setup' | 'refresh',
  options: Readonly<Record<string, unknown>>,
): Promise<string> {
  const row = await control.session.one<{ id: string }>(
    sql`select yardmaster.queue_run(${jobId}, ${operation}, ${JSON.stringify(options)}::jsonb) as id`,
  )
  return row.id
}
