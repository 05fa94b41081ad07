import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { getDatabase } from '../control/databases.ts'
import { cancelJobRuns, requestRuns } from '../jobs/requests.ts'
import { findJob, type Job, jobLabel } from '../jobs/store.ts'
import { getRun, type RunRow, whyWaiting } from '../monitoring/run-history.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { readJson } from './job-options.ts'
import { followRun } from './run-follow.ts'

interface RunFlags {
  readonly wait?: boolean
  readonly params?: string
  readonly database?: string
}

/** `yardmaster job run` */
export async function run(context: CommandContext, flags: RunFlags, name: string): Promise<number> {
  const params = flags.params === undefined ? null : readParams(flags.params)
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    if (flags.database !== undefined) await getDatabase(control, flags.database)
    const ids = await requestRuns(control, job, params, flags.database ?? null)
    await sayWhenNobodyWorks(context, control, ids)
    if (flags.wait) return await waitFor(context, control, job, ids)
    return reportQueued(context, ids)
  })
}

function readParams(text: string): string {
  const read: unknown = JSON.parse(readJson(text, '--params'))
  if (typeof read === 'object' && read !== null && !Array.isArray(read)) return text
  throw new Failure('wrong_usage', {
    message: `--params is ${text}; the parameters of a run are a JSON object, whose keys stand before those of the job's config.`,
    object: '--params',
    remedy: `For example: --params '{"days": 30}'`,
  })
}

async function sayWhenNobodyWorks(
  { terminal }: CommandContext,
  control: Control,
  ids: readonly string[],
): Promise<void> {
  const waiting = [...(await whyWaiting(control, ids)).values()].find(({ code }) => code === 'no_worker')
  if (waiting) terminal.say(waiting.why)
}

function reportQueued({ terminal }: CommandContext, ids: readonly string[]): number {
  const [first = ''] = ids
  if (terminal.json) terminal.document({ run_id: first, run_ids: ids, status: 'WAITING' })
  else if (ids.length === 1) terminal.line(`Run ${first} waits for a worker; follow it: yardmaster run follow ${first}`)
  else terminal.line(`Runs ${ids.join(', ')} wait for workers, one in each database; see them: yardmaster run list`)
  return 0
}

/** Until each has ended; Ctrl-C leaves them to the workers. */
async function waitFor(context: CommandContext, control: Control, job: Job, ids: readonly string[]): Promise<number> {
  try {
    const ended: RunRow[] = []
    for (const id of ids)
      ended.push(context.terminal.json ? await endOf(context, control, id) : await followRun(context, control, id))
    return reportEnd(context, job, ended)
  } catch (error) {
    if (context.signal.aborted)
      context.terminal.say(
        `Left to the workers: ${ids.length === 1 ? 'run' : 'runs'} ${ids.join(', ')}. Call ${ids.length === 1 ? 'it' : 'them'} off: yardmaster job cancel ${job.job_id}`,
      )
    throw error
  }
}

/** Looks rarely: nothing is told of what happens meanwhile. */
async function endOf(context: CommandContext, control: Control, id: string): Promise<RunRow> {
  for (;;) {
    const row = await getRun(control, id)
    if (row.status !== 'WAITING' && row.status !== 'RUNNING') return row
    await delay(200, undefined, { signal: context.signal })
  }
}

function reportEnd({ terminal }: CommandContext, job: Job, ended: readonly RunRow[]): number {
  const worst = ['CRITICAL', 'WARNING', 'OK'].find((level) => ended.some(({ status }) => status === level)) ?? 'OK'
  const failed = ended.find(({ status }) => status === 'CRITICAL')
  if (!terminal.json) return failed ? 1 : 0
  const [first] = ended
  terminal.document({
    run_id: first?.id ?? '',
    run_ids: ended.map(({ id }) => id),
    status: worst,
    runs: ended.map(({ id, status, reason, message, started_at, finished_at }) => ({
      ...{ run_id: id, status, reason, message, started_at, finished_at },
    })),
    ...(failed ? { error: asFailure(job, failed) } : {}),
  })
  return failed ? 1 : 0
}

function asFailure(job: Job, { id, message, object }: RunRow): Failure {
  return new Failure('job_failed', {
    message: message ?? `Run ${id} of ${jobLabel(job)} failed.`,
    object,
    remedy: `See its steps: yardmaster run show ${id}`,
  })
}

/** `yardmaster job cancel` */
export async function cancel(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    const count = await cancelJobRuns(control, job)
    const { terminal } = context
    const label = jobLabel(job).replace(/^j/, 'J')
    if (terminal.json) terminal.document({ job_id: job.job_id, runs_cancelled: count })
    else if (count === 0) terminal.line(`${label} has no run that waits or is under way; nothing was changed.`)
    else
      terminal.line(
        `${label}: ${count === 1 ? 'its run is' : `its ${count} runs are`} called off; one that is under way ends within a second or two. See them: yardmaster run list --job ${job.job_id}`,
      )
    return 0
  })
}
