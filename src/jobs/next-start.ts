import { dayLength, nominalLength } from './interval.ts'
import type { JobHistory, StartPolicy } from './job-history.ts'
import { type MissedSlots, missedSlots, type SkippedSlots } from './next-start-missed.ts'
import { type IntervalSchedule, later, resolved, type Schedule, slotAfter, slotsWithin } from './slots.ts'

export type { JobHistory, StartPolicy } from './job-history.ts'

/** A pause of more than 1,000 years counts as endless: what lies behind it is no date. */
const longestPause = 1000 * 366 * dayLength

/** What comes next. After it, the last slot that is accounted for is the last one in `skipped` and `catchUp`. */
export interface StartDecision {
  /** What the next run is due for. Of a retry between two slots it is the time of the retry. Never the same one twice. */
  readonly slot: Date
  /** The slot and its jitter, or later behind a lost worker. In the past: at once; with a catch-up window that is `now`. */
  readonly start: Date
  /** Slots to be made up for now, the oldest first, at most 1,000; `slot` comes after them. */
  readonly catchUp: Date[]
  /** Slots that are left out for good, all of them before `slot`, in order. Those of a cron expression are counted up to 10,000. */
  readonly skipped: { first: Date; last: Date; slots: number; reason: SkippedSlots['reason'] }[]
  /** Seconds from this slot to the next. */
  readonly period: number
}

/** The same in milliseconds. `start` where it is not the slot and its jitter; `retry`: the slot is none of the schedule's. */
interface Plan extends MissedSlots {
  readonly start?: number
  readonly retry?: boolean
}

/**
 * The next start of a job, by TimescaleDB's rules; `docs/decisions/next-start.md` says where ours differ. `random` (0 to 1)
 * spreads retries and jitter. Asked again with what it answered accounted for, it gives the same slot. Throws what
 * `checkSchedule` throws.
 */
export function decideStart(
  schedule: Schedule,
  history: JobHistory,
  policy: StartPolicy,
  now: Date,
  random: number,
): StartDecision {
  const counted = resolved(schedule)
  const plan =
    firstStart(schedule, history, policy) ??
    (counted.kind === 'interval' && !counted.fixed
      ? driftingStart(counted, history, random)
      : slotStart(counted, history, policy, now.getTime(), random))
  const { slot } = plan
  const from = plan.retry ? slotAfter(counted, slot) : slot
  const next = counted.kind === 'interval' && !counted.fixed ? later(counted, from, 1) : slotAfter(counted, from)
  // A start stays before the slot that follows.
  const jitter = Math.floor(random * Math.max(0, Math.min(policy.jitter, next - from - 1)))
  const start = plan.start ?? slot + jitter
  return {
    slot: new Date(slot),
    // With a window nothing starts in the past: whoever finds a start that is older than the window asks again.
    start: new Date(policy.catchUp === null ? start : Math.max(start, now.getTime())),
    catchUp: plan.catchUp.map((at) => new Date(at)),
    skipped: plan.skipped.map((range) => ({ ...range, first: new Date(range.first), last: new Date(range.last) })),
    period: (next - from) / 1000,
  }
}

/** Of a job with an interval that never ran, and whose origin has passed when it was made. */
function firstStart(schedule: Schedule, history: JobHistory, policy: StartPolicy): Plan | undefined {
  const { since, lastStart, lastFinish, lastSlot, failures, open } = history
  const ran = open || failures > 0 || [lastStart, lastFinish, lastSlot].some((date) => date !== null)
  if (ran || schedule.kind === 'cron' || policy.first === 'after' || schedule.origin > since) return undefined
  return { slot: schedule.origin.getTime(), catchUp: [], skipped: [] }
}

/** From when on slots are accounted for: the origin too, where the job was made at it. */
function promised(schedule: Schedule, { since, lastSlot }: JobHistory, { first }: StartPolicy): number {
  const atOrigin = schedule.kind === 'interval' && first === 'origin' && schedule.origin.getTime() === since.getTime()
  return Math.max(since.getTime() - Number(atOrigin), time(lastSlot))
}

