import { describe, expect, test } from 'vitest'
import { isWorthWaiting, newestRipe, ripen, type Sample, sampleSchema, worthKeeping } from './bound-sample.ts'

const sample = (value: string, open: string[] = [], prepared: string[] = []): Sample => ({
  ...{ value, clock: 0, open, prepared },
})
const now = (open: string[] = [], prepared: string[] = []) => ({ open: new Set(open), prepared: new Set(prepared) })

describe('a sample waits', () => {
  test.each<[string, Sample, ReturnType<typeof now>, Sample]>([
    ['for nobody: ripe', sample('5'), now(['3/1'], ['p']), sample('5')],
    ['for one that is still open', sample('5', ['3/1']), now(['3/1']), sample('5', ['3/1'])],
    ['no longer once it has ended', sample('5', ['3/1']), now(['3/2']), sample('5')],
    [
      'for what it may have been prepared as',
      sample('5', ['3/1', '4/1']),
      now(['4/1'], ['p']),
      sample('5', ['4/1'], ['p']),
    ],
    [
      'not for what was prepared while none of its own ended',
      sample('5', ['3/1']),
      now(['3/1'], ['p']),
      sample('5', ['3/1']),
    ],
    ['for a prepared one until that is gone', sample('5', [], ['p']), now([], ['p', 'q']), sample('5', [], ['p'])],
    ['and then no more', sample('5', [], ['p']), now([], ['q']), sample('5')],
  ])('%s', (_, before, running, after) => {
    expect(ripen(before, running)).toEqual(after)
  })
})

const [ripe, early, middle, late] = [
  sample('1'),
  sample('2', ['3/1']),
  sample('3', ['3/1', '4/1']),
  sample('4', ['4/1']),
]

test('the newest ripe one holds, whatever is unripe before it', () => {
  expect(newestRipe([early, ripe, late])).toBe(ripe)
  expect(newestRipe([early, late])).toBeUndefined()
  expect(newestRipe([])).toBeUndefined()
})

test('the oldest unripe one and the newest are kept, with all that they wait for, also as JSON', () => {
  expect(worthKeeping([early, middle, late])).toEqual([early, late])
  expect(worthKeeping([early, ripe, late])).toEqual([late])
  expect(worthKeeping([early])).toEqual([early])
  expect(worthKeeping([early, ripe])).toEqual([])
  const kept = worthKeeping([early, middle, late])
  expect(sampleSchema.array().parse(JSON.parse(JSON.stringify(kept)))).toEqual([early, late])
})

test('waiting is worth it for what no older sample waits for', () => {
  expect(isWorthWaiting([late])).toBe(true)
  expect(isWorthWaiting([early, late])).toBe(true)
  expect(isWorthWaiting([early, middle])).toBe(false)
  expect(isWorthWaiting([early, ripe])).toBe(false)
  expect(isWorthWaiting([])).toBe(false)
})
