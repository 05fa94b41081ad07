import { describe, expect, it } from 'vitest'
import { dayLength, parseInterval } from './interval.ts'
import { decideStart, type JobHistory, type StartPolicy } from './next-start.ts'
import type { Schedule } from './schedule.ts'

const minute = 60_000
const hour = 60 * minute
const year2020 = '2020-01-01T00:00Z'
const never = Number.POSITIVE_INFINITY

function every(interval: string, origin = year2020, timezone = 'UTC', fixed = true): Schedule {
  return { kind: 'interval', interval: parseInterval(interval), fixed, origin: new Date(origin), timezone }
}

const drifting = (interval: string, origin = year2020, timezone = 'UTC') => every(interval, origin, timezone, false)
const cron = (expression: string, timezone = 'UTC'): Schedule => ({ kind: 'cron', expression, timezone })

interface Past {
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

function history(past: Past): JobHistory {
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

const plain: StartPolicy = { overlap: 'skip', catchUp: null, jitter: 0, first: 'after' }
const show = (date: Date) => date.toISOString().replace(/:00\.000Z$/, 'Z')
/** A `random` that leaves delays as they are. */
const even = 15 / 31
const someday = new Date('2026-06-15T00:00Z')

interface Wanted {
  policy?: Partial<StartPolicy>
  now?: string
  random?: number
}

/** `2026-01-15T10:05Z`, or `2026-01-15T10:00Z at 2026-01-15T10:05Z` where it is later than its slot; then what else there is. */
function decide(schedule: Schedule, past: Past, { policy, now, random = even }: Wanted = {}): string[] {
  const at = now === undefined ? someday : new Date(now)
  const { slot, start, catchUp, skipped } = decideStart(schedule, history(past), { ...plain, ...policy }, at, random)
  return [
    slot.getTime() === start.getTime() ? show(slot) : `${show(slot)} at ${show(start)}`,
    ...catchUp.map((date) => `catch up ${show(date)}`),
    ...skipped.map(({ first, last, slots, reason }) => `${slots} ${reason} ${show(first)} to ${show(last)}`),
  ]
}

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

describe('with a catch-up window', () => {
  const past = { slot: '2026-01-15T10:00Z', start: '2026-01-15T10:00Z', finish: '2026-01-15T10:01Z' }
  it.each<[string, Past, Wanted & { policy: Partial<StartPolicy> }, string, ...string[]]>([
    ['nothing was missed', past, { policy: { catchUp: hour }, now: '2026-01-15T10:02Z' }, '2026-01-15T11:00Z'],
    [
      'each that was missed within it, the older ones not',
      past,
      { policy: { catchUp: 2 * hour }, now: '2026-01-15T14:30Z' },
      '2026-01-15T15:00Z',
      'catch up 2026-01-15T13:00Z',
      'catch up 2026-01-15T14:00Z',
      '2 missed 2026-01-15T11:00Z to 2026-01-15T12:00Z',
    ],
    [
      'its edge belongs to it; a slot that is due now is not missed',
      past,
      { policy: { catchUp: 2 * hour }, now: '2026-01-15T14:00Z' },
      '2026-01-15T14:00Z',
      'catch up 2026-01-15T12:00Z',
      'catch up 2026-01-15T13:00Z',
      '1 missed 2026-01-15T11:00Z to 2026-01-15T11:00Z',
    ],
    [
      'none: all that was missed is left out',
      past,
      { policy: { catchUp: 0 }, now: '2026-01-15T14:30Z' },
      '2026-01-15T15:00Z',
      '4 missed 2026-01-15T11:00Z to 2026-01-15T14:00Z',
    ],
    [
      'slots that passed while it ran were not missed',
      { ...past, finish: '2026-01-15T12:30Z' },
      { policy: { catchUp: dayLength }, now: '2026-01-15T14:30Z' },
      '2026-01-15T15:00Z',
      'catch up 2026-01-15T13:00Z',
      'catch up 2026-01-15T14:00Z',
      '2 overlap 2026-01-15T11:00Z to 2026-01-15T12:00Z',
    ],
    [
      'but for policies that run them all the same',
      { ...past, finish: '2026-01-15T12:30Z' },
      { policy: { catchUp: dayLength, overlap: 'buffer' }, now: '2026-01-15T12:30Z' },
      '2026-01-15T13:00Z',
      'catch up 2026-01-15T11:00Z',
      'catch up 2026-01-15T12:00Z',
    ],
    [
      'missed before it began, passed while it ran, missed since',
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T12:10Z', finish: '2026-01-15T13:10Z' },
      { policy: { catchUp: 2.25 * hour }, now: '2026-01-15T14:10Z' },
      '2026-01-15T15:00Z',
      'catch up 2026-01-15T12:00Z',
      'catch up 2026-01-15T14:00Z',
      '1 missed 2026-01-15T11:00Z to 2026-01-15T11:00Z',
      '1 overlap 2026-01-15T13:00Z to 2026-01-15T13:00Z',
    ],
    [
      'after a failure, what is made up for is the retry',
      { ...past, failures: 1 },
      { policy: { catchUp: dayLength }, now: '2026-01-15T11:30Z' },
      '2026-01-15T12:00Z',
      'catch up 2026-01-15T11:00Z',
    ],
    [
      'a retry whose time has passed comes behind what was left out meanwhile',
      { ...past, failures: 1 },
      { policy: { catchUp: 0 }, now: '2026-01-15T11:30Z' },
      '2026-01-15T11:05Z at 2026-01-15T11:30Z',
      '1 missed 2026-01-15T11:00Z to 2026-01-15T11:00Z',
    ],
    [
      'a retry whose time has passed is due now',
      { ...past, failures: 1 },
      { policy: { catchUp: 0 }, now: '2026-01-15T10:30Z' },
      '2026-01-15T10:06Z at 2026-01-15T10:30Z',
    ],
    [
      'the clock was put back: nothing is made up for twice',
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T10:00Z', finish: '2026-01-15T09:10Z' },
      { policy: { catchUp: dayLength }, now: '2026-01-15T09:10Z' },
      '2026-01-15T11:00Z',
    ],
  ])('%s', (_, known, wanted, ...expected) => {
    expect(decide(every('1 hour'), known, wanted)).toEqual(expected)
  })

  it('nothing starts in the past, so that no start is found too old again and again', () => {
    const wanted: Wanted = { policy: { catchUp: 0, first: 'origin' }, now: '2026-01-15T14:30Z' }
    expect(decide(every('1 h'), { since: '2026-01-15T10:03Z' }, wanted)).toEqual([`${year2020} at 2026-01-15T14:30Z`])
    expect(decide(drifting('1 h'), past, wanted)).toEqual(['2026-01-15T11:01Z at 2026-01-15T14:30Z'])
  })

  it('makes up for 1,000 at once, and goes on where it ended', () => {
    const policy: StartPolicy = { ...plain, catchUp: dayLength }
    const before = history({ ...past, finish: '2026-01-15T10:00:30Z' })
    const first = decideStart(every('10 seconds'), before, policy, new Date('2026-01-15T18:00Z'), even)
    // Three slots passed while it ran.
    expect([first.catchUp.length, ...first.catchUp.slice(0, 1).map(show)]).toEqual([1000, '2026-01-15T10:00:40.000Z'])
    const last = first.catchUp.at(-1) ?? new Date(0)
    expect(first.slot.getTime()).toBe(last.getTime() + 10_000)
    const next = { ...before, lastSlot: first.slot, lastStart: new Date('2026-01-15T18:00:01Z') }
    const then = { ...next, lastFinish: new Date('2026-01-15T18:00:01.500Z') }
    const second = decideStart(every('10 seconds'), then, policy, new Date('2026-01-15T18:00:02Z'), even)
    expect(second.catchUp[0]?.getTime()).toBe(first.slot.getTime() + 10_000)
    expect(second.catchUp).toHaveLength(1000)
  })
})

describe('where runs may overlap', () => {
  const ten = '2026-01-15T10:00Z'
  const early = { start: ten, finish: '2026-01-15T10:01Z', failures: 1, retryPeriod: minute }
  it.each<[string, string, Past, string, ...string[]]>([
    [
      'the next slot comes while a run is under way',
      '10:00',
      { slot: ten, start: ten, open: true },
      '2026-01-15T10:05Z',
    ],
    ['and the one after it', '10:05', { slot: '2026-01-15T10:05Z', start: ten, open: true }, '2026-01-15T10:10Z'],
    ['one that is due now is not missed', '10:05', { slot: ten, start: ten, open: true }, '2026-01-15T10:05Z'],
    [
      'after nobody worked the first one is due',
      '10:12',
      { slot: ten, start: ten, finish: '2026-01-15T10:01Z' },
      '2026-01-15T10:05Z',
    ],
    [
      'and while it is open, it is the one for all that was missed',
      '10:12',
      { slot: '2026-01-15T10:00Z', start: '2026-01-15T09:00Z', finish: '2026-01-15T09:01Z', open: true },
      '2026-01-15T10:15Z',
      '2 missed 2026-01-15T10:05Z to 2026-01-15T10:10Z',
    ],
    [
      'or where it ended before it was asked',
      '10:14',
      { slot: ten, start: '2026-01-15T10:12Z', finish: '2026-01-15T10:13Z' },
      '2026-01-15T10:15Z',
      '2 missed 2026-01-15T10:05Z to 2026-01-15T10:10Z',
    ],
    [
      'the end of a run leaves nothing out',
      '10:12',
      { slot: '2026-01-15T10:10Z', start: ten, finish: '2026-01-15T10:12Z' },
      '2026-01-15T10:15Z',
    ],
    ['a failure is retried', '10:01', { slot: ten, ...early }, '2026-01-15T10:02Z'],
    ['but not beside a run that is under way', '10:01', { slot: ten, ...early, open: true }, '2026-01-15T10:05Z'],
  ])('%s', (_, now, past, ...expected) => {
    for (const overlap of ['buffer', 'allow', 'cancel'] as const) {
      expect(decide(every('5 minutes'), past, { policy: { overlap }, now: `2026-01-15T${now}Z` })).toEqual(expected)
    }
  })

  it('a schedule that drifts counts from the start of what is under way', () => {
    const past = { slot: ten, start: '2026-01-15T10:01Z', finish: '2026-01-14T10:00Z', open: true }
    expect(decide(drifting('5 minutes'), past, { policy: { overlap: 'allow' } })).toEqual(['2026-01-15T10:06Z'])
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
