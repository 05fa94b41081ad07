import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkInterval, formatInterval, intervalInWords, parseInterval } from './interval.ts'

const hour = 3_600_000
const only = (part: object) => ({ months: 0, days: 0, milliseconds: 0, ...part })

describe('intervals that people write', () => {
  it.each([
    ['90', only({ milliseconds: 90_000 })],
    ['90s', only({ milliseconds: 90_000 })],
    ['10 minutes', only({ milliseconds: 600_000 })],
    ['00:01:30', only({ milliseconds: 90_000 })],
    ['250 ms', only({ milliseconds: 250 })],
    ['24 hours', only({ milliseconds: 24 * hour })],
    ['1 day', only({ days: 1 })],
    ['2 weeks', only({ days: 14 })],
    ['1 month', only({ months: 1 })],
    ['1 Mon', only({ months: 1 })],
    ['3mons', only({ months: 3 })],
    ['1 m', only({ milliseconds: 60_000 })],
    ['2 yrs', only({ months: 24 })],
    ['1 day 2 hours', { months: 0, days: 1, milliseconds: 2 * hour }],
    ['2 hours 1 day', { months: 0, days: 1, milliseconds: 2 * hour }],
    ['1.5 days', { months: 0, days: 1, milliseconds: 12 * hour }],
    ['1.5 weeks', { months: 0, days: 10, milliseconds: 12 * hour }],
    ['1 year 2 mons 3 days 04:05:06.789', { months: 14, days: 3, milliseconds: 14_706_789 }],
    ['0', only({})],
  ])('%s', (text, interval) => {
    expect(parseInterval(text)).toEqual(interval)
  })

  it.each([
    ...[
      '',
      ' ',
      'soon',
      '10 parsecs',
      '-5 s',
      '-1 day',
      '1 day -2 hours',
      '1 day ago',
      '5 s x',
      '1:75',
      '1e3 days',
      '.5 day',
    ],
    ...['1.5 months', '0.5 years', '1..5 days', 'day', '1 day; drop table x'],
  ])('%j is refused', (text) => {
    expect(() => parseInterval(text)).toThrow(expect.objectContaining({ code: 'interval_invalid', object: text }))
  })

  it('says what was meant, and what cannot be counted', () => {
    expect(() => parseInterval('10 minuts')).toThrow("'10 minuts' is not an interval: did you mean minutes?")
    expect(() => parseInterval('1.5 months')).toThrow('months can only be counted in whole numbers.')
  })
})

describe('intervals as PostgreSQL prints them', () => {
  it.each([
    [only({}), '00:00:00'],
    [only({ months: 1 }), '1 mon'],
    [only({ months: 14 }), '1 year 2 mons'],
    [only({ days: 1 }), '1 day'],
    [only({ days: 2, milliseconds: 36 * hour + 1500 }), '2 days 36:00:01.5'],
    [only({ milliseconds: 7 }), '00:00:00.007'],
    [only({ days: -1, milliseconds: -90_000 }), '-1 days -00:01:30'],
  ])('%j is %s', (interval, text) => {
    expect(formatInterval(interval)).toBe(text)
  })

  it('are read as what they were', () => {
    const count = fc.nat({ max: 5000 })
    const intervals = fc.record({ months: count, days: count, milliseconds: fc.nat({ max: 1_000 * hour }) })
    fc.assert(
      fc.property(intervals, (interval) => {
        expect(parseInterval(formatInterval(interval))).toEqual(interval)
      }),
    )
  })
})

describe('intervals in words', () => {
  it.each([
    ['1', 'second'],
    ['90', '1 minute 30 seconds'],
    ['10 minutes', '10 minutes'],
    ['1 day', 'day'],
    ['1 day 2 hours', '1 day 2 hours'],
    ['14 months', '1 year 2 months'],
    ['1.5 s', '1.5 seconds'],
  ])('%s: every %s', (text, words) => {
    expect(intervalInWords(parseInterval(text))).toBe(words)
  })
})

describe('intervals that no schedule can go by', () => {
  it.each([
    ['nothing', only({}), true, /'00:00:00' is not longer than nothing/],
    ['backwards', only({ days: -1 }), false, /'-1 days' is not longer/],
    ['partly backwards', only({ months: 1, days: -1 }), false, /is not longer/],
    ['no number', only({ days: Number.NaN }), false, /is not longer/],
    ['1,001 years', only({ months: 12_012 }), false, /'1001 years' is longer than 1,000 years/],
    ['a month and a day at fixed times', only({ months: 1, days: 1 }), true, /'1 mon 1 day' has months and also days/],
    ['a month and an hour at fixed times', only({ months: 1, milliseconds: hour }), true, /has months and also/],
  ])('%s', (_, interval, fixed, message) => {
    expect(() => checkInterval(interval, fixed)).toThrow(message)
    expect(() => checkInterval(interval, fixed)).toThrow(expect.objectContaining({ code: 'interval_invalid' }))
  })

  it.each([
    ['a millisecond', only({ milliseconds: 1 }), true],
    ['1,000 years', only({ months: 12_000 }), true],
    ['a day and an hour', only({ days: 1, milliseconds: hour }), true],
    ['a month and a day after each run', only({ months: 1, days: 1 }), false],
  ])('but %s is one', (_, interval, fixed) => {
    expect(() => checkInterval(interval, fixed)).not.toThrow()
  })
})
