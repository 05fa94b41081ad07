import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { atEnd } from './deadline.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test.each([1, 5000, 2 ** 31 + 5, 90 * 86_400_000])('calls after %d ms, not before', (milliseconds) => {
  const call = vi.fn()
  atEnd(milliseconds, call)
  vi.advanceTimersByTime(milliseconds - 1)
  expect(call).not.toHaveBeenCalled()
  vi.advanceTimersByTime(2)
  expect(call).toHaveBeenCalledTimes(1)
})

test('never, where there is no end, or it was called off', () => {
  const call = vi.fn()
  atEnd(0, call)
  atEnd(2 ** 31 + 5, call)()
  vi.advanceTimersByTime(2 ** 32)
  expect(call).not.toHaveBeenCalled()
})
