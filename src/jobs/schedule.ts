import { type Interval, intervalInWords, nominalLength } from './interval.ts'
import { later, resolved, slotAfter } from './slots.ts'
import { checkTimeZone } from './time-zone.ts'

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
    drifting && ended !== undefined ? later(counted, ended, 1) : slotAfter(counted, Math.max(since, ended ?? since))
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

function latest(...dates: readonly (Date | null)[]): number | undefined {
  const times = dates.flatMap((date) => (date === null ? [] : [date.getTime()]))
  return times.length === 0 ? undefined : Math.max(...times)
}
