import { formatCount, parseDuration } from '../base/duration.ts'
import {
  type ClearPlan,
  clearRuns,
  getHistoryLimit,
  planClear,
  setHistoryLimit,
  timeBefore,
} from '../monitoring/history.ts'
import type { CommandContext } from './command-context.ts'
import { withControl } from './command-context.ts'
import { confirmPlan } from './confirmation.ts'
import { readCount } from './usage.ts'

/** `yardmaster run clear`: shows the plan, asks, removes. */
export async function clear(context: CommandContext, flags: { olderThan: string; dryRun: boolean }): Promise<number> {
  const age = parseDuration(flags.olderThan, '--older-than') / 1000
  return withControl(context, async (control) => {
    const before = await timeBefore(control, age)
    const plan = await planClear(control, before)
    const { terminal } = context
    if (!terminal.json || (terminal.interactive && !flags.dryRun)) terminal.say(planInWords(plan, flags.olderThan))
    const isDone = flags.dryRun || plan.runs === 0
    if (!isDone)
      await confirmPlan(context, 'Delete', `${formatCount(plan.runs)} ended runs would be deleted.`, '--older-than')
    const removed = isDone ? 0 : await clearRuns(control, before, context.signal)
    if (terminal.json) terminal.document({ plan, dry_run: flags.dryRun, removed })
    else if (!isDone) terminal.line(`Runs deleted: ${formatCount(removed)}.`)
    return 0
  })
}

function planInWords(
  { runs, jobs, failed, first_finished: first, last_finished: last }: ClearPlan,
  age: string,
): string {
  const stay = 'Runs that are open stay, and the newest of each job.'
  if (runs === 0) return `No run that ended more than ${age} ago can be deleted. ${stay}`
  return [
    `- ${formatCount(runs)} runs of ${formatCount(jobs)} jobs with their steps, ${formatCount(failed)} of them CRITICAL`,
    `  ended from ${first?.toISOString()} to ${last?.toISOString()}`,
    stay,
  ].join('\n')
}

/** `yardmaster run keep`: how long history is kept by itself. */
export async function keep(
  context: CommandContext,
  flags: { age?: string; successes?: string; failures?: string },
): Promise<number> {
  const count = (text: string | undefined, flag: string) =>
    text === undefined ? undefined : readCount(text, flag, 1_000_000_000)
  const changes = {
    keepFor: flags.age === undefined ? undefined : parseDuration(flags.age, '--age') / 1000,
    successes: count(flags.successes, '--successes'),
    failures: count(flags.failures, '--failures'),
  }
  return withControl(context, async (control) => {
    if (Object.values(changes).some((change) => change !== undefined)) await setHistoryLimit(control, changes)
    const limit = await getHistoryLimit(control)
    if (context.terminal.json) context.terminal.document(limit)
    else
      context.terminal.line(
        `Ended runs are kept for ${limit.keep_for}; of each job in each database at most ${formatCount(limit.successes)} that went well and ${formatCount(limit.failures)} that failed. The newest stay in any case.`,
      )
    return 0
  })
}
