import { expect, it } from 'vitest'
import { zoneTrouble } from './job-troubles.ts'

const at = [new Date('2030-01-01T00:00:00Z'), new Date('2030-07-01T00:00:00Z')]

it('finds nothing where both know the zone alike', () => {
  expect(zoneTrouble({ timezone: 'Europe/London', jobs: [1001], at, offsets: [0, 3600] })).toBeUndefined()
})

it('names the first day on which the clocks stand otherwise, and the jobs', () => {
  expect(zoneTrouble({ timezone: 'Europe/London', jobs: [1, 2, 3, 4, 5, 6, 7], at, offsets: [0, 0] })).toMatchObject({
    ...{ code: 'zone_differs', level: 'WARNING', object: 'time zone Europe/London' },
    message:
      'On 2030-07-01 its clocks stand otherwise for this program than for the control server; jobs go by it: 1, 2, 3, 4, 5 and 2 more.',
  })
})

it('says that jobs of a zone that it does not know do not start', () => {
  expect(zoneTrouble({ timezone: 'Mars/Olympus', jobs: [1001], at, offsets: [0, 0] })).toMatchObject({
    ...{ code: 'zone_unknown', level: 'CRITICAL' },
    message: 'Jobs go by it that do not start, as this program does not know it: 1001.',
  })
})
