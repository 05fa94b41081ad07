import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import type { Ask } from './webhooks.ts'

/** What would be removed. */
export interface ClearPlan {
  readonly runs: number
  readonly jobs: number
  readonly failed: number
  readonly first_finished: Date | null
  readonly last_finished: Date | null
}

/** How long ended runs are kept: an interval, and so many of each job in each database. */
export interface HistoryLimit {
  readonly keep_for: string
  readonly successes: number
  readonly failures: number
}

/** The control server's clock, so many seconds ago. */
export async function timeBefore(control: Control, seconds: number): Promise<Date> {
  const row = await control.session.one<{ at: Date }>(
    sql`select date_trunc('milliseconds', clock_timestamp() - make_interval(secs => ${seconds}::float8)) as at`,
  )
  return row.at
}

/** Runs that ended before then; never the newest of a job. */
export async function planClear(control: Control, before: Date): Promise<ClearPlan> {
  return control.session.one<ClearPlan>(sql`
    select runs::float8 as runs, jobs::float8 as jobs, failed::float8 as failed, first_finished, last_finished
    from yardmaster.clearable_runs(${before.toISOString()}::timestamptz)`)
}

/** Removes them, some thousands a transaction; resolves to their number. */
export async function clearRuns(control: Control, before: Date, signal: AbortSignal): Promise<number> {
  let removed = 0
  for (let after: string | null = '0'; after !== null && !signal.aborted; ) {
    const row: { removed: number; last_id: string | null } = await control.session.one(sql`
      select removed, last_id from yardmaster.clear_runs(${before.toISOString()}::timestamptz, ${after}::bigint)`)
    removed += row.removed
    after = row.last_id
  }
  return removed
}

/** Removes what is too old or too many of the next jobs in the round; resolves to the number of runs. */
export async function trimHistory(ask: Ask): Promise<number> {
  const row = await ask((session) => session.one<{ removed: number }>(sql`select yardmaster.trim_history() as removed`))
  return row.removed
}

export async function getHistoryLimit(control: Control): Promise<HistoryLimit> {
  return control.session.one<HistoryLimit>(
    sql`select keep_for::text, successes, failures from yardmaster.history_limit`,
  )
}

/** What is undefined stays. Throws `wrong_usage`. */
export async function setHistoryLimit(
  control: Control,
  {
    keepFor,
    successes,
    failures,
  }: { keepFor?: number | undefined; successes?: number | undefined; failures?: number | undefined },
): Promise<void> {
  try {
    await control.session.query(sql`
    select yardmaster.set_history_limit(justify_hours(make_interval(secs => ${keepFor ?? null}::float8)), ${successes ?? null}::int, ${failures ?? null}::int)`)
  } catch (error) {
    const failure = control.session.failure(error)
    if (failure.sqlstate !== 'YM003') throw failure
    throw new Failure('wrong_usage', {
      message: failure.message,
      object: 'history',
      remedy: "For example: --age '30 days'",
    })
  }
}
