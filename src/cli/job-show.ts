import { formatDuration } from '../base/duration.ts'
import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { dependentsOf, type JobStats, jobStats, oldestWaiting, type SkippedRange, slotsSkipped } from '../jobs/past.ts'
import { nextStarts } from '../jobs/schedule.ts'
import { actionLabel, findJob, type Job, jobLabel, readJob } from '../jobs/store.ts'
import { listRuns, type RunRow, whyWaiting } from '../monitoring/run-history.ts'
import { printable } from '../postgres/identifier.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { clockTime } from './instant.ts'
import { jobJson, scheduleOf, scheduleText, settings, startJson } from './job-settings.ts'
import type { Terminal } from './terminal.ts'

/** Next starts, and last runs, that `show` names. */
const shown = 5

/** A job that it starts after, or that starts after it. */
interface Neighbour {
  readonly job_id: number
  readonly label: string
  readonly needs: 'succeeded' | 'done'
}

interface JobDetails {
  readonly job: Job
  readonly stats: readonly JobStats[]
  readonly starts: readonly Date[]
  readonly after: readonly Neighbour[]
  readonly before: readonly Neighbour[]
  readonly skipped: readonly SkippedRange[]
  readonly runs: readonly RunRow[]
  /** The run that waits for longest, and why. */
  readonly waiting: { readonly run_id: string; readonly code: string; readonly why: string } | null
}

/** `yardmaster job show` */
export async function show(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const details = await readDetails(control, await findJob(control, name))
    if (context.terminal.json) context.terminal.document(detailsJson(details))
    else describe(context.terminal, details)
    return 0
  })
}

async function readDetails(control: Control, job: Job): Promise<JobDetails> {
  const id = job.job_id
  const waiting = await oldestWaiting(control, id)
  const why = waiting === undefined ? undefined : (await whyWaiting(control, [waiting])).get(waiting)
  return {
    job,
    stats: await jobStats(control, id),
    starts: upcoming(job, new Date()),
    after: await neighbours(control, job.after),
    before: await dependents(control, id),
    skipped: await slotsSkipped(control, id),
    runs: await listRuns(control, { jobId: id, limit: shown }),
    waiting: waiting === undefined || why === undefined ? null : { run_id: waiting, code: why.code, why: why.why },
  }
}

async function neighbours(control: Control, list: readonly string[]): Promise<Neighbour[]> {
  const found: Neighbour[] = []
  for (const one of list) {
    const [id = '', need] = one.split(':')
    const job = await readJob(control.session, Number(id))
    found.push({ job_id: job.job_id, label: jobLabel(job), needs: need === 'done' ? 'done' : 'succeeded' })
  }
  return found
}

async function dependents(control: Control, jobId: number): Promise<Neighbour[]> {
  const found: Neighbour[] = []
  for (const id of await dependentsOf(control, jobId)) {
    const job = await readJob(control.session, id)
    const needs = job.after.includes(`${jobId}:done`) ? 'done' : 'succeeded'
    found.push({ job_id: id, label: jobLabel(job), needs })
  }
  return found
}

/** The next starts, as if each run ended well and at once; none where nothing starts by itself. */
function upcoming(job: Job, now: Date): Date[] {
  const schedule = scheduleOf(job)
  const { next_start: first } = job
  if (job.status !== 'active' || !schedule || !(first instanceof Date)) return []
  return [first, ...nextStarts(schedule, first > now ? first : now, shown - 1)]
}

function detailsJson({ job, stats, starts, after, before, skipped, runs, waiting }: JobDetails) {
  return {
    ...jobJson(job),
    schedule: scheduleText(job),
    next_starts: starts,
    per_database: stats.map((one) => ({ ...one, next_start: startJson(one.next_start) })),
    starts_after: after,
    starts_before: before,
    skipped_slots: skipped,
    last_runs: runs.map(({ id, status, reason, object, slot, started_at, finished_at, message }) => ({
      ...{ run_id: id, status, reason, object, slot, started_at, finished_at, message },
    })),
    waiting,
  }
}

