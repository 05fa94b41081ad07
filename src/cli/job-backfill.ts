import { formatCount } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { backfillSlots, slotsTaken } from '../jobs/requests.ts'
import { nextStarts } from '../jobs/schedule.ts'
import { slotsWithin } from '../jobs/slots.ts'
import { findJob, type Job, jobLabel } from '../jobs/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { confirmPlan } from './confirmation.ts'
import { clockTime, readInstant } from './instant.ts'
import { refuseReplication } from './job-kind.ts'
import { showPlan } from './job-plan.ts'
import { scheduleOf, scheduleText } from './job-settings.ts'
import type { Terminal } from './terminal.ts'

/** What the SQL function takes at once. */
const slotsAtOnce = 10_000
/** Slots that the plan names. */
const slotsShown = 20

/** A slot to be made up for, and in how many databases. */
interface MissingSlot {
  readonly slot: Date
  readonly runs: number
}

/** `yardmaster job backfill`: shows the slots, asks, hands their runs to the workers. */
export async function backfill(
  context: CommandContext,
  flags: { start: string; end: string },
  name: string,
): Promise<number> {
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    refuseReplication(job, 'yardmaster replication refresh DEST --repull copies a range again')
    const slots = slotsBetween(job, flags)
    const taken = new Map<number, number>()
    for (const { slot } of await slotsTaken(control, job, slots))
      taken.set(slot.getTime(), (taken.get(slot.getTime()) ?? 0) + 1)
    const missing = slots
      .map((slot) => ({ slot, runs: job.databases - (taken.get(slot.getTime()) ?? 0) }))
      .filter(({ runs }) => runs > 0)
    const runs = missing.reduce((sum, one) => sum + one.runs, 0)
    const { terminal } = context
    showPlan(terminal, '+', (sign) => planInWords(terminal, sign, job, slots.length, missing))
    if (runs > 0)
      await confirmPlan(
        context,
        `Backfill ${formatCount(runs)} ${runs === 1 ? 'run' : 'runs'}`,
        `${formatCount(runs)} ${runs === 1 ? 'run' : 'runs'} would be made.`,
        jobLabel(job),
      )
    const ids =
      runs > 0
        ? await backfillSlots(
            control,
            job,
            missing.map(({ slot }) => slot),
          )
        : []
    if (terminal.json)
      terminal.document({
        job_id: job.job_id,
        slots: missing.map(({ slot }) => slot),
        slots_left_alone: slots.length - missing.length,
        run_ids: ids,
      })
    else if (ids.length > 0)
      terminal.line(
        `${formatCount(ids.length)} ${ids.length === 1 ? 'run waits for a worker' : 'runs wait for workers, one behind the other'}; see them: yardmaster run list --job ${job.job_id}`,
      )
    return 0
  })
}

/** From `start` on, up to before `end` and never past now: a slot that is yet to come is the schedule's. */
function slotsBetween(job: Job, flags: { start: string; end: string }): Date[] {
  const schedule = scheduleOf(job)
  if (!schedule || (schedule.kind === 'interval' && !schedule.fixed)) {
    throw new Failure('job_refused', {
      message: `${jobLabel(job).replace(/^j/, 'J')} has no slots that could be made up for: ${scheduleText(job)}.`,
      object: jobLabel(job),
      remedy: `Run it now: yardmaster job run ${job.job_id}`,
    })
  }
  const start = readInstant(flags.start, '--start', job.timezone)
  const end = readInstant(flags.end, '--end', job.timezone)
  if (start >= end) {
    throw new Failure('wrong_usage', {
      message: `--start ${start.toISOString()} is not before --end ${end.toISOString()}.`,
      object: '--start',
      remedy: 'The start is part of the range, the end is not.',
    })
  }
  const [from, until] = [start.getTime() - 1, Math.min(end.getTime() - 1, Date.now())]
  const count = slotsWithin(schedule, from, until)?.slots ?? 0
  if (count >= slotsAtOnce) {
    throw new Failure('wrong_usage', {
      message: `From ${start.toISOString()} to ${end.toISOString()} there are ${formatCount(slotsAtOnce)} slots or more.`,
      object: '--start',
      remedy: `A backfill takes fewer than ${formatCount(slotsAtOnce)}; make it several.`,
    })
  }
  return nextStarts(schedule, new Date(from), count)
}

function planInWords(
  terminal: Terminal,
  sign: string,
  job: Job,
  inRange: number,
  missing: readonly MissingSlot[],
): string[] {
  const alone = inRange - missing.length
  const kept =
    alone > 0 ? `${formatCount(alone)} of the slots had their run and ${alone === 1 ? 'is' : 'are'} left alone.` : []
  if (missing.length === 0) {
    const why = inRange === 0 ? 'No slot of the past lies in this range.' : kept
    return [`No changes. ${why}`]
  }
  const place = (runs: number) =>
    job.databases > 1 ? ` in ${runs} of ${job.databases} databases` : ` in ${job.database ?? 'no database'}`
  const more = missing.length - slotsShown
  const runs = missing.reduce((sum, one) => sum + one.runs, 0)
  return [
    `${sign} create`,
    ...missing
      .slice(0, slotsShown)
      .map((one) => `${sign} run for ${clockTime(one.slot, job.timezone, terminal.isTerminal)}${place(one.runs)}`),
    ...(more > 0 ? [`  and ${formatCount(more)} slots more`] : []),
    ...[kept].flat(),
    `Plan: ${formatCount(runs)} to create, 0 to change, 0 to replace, 0 to delete.`,
  ]
}
