import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { Ask } from './webhooks.ts'

/** Something that somebody should look at, for as long as it lasts. */
export interface OpenAlert {
  readonly id: string
  readonly alert_code: 2 | 3
  readonly level: 'WARNING' | 'CRITICAL'
  readonly alert_status: string
  readonly job_name: string
  readonly alert_text: string
  readonly opened_at: Date
  /** Its level. */
  readonly changed_at: Date
  readonly closed_at: Date | null
  readonly acknowledged_at: Date | null
  readonly acknowledged_by: string | null
  readonly note: string | null
  /** null when it is not silent now. */
  readonly silenced_until: Date | null
  readonly silenced_by: string | null
}

/** What is different for one job; null: as for all. Intervals as PostgreSQL writes them. */
export interface AlertRule {
  readonly warn: string | null
  readonly error: string | null
  readonly sensitivity: number | null
  readonly escalate: number | null
}

/** Those that are open, worst and oldest first; with `closed`, that many behind them that are over, newest first. */
export async function listAlerts(control: Control, closed: number): Promise<OpenAlert[]> {
  return control.session.query<OpenAlert>(sql`
    (select * from yardmaster.alerts where closed_at is null order by alert_code desc, opened_at, id)
    union all
    (select * from yardmaster.alerts where closed_at is not null order by closed_at desc, id desc limit ${closed}::int)`)
}

/** Seconds since somebody last looked what is wrong; null: nobody ever did. */
export async function evaluationAge(control: Control): Promise<number | null> {
  const row = await control.session.one<{ age: number | null }>(
    sql`select extract(epoch from clock_timestamp() - at)::float8 as age from yardmaster.alert_evaluation`,
  )
  return row.age
}

/** Opens, changes and closes alerts; returns how many, null where another session does it or did it less than so many seconds ago. */
export async function evaluateAlerts(ask: Ask, apart: number): Promise<number | null> {
  const row = await ask((session) =>
    session.one<{ changes: number | null }>(
      sql`select yardmaster.evaluate_alerts(make_interval(secs => ${apart}::float8)) as changes`,
    ),
  )
  return row.changes
}

/** Throws `alert_unknown`. */
async function getAlert(control: Control, id: string): Promise<OpenAlert> {
  const row = /^\d{1,18}$/.test(id)
    ? await control.session.first<OpenAlert>(sql`select * from yardmaster.alerts where id = ${id}::bigint`)
    : undefined
  if (row) return row
  throw new Failure('alert_unknown', { message: `There is no alert ${printable(id)}.`, object: printable(id) })
}

/** Throws `alert_unknown`, `alert_over`. */
export async function acknowledgeAlert(control: Control, id: string, note: string | null): Promise<OpenAlert> {
  await requireOpen(control, id)
  await control.session.query(sql`select yardmaster.acknowledge_alert(${id}::bigint, ${note}::text)`)
  return getAlert(control, id)
}

/** `until` null: it is heard again. Throws `alert_unknown`, `alert_over`, `wrong_usage`. */
export async function silenceAlert(control: Control, id: string, until: Date | null): Promise<OpenAlert> {
  await requireOpen(control, id)
  try {
    await control.session.query(
      sql`select yardmaster.silence_alert(${id}::bigint, ${until?.toISOString() ?? null}::timestamptz)`,
    )
  } catch (error) {
    const failure = control.session.failure(error)
    if (failure.sqlstate !== 'YM003') throw failure
    throw new Failure('wrong_usage', {
      message: failure.message,
      object: '--until',
      remedy: "For example: --until '2 hours'",
    })
  }
  return getAlert(control, id)
}

async function requireOpen(control: Control, id: string): Promise<void> {
  const { closed_at: over, alert_status: status, job_name: name } = await getAlert(control, id)
  if (over === null) return
  throw new Failure('alert_over', {
    message: `Alert ${id} (${status} of ${printable(name)}) is over since ${over.toISOString()}.`,
    object: id,
  })
}

/**
 * The job that is meant by its number, the name that it was given, the name in alerts, what stands behind the colon of that, or what it
 * calls. Throws `job_unknown`, `job_ambiguous`.
 */
export async function watchedJob(control: Control, text: string): Promise<{ id: number; name: string }> {
  const rows = await control.session.query<{ id: number; name: string; given: boolean }>(sql`
    select w.job_id as id, min(w.job_name) as name, j.job_id::text = ${text} or j.name = ${text} as given
    from yardmaster.watched_jobs w join yardmaster.jobs j on j.job_id = w.job_id
    where ${text} in (j.job_id::text, j.name, j.application_name::text, w.job_name, substr(w.job_name, strpos(w.job_name, ':') + 1),
      yardmaster.display_name(j.proc_schema) || '.' || yardmaster.display_name(j.proc_name), j.task)
    group by w.job_id, given order by 1`)
  // A name that somebody gave stands before one that a procedure has.
  const given = rows.filter((row) => row.given)
  const found = given.length > 0 ? given : rows
  const [only] = found
  if (only && found.length === 1) return only
  throw new Failure(only ? 'job_ambiguous' : 'job_unknown', {
    message: only
      ? `${printable(text)} may be ${found.map(({ id, name }) => `${printable(name)} (job ${id})`).join(', ')}.`
      : `There is no job ${printable(text)}.`,
    object: printable(text),
    remedy: only ? 'Name it by its number.' : 'See `yardmaster job list` and `yardmaster replication list`.',
  })
}

export async function getAlertRule(control: Control, jobId: number): Promise<AlertRule> {
  const row = await control.session.first<AlertRule>(sql`
    select warn::text, error::text, sensitivity, escalate from yardmaster.alert_rule where job_id = ${jobId}`)
  return row ?? { warn: null, error: null, sensitivity: null, escalate: null }
}

/** What is undefined stays, what is null is as for all jobs again. Throws `wrong_usage`. */
export async function setAlertRule(
  control: Control,
  jobId: number,
  changes: Partial<Record<keyof AlertRule, string | null>>,
): Promise<AlertRule> {
  try {
    await control.session.query(sql`select yardmaster.set_alert_rule(${jobId}, ${JSON.stringify(changes)}::jsonb)`)
  } catch (error) {
    const failure = control.session.failure(error)
    if (failure.sqlstate !== 'YM003') throw failure
    throw new Failure('wrong_usage', {
      message: failure.message,
      object: `job ${jobId}`,
      remedy: "For example: yardmaster alert set 1000 --warn '2 hours' --error '6 hours' --sensitivity 1",
    })
  }
  return getAlertRule(control, jobId)
}
