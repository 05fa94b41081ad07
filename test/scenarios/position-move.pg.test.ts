import { beforeEach, expect, test } from 'vitest'
import { connect, type Session } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { findPosition, holdPosition, movePosition, type Position } from '../../src/replication/position.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'
import { makeGoods } from './stage.ts'

let destination: TestDatabase
let session: Session
/** As an attempt knows it. */
let held: Position

beforeEach(async () => {
  const source = await createDatabase('position source')
  destination = await createDatabase('position destination')
  await makeGoods(source)
  const refresher = new Refresher({ source, destination }, 'table', 'public.goods')
  await refresher.refresh()
  session = await connect(parseConnectionUrl(destination.url), { side: 'destination', purpose: 'test' })
  held = (await findPosition(session, refresher.replication.id)) as Position
  return () => session.end()
})

const row = () => destination.query('select token, read_number, state from yardmaster.position')

test('the attempt whose position it is moves it by one', async () => {
  await movePosition(session, held, { ...held.state, copiedAt: 'now' }, true)
  const [moved] = await row()
  expect(moved).toMatchObject({
    read_number: String(Number(held.readNumber) + 1),
    state: { copiedAt: 'now', appliedBy: held.token },
  })
})

test.each([
  { what: 'another token', change: 'token = gen_random_uuid()' },
  { what: 'another read number', change: 'read_number = read_number + 1' },
])('one that was overtaken ($what) moves nothing', async ({ change }) => {
  await destination.query(`update yardmaster.position set ${change}`)
  const before = await row()
  const move = movePosition(session, held, { ...held.state, copiedAt: 'now' }, true)
  await expect(move).rejects.toMatchObject({ code: 'fenced' })
  expect(await row()).toEqual(before)
})

test('one with an old token holds nothing', async () => {
  const old = held.token ?? ''
  await destination.query('update yardmaster.position set token = gen_random_uuid()')
  await expect(holdPosition(session, held.replicationId, old, 'share')).rejects.toMatchObject({ code: 'fenced' })
})