function describe(terminal: Terminal, details: JobDetails): void {
  const { job, starts, after, before, runs, waiting } = details
  const what = job.name === null ? '' : `: ${actionLabel(job)}`
  const where = job.destination !== null || job.database === null ? '' : `, in ${job.database}`
  terminal.line(`${jobLabel(job).replace(/^j/, 'J')}${what}${where} is ${job.status}.`)
  if (job.status === 'unverified')
    terminal.line('Nobody has looked yet whether its databases have what it calls; a worker does within seconds.')
  if (job.paused_at) {
    const note = job.pause_note === null ? '' : `: ${printable(job.pause_note)}`
    terminal.line(`Paused since ${terminal.time(job.paused_at)} by ${printable(job.paused_by ?? 'somebody')}${note}`)
    terminal.line(`Go on with: yardmaster job resume ${job.job_id}`)
  }
  terminal.line(`Schedule: ${scheduleText(job)}`)
  if (typeof job.next_start === 'number' && job.status === 'active')
    terminal.line('Next start: never, by its own or somebody’s wish.')
  if (starts.length > 0)
    terminal.line(`Next starts: ${starts.map((at) => clockTime(at, job.timezone, terminal.isTerminal)).join(', ')}`)
  if (waiting) terminal.line(`Run ${waiting.run_id} waits: ${waiting.why}`)
  const need = ({ needs }: Neighbour) => (needs === 'done' ? 'ended' : 'ended well')
  for (const one of after) terminal.line(`Starts after ${one.label} ${need(one)}.`)
  for (const one of before) terminal.line(`${one.label.replace(/^j/, 'J')} starts after it ${need(one)}.`)
  if (job.destination !== null)
    terminal.line(`It is a replication; more: yardmaster replication show ${job.destination}`)
  else for (const [key, value] of settings(job).filter(([, one]) => one !== null)) terminal.line(`  ${key}: ${value}`)
  describeStates(terminal, details)
  if (runs.length > 0) {
    terminal.line()
    runsTable(terminal, runs)
  }
}

function describeStates(terminal: Terminal, { job, stats, skipped }: JobDetails): void {
  terminal.line()
  terminal.table<JobStats>(
    stats,
    [
      { head: 'LEVEL', kind: 'level', value: ({ last_level: level }) => level },
      { head: 'DATABASE', value: ({ database }) => database ?? '—' },
      { head: 'STATUS', value: ({ job_status: status }) => status },
      { head: 'LAST START', value: ({ last_run_started_at: at }) => terminal.time(at) },
      { head: 'LAST SUCCESS', value: ({ last_successful_finish: at }) => terminal.time(at) },
      { head: 'NEXT START', value: ({ next_start: at }) => (typeof at === 'number' ? 'never' : terminal.time(at)) },
      { head: 'RUNS', kind: 'number', value: ({ total_runs: count }) => count },
      { head: 'FAILED', kind: 'number', value: ({ total_failures: count }) => count },
      { head: 'IN A ROW', kind: 'number', value: ({ consecutive_failures: count }) => count },
    ],
    `No database has the tag of job ${job.job_id} now: it runs nowhere.`,
  )
  for (const { database, first_slot: first, last_slot: last, slots, reason } of skipped) {
    const when =
      first.getTime() === last.getTime() ? terminal.time(first) : `${terminal.time(first)} to ${terminal.time(last)}`
    const count = slots === '1' ? '1 slot' : `${slots} slots`
    terminal.line(`Left out${database === null ? '' : ` in ${database}`}: ${count}, ${when}: ${skipReasons[reason]}.`)
  }
}

const skipReasons = {
  overlap: 'the run before was still under way',
  missed: 'nobody worked then',
  retry: 'a failure was waited out',
} as const

function runsTable(terminal: Terminal, runs: readonly RunRow[]): void {
  terminal.table<RunRow>(
    runs,
    [
      { head: 'LEVEL', kind: 'level', value: ({ status }) => status },
      { head: 'RUN', kind: 'number', value: ({ id }) => id },
      { head: 'OBJECT', value: ({ object }) => object },
      { head: 'STARTED', value: ({ started_at: at }) => terminal.time(at) },
      {
        head: 'TOOK',
        kind: 'number',
        value: ({ started_at: from, finished_at: to }) =>
          from && to ? formatDuration((to.getTime() - from.getTime()) / 1000) : null,
      },
      { head: 'REASON', value: ({ reason }) => reason },
      { head: 'MESSAGE', value: ({ message }) => message },
    ],
    '',
  )
}
