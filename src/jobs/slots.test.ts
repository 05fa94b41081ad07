import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dayLength, parseInterval } from './interval.ts'
import type { Schedule } from './schedule.ts'
import { resolved, slotAfter, slotsCounted, slotsWithin } from './slots.ts'

const year = 365 * dayLength
const origin = new Date('2025-03-30T00:30Z')
const zone = fc.constantFrom('UTC', 'Europe/London', 'America/New_York', 'Australia/Lord_Howe', 'America/Nuuk')

function every(text: string, timezone: string): Schedule {
  return { kind: 'interval', interval: parseInterval(text), fixed: true, origin, timezone }
}

/** With about how far their slots lie apart, so that walking along them is not long. */
const schedules = fc.oneof(
  fc
    .tuple(
      fc.constantFrom(
        ...([
          ['7 ms', 7],
          ['90 s', 90_000],
          ['1 hour', 3_600_000],
          ['1 day', dayLength],
          ['1 day 5 hours', dayLength],
          ['1 month', 30 * dayLength],
          ['7 months', 210 * dayLength],
          ['10 years', 10 * year],
        ] as const),
      ),
      zone,
    )
    .map(([[text, pace], timezone]) => ({ schedule: every(text, timezone), pace })),
  fc
    .tuple(
      fc.constantFrom(
        ...([
          ['*/10 * * * * *', 10_000],
          ['*/15 * * * *', 900_000],
          ['30 1 * * *', dayLength],
          ['* * 1 1 *', 3_600_000],
          ['@hourly', 3_600_000],
          ['@every 1 day', dayLength],
        ] as const),
      ),
      zone,
    )
    .map(([[expression, pace], timezone]) => ({
      schedule: { kind: 'cron', expression, timezone } satisfies Schedule,
      pace,
    })),
)

describe('slots of a stretch of time', () => {
  it('are those that are met by walking there', () => {
    fc.assert(
      fc.property(
        schedules,
        fc.double({ min: -20, max: 400, noNaN: true }),
        fc.double({ min: -1, max: 40, noNaN: true }),
        fc.constantFrom('anywhere', 'from a slot', 'to a slot'),
        ({ schedule, pace }, ahead, length, place) => {
          const counted = resolved(schedule)
          const somewhere = origin.getTime() + Math.round(ahead * pace)
          const after = place === 'from a slot' ? slotAfter(counted, somewhere) : somewhere
          const end = after + Math.round(length * pace)
          const until = place === 'to a slot' ? slotAfter(counted, end) : end
          const walked: number[] = []
          for (let at = slotAfter(counted, after); at <= until; at = slotAfter(counted, at)) walked.push(at)
          const expected = { first: walked[0], last: walked.at(-1), slots: walked.length }
          expect(slotsWithin(counted, after, until)).toEqual(walked.length === 0 ? undefined : expected)
        },
      ),
      { numRuns: 1000 },
    )
  })

  it.each([
    ['*/5 * * * * *', '2026-06-15T12:00:00Z', slotsCounted],
    ['30 2 1 1 *', '2026-01-01T02:30:00Z', 37],
    // All of its slots are in one month.
    ['* * * 1 *', '2026-01-31T23:59:00Z', slotsCounted],
  ])('%s: the last one is found however many there are', (expression, last, slots) => {
    const found = slotsWithin(
      { kind: 'cron', expression, timezone: 'UTC' },
      Date.UTC(1990, 0) - 1,
      Date.UTC(2026, 5, 15, 12, 0, 3),
    )
    expect([new Date(found?.last ?? 0), found?.slots]).toEqual([new Date(last), slots])
  })

  it('begin at the origin, also where that is in the second pass of an hour that comes twice', () => {
    const second = new Date('2025-10-26T01:30Z')
    const daily = { ...every('1 day', 'Europe/London'), origin: second } as Schedule
    expect(slotsWithin(daily, Date.UTC(2025, 0), second.getTime() + 36 * 3_600_000)).toEqual({
      ...{ first: second.getTime(), last: second.getTime() + dayLength, slots: 2 },
    })
  })

  it('of an interval are counted exactly, however many there are', () => {
    const before = origin.getTime() - 1
    expect(slotsWithin(every('1 ms', 'UTC'), before, origin.getTime() + year)).toEqual({
      ...{ first: origin.getTime(), last: origin.getTime() + year, slots: year + 1 },
    })
    expect(slotsWithin(every('1 month', 'Europe/London'), before, Date.UTC(4025, 2, 30))?.slots).toBe(24_000)
    expect(slotsWithin(every('1000 years', 'Europe/London'), before, Date.UTC(9000, 0))?.slots).toBe(7)
  })
})
