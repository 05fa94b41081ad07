import { parseInterval } from '../../src/jobs/interval.ts'
import { decideStart, type JobHistory, type StartPolicy } from '../../src/jobs/next-start.ts'
import type { Schedule } from '../../src/jobs/schedule.ts'

export const minute = 60_000
export const hour = 60 * minute
export const year2020 = '2020-01-01T00:00Z'
export const never = Number.POSITIVE_INFINITY

export function every(interval: string, origin = year2020, timezone = 'UTC', fixed = true): Schedule {
  return { kind: 'interval', interval: parseInterval(interval), fixed, origin: new Date(origin), timezone }
}

export const drifting = (interval: string, origin = year2020, timezone = 'UTC') =>
  every(interval, origin, timezone, false)
export const cron = (expression: string, timezone = 'UTC'): Schedule => ({ kind: 'cron', expression, timezone })

export interface Past {
  since?: string
  start?: string
  finish?: string
  slot?: string
  failures?: number
  retryPeriod?: number
  crashed?: boolean
  crashPause?: number
  open?: boolean
}

export function history(past: Past): JobHistory {
  const date = (text: string | undefined) => (text === undefined ? null : new Date(text))
  return {
    since: new Date(past.since ?? year2020),
    lastStart: date(past.start),
    lastFinish: date(past.finish),
    lastSlot: date(past.slot),
    failures: past.failures ?? 0,
    retryPeriod: past.retryPeriod ?? 5 * minute,
    crashed: past.crashed ?? false,
    crashPause: past.crashPause ?? 5 * minute,
    open: past.open ?? false,
  }
}

export const plain: StartPolicy = { overlap: 'skip', catchUp: null, jitter: 0, first: 'after' }
export const show = (date: Date) => date.toISOString().replace(/:00\.000Z$/, 'Z')
/** A `random` that leaves delays as they are. */
export const even = 15 / 31
export const someday = new Date('2026-06-15T00:00Z')

export interface Wanted {
  policy?: Partial<StartPolicy>
  now?: string
  random?: number
}

/** `2026-01-15T10:05Z`, or `2026-01-15T10:00Z at 2026-01-15T10:05Z` where it is later than its slot; then what else there is. */
export function decide(schedule: Schedule, past: Past, { policy, now, random = even }: Wanted = {}): string[] {
  const at = now === undefined ? someday : new Date(now)
  const { slot, start, catchUp, skipped } = decideStart(schedule, history(past), { ...plain, ...policy }, at, random)
  return [
    slot.getTime() === start.getTime() ? show(slot) : `${show(slot)} at ${show(start)}`,
    ...catchUp.map((date) => `catch up ${show(date)}`),
    ...skipped.map(({ first, last, slots, reason }) => `${slots} ${reason} ${show(first)} to ${show(last)}`),
  ]
}
