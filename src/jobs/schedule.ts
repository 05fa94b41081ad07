import { Failure } from '../base/failure.ts'
import { nextCronTime } from './cron.ts'
import { checkInterval, dayLength, type Interval, intervalInWords, nominalLength, parseInterval } from './interval.ts'
import { checkTimeZone, instantOf, wallClock } from './time-zone.ts'

/**
 * When a job is to be run again and again. By an interval: at slots counted from an origin (`fixed`), or so long after the
 * end of each run. By a cron expression: five fields, six with the second first, a name (`@hourly`), or `@every INTERVAL`,
 * whose slots are counted from midnight of 1 January 1970. Months, days and hours are those of the time zone.
 */
export type Schedule = IntervalSchedule | CronSchedule

interface IntervalSchedule {
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

/** What is known of a job's past. */
export interface JobHistory {
  /** When the job was made, or its schedule changed. */
  readonly since: Date
  readonly lastFinish: Date | null
  /** The slot of the last run that began. */
  readonly lastSlot: Date | null
  /** Consecutive ones. */
  readonly failures: number
  /** Milliseconds; 5 minutes unless the job says otherwise. */
  readonly retryPeriod: number
}

/**
 * The next start of a job, by TimescaleDB's rules; `docs/decisions/next-start.md` says where ours differ. `random` (0 to 1)
 * spreads retries. The result may lie in the past: then a run is due at once, and the slots that were missed until it
 * ends are left out. Throws what `checkSchedule` throws.
 */
export function nextStart(schedule: Schedule, history: JobHistory, random: number): Date {
  const counted = resolved(schedule)
  const since = history.since.getTime()
  // The slot counts beside the finish: a clock that was put back must not give it out a second time.
  const ended = latest(history.lastFinish, history.lastSlot)
  const drifting = counted.kind === 'interval' && !counted.fixed
  const regular =
    drifting && ended !== undefined ? plus(counted, ended, 1) : slotAfter(counted, Math.max(since, ended ?? since))
  if (history.failures === 0) return new Date(regular)
  const begin = ended ?? since
  const retry =
    begin + retryDelay(history, counted.kind === 'cron' ? regular - begin : nominalLength(counted.interval), random)
  return new Date(drifting ? retry : Math.min(retry, regular))
}

/** TimescaleDB's: linear up to 20 failures, at most five intervals, spread by −15/128 to +16/128. */
function retryDelay({ failures, retryPeriod }: JobHistory, interval: number, random: number): number {
  const delay = Math.min(retryPeriod * Math.min(failures, 20), 5 * interval)
  return Math.round(delay * (1 + (31 * random - 15) / 128))
}

/** The next starts after `after`, for people: as if each run ended well and took no time. Throws what `checkSchedule` throws. */
export function nextStarts(schedule: Schedule, after: Date, count: number): Date[] {
  const counted = resolved(schedule)
  let last = after.getTime()
  return Array.from({ length: count }, () => {
    last = slotAfter(counted, last)
    return new Date(last)
  })
}

/** Throws `timezone_unknown`, `interval_invalid`, `cron_invalid`, or `cron_never_comes` where nothing comes after `after`. */
export function checkSchedule(schedule: Schedule, after: Date): void {
  checkTimeZone(schedule.timezone)
  const counted = resolved(schedule)
  if (counted.kind === 'cron') slotAfter(counted, after.getTime())
}

/** `every 10 minutes`, `1 hour after each run`, `cron 30 2 * * * in Europe/London`. */
export function scheduleInWords(schedule: Schedule): string {
  if (schedule.kind === 'cron') return `cron ${schedule.expression} in ${schedule.timezone}`
  const { interval, fixed, timezone } = schedule
  const zone = interval.months === 0 && interval.days === 0 ? '' : ` in ${timezone}`
  return `${fixed ? `every ${intervalInWords(interval)}` : `${intervalInWords(interval, 'counted')} after each run`}${zone}`
}

/** The same with `@every` as the interval that it is. Throws where the interval would lead nowhere. */
function resolved(schedule: Schedule): Schedule {
  const every = schedule.kind === 'cron' ? /^\s*@every\s+(.*)$/is.exec(schedule.expression)?.[1] : undefined
  if (every !== undefined) {
    const { timezone } = schedule
    const origin = new Date(instantOf(timezone, 0, 'shifted'))
    return resolved({ kind: 'interval', interval: parseInterval(every), fixed: true, origin, timezone })
  }
  if (schedule.kind === 'interval') checkInterval(schedule.interval, schedule.fixed)
  return schedule
}

/**
 * The first slot strictly after an instant. A schedule that drifts has none of its own: it starts at its origin, or an
 * interval later.
 */
function slotAfter(schedule: Schedule, after: number): number {
  if (schedule.kind === 'interval') {
    const origin = schedule.origin.getTime()
    if (after < origin) return origin
    return schedule.fixed ? fixedSlotAfter(schedule, origin, after) : plus(schedule, after, 1)
  }
  const next = nextCronTime(schedule.expression, schedule.timezone, after)
  if (next !== undefined) return next
  throw new Failure('cron_never_comes', {
    message: `The cron expression '${schedule.expression}' names a day that never comes.`,
    object: schedule.expression,
  })
}

/** `origin + k · interval`, with k found by division: the origin may be years ago. */
function fixedSlotAfter(schedule: IntervalSchedule, origin: number, after: number): number {
  const { months, days, milliseconds } = schedule.interval
  if (months === 0 && days === 0) return origin + (Math.floor((after - origin) / milliseconds) + 1) * milliseconds
  // Exact for the calendar's 400 years; what months, leap years and shifts are off by is less than two slots.
  const mean = (months * 30.436875 + days) * dayLength + milliseconds
  let k = Math.max(1, Math.floor((after - origin) / mean) - 2)
  while (plus(schedule, origin, k) <= after) k += 1
  return plus(schedule, origin, k)
}

/** `start + k · interval` as PostgreSQL adds: months and days on the zone's wall clock, then the exact time. */
function plus({ interval, timezone }: IntervalSchedule, start: number, k: number): number {
  const { months, days, milliseconds } = interval
  if (months === 0 && days === 0) return start + k * milliseconds
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

function latest(...dates: readonly (Date | null)[]): number | undefined {
  const times = dates.flatMap((date) => (date === null ? [] : [date.getTime()]))
  return times.length === 0 ? undefined : Math.max(...times)
}
