import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dayLength, parseInterval } from './interval.ts'
import { checkSchedule, type JobHistory, nextStart, nextStarts, type Schedule, scheduleInWords } from './schedule.ts'

const minute = 60_000
const year2020 = '2020-01-01T00:00Z'

function every(interval: string, origin = year2020, timezone = 'UTC', fixed = true): Schedule {
  return { kind: 'interval', interval: parseInterval(interval), fixed, origin: new Date(origin), timezone }
}

const drifting = (interval: string, origin = year2020, timezone = 'UTC') => every(interval, origin, timezone, false)
const cron = (expression: string, timezone = 'UTC'): Schedule => ({ kind: 'cron', expression, timezone })

interface Past {
  since?: string
  finish?: string
  slot?: string
  failures?: number
  retryPeriod?: number
}

function history({ since = year2020, finish, slot, failures = 0, retryPeriod = 5 * minute }: Past): JobHistory {
  const date = (text: string | undefined) => (text === undefined ? null : new Date(text))
  return { since: new Date(since), lastFinish: date(finish), lastSlot: date(slot), failures, retryPeriod }
}

const show = (date: Date) => date.toISOString().replace(/:00\.000Z$/, 'Z')
/** A `random` that leaves delays as they are. */
const even = 15 / 31
const next = (schedule: Schedule, past: Past, random = even) => show(nextStart(schedule, history(past), random))

describe('after a run that ended well', () => {
  it.each<[string, Schedule, Past, string]>([
    ['in time', every('10 minutes'), { finish: '2026-01-15T10:03Z' }, '2026-01-15T10:10Z'],
    ['at the slot itself: the next one', every('10 minutes'), { finish: '2026-01-15T10:10Z' }, '2026-01-15T10:20Z'],
    ['just before a slot', every('10 minutes'), { finish: '2026-01-15T10:09:59.999Z' }, '2026-01-15T10:10Z'],
    ['overrun by 6 minutes of 5: waits 4', every('5 minutes'), { finish: '2026-01-15T10:06Z' }, '2026-01-15T10:10Z'],
    [
      'slots from an odd origin',
      every('10 minutes', '2020-01-01T00:03:07Z'),
      { finish: '2026-01-15T10:05Z' },
      '2026-01-15T10:13:07.000Z',
    ],
    ['never run: after the creation', every('10 minutes'), { since: '2026-01-15T10:03Z' }, '2026-01-15T10:10Z'],
    [
      'never run, made now: not at once',
      every('1 h', '2026-01-15T10:03Z'),
      { since: '2026-01-15T10:03Z' },
      '2026-01-15T11:03Z',
    ],
    [
      'first start in the future',
      every('1 h', '2026-02-01T00:00Z'),
      { since: '2026-01-15T10:03Z' },
      '2026-02-01T00:00Z',
    ],
    ['down for months: due in the past', every('1 day'), { finish: '2026-01-15T10:03Z' }, '2026-01-16T00:00Z'],
    [
      'caught up: missed slots are left out',
      every('1 day'),
      { finish: '2026-06-10T10:03Z', slot: '2026-01-16T00:00Z' },
      '2026-06-11T00:00Z',
    ],
    [
      'clock put back',
      every('10 minutes'),
      { finish: '2026-01-15T09:11Z', slot: '2026-01-15T10:10Z' },
      '2026-01-15T10:20Z',
    ],
    ['finish unknown', every('10 minutes'), { slot: '2026-01-15T10:10Z' }, '2026-01-15T10:20Z'],
    [
      'schedule changed since',
      every('10 minutes'),
      { since: '2026-01-15T12:00Z', finish: '2026-01-15T10:03Z' },
      '2026-01-15T12:10Z',
    ],
    ['drifting', drifting('10 minutes'), { finish: '2026-01-15T10:03:07Z' }, '2026-01-15T10:13:07.000Z'],
    ['drifting, never run', drifting('10 minutes'), { since: '2026-01-15T10:03Z' }, '2026-01-15T10:13Z'],
    ['drifting, first start in the future', drifting('10 minutes', '2026-02-01T00:00Z'), {}, '2026-02-01T00:00Z'],
    [
      'drifting, clock put back',
      drifting('1 h'),
      { finish: '2026-01-15T09:11Z', slot: '2026-01-15T10:10Z' },
      '2026-01-15T11:10Z',
    ],
    ['drifting, by months and days', drifting('1 month 1 day'), { finish: '2026-01-31T10:00Z' }, '2026-03-01T10:00Z'],
    [
      'drifting, a day of 25 hours',
      drifting('1 day', year2020, 'Europe/London'),
      { finish: '2026-10-24T10:00Z' },
      '2026-10-25T11:00Z',
    ],
    [
      'drifting, 24 hours are 24 hours',
      drifting('24 h', year2020, 'Europe/London'),
      { finish: '2026-10-24T10:00Z' },
      '2026-10-25T10:00Z',
    ],
    ['cron', cron('30 2 * * *'), { finish: '2026-01-15T10:03Z' }, '2026-01-16T02:30Z'],
    ['cron at the slot itself', cron('30 2 * * *'), { finish: '2026-01-15T02:30Z' }, '2026-01-16T02:30Z'],
    [
      'cron, clock put back',
      cron('30 2 * * *'),
      { finish: '2026-01-15T01:31Z', slot: '2026-01-15T02:30Z' },
      '2026-01-16T02:30Z',
    ],
    [
      'cron changed in the afternoon',
      cron('30 2 * * *'),
      { finish: '2026-01-14T02:40Z', since: '2026-01-15T15:00Z' },
      '2026-01-16T02:30Z',
    ],
    [
      '@every, from midnight',
      cron('@every 8 hours', 'Asia/Kolkata'),
      { finish: '2026-01-15T10:03Z' },
      '2026-01-15T10:30Z',
    ],
    ['@every month', cron('@EVERY 1 month', 'America/New_York'), { finish: '2026-03-15T10:03Z' }, '2026-04-01T04:00Z'],
  ])('%s', (_, schedule, past, expected) => {
    expect(next(schedule, past)).toBe(expected)
  })

  it('finds a slot far from the origin without walking there', () => {
    const old = every('1 second', '1971-01-01T00:00Z')
    for (let at = 0; at < 10_000; at += 1) nextStart(old, history({ finish: '2026-01-15T10:03Z' }), even)
    expect(next(old, { finish: '2026-01-15T10:03:00.500Z' })).toBe('2026-01-15T10:03:01.000Z')
  })
})

