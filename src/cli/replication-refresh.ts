import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { readReplicationOption } from '../config/replication-options.ts'
import { destinationLabel, type Replication } from '../replication/definition.ts'
import { getReplication } from '../replication/store.ts'
import { queueRefresh } from '../worker/queued-runs.ts'
import { type RefreshOptions, refreshRun } from '../worker/replication-run.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { reportQueued, reportRun } from './run-result.ts'

export interface RefreshFlags {
  readonly limit?: string
  readonly repull?: boolean
  readonly start?: string
  readonly end?: string
  readonly wait?: string
  readonly force?: boolean
  readonly queue?: boolean
}

/** `yardmaster replication refresh` */
export async function refresh(context: CommandContext, flags: RefreshFlags, destination: string): Promise<number> {
  const options = readRefreshFlags(flags)
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    refuseMeaningless(replication, flags)
    if (flags.queue) return reportQueued(context, await queueRefresh(place, replication, options))
    return reportRun(context, await refreshRun(place, replication, options))
  })
}

export interface ResyncFlags {
  readonly takeOver?: boolean
  readonly queue?: boolean
}

/** `yardmaster replication resync` */
export async function resync(context: CommandContext, flags: ResyncFlags, destination: string): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    const whole = replication.control ? { repull: { start: null, end: null } } : { force: true }
    const options = { ...whole, wait: 0, takeOver: flags.takeOver === true }
    if (flags.queue) return reportQueued(context, await queueRefresh(place, replication, options))
    return reportRun(context, await refreshRun(place, replication, options))
  })
}

/** What does not depend on the replication is refused before anything is connected to. */
function readRefreshFlags(flags: RefreshFlags): RefreshOptions {
  const { start = null, end = null } = flags
  if (!flags.repull && (start !== null || end !== null)) {
    const flag = start === null ? '--end' : '--start'
    throw new Failure('wrong_usage', {
      message: `${flag} says which rows are copied again; it goes with --repull.`,
      object: flag,
      remedy: `Write: --repull ${flag} '${start ?? end}'`,
    })
  }
  for (const [flag, value] of [
    ['--start', start],
    ['--end', end],
  ] as const) {
    if (value?.trim() === '')
      throw new Failure('wrong_usage', {
        message: `${flag} is empty; leave it out to have that end of the range open.`,
        object: flag,
        remedy: `Write a value of the control column: ${flag} '2026-01-31'`,
      })
  }
  return {
    force: flags.force === true,
    wait: readWait(flags.wait),
    limit: flags.limit === undefined ? null : (readReplicationOption('limit', flags.limit, 'inserter') as number),
    repull: flags.repull ? { start, end } : null,
  }
}

function readWait(text: string | undefined): number {
  if (text === undefined) return 0
  return text === 'forever' ? Number.POSITIVE_INFINITY : parseDuration(text, '--wait')
}

function refuseMeaningless(replication: Replication, flags: RefreshFlags): void {
  const copiesAll = replication.control === null
  const meaningless = (['limit', 'repull', 'force'] as const).find(
    (flag) => flags[flag] !== undefined && copiesAll === (flag !== 'force'),
  )
  if (meaningless === undefined) return
  const label = destinationLabel(replication)
  throw new Failure('option_not_for_type', {
    message: `--${meaningless} has no meaning for ${label}, which is of the type ${replication.type}.`,
    object: `--${meaningless}`,
    remedy: copiesAll
      ? 'Leave it out: each refresh copies all rows.'
      : 'Leave it out; --repull copies rows again that are there already.',
  })
}
