import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** Jobs and alerts on the page: both are read and sent each second. */
const mostJobs = 100
const mostAlerts = 20

/** A job that is no replication, as the SQL function `job_board` has it. */
export interface JobRow {
  readonly job_id: number
  /** Its name, else what it calls, with its number. */
  readonly label: string
  /** `public.refresh_marts`, `2 statements`, `task sweep`. */
  readonly action: string
  readonly kind: 'procedure' | 'sql' | 'task'
  /** A registered database, or `tag:T`; null where a task has none. */
  readonly place: string | null
  /** That it runs in; a task without any counts as one. */
  readonly databases: number
  readonly site: string | null
  readonly status: 'unverified' | 'active' | 'paused' | 'removing' | 'setting_up' | 'broken'
  readonly level: 'OK' | 'WARNING' | 'CRITICAL'
  /** As PostgreSQL writes it. */
  readonly schedule_interval: string | null
  readonly cron: string | null
  readonly timezone: string
  readonly fixed_schedule: boolean
  readonly max_retries: number
  readonly unverified_since: Date | null
  /** By max_retries, of a job that runs in several. */
  readonly paused_databases: number
  readonly paused_by: string | null
  readonly paused_at: Date | null
  readonly pause_note: string | null
  readonly next_start: Date | null
  /** In a row. */
  readonly failures: number
  /** The last one, where it fared worst. */
  readonly last_run: string | null
  readonly last_status: string | null
  readonly last_reason: string | null
  readonly last_message: string | null
  readonly last_database: string | null
  readonly last_finish: Date | null
  readonly last_seconds: number | null
  readonly running: number
  readonly waiting: number
  /** What it starts after. */
  readonly after: readonly string[]
  /** Of that, what has not ended since its last run. */
  readonly waits_for: readonly string[]
  /** How many jobs there are, whichever are shown, and how many are of these levels. */
  readonly jobs: number
  readonly critical: number
  readonly warnings: number
}

/** An open alert, and how many there are. */
export interface AlertRow {
  readonly id: string
  readonly level: 'WARNING' | 'CRITICAL'
  readonly alert_status: string
  readonly job_name: string
  readonly alert_text: string
  readonly opened_at: Date
  readonly acknowledged_at: Date | null
  readonly acknowledged_by: string | null
  readonly note: string | null
  readonly silenced_until: Date | null
  readonly count: number
}

/** Worst first; then by number. */
export async function readJobs(control: Control): Promise<JobRow[]> {
  return control.session.query<JobRow>(sql`select * from yardmaster.job_board(${mostJobs})`)
}

/** Worst and oldest first. */
export async function readAlerts(control: Control): Promise<AlertRow[]> {
  return control.session.query<AlertRow>(sql`
    select id, level, alert_status, job_name, alert_text, opened_at, acknowledged_at, acknowledged_by, note, silenced_until,
      count(*) over ()::int as count
    from yardmaster.alerts where closed_at is null order by alert_code desc, opened_at, id limit ${mostAlerts}`)
}
