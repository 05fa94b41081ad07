import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { pauseForShift } from './shift-window.ts'

let database: TestDatabase
let session: Session

const open = () => connect(parseConnectionUrl(database.url), { side: 'source', purpose: 'test' })

beforeAll(async () => {
  database = await createDatabase('shift window')
  session = await open()
})
afterAll(() => session.end())

const control = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: null } as const

/** Local times of the zone; on a day on which its clocks are put back, the second of two. */
test.each([
  // B25: in winter London stands at UTC; it shifts all the same.
  ['Europe/London', '2026-10-25 01:15+00', null, true],
  ['Europe/London', '2026-10-25 00:15+00', null, true],
  ['Europe/London', '2026-10-24 23:15+00', null, false],
  ['Europe/London', '2026-10-25 02:30+00', null, false],
  ['Europe/London', '2026-03-29 00:45+00', null, true],
  ['Europe/London', '2026-03-29 01:29+00', null, true],
  ['Europe/London', '2026-12-15 01:15+00', null, false],
  ['Europe/London', '2026-07-15 00:15+00', null, false],
  ['America/New_York', '2026-11-01 06:30+00', null, true],
  ['America/New_York', '2026-11-01 12:30+00', null, false],
  ['America/New_York', '2026-11-01 12:30+00', '07:00-08:00', true],
  ['America/New_York', '2026-11-01 06:30+00', 'off', false],
  // Lord Howe shifts by half an hour; Santiago at midnight, which that day does not have.
  ['Australia/Lord_Howe', '2026-04-04 15:10+00', null, true],
  ['America/Santiago', '2026-09-06 04:45+00', null, true],
  ['UTC', '2026-10-25 01:15+00', null, false],
  ['Asia/Kolkata', '2026-10-24 20:00+00', null, false],
])('%s at %s, window %s: %s', async (timezone, now, dstWindow, paused) => {
  const found = await pauseForShift(session, { ...control, timezone, dstWindow }, now)
  expect(found !== undefined).toBe(paused)
})

test('a window across midnight', async () => {
  const window = { ...control, timezone: 'Europe/London', dstWindow: '23:00-02:00' }
  expect(await pauseForShift(session, window, '2026-10-25 01:30+00')).toMatchObject({ window: '23:00-02:00' })
  expect(await pauseForShift(session, window, '2026-10-25 23:30+00')).toBeDefined()
  expect(await pauseForShift(session, window, '2026-10-25 12:30+00')).toBeUndefined()
})

test('without a zone it is the database’s own for our role, not the one that our sessions stand at', async () => {
  expect(await pauseForShift(session, control, '2026-10-25 01:15+00')).toBeUndefined()
  await database.query(`alter database ${database.name} set timezone = 'Europe/London'`)
  const fresh = await open()
  expect(await fresh.one(sql`show timezone`)).toEqual({ TimeZone: 'UTC' })
  expect(await pauseForShift(fresh, control, '2026-10-25 01:15+00')).toEqual({
    zone: 'Europe/London',
    window: '00:30-02:30',
  })
  await fresh.end()
})
