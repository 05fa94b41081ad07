import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { RoundTrips } from '../../test/support/round-trips.ts'
import { connect } from './connect.ts'
import { parseConnectionUrl } from './connection-url.ts'
import { readTypes } from './type-catalog.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase('types')
})

async function watched() {
  const session = await connect(parseConnectionUrl(database.url), { side: 'source', purpose: 'test' })
  onTestFinished(() => session.end())
  const trips = new RoundTrips()
  trips.onSession(session, 'source')
  return { session, trips: trips.source }
}

const [int4, textArray, text] = [23, 1009, 25]

test('what comes with a version is read once by each connection', async () => {
  const one = await watched()
  const first = await readTypes(one.session, [int4, textArray])
  expect(one.trips).toHaveLength(2)
  const again = await readTypes(one.session, [textArray, int4, text])
  expect(one.trips).toHaveLength(2)
  expect(again.row(textArray)).toEqual(first.row(textArray))
  expect(again.isBinarySafe(textArray)).toBe(true)
  const other = await watched()
  await readTypes(other.session, [int4])
  expect(other.trips).toHaveLength(1)
})

test('what people made is read each time', async () => {
  await database.query(`create type public.mood as enum ('calm')`)
  const [{ oid }] = (await database.query(`select 'public.mood'::regtype::oid::int as oid`)) as [{ oid: number }]
  const { session } = await watched()
  expect((await readTypes(session, [oid])).row(oid).labels).toEqual(['calm'])
  await database.query(`alter type public.mood add value 'wild'`)
  expect((await readTypes(session, [oid])).row(oid).labels).toEqual(['calm', 'wild'])
})
