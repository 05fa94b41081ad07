import { describe, expect, it } from 'vitest'
import { cron, decide, drifting, even, every, hour, never, type Past } from '../../test/support/next-start-cases.ts'
import { dayLength } from './interval.ts'
import type { Schedule } from './schedule.ts'

describe('after a failure', () => {
  const nine = '2026-01-15T09:00Z'
  const ten = '2026-01-15T10:00Z'
  it.each<[string, Schedule, Past, string, ...string[]]>([
    ['the first: the retry period', every('1 day'), { slot: ten, finish: ten, failures: 1 }, '2026-01-15T10:05Z'],
    ['the third: three of them', every('1 day'), { slot: ten, finish: ten, failures: 3 }, '2026-01-15T10:15Z'],
    ['the hundredth: twenty of them', every('1 day'), { slot: ten, finish: ten, failures: 100 }, '2026-01-15T11:40Z'],
    [
      'not later than the next slot',
      every('10 minutes'),
      { slot: ten, finish: '2026-01-15T10:07Z', failures: 1 },
      '2026-01-15T10:10Z',
    ],
    [
      'slots that passed meanwhile are left out all the same',
      every('10 minutes'),
      { slot: ten, start: ten, finish: '2026-01-15T10:22Z', failures: 1 },
      '2026-01-15T10:27Z',
      '2 overlap 2026-01-15T10:10Z to 2026-01-15T10:20Z',
    ],
    [
      'no retry before the slot',
      every('1 h'),
      { slot: ten, finish: ten, failures: 1, retryPeriod: never },
      '2026-01-15T11:00Z',
    ],
    [
      'no retry before the slot of a cron',
      cron('0 * * * *'),
      { slot: ten, finish: ten, failures: 9, retryPeriod: never },
      '2026-01-15T11:00Z',
    ],
    [
      'drifting, no retry',
      drifting('1 h'),
      { slot: ten, finish: ten, failures: 1, retryPeriod: never },
      '2026-01-15T11:00Z',
    ],
    [
      'at once',
      every('1 h'),
      { slot: nine, finish: '2026-01-15T09:10Z', failures: 1, retryPeriod: 0 },
      '2026-01-15T09:10Z',
    ],
    [
      'at once, but not as a slot that was left out',
      every('1 h'),
      { slot: nine, finish: ten, failures: 1, retryPeriod: 0 },
      '2026-01-15T10:00:00.001Z',
      '1 overlap 2026-01-15T10:00Z to 2026-01-15T10:00Z',
    ],
    ['drifting: five intervals at most', drifting('10 s'), { finish: ten, failures: 1 }, '2026-01-15T10:00:50.000Z'],
    ['drifting: may be later than an interval', drifting('2 min'), { finish: ten, failures: 1 }, '2026-01-15T10:05Z'],
    [
      'cron',
      cron('30 2 * * *'),
      { slot: '2026-01-15T02:30Z', finish: '2026-01-15T02:31Z', failures: 2 },
      '2026-01-15T02:41Z',
    ],
    [
      'cron: not later than the next time',
      cron('30 2 * * *'),
      { slot: '2026-01-14T02:30Z', finish: '2026-01-15T02:29Z', failures: 2 },
      '2026-01-15T02:30Z',
    ],
    [
      'a period of its own',
      every('1 day'),
      { slot: ten, finish: ten, failures: 2, retryPeriod: 1000 },
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
    [
      'the clock was put back under the run',
      every('1 day'),
      { finish: '2026-01-14T23:30Z', start: '2026-01-15T00:01Z', slot: '2026-01-15T00:00Z', failures: 1 },
      '2026-01-15T00:06Z',
    ],
    [
      'a run of it waits: that is the retry',
      every('1 h'),
      { slot: ten, finish: ten, failures: 1, open: true },
      '2026-01-15T11:00Z',
    ],
  ])('%s', (_, schedule, past, ...expected) => {
    expect(decide(schedule, past)).toEqual(expected)
  })

  it('is spread from −15/128 to +16/128 of the delay', () => {
    const past = { slot: ten, finish: ten, failures: 1, retryPeriod: 128_000 }
    expect(decide(every('1 day'), past, { random: 0 })).toEqual(['2026-01-15T10:01:53.000Z'])
    expect(decide(every('1 day'), past, { random: even })).toEqual(['2026-01-15T10:02:08.000Z'])
    expect(decide(every('1 day'), past, { random: 1 })).toEqual(['2026-01-15T10:02:24.000Z'])
  })
})

describe('after a worker was lost', () => {
  const ten = '2026-01-15T10:00Z'
  const daily = every('1 day', '2020-01-01T10:00Z')
  const lost = { slot: ten, start: ten, finish: '2026-01-15T10:00:30Z', failures: 1, crashed: true }
  it.each<[string, Schedule, Past, string, ...string[]]>([
    ['the retry where that is later', daily, { ...lost, failures: 3 }, '2026-01-15T10:15:30.000Z'],
    ['the pause where that is later', daily, { ...lost, retryPeriod: 1000 }, '2026-01-15T10:05:30.000Z'],
    [
      'a slot between retry and pause end',
      every('1 day', '2020-01-01T10:05Z'),
      { ...lost, retryPeriod: 1000 },
      '2026-01-15T10:05Z at 2026-01-15T10:05:30.000Z',
    ],
    [
      'slots that pass meanwhile: the last of them is run, late',
      every('1 minute'),
      lost,
      '2026-01-15T10:05Z at 2026-01-15T10:05:30.000Z',
      '4 retry 2026-01-15T10:01Z to 2026-01-15T10:04Z',
    ],
    [
      'the pause ends at a slot',
      every('30 seconds'),
      { ...lost, crashPause: 30_000 },
      '2026-01-15T10:01Z',
      '1 overlap 2026-01-15T10:00:30.000Z to 2026-01-15T10:00:30.000Z',
    ],
    [
      'cron',
      cron('* * * * *'),
      lost,
      '2026-01-15T10:05Z at 2026-01-15T10:05:30.000Z',
      '4 retry 2026-01-15T10:01Z to 2026-01-15T10:04Z',
    ],
    ['now', daily, { ...lost, crashPause: 0 }, '2026-01-15T10:00:30.000Z'],
    ['now, for the fifth time', daily, { ...lost, failures: 5, crashPause: 0 }, '2026-01-15T10:00:30.000Z'],
    ['never: at the next slot', daily, { ...lost, crashPause: never }, '2026-01-16T10:00Z'],
    ['a million years: at the next slot', daily, { ...lost, crashPause: 1e6 * 366 * dayLength }, '2026-01-16T10:00Z'],
    [
      'no retry, but a pause that is over before the slot',
      every('1 h'),
      { ...lost, retryPeriod: never },
      '2026-01-15T11:00Z',
    ],
    ['drifting: the later of both', drifting('1 s'), lost, '2026-01-15T10:05:30.000Z'],
    ['drifting: the retry', drifting('1 day'), { ...lost, failures: 2 }, '2026-01-15T10:10:30.000Z'],
    ['drifting, now', drifting('1 day'), { ...lost, crashPause: 0 }, '2026-01-15T10:00:30.000Z'],
    [
      'drifting, never: an interval later',
      drifting('1 day'),
      { ...lost, crashPause: never },
      '2026-01-16T10:00:30.000Z',
    ],
    ['a run of it is open: that is the next try', every('1 minute'), { ...lost, open: true }, '2026-01-15T10:01Z'],
  ])('%s', (_, schedule, past, ...expected) => {
    expect(decide(schedule, past)).toEqual(expected)
  })

  it('a second decision keeps what the first one left out', () => {
    const past = { ...lost, slot: '2026-01-15T10:04Z' }
    expect(decide(every('1 minute'), past)).toEqual(['2026-01-15T10:05Z at 2026-01-15T10:05:30.000Z'])
  })

  it.each([
    [
      'in the pause: the first slot of the window waits',
      '2026-01-15T10:03Z',
      ['2026-01-15T10:01Z at 2026-01-15T10:05:30.000Z'],
    ],
    [
      'behind it: each of them',
      '2026-01-15T10:06:30Z',
      ['2026-01-15T10:07Z', ...[1, 2, 3, 4, 5, 6].map((at) => `catch up 2026-01-15T10:0${at}Z`)],
    ],
    ['beyond the window', '2026-01-15T12:00Z', undefined],
  ])('with a catch-up window, %s', (_, now, expected) => {
    const found = decide(every('1 minute'), lost, { policy: { catchUp: hour }, now })
    if (expected) expect(found).toEqual(expected)
    else {
      expect(found).toHaveLength(62)
      expect(found.at(-1)).toBe('59 missed 2026-01-15T10:01Z to 2026-01-15T10:59Z')
    }
  })
})
