import { formatDuration } from '../base/duration.ts'
import type { RunRow, StepRow } from '../monitoring/run-history.ts'
import { printable } from '../postgres/identifier.ts'
import { destinationLabel, type Replication, sourceLabel } from '../replication/definition.ts'
import type { JobHistory } from './store.ts'

/** Levels as the page shows them. UNKNOWN: nothing is known yet, which is not OK. */
export type StatusLevel = 'OK' | 'WARNING' | 'CRITICAL' | 'RUNNING' | 'UNKNOWN'

/** `/status.json`. Times are RFC 3339 in UTC, unknown is null, never 0. */
export interface StatusDocument {
  /** The server's clock: relative times count from it. */
  readonly at: string
  readonly level: StatusLevel
  /** One sentence that answers: is everything fine? */
  readonly answer: string
  /** Sentences about what this is. */
  readonly about: readonly string[]
  readonly replications: readonly StatusReplication[]
  readonly running: readonly StatusRun[]
  /** Those that have ended, newest first. */
  readonly runs: readonly StatusRun[]
}

export interface StatusReplication {
  readonly job_id: number
  readonly type: string
  readonly source: string
  readonly destination: string
  readonly status: string
  readonly level: StatusLevel
  /** Beside the level: why it is not OK, or what the last run did. */
  readonly note: string
  readonly columns: readonly string[] | null
  readonly condition: string | null
  readonly last_run: { readonly id: string; readonly status: string; readonly finished_at: string } | null
  readonly rows: number | null
  readonly bytes: number | null
  readonly age_seconds: number | null
  readonly every_seconds: number
  readonly next_start: string | null
}

export interface StatusRun {
  readonly id: string
  readonly operation: string
  readonly object: string
  readonly status: string
  readonly reason: string | null
  readonly message: string | null
  readonly started_at: string | null
  readonly finished_at: string | null
  readonly seconds: number
  /** Of the load so far, while it runs. */
  readonly rows: number
  readonly bytes: number
  readonly rows_per_second: number | null
  readonly bytes_per_second: number | null
  readonly steps: readonly { action: string; status: string; seconds: number; message: string | null }[]
}

/** What a status document is made of. */
export interface StatusFacts {
  readonly at: Date
  readonly about: readonly string[]
  readonly replications: readonly Replication[]
  readonly histories: ReadonlyMap<number, JobHistory>
  /** Newest first. */
  readonly runs: readonly RunRow[]
  readonly steps: ReadonlyMap<string, readonly StepRow[]>
  /** Milliseconds between two refreshes of a destination, and when the next one is due. */
  readonly every: (label: string) => number
  readonly nextStart: (jobId: number) => Date | null
}

/** A copy is late when it is older than so many of its intervals and the seconds beside. */
const lateAfter = { intervals: 3, seconds: 20 }

export function composeStatus(facts: StatusFacts): StatusDocument {
  const runs = facts.runs.map((run) => statusRun(run, facts.steps.get(run.id) ?? [], facts.at))
  const replications = facts.replications.map((one) => statusReplication(one, facts, runs))
  return {
    at: facts.at.toISOString(),
    level: worst(replications.map(levelOfCopy)),
    answer: answerOf(replications),
    about: facts.about,
    replications,
    running: runs.filter((run) => run.status === 'RUNNING').reverse(),
    runs: runs.filter((run) => run.status !== 'RUNNING' && run.status !== 'WAITING'),
  }
}

/** A copy that is refreshed is as good as it was before. */
function levelOfCopy({ level, status }: StatusReplication): StatusLevel {
  return level === 'RUNNING' && status === 'active' ? 'OK' : level
}