const zones = [
  'UTC',
  'Europe/London',
  'America/New_York',
  'Australia/Lord_Howe',
  'Asia/Kolkata',
  'America/Nuuk',
  'Africa/Casablanca',
]
const zone = fc.constantFrom(...zones)

describe('after a failure', () => {
  it.each<[string, Schedule, Past, string]>([
    ['the first: the retry period', every('1 day'), { finish: '2026-01-15T10:00Z', failures: 1 }, '2026-01-15T10:05Z'],
    ['the third: three of them', every('1 day'), { finish: '2026-01-15T10:00Z', failures: 3 }, '2026-01-15T10:15Z'],
    [
      'the hundredth: twenty of them',
      every('1 day'),
      { finish: '2026-01-15T10:00Z', failures: 100 },
      '2026-01-15T11:40Z',
    ],
    [
      'not later than the next slot',
      every('10 minutes'),
      { finish: '2026-01-15T10:07Z', failures: 1 },
      '2026-01-15T10:10Z',
    ],
    [
      'drifting: five intervals at most',
      drifting('10 s'),
      { finish: '2026-01-15T10:00Z', failures: 1 },
      '2026-01-15T10:00:50.000Z',
    ],
    [
      'drifting: may be later than an interval',
      drifting('2 min'),
      { finish: '2026-01-15T10:00Z', failures: 1 },
      '2026-01-15T10:05Z',
    ],
    ['cron', cron('30 2 * * *'), { finish: '2026-01-15T02:31Z', failures: 2 }, '2026-01-15T02:41Z'],
    [
      'cron: not later than the next time',
      cron('30 2 * * *'),
      { finish: '2026-01-15T02:29Z', failures: 2 },
      '2026-01-15T02:30Z',
    ],
    [
      'a period of its own',
      every('1 day'),
      { finish: '2026-01-15T10:00Z', failures: 2, retryPeriod: 1000 },
      '2026-01-15T10:00:02.000Z',
    ],
    ['lost before it ended', every('1 day'), { slot: '2026-01-15T00:00Z', failures: 1 }, '2026-01-15T00:05Z'],
    [
      'lost before its first slot was written',
      every('1 day'),
      { since: '2026-01-15T00:01Z', failures: 1 },
      '2026-01-15T00:06Z',
    ],
    [
      'the clock was put back',
      every('1 day'),
      { finish: '2026-01-14T23:30Z', slot: '2026-01-15T00:00Z', failures: 1 },
      '2026-01-15T00:05Z',
    ],
  ])('%s', (_, schedule, past, expected) => {
    expect(next(schedule, past)).toBe(expected)
  })

  it('is spread from −15/128 to +16/128 of the delay', () => {
    const past = { finish: '2026-01-15T10:00Z', failures: 1, retryPeriod: 128_000 }
    expect(next(every('1 day'), past, 0)).toBe('2026-01-15T10:01:53.000Z')
    expect(next(every('1 day'), past, even)).toBe('2026-01-15T10:02:08.000Z')
    expect(next(every('1 day'), past, 1)).toBe('2026-01-15T10:02:24.000Z')
  })
})

