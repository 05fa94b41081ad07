import { formatDuration } from '../base/duration.ts'
import { parseInterval } from '../jobs/interval.ts'
import { scheduleInWords } from '../jobs/schedule.ts'
import type { RunRow, StepRow } from '../monitoring/run-history.ts'
import { printable } from '../postgres/identifier.ts'
import { destinationLabel, type Replication, type ReplicationSchedule, sourceLabel } from '../replication/definition.ts'
import { composeJobs, statusAlert } from './compose-jobs.ts'
import { composePlacement } from './compose-placement.ts'
import type { AlertRow, JobRow } from './job-board.ts'
import type { PlacementFacts } from './placement-store.ts'
import type { StatusDocument, StatusReplication, StatusRun, StatusWaiting, StatusWorker } from './status-document.ts'
import type { JobHistory, WaitingRow, WorkerRow } from './store.ts'
import { verdictOf } from './verdict.ts'

/** What a status document is made of. */
export interface StatusFacts {
  readonly at: Date
  readonly about: readonly string[]
  readonly replications: readonly Replication[]
  readonly histories: ReadonlyMap<number, JobHistory>
  /** Somebody carries out what is due. */
  readonly staffed: boolean
  readonly placement: PlacementFacts
  /** Worst first. */
  readonly jobs: readonly JobRow[]
  /** Worst first. */
  readonly alerts: readonly AlertRow[]
  readonly workers: readonly WorkerRow[]
  readonly waiting: readonly WaitingRow[]
  /** Newest first. */
  readonly runs: readonly RunRow[]
  readonly steps: ReadonlyMap<string, readonly StepRow[]>
}

export function composeStatus(facts: StatusFacts): StatusDocument {
  const runs = facts.runs.map((run) => statusRun(run, facts.steps.get(run.id) ?? [], facts.at))
  const running = runs.filter((run) => run.status === 'RUNNING').reverse()
  const replications = facts.replications.map((one) =>
    statusReplication(
      one,
      facts.histories.get(one.jobId),
      running.some((run) => run.job_id === one.jobId),
    ),
  )
  const waiting = facts.waiting.map(statusWaiting)
  const placement = composePlacement(facts.placement)
  const jobs = composeJobs(facts.jobs, facts.at)
  const alerts = facts.alerts.map(statusAlert)
  return {
    at: facts.at.toISOString(),
    ...verdictOf({ at: facts.at, replications, placement, jobs, alerts, waiting, staffed: facts.staffed }),
    about: facts.about,
    alerts,
    alert_count: facts.alerts[0]?.count ?? 0,
    replications,
    jobs,
    placement,
    workers: facts.workers.map(statusWorker),
    running,
    waiting,
    waiting_count: facts.waiting[0]?.count ?? 0,
    runs: runs.filter((run) => run.status !== 'RUNNING' && run.status !== 'WAITING'),
  }
}

function statusReplication(
  replication: Replication,
  history: JobHistory | undefined,
  isRunning: boolean,
): StatusReplication {
  const lag = history?.lag_seconds ?? null
  const schedule = scheduleOf(replication.schedule)
  const lateAfter = history?.late_after_seconds ?? null
  const late = lag !== null && lateAfter !== null && lag > lateAfter
  return {
    job_id: replication.jobId,
    type: replication.type,
    source: sourceLabel(replication),
    destination: destinationLabel(replication),
    status: replication.status,
    site: printableOrNull(replication.site),
    ...judge(replication, history, { lag, late, lateAfter, isRunning }),
    columns: replication.columns,
    condition: replication.condition,
    last_run:
      history?.id && history.status && history.finished_at
        ? { id: history.id, status: history.status, finished_at: history.finished_at.toISOString() }
        : null,
    rows: history?.rows == null ? null : Number(history.rows),
    bytes: history?.bytes == null ? null : Number(history.bytes),
    lag_seconds: lag === null ? null : Math.max(0, lag),
    late_after_seconds: lateAfter,
    late,
    idle: lag !== null && ['skipped', 'nothing_new'].includes(history?.reason ?? ''),
    position: history?.position == null ? null : printable(history.position),
    schedule,
    next_start: history?.next_start?.toISOString() ?? null,
  }
}

/** In words; what somebody wrote by SQL and makes no sense stands as it was written. */
function scheduleOf({ every, cron, timezone }: ReplicationSchedule): string | null {
  if (cron !== null) return printable(scheduleInWords({ kind: 'cron', expression: cron, timezone }))
  if (every === null) return null
  try {
    const origin = new Date(0)
    return scheduleInWords({ kind: 'interval', interval: parseInterval(every), fixed: true, origin, timezone })
  } catch {
    return `every ${printable(every)}`
  }
}

