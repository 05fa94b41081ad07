import { formatDuration } from '../base/duration.ts'
import { parseInterval } from '../jobs/interval.ts'
import { scheduleInWords } from '../jobs/schedule.ts'
import { printable } from '../postgres/identifier.ts'
import type { AlertRow, JobRow } from './job-board.ts'
import type { StatusAlert, StatusJob, StatusJobs } from './status-document.ts'

/** Jobs that are no replications, and a sentence about them. */
export function composeJobs(rows: readonly JobRow[], at: Date): StatusJobs {
  const jobs = rows.map((row) => statusJob(row, at))
  const { jobs: count = 0, critical = 0, warnings = 0 } = rows[0] ?? {}
  const named = (level: StatusJob['level'], all: number) => {
    const names = jobs.filter((job) => job.level === level).slice(0, 3)
    return `${names.map((job) => job.label).join(', ')}${all > names.length ? ` and ${all - names.length} more` : ''}`
  }
  const parts = [
    ...(critical > 0
      ? [`${critical} of ${count} jobs ${critical === 1 ? 'fails' : 'fail'}: ${named('CRITICAL', critical)}.`]
      : []),
    ...(warnings > 0
      ? [`${warnings} of ${count} jobs ${warnings === 1 ? 'needs' : 'need'} a look: ${named('WARNING', warnings)}.`]
      : []),
  ]
  return {
    level: critical > 0 ? 'CRITICAL' : warnings > 0 ? 'WARNING' : 'OK',
    answer: parts.length > 0 ? parts.join(' ') : count === 0 ? 'No job yet.' : `None of ${count} jobs fails.`,
    jobs,
    count,
  }
}

function statusJob(row: JobRow, at: Date): StatusJob {
  return {
    job_id: row.job_id,
    label: printable(row.label),
    action: printable(row.action),
    kind: row.kind,
    place: printableOrNull(row.place),
    databases: row.databases,
    site: printableOrNull(row.site),
    status: row.status,
    ...judge(row, at),
    schedule: scheduleOf(row),
    after: row.after.map((one) => ({ job: printable(one), awaited: row.waits_for.includes(one) })),
    next_start: row.next_start?.toISOString() ?? null,
    running: row.running,
    waiting: row.waiting,
    last_run:
      row.last_run !== null && row.last_status !== null && row.last_finish !== null
        ? {
            id: row.last_run,
            status: row.last_status,
            finished_at: row.last_finish.toISOString(),
            seconds: row.last_seconds,
          }
        : null,
    failures: row.failures,
    paused_by: printableOrNull(row.paused_by),
    paused_at: row.paused_at?.toISOString() ?? null,
    pause_note: printableOrNull(row.pause_note),
  }
}

/** The level, and the words beside it. What went wrong last stays visible while the next try runs. */
function judge(row: JobRow, at: Date): Pick<StatusJob, 'level' | 'note'> {
  const { level } = row
  if (level !== 'OK') return { level, note: troubleOf(row, at) }
  if (row.running > 0) return { level: 'RUNNING', note: 'running' }
  if (row.status === 'unverified')
    return { level: 'UNKNOWN', note: 'a worker is about to look whether it can be called' }
  if (row.last_run === null) return { level: 'UNKNOWN', note: 'not run yet' }
  return { level: 'OK', note: printable(row.last_message ?? '') }
}

function troubleOf(row: JobRow, at: Date): string {
  const failed = failureOf(row)
  if (row.status === 'paused') {
    const by = row.paused_by === null ? '' : ` by ${printable(row.paused_by)}`
    const note = row.pause_note === null ? '' : `: ${printable(row.pause_note)}`
    return [`paused${by}${note}`, row.paused_by === 'max_retries' ? failed : ''].filter(Boolean).join(' ')
  }
  if (row.databases === 0) return 'no database has its tag: it runs nowhere'
  if (row.paused_databases > 0)
    return `paused by max_retries (${row.max_retries}) in ${row.paused_databases} of ${row.databases} databases. ${failed}`.trim()
  if (row.status === 'unverified' && row.unverified_since !== null) {
    const long = formatDuration((at.getTime() - row.unverified_since.getTime()) / 1000)
    return `for ${long} no worker could look whether it can be called`
  }
  if (failed !== '') return failed
  if (row.failures > 0) return 'the worker that ran it was lost'
  return printable(row.last_message ?? 'warning')
}

function failureOf({ last_status: status, last_message: message, last_database: database, databases }: JobRow): string {
  if (status !== 'CRITICAL') return ''
  const where = databases > 1 && database !== null ? `${printable(database)}: ` : ''
  return `${where}${printable(message ?? 'failed')}`
}

/** In words; what somebody wrote by SQL and makes no sense stands as it was written. */
function scheduleOf(row: JobRow): string | null {
  const { cron, schedule_interval: every, timezone, fixed_schedule: fixed } = row
  if (cron !== null) return printable(scheduleInWords({ kind: 'cron', expression: cron, timezone }))
  if (every === null) return null
  try {
    const origin = new Date(0)
    return scheduleInWords({ kind: 'interval', interval: parseInterval(every), fixed, origin, timezone })
  } catch {
    return `every ${printable(every)}`
  }
}

export function statusAlert(row: AlertRow): StatusAlert {
  return {
    id: row.id,
    level: row.level,
    status: row.alert_status,
    object: printable(row.job_name),
    text: printable(row.alert_text),
    since: row.opened_at.toISOString(),
    acknowledged_at: row.acknowledged_at?.toISOString() ?? null,
    acknowledged_by: printableOrNull(row.acknowledged_by),
    note: printableOrNull(row.note),
    silenced_until: row.silenced_until?.toISOString() ?? null,
  }
}

function printableOrNull(text: string | null): string | null {
  return text === null ? null : printable(text)
}
