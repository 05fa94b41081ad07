import { describe, expect, it } from 'vitest'
import { formatBytes, formatCount, formatDuration, parseDuration } from './duration.ts'

describe('intervals', () => {
  it.each([
    ['90', 90_000],
    ['1.5', 1500],
    ['10 minutes', 600_000],
    ['1 min 30 s', 90_000],
    ['5min', 300_000],
    ['00:01:30', 90_000],
    ['01:30', 5_400_000],
    ['250 ms', 250],
    ['1 day 2 hours', 93_600_000],
    ['0', 0],
  ])('%s is %d ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds)
  })

  it.each(['', 'soon', '10 parsecs', '-5 s', '1 month', '10 minutes ago', '5 s x', '1:75'])('%j is refused', (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'wrong_usage' }))
  })
})

describe('figures for people', () => {
  it.each([
    [0, '0 ms'],
    [0.85, '850 ms'],
    [0.9996, '1.0 s'],
    [12.44, '12.4 s'],
    [59.96, '1 min 00 s'],
    [185, '3 min 05 s'],
    [7800, '2 h 10 min'],
    [86_399, '1 d 0 h'],
    [273_600, '3 d 4 h'],
  ])('%d s is %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text)
  })

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1_503_238_553, '1.40 GiB'],
    [1_073_741_823, '1024 MiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text)
  })

  it('counts have thousands', () => {
    expect(formatCount(4_812_004)).toBe('4,812,004')
  })
})
