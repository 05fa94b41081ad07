import { describe, expect, test } from 'vitest'
import { judge, refuseAuto } from './bound-time.ts'
import type { Activity } from './source-activity.ts'

const second = 1_000_000
const now = 1_800_000_000 * second
const session = (changes: Partial<Activity> = {}): Activity => ({
  ...{ pid: 7, user: 'app', isVisible: true, state: 'idle', start: null },
  ...changes,
})

describe('the bound lies two seconds before', () => {
  test.each<[string, Activity[], number]>([
    ['the clock, where nobody is there', [], now],
    ['the clock, where nobody has a transaction', [session(), session({ state: null })], now],
    ['the start of the only transaction', [session({ state: 'active', start: now - 5 * second })], now - 5 * second],
    [
      'the oldest start',
      [session({ start: now - 5 * second }), session({ start: now - 9 * second }), session({ start: now - second })],
      now - 9 * second,
    ],
    ['the clock, where a transaction began after it was read', [session({ start: now + second })], now],
    ['the clock, where a session starts a statement', [session({ state: 'active' })], now],
  ])('%s', (_, sessions, from) => {
    expect(judge(now, sessions)).toMatchObject({ instant: from - 2 * second })
  })
})

test('the oldest transaction is named, with its age', () => {
  const sessions = [
    session({ pid: 8, start: now - second }),
    session({ pid: 9, user: 'eve', start: now - 60 * second }),
  ]
  expect(judge(now, sessions)).toMatchObject({ holder: { pid: 9, user: 'eve', age: 60 * second } })
  expect(judge(now, [])).toMatchObject({ holder: undefined })
})

describe('no bound follows from a look at sessions', () => {
  test.each<[string, Activity, string]>([
    [
      'of which one is hidden',
      session({ isVisible: false, state: null, user: 'bob' }),
      'since when bob write (GRANT pg_read',
    ],
    ['of which one is not tracked', session({ state: 'disabled' }), 'track_activities is off for process 7 (app)'],
    [
      'of which one was not tracked when it began',
      session({ state: 'idle in transaction' }),
      'is off for process 7 (app)',
    ],
    ['and one that failed then', session({ state: 'idle in transaction (aborted)' }), 'is off for process 7 (app)'],
  ])('%s', (_, one, why) => {
    expect(judge(now, [session({ start: now }), one])).toEqual({ refused: expect.stringContaining(why) })
  })
})

test.each([
  ['table', false, undefined],
  ['partitioned', false, undefined],
  ['table', true, 'the source is a standby'],
  ['view', false, 'the source is a view'],
  ['matview', false, 'the source is a materialized view'],
  ['foreign', false, 'the source is a foreign table'],
] as const)('auto of a %s (standby: %s)', (kind, isStandby, why) => {
  if (why === undefined) expect(refuseAuto(kind, isStandby)).toBeUndefined()
  else expect(refuseAuto(kind, isStandby)).toContain(why)
})
