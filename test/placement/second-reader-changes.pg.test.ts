import { beforeAll, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

let desk: PlacementDesk

beforeAll(async () => {
  desk = await PlacementDesk.open(await createDatabase('second reader changes'))
})

const bindings = () => desk.rows('select site, host, binding from yardmaster.bindings order by site, host')

test('a change is undone also where two of its hosts have become one', async () => {
  await desk.bind([{ site: 'one', host: '10.0.0.5', binding: 'prefer' }])
  const before = await bindings()
  await desk.bind(
    [
      { site: 'one', host: '10.0.0.5', binding: 'forbid' },
      { site: 'one', host: 'h5', binding: 'forbid' },
      { site: 'two', host: 'h5', binding: 'forbid' },
    ],
    true,
  )
  await desk.rows(`select yardmaster.set_host('h5', '{"addresses": ["10.0.0.5"]}')`)
  await desk.rows('select yardmaster.undo_bindings(true)')
  expect(before).toHaveLength(1)
  expect(await bindings()).toEqual([{ site: 'one', host: 'h5', binding: 'prefer' }])
  await desk.rows('select yardmaster.undo_bindings(true)')
  expect(await bindings()).toEqual([])
})

test('a fallback delay is as long in each month, and on the day on which clocks shift', async () => {
  for (const [given, hours] of [
    ['1 month', 720],
    ['1 day', 24],
    ['10 years', 86_400],
    ['90 seconds', 0.025],
    ['0', 0],
  ] as const) {
    await desk.rows("select yardmaster.set_fallback('CEO', $1), yardmaster.set_fallback(null, $1)", [given])
    const rows =
      await desk.rows(`select extract(epoch from fallback_after)::float8 / 3600 as hours, extract(day from fallback_after) + extract(month from fallback_after)
        + extract(year from fallback_after) as calendar from yardmaster.sites where name = 'CEO' union all
      select extract(epoch from fallback_after)::float8 / 3600, extract(day from fallback_after) + extract(month from fallback_after)
        + extract(year from fallback_after) from yardmaster.placement`)
    expect(rows, given).toEqual([
      { hours, calendar: '0' },
      { hours, calendar: '0' },
    ])
  }
})
