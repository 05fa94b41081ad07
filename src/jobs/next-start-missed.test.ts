import { describe, expect, it } from 'vitest'
import {
  decide,
  drifting,
  even,
  every,
  history,
  hour,
  minute,
  type Past,
  plain,
  show,
  type Wanted,
  year2020,
} from '../../test/support/next-start-cases.ts'
import { dayLength } from './interval.ts'
import { decideStart, type StartPolicy } from './next-start.ts'

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
      'of a lost run nobody knows what it was under way for',
      { ...past, finish: '2026-01-15T12:01Z', failures: 1, crashed: true, crashPause: 0 },
      { policy: { catchUp: dayLength }, now: '2026-01-15T12:01Z' },
      '2026-01-15T13:00Z',
      'catch up 2026-01-15T11:00Z',
      'catch up 2026-01-15T12:00Z',
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

  it('a first start that nobody came to is a slot like the others', () => {
    const wanted: Wanted = { policy: { catchUp: 0, first: 'origin' }, now: '2026-01-15T13:30Z' }
    expect(decide(every('1 h', '2026-01-15T11:00Z'), { since: '2026-01-15T10:03Z' }, wanted)).toEqual([
      '2026-01-15T14:00Z',
      '3 missed 2026-01-15T11:00Z to 2026-01-15T13:00Z',
    ])
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
    // Nothing behind them is judged yet.
    expect([second.skipped, +second.slot]).toEqual([[], +(second.catchUp.at(-1) ?? 0) + 10_000])
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
