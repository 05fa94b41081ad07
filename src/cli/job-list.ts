import { releaseLostWorkers } from '../control/registration.ts'
import { type JobStats, jobStats } from '../jobs/past.ts'
import { actionLabel, type Job, listJobs } from '../jobs/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { jobJson, scheduleText } from './job-settings.ts'

/** A job with how it stands in each of its databases. */
interface ListedJob {
  readonly job: Job
  readonly stats: readonly JobStats[]
}

/** `yardmaster job list` */
export async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const jobs = await listJobs(control)
    const { terminal } = context
    if (terminal.json) {
      terminal.document(jobs.map(jobJson))
      return 0
    }
    const stats = Map.groupBy(await jobStats(control, null), ({ job_id: id }) => id)
    terminal.table<ListedJob>(
      worstFirst(jobs.map((job) => ({ job, stats: stats.get(job.job_id) ?? [] }))),
      [
        { head: 'LEVEL', kind: 'level', value: (one) => levelOf(one) },
        { head: 'JOB', kind: 'number', value: ({ job }) => job.job_id },
        { head: 'NAME', value: ({ job }) => job.name },
        { head: 'STATUS', value: statusOf },
        { head: 'KIND', value: ({ job }) => job.kind },
        { head: 'ACTION', value: ({ job }) => actionLabel(job) },
        { head: 'DATABASE', value: ({ job }) => job.database },
        { head: 'SCHEDULE', value: ({ job }) => scheduleText(job) },
        { head: 'LAST RUN', value: ({ stats: all }) => terminal.time(latest(all)) },
        { head: 'NEXT START', value: ({ job }) => nextStartText(job, (time) => terminal.time(time)) },
        { head: 'NOTE', value: ({ job }) => job.pause_note },
      ],
      'No job yet. Add one: yardmaster job add PROCEDURE --database DATABASE --every INTERVAL',
    )
    return 0
  })
}

const ranks = ['CRITICAL', 'WARNING', 'RUNNING', 'OK']

/** The worst of its databases; RUNNING where nothing is worse and one of them works. */
function levelOf({ stats }: ListedJob): string | null {
  const levels = stats.map(({ job_status: status, last_level: level }) =>
    status === 'Running' && level !== 'CRITICAL' && level !== 'WARNING' ? 'RUNNING' : level,
  )
  return ranks.find((rank) => levels.includes(rank as JobStats['last_level'])) ?? null
}

function worstFirst(jobs: readonly ListedJob[]): ListedJob[] {
  const badness = (one: ListedJob) => {
    const level = levelOf(one)
    if (level === 'CRITICAL' || level === 'WARNING') return ranks.indexOf(level)
    return one.job.status === 'active' && one.job.paused_databases === 0 ? 3 : 2
  }
  return jobs
    .map((one) => ({ one, rank: badness(one) }))
    .sort((a, b) => a.rank - b.rank || a.one.job.job_id - b.one.job.job_id)
    .map(({ one }) => one)
}

/** `active`, or where it is paused in some of its databases: in how many. */
function statusOf({ job }: ListedJob): string {
  if (job.status !== 'active' || job.paused_databases === 0) return job.status
  return `paused in ${job.paused_databases} of ${job.databases}`
}

function latest(stats: readonly JobStats[]): Date | null {
  const times = stats.flatMap(({ last_run_started_at: at }) => (at === null ? [] : [at.getTime()]))
  return times.length === 0 ? null : new Date(Math.max(...times))
}

/** `never` for infinity; nothing for a job that does not start by itself now. */
function nextStartText(job: Job, shown: (time: Date) => string): string | null {
  if (job.status !== 'active' || job.next_start === null) return null
  return job.next_start instanceof Date ? shown(job.next_start) : 'never'
}
