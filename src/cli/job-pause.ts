import { decideNextStarts } from '../jobs/next-starts.ts'
import { findJob, jobLabel, pauseJob, readJob, resumeJob } from '../jobs/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { refuseUnfinished } from './job-kind.ts'
import { startJson } from './job-settings.ts'

/** `yardmaster job pause` */
export async function pause(
  context: CommandContext,
  flags: { note?: string; kill?: boolean },
  name: string,
): Promise<number> {
  const note = flags.note?.trim() || null
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    refuseUnfinished(job)
    const killed = await pauseJob(control, job, note, flags.kill === true)
    const { terminal } = context
    if (terminal.json) {
      terminal.document({ job_id: job.job_id, status: 'paused', runs_cancelled: killed })
      return 0
    }
    const label = jobLabel(job).replace(/^j/, 'J')
    const runs =
      killed > 0
        ? `${killed === 1 ? 'its run' : `its ${killed} runs`} under way ${killed === 1 ? 'is' : 'are'} broken off`
        : flags.kill
          ? 'nothing of it was under way'
          : 'what runs goes on'
    if (job.status === 'paused')
      terminal.line(
        `${label} was paused already; ${note === null ? 'nothing was changed' : 'the note is new'}${killed > 0 ? `, and ${runs}` : ''}.`,
      )
    else
      terminal.line(
        `${label} is paused: nothing of it starts by itself, ${runs}. Go on with: yardmaster job resume ${job.job_id}`,
      )
    return 0
  })
}

/** `yardmaster job resume` */
export async function resume(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    const before = await findJob(control, name)
    refuseUnfinished(before)
    await resumeJob(control, before)
    await decideNextStarts(control)
    const job = await readJob(control.session, before.job_id)
    const { terminal } = context
    const label = jobLabel(job).replace(/^j/, 'J')
    const wasPaused = before.status === 'paused' || before.paused_databases > 0
    if (terminal.json)
      terminal.document({ job_id: job.job_id, status: job.status, next_start: startJson(job.next_start) })
    else if (!wasPaused) terminal.line(`${label} was not paused.`)
    else if (job.status === 'unverified')
      terminal.line(
        `${label} goes on as soon as a worker has found what it calls; if that is not there, it is paused again.`,
      )
    else
      terminal.line(
        `${label} is ${job.status} again.${job.next_start instanceof Date ? ` Next start: ${terminal.time(job.next_start)}.` : ''}`,
      )
    return 0
  })
}
