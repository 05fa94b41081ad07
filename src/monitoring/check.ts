import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** What somebody should look at, as the SQL function `check_job_status` has it. Codes: 1 OK, 2 WARNING, 3 CRITICAL. */
export interface Alert {
  readonly alert_code: 1 | 2 | 3
  readonly alert_status: 'FAILED_RUN' | 'MISSING' | 'BLOCKED' | 'RUNNING' | 'OK'
  readonly job_name: string
  readonly alert_text: string
}

/** Figures over the jobs that are watched. */
export interface CheckFigures {
  readonly jobs: number
  readonly late: number
  readonly failed: number
  readonly paused: number
  readonly running: number
  readonly waiting: number
  readonly workers: number
}

/** Worst first; one row OK where nothing is wrong. `pattern`: only jobs whose name is like it, with * and ?. */
export async function checkJobs(control: Control, pattern: string | null): Promise<Alert[]> {
  return control.perform(
    (session) => session.query<Alert>(sql`select * from yardmaster.heard_alerts(${pattern}::text)`),
    0,
  )
}

export async function checkFigures(control: Control, pattern: string | null): Promise<CheckFigures> {
  return control.perform(
    (session) =>
      session.one<CheckFigures>(sql`
        select count(*)::int as jobs, count(*) filter (where w.status = 'active' and w.age > w.late_after)::int as late,
          count(*) filter (where w.failures > 0)::int as failed, count(*) filter (where w.status = 'paused')::int as paused,
          coalesce(sum(w.running), 0)::int as running, coalesce(sum(w.waiting), 0)::int as waiting,
          (select count(*)::int from yardmaster.workers k where k.alive and k.slots > 0) as workers
        from yardmaster.watched_jobs w
        where ${pattern}::text is null or yardmaster.name_is_like(w.job_name, ${pattern}::text)`),
    0,
  )
}

/** Something that is no alert yet. */
interface Trouble {
  readonly name: string
  readonly kind: 'last_run_failed' | 'paused_long'
  readonly text: string
  /** Null: a replication. */
  readonly job: number | null
}

/** Jobs whose last run failed, and those that were paused so many days ago or earlier. */
export async function listTroubles(control: Control, days: number): Promise<Trouble[]> {
  return control.perform(
    (session) =>
      session.query<Trouble>(sql`
        select w.job_name as name, 'last_run_failed' as kind, format('Its last run, %s, failed: %s', w.last_run, w.last_message) as text,
          case when w.kind <> 'replication' then w.job_id end as job
        from yardmaster.watched_jobs w where w.last_status = 'CRITICAL' and w.last_reason is distinct from 'cancelled' and w.status <> 'paused'
        union all
        select w.job_name, 'paused_long', format('It is paused since %s by %s%s', to_char(v.paused_at, 'YYYY-MM-DD HH24:MI'), v.paused_by,
          coalesce(': ' || v.pause_note, '.')), null
        from yardmaster.watched_jobs w join yardmaster.replications v on v.job_id = w.job_id
        where v.paused_at < clock_timestamp() - make_interval(days => ${days})
        order by 1`),
    0,
  )
}

const levels = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'] as const

/** Of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. */
export type CheckLevel = 0 | 1 | 2 | 3

export function levelOf(alerts: readonly Alert[]): CheckLevel {
  return Math.max(0, ...alerts.map((alert) => alert.alert_code - 1)) as CheckLevel
}

/** The plugin's one line: `CRITICAL - 1 alert: dwh:public.orders FAILED_RUN: … | jobs=3 late=0 …`. */
export function pluginLine(level: CheckLevel, alerts: readonly Alert[], figures: CheckFigures | undefined): string {
  const bad = alerts.filter((alert) => alert.alert_code > 1)
  const texts = (bad.length > 0 ? bad : alerts).map((alert) =>
    bad.length > 0 ? `${alert.job_name} ${alert.alert_status}: ${alert.alert_text}` : alert.alert_text,
  )
  const count = bad.length > 0 ? `${bad.length} alert${bad.length === 1 ? '' : 's'}: ` : ''
  const data = Object.entries(figures ?? {}).map(([name, value]) => `${name}=${value}`)
  return `${saidOnOneLine(levels[level], count + texts.join('; '))}${data.length > 0 ? ` | ${data.join(' ')}` : ''}`
}

/** What could not be found out. */
export function unknownLine(message: string): string {
  return saidOnOneLine('UNKNOWN', message)
}

/** Nagios takes the first line up to a bar for the text. */
function saidOnOneLine(level: string, text: string): string {
  return `${level} - ${text.replace(/\s+/g, ' ').replaceAll('|', '/').trim()}`
}
