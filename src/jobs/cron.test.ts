import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shownMinutes, walk } from '../../test/support/cron-walk.ts'
import { nextCronTime } from './cron.ts'

const minute = 60_000
const show = (at: number | undefined) =>
  at === undefined ? 'never' : new Date(at).toISOString().replace(':00.000Z', 'Z')

/** All due times in (after, until]. */
function due(expression: string, zone: string, after: number, until: number): number[] {
  const times: number[] = []
  for (let at = nextCronTime(expression, zone, after); at !== undefined && at <= until; ) {
    if (at <= (times.at(-1) ?? after))
      throw new Error(`${expression} in ${zone}: ${show(at)} is not after ${show(times.at(-1) ?? after)}`)
    times.push(at)
    at = nextCronTime(expression, zone, at)
  }
  return times
}

describe('days on which clocks are put forward or back', () => {
  it.each([
    // A named hour: once a day, whatever the clocks do.
    [
      '30 1 * * *',
      'Europe/London',
      '2026-03-28T12:00Z',
      '2026-03-30T12:00Z',
      ['2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ],
    [
      '30 1 * * *',
      'Europe/London',
      '2026-10-24T12:00Z',
      '2026-10-26T12:00Z',
      ['2026-10-25T00:30Z', '2026-10-26T01:30Z'],
    ],
    [
      '30 2 * * *',
      'America/New_York',
      '2026-03-07T12:00Z',
      '2026-03-09T12:00Z',
      ['2026-03-08T07:00Z', '2026-03-09T06:30Z'],
    ],
    [
      '30 1 * * *',
      'America/New_York',
      '2026-10-31T12:00Z',
      '2026-11-02T12:00Z',
      ['2026-11-01T05:30Z', '2026-11-02T06:30Z'],
    ],
    [
      '15 2 * * *',
      'Australia/Lord_Howe',
      '2026-10-03T00:00Z',
      '2026-10-05T00:00Z',
      ['2026-10-03T15:30Z', '2026-10-04T15:15Z'],
    ],
    [
      '45 1 * * *',
      'Australia/Lord_Howe',
      '2026-04-04T00:00Z',
      '2026-04-06T00:00Z',
      ['2026-04-04T14:45Z', '2026-04-05T15:15Z'],
    ],
    ['30 2 * * *', 'UTC', '2026-03-28T12:00Z', '2026-03-30T12:00Z', ['2026-03-29T02:30Z', '2026-03-30T02:30Z']],
    // The hour that is left out ends at midnight, so that the next day begins where it began.
    [
      '30 23 * * *',
      'America/Nuuk',
      '2026-03-28T12:00Z',
      '2026-03-30T12:00Z',
      ['2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ],
    // A whole day left out: 30 December 2011.
    [
      '0 12 * * *',
      'Pacific/Apia',
      '2011-12-29T00:00Z',
      '2012-01-01T00:00Z',
      ['2011-12-29T22:00Z', '2011-12-30T10:00Z', '2011-12-30T22:00Z', '2011-12-31T22:00Z'],
    ],
    // Several times of the named hour left out: one start instead of them, also where it is a start of its own.
    ['*/15 2 * * *', 'America/New_York', '2026-03-08T00:00Z', '2026-03-08T20:00Z', ['2026-03-08T07:00Z']],
    ['0 2,3 * * *', 'America/New_York', '2026-03-08T00:00Z', '2026-03-08T20:00Z', ['2026-03-08T07:00Z']],
    [
      '*/30 1 * * *',
      'Europe/London',
      '2026-10-24T12:00Z',
      '2026-10-25T12:00Z',
      ['2026-10-25T00:00Z', '2026-10-25T00:30Z'],
    ],
    ['@daily', 'Europe/London', '2026-10-24T12:00Z', '2026-10-26T12:00Z', ['2026-10-24T23:00Z', '2026-10-26T00:00Z']],
    // Every hour: by the clocks as they go.
    [
      '*/30 * * * *',
      'Europe/London',
      '2026-10-24T23:30Z',
      '2026-10-25T02:00Z',
      ['2026-10-25T00:00Z', '2026-10-25T00:30Z', '2026-10-25T01:00Z', '2026-10-25T01:30Z', '2026-10-25T02:00Z'],
    ],
    [
      '@hourly',
      'America/New_York',
      '2026-11-01T04:30Z',
      '2026-11-01T07:00Z',
      ['2026-11-01T05:00Z', '2026-11-01T06:00Z', '2026-11-01T07:00Z'],
    ],
    [
      '0 0-23 * * *',
      'America/New_York',
      '2026-11-01T04:30Z',
      '2026-11-01T07:00Z',
      ['2026-11-01T05:00Z', '2026-11-01T06:00Z', '2026-11-01T07:00Z'],
    ],
    [
      '0 * * * *',
      'America/New_York',
      '2026-03-08T05:30Z',
      '2026-03-08T08:00Z',
      ['2026-03-08T06:00Z', '2026-03-08T07:00Z', '2026-03-08T08:00Z'],
    ],
    [
      '30 * * * *',
      'Australia/Lord_Howe',
      '2026-04-04T14:00Z',
      '2026-04-04T16:00Z',
      ['2026-04-04T14:30Z', '2026-04-04T15:00Z', '2026-04-04T16:00Z'],
    ],
    ['0 * * * *', 'Asia/Kolkata', '2026-03-29T00:00Z', '2026-03-29T02:00Z', ['2026-03-29T00:30Z', '2026-03-29T01:30Z']],
  ])('%s in %s after %s', (expression, zone, after, until, times) => {
    expect(due(expression, zone, Date.parse(after), Date.parse(until)).map(show)).toEqual(times)
  })

  it.each([
    // In the first pass, in the second one before and after the same time, at the shift itself.
    ['2026-10-25T00:29Z', '2026-10-25T00:30Z'],
    ['2026-10-25T00:30Z', '2026-10-26T01:30Z'],
    ['2026-10-25T01:10Z', '2026-10-26T01:30Z'],
    ['2026-10-25T01:40Z', '2026-10-26T01:30Z'],
    ['2026-03-29T00:59:59.999Z', '2026-03-29T01:00Z'],
    ['2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ['2026-03-29T01:10Z', '2026-03-30T00:30Z'],
  ])('30 1 * * * in London, added at %s, is first due at %s', (after, first) => {
    expect(show(nextCronTime('30 1 * * *', 'Europe/London', Date.parse(after)))).toBe(first)
  })
})

describe('what is supported', () => {
  const at = Date.parse('2026-01-15T10:00:00.000Z')

  it.each([
    ['* * * * *', '2026-01-15T10:01Z'],
    ['*/10 * * * * *', '2026-01-15T10:00:10.000Z'],
    ['  5,50   10  *  *\t* ', '2026-01-15T10:05Z'],
    ['10-30/5 * * * *', '2026-01-15T10:10Z'],
    ['0 0 * * MON-FRI', '2026-01-16T00:00Z'],
    ['0 0 * * sun', '2026-01-18T00:00Z'],
    ['0 0 * * 7', '2026-01-18T00:00Z'],
    ['0 0 1 FEB,MAR *', '2026-02-01T00:00Z'],
    ['0 0 L * *', '2026-01-31T00:00Z'],
    ['0 0 * * FRI#2', '2026-02-13T00:00Z'],
    ['0 0 * * FRIL', '2026-01-30T00:00Z'],
    ['0 0 17W * *', '2026-01-16T00:00Z'],
    // A day of the month and a day of the week: either.
    ['0 0 20 * FRI', '2026-01-16T00:00Z'],
    ['0 0 29 2 *', '2028-02-29T00:00Z'],
    ['@yearly', '2027-01-01T00:00Z'],
    ['@Monthly', '2026-02-01T00:00Z'],
    ['@weekly', '2026-01-18T00:00Z'],
    ['@daily', '2026-01-16T00:00Z'],
    ['@midnight', '2026-01-16T00:00Z'],
    ['@hourly', '2026-01-15T11:00Z'],
    ['0 0 30 2 *', 'never'],
    ['0 0 31 4,6 *', 'never'],
  ])('%s is next due at %s', (expression, time) => {
    expect(show(nextCronTime(expression, 'UTC', at))).toBe(time)
  })

  it.each([
    ['61 * * * *', "has '61' as its minute; expected 0 to 59, or"],
    ['* * 25 * * *', "has '25' as its hour; expected 0 to 23, or"],
    ['60 * * * * *', "has '60' as its second; expected 0 to 59"],
    ['* 22-2 * * *', "has '22-2' as its hour; expected 0 to 23, or * for each, a list (1,5), a range from the lower"],
    ['* * 0 * *', "has '0' as its day of the month; expected 1 to 31"],
    ['* * * FOO *', "has 'FOO' as its month; expected 1 to 12, JAN to DEC"],
    ['* * * * 8', "has '8' as its day of the week; expected 0 to 7 (0 and 7 are Sunday)"],
    ['*/0 * * * *', "has '*/0' as its minute"],
    ['1/5 * * * *', "has '1/5' as its minute"],
    ['1,,2 * * * *', "has '1,,2' as its minute"],
    ['* * *', 'has 3 fields; it takes five'],
    ['* * * * * * 2026', 'has 7 fields; it takes five'],
    ['*', 'has 1 field; it takes five'],
    [' ', 'has 0 fields; it takes five'],
    ['@reboot', 'is no name of a schedule; known are @yearly'],
    ['@dialy', 'is no name of a schedule; did you mean @daily?'],
    ['@hourly *', 'is no name of a schedule'],
  ])('%j is refused', (expression, reason) => {
    const failing = () => nextCronTime(expression, 'UTC', at)
    expect(failing).toThrow(`The cron expression '${expression}' ${reason}`)
    expect(failing).toThrow(expect.objectContaining({ code: 'cron_invalid', object: expression }))
  })

  it('stays right beyond the number of expressions that are kept', () => {
    for (let round = 0; round < 2; round += 1) {
      for (let index = 0; index < 150; index += 1) {
        const expression = `${index % 60} ${Math.floor(index / 60)} * * *`
        expect(nextCronTime(expression, 'UTC', Date.UTC(2026, 0, 1) - 1)).toBe(Date.UTC(2026, 0, 1) + index * minute)
      }
    }
  })
})

const windows = [
  ['Europe/London', '2026-03-28T00:00Z'],
  ['Europe/London', '2026-10-24T00:00Z'],
  ['America/New_York', '2026-03-07T00:00Z'],
  ['America/New_York', '2026-10-31T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-04T00:00Z'],
  ['Australia/Lord_Howe', '2026-10-03T00:00Z'],
  ['America/Nuuk', '2026-03-28T00:00Z'],
  ['America/Nuuk', '2026-10-24T00:00Z'],
  ['Pacific/Apia', '2011-12-29T00:00Z'],
  ['Africa/Casablanca', '2026-02-14T00:00Z'],
  ['UTC', '2026-02-28T00:00Z'],
  ['Asia/Kolkata', '2026-03-28T00:00Z'],
] as const

describe('against a walk over all minutes', () => {
  const number = (max: number) => fc.nat({ max: max - 1 }).map(String)
  const range = (max: number) =>
    fc.tuple(fc.nat({ max: max - 1 }), fc.nat({ max: max - 1 })).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
  const list = (max: number) =>
    fc.array(fc.oneof(number(max), range(max)), { minLength: 1, maxLength: 3 }).map((items) => items.join())
  const step = (max: number) => fc.integer({ min: 1, max: max / 2 }).map((size) => `*/${size}`)
  const field = (max: number) => fc.oneof(number(max), list(max), step(max), fc.constant('*'))
  // Hours near the shifts are the ones to look at.
  const hours = fc.oneof(field(24), fc.constantFrom('0', '1', '2', '3', '23', '1-3', '0,2', '*'))
  const weekdays = fc.oneof({ weight: 4, arbitrary: fc.constant('*') }, { weight: 1, arbitrary: list(7) })
  // Few of them: a walk over each second of three days would be long.
  const seconds = fc.constantFrom('', '', '', '30 ', '0,59 ', '10-20/10 ')
  const expressions = fc
    .tuple(field(60), hours, weekdays)
    .filter(([, hour]) => !hour.includes('0-23'))
    .chain(([first, hour, weekday]) => seconds.map((second) => `${second}${first} ${hour} * * ${weekday}`))

  it.each(windows)('%s from %s on', (zone, from) => {
    const minutes = shownMinutes(zone, from, 3)
    const [start, end] = [minutes[0]?.at ?? 0, (minutes.at(-1)?.at ?? 0) + minute - 1]
    const jump =
      minutes.find(({ at, wall }) => wall - at !== (minutes[0]?.wall ?? 0) - start)?.at ?? start + 60 * minute
    const moments = fc.oneof(
      fc.integer({ min: start, max: end }),
      fc.integer({ min: jump - 60 * minute, max: jump + 60 * minute }),
    )
    fc.assert(
      fc.property(expressions, moments, (expression, after) => {
        const expected = walk(expression, minutes)
        // Not one too many, not one too few, none twice; and from any moment on the same.
        expect(due(expression, zone, start - 1, end)).toEqual(expected)
        const next = nextCronTime(expression, zone, after)
        const known = expected.find((at) => at > after)
        if (known !== undefined) expect(show(next)).toBe(show(known))
        else expect(next ?? Number.POSITIVE_INFINITY).toBeGreaterThan(end)
      }),
      { numRuns: 60 },
    )
  })
})
