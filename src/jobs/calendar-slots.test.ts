import fc from 'fast-check'
import { Temporal } from 'temporal-polyfill'
import { describe, expect, it } from 'vitest'
import { dayLength, parseInterval } from './interval.ts'
import { nextStarts, type Schedule } from './schedule.ts'

const minute = 60_000
const show = (date: Date) => date.toISOString().replace(/:00\.000Z$/, 'Z')

function every(interval: string, origin: string, timezone: string): Schedule {
  return { kind: 'interval', interval: parseInterval(interval), fixed: true, origin: new Date(origin), timezone }
}

describe('months', () => {
  const days = (origin: string, interval: string, count: number) =>
    nextStarts(every(interval, origin, 'UTC'), new Date(origin), count).map((date) => date.toISOString().slice(0, 10))

  it.each([
    ['2026-01-31', '1 month', ['2026-02-28', '2026-03-31', '2026-04-30', '2026-05-31']],
    ['2027-12-30', '1 month', ['2028-01-30', '2028-02-29', '2028-03-30']],
    ['2026-01-29', '1 month', ['2026-02-28', '2026-03-29']],
    ['2028-01-29', '1 month', ['2028-02-29', '2028-03-29']],
    ['2024-02-29', '1 year', ['2025-02-28', '2026-02-28', '2027-02-28', '2028-02-29']],
    ['2026-08-31', '6 months', ['2027-02-28', '2027-08-31', '2028-02-29']],
    ['2026-03-31', '10 months', ['2027-01-31', '2027-11-30', '2028-09-30']],
  ])('from %s by %s', (origin, interval, expected) => {
    expect(days(origin, interval, expected.length)).toEqual(expected)
  })
})

const zones = [
  'UTC',
  'Europe/London',
  'America/New_York',
  'Australia/Lord_Howe',
  'Asia/Kolkata',
  'America/Nuuk',
  'Africa/Casablanca',
]
const zone = fc.constantFrom(...zones)

describe('days and months against Temporal, step by step from the origin', () => {
  const steps = fc.constantFrom(
    ...['1 day', '7 days', '1 day 1 hour', '2 days 13 hours', '36 hours', '1 month', '5 months', '1 year'],
  )

  it('are the same, from any moment on', () => {
    const origins = fc.integer({ min: Date.UTC(2019), max: Date.UTC(2025) })
    const later = fc.integer({ min: 0, max: 700 * dayLength })
    const places = fc.constantFrom('anywhere', 'just before the slot', 'at the slot')
    fc.assert(
      fc.property(zone, steps, origins, later, places, (timezone, text, origin, ahead, place) => {
        const { months, days, milliseconds } = parseInterval(text)
        const start = Temporal.Instant.fromEpochMilliseconds(origin).toZonedDateTimeISO(timezone)
        const slot = (k: number) =>
          start.add({ months: k * months, days: k * days }).add({ milliseconds: k * milliseconds }).epochMilliseconds
        let k = 0
        while (slot(k) <= origin + ahead) k += 1
        const after = { anywhere: origin + ahead, 'just before the slot': slot(k) - 1, 'at the slot': slot(k) }[place]
        const expected = new Date(place === 'at the slot' ? slot(k + 1) : slot(k))
        const [first] = nextStarts(every(text, new Date(origin).toISOString(), timezone), new Date(after), 1)
        expect(first && show(first)).toBe(show(expected))
      }),
      { numRuns: 300 },
    )
  })
})

/** What the clocks show, by Intl: `2026-03-29 01:30`. */
function wallText(timeZone: string, at: number): string {
  return new Intl.DateTimeFormat('sv', { timeZone, dateStyle: 'short', timeStyle: 'short' }).format(at)
}

describe('every day, against a walk over the minutes of the shift days', () => {
  it.each([
    ['Europe/London', '2026-03-28T00:00Z'],
    ['Europe/London', '2026-10-24T00:00Z'],
    ['America/New_York', '2026-03-07T00:00Z'],
    ['America/New_York', '2026-10-31T00:00Z'],
    ['Australia/Lord_Howe', '2026-04-04T00:00Z'],
    ['Australia/Lord_Howe', '2026-10-03T00:00Z'],
    ['UTC', '2026-03-28T00:00Z'],
  ])('%s from %s on', (timezone, from) => {
    const begin = Date.parse(from)
    /** The first minute of each text that the clocks show. */
    const shown = new Map<string, number>()
    for (let at = begin + 3 * dayLength; at >= begin; at -= minute) shown.set(wallText(timezone, at), at)
    // Each quarter of an hour of a day long before, so that the slots are counted over other shifts too.
    for (let quarter = 0; quarter < 96; quarter += 1) {
      const origin = new Date(Date.UTC(2020, 5, 1) + quarter * 15 * minute)
      const time = wallText(timezone, origin.getTime()).slice(11)
      const slots = nextStarts(every('1 day', origin.toISOString(), timezone), new Date(begin - 1), 2)
      for (const slot of slots) {
        const [date = '', at = ''] = wallText(timezone, slot.getTime()).split(' ')
        const meant = shown.get(`${date} ${time}`)
        if (meant !== undefined) expect(show(slot)).toBe(show(new Date(meant)))
        // Left out by the clocks: as much later as they were put forward.
        else expect(['00:30', '01:00']).toContain(difference(time, at))
      }
      expect(new Set(slots.map((slot) => wallText(timezone, slot.getTime()).slice(0, 10))).size).toBe(2)
    }
  })

  function difference(from: string, to: string): string {
    return new Date(Date.parse(`2026-01-01T${to}Z`) - Date.parse(`2026-01-01T${from}Z`)).toISOString().slice(11, 16)
  }
})
