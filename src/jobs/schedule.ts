import { intervalInWords } from './interval.ts'
import { resolved, type Schedule, slotAfter } from './slots.ts'
import { checkTimeZone } from './time-zone.ts'

export type { Schedule } from './slots.ts'

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
