import { Failure } from '../base/failure.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { destinationLabel, type Replication } from '../replication/definition.ts'
import { getReplication, pauseReplication, resumeReplication } from '../replication/store.ts'
import { type CommandContext, withControl } from './command-context.ts'

/** `yardmaster replication pause` */
export async function pause(context: CommandContext, flags: { note?: string }, destination: string): Promise<number> {
  return withControl(context, async (control) => {
    const replication = await getReplication(control, destination)
    refuseUnfinished(replication)
    const note = flags.note?.trim() || null
    await pauseReplication(control, replication, note)
    const label = destinationLabel(replication)
    if (context.terminal.json) context.terminal.document({ job_id: replication.jobId, status: 'paused' })
    else if (replication.status === 'paused') {
      context.terminal.line(
        `${label} was paused already; ${note === null ? 'nothing was changed' : 'the note is new'}.`,
      )
    } else
      context.terminal.line(
        `${label} is paused: nothing of it starts by itself, what runs goes on. Go on with: yardmaster replication resume ${label}`,
      )
    return 0
  })
}

/** `yardmaster replication resume` */
export async function resume(context: CommandContext, _flags: object, destination: string): Promise<number> {
  return withControl(context, async (control) => {
    const replication = await getReplication(control, destination)
    refuseUnfinished(replication)
    await resumeReplication(control, replication)
    await decideNextStarts(control)
    const label = destinationLabel(replication)
    if (context.terminal.json) context.terminal.document({ job_id: replication.jobId, status: 'active' })
    else if (replication.status === 'active') context.terminal.line(`${label} was not paused.`)
    else context.terminal.line(`${label} is active again; what was missed meanwhile is made up for once.`)
    return 0
  })
}

function refuseUnfinished(replication: Replication): void {
  if (replication.status === 'active' || replication.status === 'paused') return
  const label = destinationLabel(replication)
  const isSetup = replication.status === 'setting_up'
  throw new Failure('replication_broken_off', {
    message: `${label} is ${replication.status}; only a replication that is set up is paused and resumed.`,
    object: label,
    remedy: `Finish it first: yardmaster replication ${isSetup ? 'refresh' : 'remove'} ${label}`,
  })
}
