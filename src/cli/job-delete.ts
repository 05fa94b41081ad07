import { formatCount } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { dependentsOf, type RunCounts, runCounts } from '../jobs/past.ts'
import { actionLabel, deleteJob, findJob, type Job, jobLabel } from '../jobs/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { confirmPlan } from './confirmation.ts'
import { refuseReplication } from './job-kind.ts'
import { showPlan } from './job-plan.ts'
import { scheduleText } from './job-settings.ts'

/** `yardmaster job delete`: shows the plan, asks, deletes. */
export async function remove(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    refuseReplication(job, 'yardmaster replication remove DEST takes it away')
    await refuseAwaited(job, await dependentsOf(control, job.job_id))
    const counts = await runCounts(control, job.job_id)
    const { terminal } = context
    showPlan(terminal, '-', (sign) => planInWords(job, counts, sign))
    await confirmPlan(context, 'Delete 1 job', `${jobLabel(job).replace(/^j/, 'J')} would be deleted.`, jobLabel(job))
    await deleteJob(control, job)
    const cancelled = counts.running + counts.waiting
    if (terminal.json) terminal.document({ deleted: job.job_id, runs_cancelled: cancelled, runs_kept: counts.ended })
    else terminal.line(`Deleted ${jobLabel(job)}.`)
    return 0
  })
}

async function refuseAwaited(job: Job, dependents: readonly number[]): Promise<void> {
  const [first] = dependents
  if (first === undefined) return
  throw new Failure('job_refused', {
    message: `${dependents.length === 1 ? 'Job' : 'Jobs'} ${dependents.join(', ')} ${dependents.length === 1 ? 'starts' : 'start'} after ${jobLabel(job)}.`,
    object: jobLabel(job),
    remedy: `Have it start after something else first, or after nothing: yardmaster job alter ${first} --after none`,
  })
}

function planInWords(job: Job, { ended, running, waiting }: RunCounts, sign: string): string[] {
  const runs = (count: number) => `${formatCount(count)} ${count === 1 ? 'run' : 'runs'}`
  return [
    `${sign} delete`,
    `${sign} ${jobLabel(job)}: ${actionLabel(job)}${job.database === null ? '' : ` in ${job.database}`}, ${scheduleText(job)}`,
    `    ${runs(running)} under way ${running === 1 ? 'is' : 'are'} broken off, ${runs(waiting)} that ${waiting === 1 ? 'waits is' : 'wait are'} called off`,
    `    ${runs(ended)} that ended ${ended === 1 ? 'stays' : 'stay'} in the history for as long as history is kept`,
    'Plan: 0 to create, 0 to change, 0 to replace, 1 to delete.',
  ]
}