const schedules = fc.oneof(
  fc
    .tuple(fc.constantFrom('7 minutes', '1 hour', '90 s', '1 day', '1 month', '1 day 5 hours'), fc.boolean(), zone)
    .map(([interval, fixed, timezone]) => every(interval, '2025-03-30T00:30Z', timezone, fixed)),
  fc
    .tuple(
      fc.constantFrom(
        '30 2 * * *',
        '30 1 * * *',
        '*/15 * * * *',
        '0 */2 * * *',
        '@hourly',
        '@every 1 day',
        '5 0 1 * *',
      ),
      zone,
    )
    .map(([expression, timezone]) => cron(expression, timezone)),
)
const moments = fc.integer({ min: Date.UTC(2026, 0), max: Date.UTC(2027, 0) })
const pasts = fc.record({ finish: moments, slot: moments, failures: fc.nat({ max: 30 }) })

describe('whatever happens', () => {
  it('a job that ended well starts at its first slot after the end', () => {
    fc.assert(
      fc.property(schedules, pasts, (schedule, { finish, slot }) => {
        const past = { ...history({}), lastFinish: new Date(finish), lastSlot: new Date(slot) }
        const [expected] = nextStarts(schedule, new Date(Math.max(finish, slot)), 1)
        expect(nextStart(schedule, past, even)).toEqual(expected)
      }),
    )
  })

  it('a job that failed starts later than it ended, and not later than its next slot or five intervals', () => {
    fc.assert(
      fc.property(
        schedules,
        pasts,
        fc.double({ min: 0, max: 1, noNaN: true }),
        (schedule, { failures, ...past }, random) => {
          const known = { ...history({ failures }), lastFinish: new Date(past.finish), lastSlot: new Date(past.slot) }
          const start = nextStart(schedule, known, random).getTime()
          const ended = Math.max(past.finish, past.slot)
          expect(start).toBeGreaterThan(ended)
          const regular = nextStart(schedule, { ...known, failures: 0 }, random).getTime()
          // A month of an interval counts 30 days, the next one may have 31: hence the sixth.
          const most =
            schedule.kind === 'interval' && !schedule.fixed ? ended + 6 * (regular - ended) + dayLength : regular
          expect(start).toBeLessThanOrEqual(most)
        },
      ),
    )
  })

  it('runs, overruns and downtimes use no slot twice and leave none out but those that passed meanwhile', () => {
    const run = fc.record({
      wait: fc.oneof(fc.constant(0), fc.nat({ max: 90 * dayLength })),
      length: fc.nat({ max: dayLength }),
    })
    fc.assert(
      fc.property(schedules, moments, fc.array(run, { maxLength: 12 }), (schedule, since, runs) => {
        let past: JobHistory = { ...history({}), since: new Date(since) }
        for (const { wait, length } of runs) {
          const slot = nextStart(schedule, past, even)
          expect(slot.getTime()).toBeGreaterThan(
            Math.max(since, past.lastSlot?.getTime() ?? 0, past.lastFinish?.getTime() ?? 0),
          )
          // Between the last end and this slot there is no other one.
          const [between] = nextStarts(schedule, past.lastFinish ?? past.since, 1)
          expect(slot).toEqual(between)
          past = { ...past, lastSlot: slot, lastFinish: new Date(slot.getTime() + wait + length) }
        }
      }),
      { numRuns: 60 },
    )
  })
})

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
    for (const asked of [
      () => checkSchedule(schedule, at),
      () => nextStart(schedule, history({ finish: '2026-01-15T10:00Z' }), even),
      () => nextStarts(schedule, at, 1),
    ]) {
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