function statusReplication(
  replication: Replication,
  facts: StatusFacts,
  runs: readonly StatusRun[],
): StatusReplication {
  const history = facts.histories.get(replication.jobId)
  const every = facts.every(destinationLabel(replication)) / 1000
  const label = destinationLabel(replication)
  const isRunning = runs.some((run) => run.status === 'RUNNING' && run.object === label)
  const verdict = judge(replication, history, every, isRunning)
  return {
    job_id: replication.jobId,
    type: replication.type,
    source: sourceLabel(replication),
    destination: label,
    status: replication.status,
    ...verdict,
    columns: replication.columns,
    condition: replication.condition,
    last_run:
      history?.id && history.status && history.finished_at
        ? { id: history.id, status: history.status, finished_at: history.finished_at.toISOString() }
        : null,
    rows: history?.rows == null ? null : Number(history.rows),
    bytes: history?.bytes == null ? null : Number(history.bytes),
    age_seconds: history?.age_seconds ?? null,
    every_seconds: every,
    next_start: facts.nextStart(replication.jobId)?.toISOString() ?? null,
  }
}

/** Level and the words beside it. What went wrong last stays visible while the next try runs. */
function judge(
  { status }: Replication,
  history: JobHistory | undefined,
  every: number,
  isRunning: boolean,
): Pick<StatusReplication, 'level' | 'note'> {
  const age = history?.age_seconds ?? null
  if (history?.status === 'CRITICAL') return { level: 'CRITICAL', note: history.message ?? 'failed' }
  if (status === 'setting_up') {
    return isRunning
      ? { level: 'RUNNING', note: 'being set up' }
      : { level: 'WARNING', note: 'its set-up was broken off' }
  }
  if (status !== 'active') return { level: 'WARNING', note: status }
  if (age !== null && age > every * lateAfter.intervals + lateAfter.seconds)
    return { level: 'WARNING', note: `late: ${formatDuration(age)} old, due every ${formatDuration(every)}` }
  if (history?.status === 'WARNING') return { level: 'WARNING', note: history.message ?? 'warning' }
  if (isRunning) return { level: 'RUNNING', note: 'refreshing' }
  if (history?.status !== 'OK' || age === null) return { level: 'UNKNOWN', note: 'no data were copied yet' }
  return { level: 'OK', note: history.reason === 'skipped' ? 'source unchanged' : 'copied' }
}

function answerOf(replications: readonly StatusReplication[]): string {
  const all = replications.length
  const of = (level: StatusLevel) => replications.filter((one) => one.level === level)
  const named = (some: readonly StatusReplication[]) =>
    `${some
      .slice(0, 3)
      .map((one) => one.destination)
      .join(', ')}${some.length > 3 ? ` and ${some.length - 3} more` : ''}`
  if (all === 0) return 'No replication yet.'
  const [critical, warning] = [of('CRITICAL'), of('WARNING')]
  const setup = replications.filter((one) => one.status === 'setting_up' && one.level === 'RUNNING')
  const parts = [
    ...(critical.length > 0 ? [`${critical.length} of ${all} copies failed: ${named(critical)}.`] : []),
    ...(warning.length > 0 ? [`${warning.length} of ${all} copies need a look: ${named(warning)}.`] : []),
  ]
  if (parts.length > 0) return parts.join(' ')
  if (setup.length > 0) return `Setting up: ${all - setup.length} copies are ready, ${setup.length} on their way.`
  const ages = replications.flatMap((one) => (one.age_seconds === null ? [] : [one.age_seconds]))
  if (ages.length < all) return `${all - ages.length} of ${all} copies have had no data yet.`
  return `Everything is fine: all ${all} copies are current, none older than ${upTo(Math.max(...ages))}.`
}

/** Rounded up to steps of 5 s and minutes, so that the sentence does not change each second. */
function upTo(seconds: number): string {
  return seconds <= 60 ? `${Math.max(5, Math.ceil(seconds / 5) * 5)} s` : `${Math.ceil(seconds / 60)} min`
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
    operation: run.operation,
    object: run.object,
    status: run.status,
    reason: run.reason,
    message: run.message === null ? null : printable(run.message),
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
      message: message === null ? null : printable(message),
    })),
  }
}

const severity: readonly StatusLevel[] = ['OK', 'RUNNING', 'UNKNOWN', 'WARNING', 'CRITICAL']

function worst(levels: readonly StatusLevel[]): StatusLevel {
  return levels.reduce(
    (most, level) => (severity.indexOf(level) > severity.indexOf(most) ? level : most),
    levels.length === 0 ? 'UNKNOWN' : 'OK',
  )
}