interface Standing {
  readonly lag: number | null
  readonly late: boolean
  readonly lateAfter: number | null
  readonly isRunning: boolean
}

/** Level and the words beside it. What went wrong last stays visible while the next try runs. */
function judge(
  { status }: Replication,
  history: JobHistory | undefined,
  { lag, late, lateAfter, isRunning }: Standing,
): Pick<StatusReplication, 'level' | 'note'> {
  const message = history?.message == null ? null : printable(history.message)
  if (history?.status === 'CRITICAL') return { level: 'CRITICAL', note: message ?? 'failed' }
  if (status === 'broken') return { level: 'CRITICAL', note: message ?? 'broken' }
  if (status === 'setting_up') {
    return isRunning
      ? { level: 'RUNNING', note: 'being set up' }
      : { level: 'WARNING', note: 'its set-up was broken off' }
  }
  if (status === 'paused') return { level: 'WARNING', note: pausedBy(history) }
  if (status !== 'active') return { level: 'WARNING', note: status }
  if (late)
    return {
      level: 'WARNING',
      note: `late: ${formatDuration(lag ?? 0)} behind, at most ${formatDuration(lateAfter ?? 0)} is the target`,
    }
  if (history?.status === 'WARNING') return { level: 'WARNING', note: message ?? 'warning' }
  if (isRunning) return { level: 'RUNNING', note: 'refreshing' }
  if (history?.status !== 'OK') return { level: 'UNKNOWN', note: 'no data were copied yet' }
  if (lag === null) return { level: 'UNKNOWN', note: 'it is not known how far behind it is' }
  return { level: 'OK', note: describeOutcome(history.reason) }
}

function describeOutcome(reason: string | null): string {
  if (reason === 'skipped') return 'source unchanged'
  return reason === 'nothing_new' ? 'nothing new' : 'copied'
}

function pausedBy(history: JobHistory | undefined): string {
  const by = history?.paused_by == null ? '' : ` by ${printable(history.paused_by)}`
  return `paused${by}${history?.pause_note == null ? '' : `: ${printable(history.pause_note)}`}`
}

const givenBack: Readonly<Record<string, string>> = {
  worker_lost: 'Its worker vanished. ',
  retry: 'Its worker stopped and gave it back. ',
}

function statusWaiting({ slot, reason, why, site, code, ...run }: WaitingRow): StatusWaiting {
  const { id, job_id, operation, object } = run
  const before = givenBack[reason ?? ''] ?? ''
  const words = printable(`${before}${why ?? ''}`.trim())
  return { id, job_id, operation, object, since: slot.toISOString(), site: printableOrNull(site), code, why: words }
}

function statusWorker(worker: WorkerRow): StatusWorker {
  const { id, slots, running } = worker
  return {
    id,
    name: printable(worker.name),
    host: printable(worker.host),
    slots,
    running,
    started_at: worker.started_at.toISOString(),
    last_beat: worker.last_beat.toISOString(),
    state: worker.alive ? 'working' : worker.lost_at === null ? 'missing' : 'lost',
  }
}

function statusRun(run: RunRow, steps: readonly StepRow[], at: Date): StatusRun {
  const running = run.status === 'RUNNING'
  const load = steps.findLast((step) => step.rows !== null)
  const rows = Number((running ? load?.rows : run.rows) ?? 0)
  const bytes = Number((running ? load?.bytes : run.bytes) ?? 0)
  const span = load?.elapsed_seconds ?? 0
  const rate = (count: number) => (count > 0 && span > 0 ? Math.round(count / span) : null)
  const end = run.finished_at ?? at
  return {
    id: run.id,
    job_id: run.job_id,
    operation: run.operation,
    object: run.object,
    status: run.status,
    reason: run.reason,
    message: printableOrNull(run.message),
    site: printableOrNull(run.site),
    worker: printableOrNull(run.worker),
    host: printableOrNull(run.host),
    placement: run.placement,
    attempt: run.attempt ?? 0,
    started_at: run.started_at?.toISOString() ?? null,
    finished_at: run.finished_at?.toISOString() ?? null,
    seconds: run.started_at === null ? 0 : Math.max(0, (end.getTime() - run.started_at.getTime()) / 1000),
    rows,
    bytes,
    rows_per_second: rate(rows),
    bytes_per_second: rate(bytes),
    steps: steps.map(({ action, status, elapsed_seconds, message }) => ({
      action,
      status,
      seconds: elapsed_seconds,
      message: printableOrNull(message),
    })),
  }
}

function printableOrNull(text: string | null): string | null {
  return text === null ? null : printable(text)
}
