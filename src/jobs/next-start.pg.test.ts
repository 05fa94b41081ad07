import { expect, test } from 'vitest'
import { createDatabase } from '../../test/support/databases.ts'
import { parseInterval } from './interval.ts'
import { decideStart, type JobHistory } from './next-start.ts'
import type { Schedule } from './schedule.ts'

const zones = ['UTC', 'Europe/London', 'America/New_York', 'Australia/Lord_Howe']
/** Ends of months, a leap day, and times of day that are left out or come twice on shift days. */
const origins = [
  '2024-02-29T01:30:00Z',
  '2025-01-31T02:30:00Z',
  '2025-10-26T00:30:00Z',
  '2025-10-26T01:30:00Z',
  '2026-03-31T15:15:00Z',
]
const intervals = [
  ...['90 seconds', '7 minutes', '5 hours', '36 hours', '1 day', '3 days', '1 week', '1 day 5 hours'],
  ...['1 month', '5 months', '1 year', '4 years'],
]

interface Sums {
  zone: string
  origin: Date
  step: string
  slots: Date[]
}

const never = { lastStart: null, lastFinish: null, failures: 0, crashed: false, open: false }
const policy = { overlap: 'skip', catchUp: null, jitter: 0, first: 'after' } as const

/** By PostgreSQL, but for a time that comes twice: of that it takes the second, and we the first. */
const slotsByPostgres = `
  select zone, origin, step, array(
    select first_pass + k * exact
    from generate_series(0, 800) k
    cross join lateral (select make_interval(months => (extract(year from step::interval) * 12 + extract(month from step::interval))::int,
      days => extract(day from step::interval)::int) as calendar) c
    cross join lateral (select step::interval - calendar as exact, date_add(origin, k * calendar, zone) as slot) s
    cross join lateral (select min(slot - d) as first_pass from unnest('{0, 30 min, 1 hour}'::interval[]) d
      where k > 0 and calendar > '0' and (slot - d) at time zone zone = slot at time zone zone or d = '0') p
    where k < 40 or k % 97 < 3 or slot between timestamptz '2026-03-01' and '2026-04-10'
      or slot between timestamptz '2026-10-01' and '2026-11-10'
    order by k) as slots
  from unnest($1::text[]) zone, unnest($2::timestamptz[]) origin, unnest($3::text[]) step`

test("the slots of an interval are PostgreSQL's own sums of origin and k intervals in the zone", async () => {
  const database = await createDatabase('next start')
  const sums = await database.query<Sums>(slotsByPostgres, [zones, origins, intervals])
  expect(sums).toHaveLength(zones.length * origins.length * intervals.length)
  for (const { zone, origin, step, slots } of sums) {
    const schedule: Schedule = { kind: 'interval', interval: parseInterval(step), fixed: true, origin, timezone: zone }
    for (const slot of slots) {
      const past: JobHistory = {
        ...never,
        since: new Date(slot.getTime() - 1),
        lastSlot: null,
        retryPeriod: 0,
        crashPause: 0,
      }
      const decided = decideStart(schedule, past, policy, slot, 0)
      expect(decided.slot, `${step} from ${origin.toISOString()} in ${zone}`).toEqual(slot)
    }
    // And none between two that follow each other.
    for (const [index, slot] of slots.slice(0, 39).entries()) {
      const past: JobHistory = { ...never, since: origin, lastSlot: slot, retryPeriod: 0, crashPause: 0 }
      expect(
        decideStart(schedule, past, policy, slot, 0).slot,
        `${step} after ${slot.toISOString()} in ${zone}`,
      ).toEqual(slots[index + 1])
    }
  }
})
