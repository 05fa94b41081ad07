import { Failure } from '../base/failure.ts'
import { nextCronTime } from './cron.ts'
import { checkInterval, dayLength, type Interval, parseInterval } from './interval.ts'
import { instantOf, wallClock } from './time-zone.ts'

/**
 * When a job is to be run again and again. By an interval: at slots counted from an origin (`fixed`), or so long after the
 * end of each run. By a cron expression: five fields, six with the second first, a name (`@hourly`), or `@every INTERVAL`,
 * whose slots are counted from midnight of 1 January 1970. Months, days and hours are those of the time zone.
 */
export type Schedule = IntervalSchedule | CronSchedule

export interface IntervalSchedule {
  readonly kind: 'interval'
  readonly interval: Interval
  readonly fixed: boolean
  readonly origin: Date
  readonly timezone: string
}

interface CronSchedule {
  readonly kind: 'cron'
  readonly expression: string
  readonly timezone: string
}

/** Slots that follow each other; instants in milliseconds. */
interface SlotRange {
  readonly first: number
  readonly last: number
  readonly slots: number
}

/** Slots of a cron expression are counted one by one, at 3 µs each; more of them than this are not told apart. */
export const slotsCounted = 10_000

/**
 * The same schedule with `@every` as the interval that it is, and with whole milliseconds: a slot is an instant that can be
 * told from the one before it. Throws where the interval would lead nowhere.
 */
export function resolved(schedule: Schedule): Schedule {
  const every = schedule.kind === 'cron' ? /^\s*@every\s+(.*)$/is.exec(schedule.expression)?.[1] : undefined
  if (every !== undefined) {
    const { timezone } = schedule
    const origin = new Date(instantOf(timezone, 0, 'shifted'))
    return resolved({ kind: 'interval', interval: parseInterval(every), fixed: true, origin, timezone })
  }
  if (schedule.kind === 'cron') return schedule
  const interval = { ...schedule.interval, milliseconds: Math.round(schedule.interval.milliseconds) }
  checkInterval(interval, schedule.fixed)
  return { ...schedule, interval }
}

/**
 * The first slot strictly after an instant, of a resolved schedule. One that drifts has none of its own: it starts at its
 * origin, or an interval later. Throws `cron_never_comes`.
 */
export function slotAfter(schedule: Schedule, after: number): number {
  if (schedule.kind === 'interval') {
    const origin = schedule.origin.getTime()
    if (after < origin) return origin
    return schedule.fixed ? later(schedule, origin, slotNumber(schedule, after) + 1) : later(schedule, after, 1)
  }
  const next = nextCronTime(schedule.expression, schedule.timezone, after)
  if (next !== undefined) return next
  throw new Failure('cron_never_comes', {
    message: `The cron expression '${schedule.expression}' names a day that never comes.`,
    object: schedule.expression,
  })
}

/**
 * The slots after `after` up to and with `until`, of a resolved schedule that does not drift; undefined where there are none.
 * Those of an interval are counted by division, those of a cron expression up to `slotsCounted`.
 */
export function slotsWithin(schedule: Schedule, after: number, until: number): SlotRange | undefined {
  if (until <= after) return undefined
  if (schedule.kind === 'cron') return cronSlotsWithin(schedule, after, until)
  const origin = schedule.origin.getTime()
  const [before, last] = [slotNumber(schedule, after), slotNumber(schedule, until)]
  if (last <= before) return undefined
  return { first: later(schedule, origin, before + 1), last: later(schedule, origin, last), slots: last - before }
}

function cronSlotsWithin(schedule: Schedule, after: number, until: number): SlotRange | undefined {
  const first = slotAfter(schedule, after)
  if (first > until) return undefined
  let [last, slots] = [first, 1]
  for (let next = slotAfter(schedule, last); next <= until && slots < slotsCounted; next = slotAfter(schedule, last)) {
    last = next
    slots += 1
  }
  // What comes after an instant comes the later, the later the instant: so the last one is found by halving.
  for (let end = until; last < end; ) {
    const middle = Math.floor((last + end) / 2)
    const next = slotAfter(schedule, middle)
    if (next <= until) last = next
    else end = middle
  }
  return { first, last, slots }
}

/** k of the last slot `origin + k · interval` up to an instant, found by division: the origin may be years ago; −1 before it. */
function slotNumber(schedule: IntervalSchedule, at: number): number {
  const origin = schedule.origin.getTime()
  if (at < origin) return -1
  const { months, days, milliseconds } = schedule.interval
  if (months === 0 && days === 0) return Math.floor((at - origin) / milliseconds)
  // Exact for the calendar's 400 years; what months, leap years and shifts are off by is less than two slots.
  const mean = (months * 30.436875 + days) * dayLength + milliseconds
  let k = Math.max(0, Math.floor((at - origin) / mean) - 2)
  while (later(schedule, origin, k + 1) <= at) k += 1
  return k
}

/**
 * `start + k · interval` as PostgreSQL adds: months and days on the zone's wall clock, then the exact time. But a time that comes
 * twice is the first one, as for cron; PostgreSQL takes the second.
 */
export function later({ interval, timezone }: IntervalSchedule, start: number, k: number): number {
  const { months, days, milliseconds } = interval
  // An origin in the second pass of an hour that comes twice stays where it is.
  if (k === 0 || (months === 0 && days === 0)) return start + k * milliseconds
  const wall = addMonths(wallClock(timezone, start), k * months) + k * days * dayLength
  return instantOf(timezone, wall, 'shifted') + k * milliseconds
}

/** The same day so many months later, or the month's last one where it is shorter. */
function addMonths(wall: number, months: number): number {
  if (months === 0) return wall
  const date = new Date(wall)
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth() + months]
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate()
  const day = Date.UTC(year, month, Math.min(date.getUTCDate(), lastDay))
  return day + (((wall % dayLength) + dayLength) % dayLength)
}
