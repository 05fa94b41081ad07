import { describe, expect, it } from 'vitest'
import {
  cron,
  decide,
  drifting,
  even,
  every,
  history,
  minute,
  type Past,
  plain,
  someday,
  year2020,
} from '../../test/support/next-start-cases.ts'
import { dayLength } from './interval.ts'
import { decideStart, type StartPolicy } from './next-start.ts'
import type { Schedule } from './schedule.ts'

describe('after a run that ended well', () => {
  it.each<[string, Schedule, Past, string, ...string[]]>([
    ['in time', every('10 minutes'), { slot: '2026-01-15T10:00Z', finish: '2026-01-15T10:03Z' }, '2026-01-15T10:10Z'],
    [
      'at the slot itself: the next one',
      every('10 minutes'),
      { slot: '2026-01-15T10:10Z', finish: '2026-01-15T10:10Z' },
      '2026-01-15T10:20Z',
    ],
    [
      'just before a slot',
      every('10 minutes'),
      { slot: '2026-01-15T10:00Z', finish: '2026-01-15T10:09:59.999Z' },
      '2026-01-15T10:10Z',
    ],
    [
      'overrun by 6 minutes of 5: waits 4',
      every('5 minutes'),
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T10:00Z', finish: '2026-01-15T10:06Z' },
      '2026-01-15T10:10Z',
      '1 overlap 2026-01-15T10:05Z to 2026-01-15T10:05Z',
    ],
    [
      'ended at a slot: that one passed meanwhile',
      every('5 minutes'),
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T10:00Z', finish: '2026-01-15T10:05Z' },
      '2026-01-15T10:10Z',
      '1 overlap 2026-01-15T10:05Z to 2026-01-15T10:05Z',
    ],
    [
      'slots from an odd origin',
      every('10 minutes', '2020-01-01T00:03:07Z'),
      { slot: '2026-01-15T10:03:07Z', finish: '2026-01-15T10:05Z' },
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
    [
      'down for months: due in the past',
      every('1 day'),
      { slot: '2026-01-15T00:00Z', finish: '2026-01-15T10:03Z' },
      '2026-01-16T00:00Z',
    ],
    [
      'caught up: missed slots are left out, as are those that passed meanwhile',
      every('1 day'),
      { slot: '2026-01-16T00:00Z', start: '2026-06-10T10:00Z', finish: '2026-06-12T10:03Z' },
      '2026-06-13T00:00Z',
      '145 missed 2026-01-17T00:00Z to 2026-06-10T00:00Z',
      '2 overlap 2026-06-11T00:00Z to 2026-06-12T00:00Z',
    ],
    [
      'clock put back',
      every('10 minutes'),
      { finish: '2026-01-15T09:11Z', slot: '2026-01-15T10:10Z' },
      '2026-01-15T10:20Z',
    ],
    [
      'clock put back in a late run: it ends before it began',
      every('10 minutes'),
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T10:35Z', finish: '2026-01-15T10:12Z' },
      '2026-01-15T10:20Z',
      '1 missed 2026-01-15T10:10Z to 2026-01-15T10:10Z',
    ],
    ['finish unknown', every('10 minutes'), { slot: '2026-01-15T10:10Z' }, '2026-01-15T10:20Z'],
    [
      'schedule changed since: what was before is not asked for',
      every('10 minutes'),
      { since: '2026-01-15T12:00Z', slot: '2026-01-15T08:00Z', finish: '2026-01-15T10:03Z' },
      '2026-01-15T12:10Z',
    ],
    ['drifting', drifting('10 minutes'), { finish: '2026-01-15T10:03:07Z' }, '2026-01-15T10:13:07.000Z'],
    ['drifting, never run', drifting('10 minutes'), { since: '2026-01-15T10:03Z' }, '2026-01-15T10:13Z'],
    ['drifting, first start in the future', drifting('10 minutes', '2026-02-01T00:00Z'), {}, '2026-02-01T00:00Z'],
    [
      'drifting, run by hand before its first start',
      drifting('10 minutes', '2026-02-01T00:00Z'),
      { since: '2026-01-15T00:00Z', finish: '2026-01-16T00:00Z' },
      '2026-02-01T00:00Z',
    ],
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
    ['cron', cron('30 2 * * *'), { slot: '2026-01-15T02:30Z', finish: '2026-01-15T10:03Z' }, '2026-01-16T02:30Z'],
    [
      'cron at the slot itself',
      cron('30 2 * * *'),
      { slot: '2026-01-15T02:30Z', finish: '2026-01-15T02:30Z' },
      '2026-01-16T02:30Z',
    ],
    [
      'cron, clock put back',
      cron('30 2 * * *'),
      { finish: '2026-01-15T01:31Z', slot: '2026-01-15T02:30Z' },
      '2026-01-16T02:30Z',
    ],
    [
      'cron changed in the afternoon',
      cron('30 2 * * *'),
      { slot: '2026-01-14T02:30Z', finish: '2026-01-14T02:40Z', since: '2026-01-15T15:00Z' },
      '2026-01-16T02:30Z',
    ],
    [
      'cron with seconds: more slots than are counted',
      cron('*/5 * * * * *'),
      { slot: '2026-01-15T02:30Z', start: '2026-01-15T20:00Z', finish: '2026-01-15T20:00:06Z' },
      '2026-01-15T20:00:10.000Z',
      '10000 missed 2026-01-15T02:30:05.000Z to 2026-01-15T20:00Z',
      '1 overlap 2026-01-15T20:00:05.000Z to 2026-01-15T20:00:05.000Z',
    ],
    [
      '@every, from midnight',
      cron('@every 8 hours', 'Asia/Kolkata'),
      { slot: '2026-01-15T02:30Z', finish: '2026-01-15T10:03Z' },
      '2026-01-15T10:30Z',
    ],
    [
      '@every month',
      cron('@EVERY 1 month', 'America/New_York'),
      { slot: '2026-03-01T05:00Z', finish: '2026-03-15T10:03Z' },
      '2026-04-01T04:00Z',
    ],
  ])('%s', (_, schedule, past, ...expected) => {
    expect(decide(schedule, past)).toEqual(expected)
  })

  it('finds a slot far from the origin, and counts 150 million, without walking there', () => {
    const past = { slot: '2021-01-15T10:03Z', start: '2026-01-15T10:03Z', finish: '2026-01-15T10:03:00.500Z' }
    const old = every('1 second', '1971-01-01T00:00Z')
    for (let times = 0; times < 10_000; times += 1) decide(old, past)
    expect(decide(old, past)).toEqual([
      '2026-01-15T10:03:01.000Z',
      '157766400 missed 2021-01-15T10:03:01.000Z to 2026-01-15T10:03Z',
    ])
  })

  it('has whole milliseconds, so that no slot is one with the next', () => {
    const seventh: Schedule = { ...every('1 s'), interval: { months: 0, days: 0, milliseconds: 142.857 } } as Schedule
    expect(decide(seventh, { slot: '2020-01-01T00:00:00.143Z' })).toEqual(['2020-01-01T00:00:00.286Z'])
  })
})

describe('the first start', () => {
  const since = '2026-01-15T10:03Z'
  it.each<[string, Schedule, Past, StartPolicy['first'], string]>([
    ['made now: at once', every('1 h', since), { since }, 'origin', since],
    ['initial start years ago: at once', every('1 h'), { since }, 'origin', year2020],
    ['initial start to come', every('1 h', '2026-02-01T00:00Z'), { since }, 'origin', '2026-02-01T00:00Z'],
    ['drifting: at once', drifting('1 h', since), { since }, 'origin', since],
    ['drifting, initial start to come', drifting('1 h', '2026-02-01T00:00Z'), { since }, 'origin', '2026-02-01T00:00Z'],
    ['cron has no origin', cron('30 2 * * *'), { since }, 'origin', '2026-01-16T02:30Z'],
    ['nor has @every', cron('@every 1 h'), { since }, 'origin', '2026-01-15T11:00Z'],
    [
      'it ran: not again',
      every('1 h'),
      { since, slot: year2020, finish: '2026-01-15T10:04Z' },
      'origin',
      '2026-01-15T11:00Z',
    ],
    ['it was skipped: not again', every('1 h', since), { since, slot: since }, 'origin', '2026-01-15T11:03Z'],
    [
      'run by hand first: not at once',
      every('1 h'),
      { since, finish: '2026-01-15T10:04Z' },
      'origin',
      '2026-01-15T11:00Z',
    ],
    [
      'run by hand before an initial start to come: at that all the same',
      every('1 h', '2026-02-01T00:00Z'),
      { since: '2026-02-01T00:00Z', finish: '2026-01-15T10:04Z' },
      'origin',
      '2026-02-01T00:00Z',
    ],
    [
      'lost before anything was written: not at once',
      every('1 h'),
      { since, failures: 1 },
      'origin',
      '2026-01-15T10:08Z',
    ],
    [
      'a run that somebody asked for waits: not at once',
      every('1 h'),
      { since, open: true },
      'origin',
      '2026-01-15T11:00Z',
    ],
    [
      'lost at its first try: later',
      every('1 h', since),
      { since, slot: since, failures: 1 },
      'origin',
      '2026-01-15T10:08Z',
    ],
    ['after', every('1 h', since), { since }, 'after', '2026-01-15T11:03Z'],
    [
      'added in the hour that comes twice',
      cron('30 1 * * *', 'Europe/London'),
      { since: '2026-10-25T01:10Z' },
      'origin',
      '2026-10-26T01:30Z',
    ],
    [
      'added in the hour that is left out',
      cron('30 1 * * *', 'Europe/London'),
      { since: '2026-03-29T01:00Z' },
      'origin',
      '2026-03-30T00:30Z',
    ],
    ['made long ago, but nobody worked', every('1 day', '2026-01-16T00:00Z'), { since }, 'origin', '2026-01-16T00:00Z'],
  ])('%s', (_, schedule, past, first, expected) => {
    expect(decide(schedule, past, { policy: { first } })[0]).toEqual(expected)
  })

  it('at once leaves out nothing that was before the job', () => {
    const past = { since, slot: year2020, start: '2026-01-15T12:30Z', finish: '2026-01-15T12:31Z' }
    expect(decide(every('1 h'), past, { policy: { first: 'origin' } })).toEqual([
      '2026-01-15T13:00Z',
      '2 missed 2026-01-15T11:00Z to 2026-01-15T12:00Z',
    ])
  })
})

describe('jitter', () => {
  const past = { slot: '2026-01-15T10:00Z', finish: '2026-01-15T10:01Z' }
  it.each([
    [0, 3 * minute, '2026-01-15T10:10Z'],
    [0.5, 3 * minute, '2026-01-15T10:10Z at 2026-01-15T10:11:30.000Z'],
    [1, 3 * minute, '2026-01-15T10:10Z at 2026-01-15T10:13Z'],
    [1, dayLength, '2026-01-15T10:10Z at 2026-01-15T10:19:59.999Z'],
  ])('random %d, of %d ms: %s', (random, jitter, expected) => {
    expect(decide(every('10 minutes'), past, { policy: { jitter }, random })).toEqual([expected])
  })

  it('leaves retries as they are: these are spread already', () => {
    const failed = { ...past, failures: 1, retryPeriod: minute }
    expect(decide(every('10 minutes'), failed, { policy: { jitter: minute } })).toEqual(['2026-01-15T10:02Z'])
  })
})

describe('the period', () => {
  it.each<[Schedule, Past, number]>([
    [every('90 seconds'), { slot: year2020 }, 90],
    [cron('30 1 * * *', 'Europe/London'), { slot: '2026-10-24T00:30Z' }, 25 * 3600],
    [every('1 month'), { slot: '2026-01-01T00:00Z' }, 28 * 86_400],
    [drifting('1 h'), { finish: '2026-01-01T00:00Z' }, 3600],
    [drifting('1 h'), { finish: '2026-01-01T00:00Z', failures: 1 }, 3600],
    [every('1 day'), { slot: '2026-01-01T00:00Z', failures: 1 }, 86_400],
  ])('of %j after %j is %d s', (schedule, past, seconds) => {
    expect(decideStart(schedule, history(past), plain, someday, even).period).toBe(seconds)
  })
})

it.each<[Schedule, string]>([
  [cron('* * * * *', 'Europe/Lodon'), 'timezone_unknown'],
  [cron('61 * * * *'), 'cron_invalid'],
  [cron('0 0 30 2 *'), 'cron_never_comes'],
  [cron('@every 0 s'), 'interval_invalid'],
  [every('1 month 1 day'), 'interval_invalid'],
])('%j is refused as %s', (schedule, code) => {
  const known = history({ finish: '2026-01-15T10:00Z' })
  expect(() => decideStart(schedule, known, plain, someday, even)).toThrow(expect.objectContaining({ code }))
})