function slotStart(schedule: Schedule, history: JobHistory, policy: StartPolicy, now: number, random: number): Plan {
  const missed = missedSlots(schedule, promised(schedule, history, policy), history, policy, now)
  if (history.failures === 0 || history.open) return missed
  const floor = missed.skipped.at(-1)?.last ?? time(history.lastSlot)
  const retry = retryTime(history, schedule, floor, random)
  // Slots that are made up for now are the next tries.
  const again = Math.min(retry, missed.catchUp[0] ?? missed.slot)
  if (history.crashed) return afterCrash(schedule, missed, pauseEnd(history, again, floor), policy, now)
  return missed.catchUp.length === 0 && again < missed.slot ? retryAt(missed, again) : missed
}

/**
 * Not before `wanted`. Slots that pass until then are left out, but for the last of them, which the next run is due for; with a
 * catch-up window it is the first of them, and the others are made up for behind it.
 */
function afterCrash(schedule: Schedule, missed: MissedSlots, wanted: number, policy: StartPolicy, now: number): Plan {
  const first = missed.catchUp[0] ?? missed.slot
  if (wanted === Number.POSITIVE_INFINITY || (missed.catchUp.length > 0 && wanted <= now)) return missed
  if (wanted < first) return retryAt(missed, wanted)
  const startOf = (slot: number) => (wanted === slot ? {} : { start: wanted })
  if (policy.catchUp !== null) return { slot: first, ...startOf(first), catchUp: [], skipped: missed.skipped }
  const slot = slotsWithin(schedule, first - 1, wanted)?.last ?? first
  const passed = slotsWithin(schedule, first - 1, slot - 1)
  const skipped = passed ? [...missed.skipped, { ...passed, reason: 'retry' as const }] : missed.skipped
  return { slot, ...startOf(slot), catchUp: [], skipped }
}

function retryAt({ skipped }: MissedSlots, start: number): Plan {
  return { slot: start, start, catchUp: [], skipped, retry: true }
}

/** So long after the end of a run, at its origin where that was set into the future meanwhile, or after a failure. */
function driftingStart(schedule: IntervalSchedule, history: JobHistory, random: number): Plan {
  const [since, origin, slot] = [history.since.getTime(), schedule.origin.getTime(), time(history.lastSlot)]
  const ended = Math.max(slot, time(history.open ? history.lastStart : history.lastFinish))
  const untilOrigin = since < origin && ended < origin
  const regular =
    ended === Number.NEGATIVE_INFINITY || untilOrigin ? slotAfter(schedule, since) : later(schedule, ended, 1)
  const none = { catchUp: [], skipped: [] }
  if (history.failures === 0 || history.open) return { slot: regular, ...none }
  const retry = retryTime(history, schedule, slot, random)
  const again = retry === Number.POSITIVE_INFINITY ? regular : retry
  const start = history.crashed ? pauseEnd(history, again, slot) : again
  return start === Number.POSITIVE_INFINITY ? { slot: regular, ...none } : { slot: start, start, ...none }
}

/**
 * TimescaleDB's: linear up to 20 failures, at most five intervals, spread by −15/128 to +16/128. Later than `floor`, up to which
 * all is accounted for, also when clocks were put back. Infinity: there is none.
 */
function retryTime(history: JobHistory, schedule: Schedule, floor: number, random: number): number {
  if (history.retryPeriod === Number.POSITIVE_INFINITY) return history.retryPeriod
  // The slots of a cron expression end the waiting before five of the times between them have passed.
  const longest = schedule.kind === 'interval' ? 5 * nominalLength(schedule.interval) : Number.POSITIVE_INFINITY
  const delay = Math.min(history.retryPeriod * Math.min(history.failures, 20), longest)
  const spread = Math.round(delay * (1 + (31 * random - 15) / 128))
  const retry = failedAt(history) + spread
  return retry > floor ? retry : floor + Math.max(spread, 1)
}

/** When a job goes on that was to go on at `again`, but for its lost worker; Infinity: at its next slot. */
function pauseEnd(history: JobHistory, again: number, floor: number): number {
  const { crashPause } = history
  if (crashPause > longestPause) return Number.POSITIVE_INFINITY
  const end = failedAt(history) + crashPause
  return crashPause === 0 ? Math.min(again, Math.max(end, floor + 1)) : Math.max(again, end)
}

/** The end of the last run; its begin where that is later, by a clock that was put back. */
function failedAt({ lastFinish, lastStart, lastSlot, since }: JobHistory): number {
  const ended = Math.max(time(lastFinish), time(lastStart))
  return ended === Number.NEGATIVE_INFINITY ? (lastSlot ?? since).getTime() : ended
}

function time(date: Date | null): number {
  return date?.getTime() ?? Number.NEGATIVE_INFINITY
}
