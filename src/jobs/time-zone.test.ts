import fc from 'fast-check'
import { Temporal } from 'temporal-polyfill'
import { describe, expect, it } from 'vitest'
import { checkTimeZone, instantOf, spanAt, wallClock } from './time-zone.ts'

const zones = [
  ...['UTC', 'Europe/London', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Africa/Casablanca'],
  ...['America/Nuuk', 'Pacific/Apia', 'Antarctica/Troll', 'Asia/Gaza'],
]
const zone = fc.constantFrom(...zones)
/** Whole seconds of 2005 to 2045: Apia left out a day of 2011, Casablanca shifts four times in some years. */
const instant = fc.integer({ min: Date.UTC(2005) / 1000, max: Date.UTC(2045) / 1000 }).map((seconds) => seconds * 1000)
const show = (at: number) => new Date(at).toISOString()

/** What Intl says that the clocks show: knows nothing of Temporal. */
function shown(timeZone: string, at: number): number {
  const parts = new Intl.DateTimeFormat('en-US', {
    ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
    ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
  }).formatToParts(at)
  const value = (type: string) => Number(parts.find((part) => part.type === type)?.value)
  return Date.UTC(value('year'), value('month') - 1, value('day'), value('hour'), value('minute'), value('second'))
}

describe('the wall clock', () => {
  it('shows what Intl says, at any time and at both ends of its span', () => {
    fc.assert(
      fc.property(zone, instant, (name, at) => {
        expect(wallClock(name, at)).toBe(shown(name, at))
        const { from, until, offset } = spanAt(name, at)
        expect(from <= at && at < until).toBe(true)
        for (const edge of [from, until - 1000]) {
          if (Number.isFinite(edge)) expect(shown(name, edge) - edge).toBe(offset)
        }
        for (const edge of [from - 1000, until]) {
          if (Number.isFinite(edge)) expect(shown(name, edge) - edge).not.toBe(offset)
        }
      }),
    )
  })

  it('is read back as Temporal reads it', () => {
    fc.assert(
      fc.property(zone, instant, fc.boolean(), (name, at, nearShift) => {
        const edge = spanAt(name, at).until
        // Two hours around a shift, or anywhere.
        const wall = nearShift && Number.isFinite(edge) ? wallClock(name, edge) + (at % 7_200_000) - 3_600_000 : at
        const plain = new Temporal.PlainDateTime(1970, 1, 1).add({ milliseconds: wall })
        expect(show(instantOf(name, wall, 'shifted'))).toBe(show(plain.toZonedDateTime(name).epochMilliseconds))
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    ['Europe/London', '2026-03-29T01:30Z', '2026-03-29T01:30Z', '2026-03-29T01:00Z'],
    ['America/New_York', '2026-03-08T02:30Z', '2026-03-08T07:30Z', '2026-03-08T07:00Z'],
    ['Australia/Lord_Howe', '2026-10-04T02:15Z', '2026-10-03T15:45Z', '2026-10-03T15:30Z'],
    ['America/Nuuk', '2026-03-28T23:30Z', '2026-03-29T01:30Z', '2026-03-29T01:00Z'],
    ['Pacific/Apia', '2011-12-30T12:00Z', '2011-12-30T22:00Z', '2011-12-30T10:00Z'],
  ])('%s: %s is left out', (name, wall, shifted, atTheShift) => {
    const read = (leftOut: 'shifted' | 'at the shift') => instantOf(name, Date.parse(wall), leftOut)
    expect(read('shifted')).toBe(Date.parse(shifted))
    expect(read('at the shift')).toBe(Date.parse(atTheShift))
  })
})

describe('names of time zones', () => {
  it.each(['UTC', 'GMT', 'Europe/London', 'europe/london', 'US/Eastern', 'EST5EDT', 'Asia/Calcutta'])(
    '%s is one',
    (name) => {
      expect(() => checkTimeZone(name)).not.toThrow()
    },
  )

  it.each([
    ['Europe/Lodon', /no time zone 'Europe\/Lodon'; did you mean Europe\/London\?$/],
    ['London', /did you mean Europe\/London\?/],
    ['new york', /did you mean America\/New_York\?/],
    ['Moon/Tranquility', /no time zone 'Moon\/Tranquility'\.$/],
    ['+02:00', /no time zone '\+02:00'\.$/],
    ['', /no time zone ''\.$/],
  ])('%j is none', (name, message) => {
    expect(() => checkTimeZone(name)).toThrow(message)
    expect(() => spanAt(name, 0)).toThrow(expect.objectContaining({ code: 'timezone_unknown', object: name }))
  })
})
