import { describe, expect, it } from 'vitest'
import { parseInterval } from './interval.ts'
import { checkSchedule, nextStarts, type Schedule, scheduleInWords } from './schedule.ts'

const year2020 = '2020-01-01T00:00Z'

function every(interval: string, origin = year2020, timezone = 'UTC', fixed = true): Schedule {
  return { kind: 'interval', interval: parseInterval(interval), fixed, origin: new Date(origin), timezone }
}

const drifting = (interval: string, origin = year2020, timezone = 'UTC') => every(interval, origin, timezone, false)
const cron = (expression: string, timezone = 'UTC'): Schedule => ({ kind: 'cron', expression, timezone })

const show = (date: Date) => date.toISOString().replace(/:00\.000Z$/, 'Z')
describe('what people are told', () => {
  it.each([
    [every('10 minutes'), 'every 10 minutes'],
    [every('60'), 'every minute'],
    [every('1 day', year2020, 'Europe/London'), 'every day in Europe/London'],
    [every('14 months'), 'every 1 year 2 months in UTC'],
    [drifting('1 hour'), '1 hour after each run'],
    [cron('30 2 * * *', 'Europe/London'), 'cron 30 2 * * * in Europe/London'],
  ])('%j', (schedule, words) => {
    expect(scheduleInWords(schedule)).toBe(words)
  })

  it('next starts, also of a schedule that drifts', () => {
    const starts = (schedule: Schedule) => nextStarts(schedule, new Date('2026-10-24T23:50Z'), 3).map(show)
    expect(starts(cron('30 1 * * *', 'Europe/London'))).toEqual([
      '2026-10-25T00:30Z',
      '2026-10-26T01:30Z',
      '2026-10-27T01:30Z',
    ])
    expect(starts(every('6 hours'))).toEqual(['2026-10-25T00:00Z', '2026-10-25T06:00Z', '2026-10-25T12:00Z'])
    expect(starts(drifting('6 hours'))).toEqual(['2026-10-25T05:50Z', '2026-10-25T11:50Z', '2026-10-25T17:50Z'])
  })

  it.each<[Schedule, string, RegExp]>([
    [cron('* * * * *', 'Europe/Lodon'), 'timezone_unknown', /did you mean Europe\/London\?/],
    [every('1 day', year2020, 'Londn'), 'timezone_unknown', /'Londn'; did you mean Europe\/London\?/],
    [cron('61 * * * *'), 'cron_invalid', /'61' as its minute; expected 0 to 59/],
    [cron('0 0 30 2 *'), 'cron_never_comes', /'0 0 30 2 \*' names a day that never comes/],
    [cron('@every soon'), 'interval_invalid', /'soon' is not an interval/],
    [cron('@every 0 s'), 'interval_invalid', /is not longer than nothing/],
    [cron('@every 1 month 1 day'), 'interval_invalid', /has months and also days/],
    [every('0'), 'interval_invalid', /is not longer than nothing/],
    [every('1 month 1 day'), 'interval_invalid', /has months and also days/],
  ])('%j is refused as %s', (schedule, code, message) => {
    const at = new Date('2026-01-15T10:00Z')
    for (const asked of [() => checkSchedule(schedule, at), () => nextStarts(schedule, at, 1)]) {
      expect(asked).toThrow(message)
      expect(asked).toThrow(expect.objectContaining({ code }))
    }
  })

  it.each([
    every('1 ms'),
    every('1 day', year2020, 'Asia/Tokyo'),
    drifting('1 month 1 day'),
    cron('@every 5m'),
    cron('* * * * * *'),
  ])('%j is taken', (schedule) => {
    expect(() => checkSchedule(schedule, new Date('2026-01-15T10:00Z'))).not.toThrow()
  })
})
