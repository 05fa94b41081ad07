import { Failure } from '../base/failure.ts'
import { formatInterval, intervalInWords, nominalLength, parseInterval } from '../jobs/interval.ts'
import { checkSchedule, type Schedule, scheduleInWords } from '../jobs/schedule.ts'
import { checkTimeZone } from '../jobs/time-zone.ts'
import type { ControlColumn, ReplicationSchedule } from '../replication/definition.ts'

/**
 * A schedule as people write it, checked and as PostgreSQL prints it. Throws `wrong_usage`, `interval_invalid`,
 * `cron_invalid`, `cron_never_comes`, `timezone_unknown`.
 */
export function readSchedule({ every, cron, timezone }: ReplicationSchedule): ReplicationSchedule {
  if (every !== null && cron !== null) {
    throw new Failure('wrong_usage', {
      message: `A schedule is --every or --cron, not both; these are '${every}' and '${cron}'.`,
      object: '--cron',
      remedy: 'Leave one of them out.',
    })
  }
  checkTimeZone(timezone)
  const read = { every: every === null ? null : formatInterval(parseInterval(every)), cron, timezone }
  const schedule = scheduleOf(read, new Date())
  if (schedule) checkSchedule(schedule, new Date())
  return read
}

/** As the module of schedules knows it; undefined where there is none. `origin`: from when the slots of an interval count. */
export function scheduleOf({ every, cron, timezone }: ReplicationSchedule, origin: Date): Schedule | undefined {
  if (cron !== null) return { kind: 'cron', expression: cron, timezone }
  if (every === null) return undefined
  return { kind: 'interval', interval: parseInterval(every), fixed: true, origin, timezone }
}

/** `every 10 minutes`, or that there is none. */
export function inWords(schedule: ReplicationSchedule): string {
  const known = scheduleOf(schedule, new Date())
  return known ? scheduleInWords(known) : 'no schedule: refreshed when somebody asks for it'
}

/** `10 minutes`, as `set` takes it again. */
export function lengthInWords(milliseconds: number): string {
  if (milliseconds === 0) return '0 seconds'
  return intervalInWords({ months: 0, days: 0, milliseconds }, 'counted')
}

/** A boundary that goes with what fills the control column: `auto`, an interval or a whole number. Throws `wrong_usage`. */
export function readBoundary(by: ControlColumn['by'], text: string): string {
  if (text === 'auto') return text
  if (by === 'time') {
    const interval = parseInterval(text)
    if (nominalLength(interval) >= 0) return formatInterval(interval)
  } else if (/^\d{1,18}$/.test(text)) return text
  throw new Failure('wrong_usage', {
    message: `--boundary is '${text}'; with --by ${by} it must be auto or ${by === 'time' ? 'an interval' : 'a whole number'}.`,
    object: '--boundary',
    remedy: by === 'time' ? "For example: --boundary '10 minutes'" : 'For example: --boundary 10',
  })
}

export const defaultBoundary = { time: '10 minutes', serial: '10' } as const
