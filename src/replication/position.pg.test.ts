import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { RoundTrips } from '../../test/support/round-trips.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { type Claimant, claimDestination } from './position.ts'

const firstVersion = readFileSync(new URL('../../control/destination/000001_position.sql', import.meta.url), 'utf8')

const replicationId = randomUUID()
const position = { replicationId, lockNumber: 1 }

async function destination(label: string): Promise<TestDatabase> {
  const database = await createDatabase(`position ${label}`)
  await database.query('create schema yardmaster')
  await database.query(firstVersion)
  await database.query(
    `insert into yardmaster.position (replication_id, control_id, type, schema_name, table_name) values ($1, $1, 'table', 's', 't')`,
    [replicationId],
  )
  return database
}

async function open(database: TestDatabase): Promise<Session> {
  const session = await connect(parseConnectionUrl(database.url), { side: 'destination', purpose: 'load s.t' })
  onTestFinished(() => session.end())
  return session
}

const claimant = (more: Partial<Claimant> = {}): Claimant => ({
  token: randomUUID(),
  wait: 0,
  isOver: async () => false,
  ...more,
})

const claim = (database: TestDatabase, session: Session, who: Claimant) =>
  claimDestination(session, () => open(database), position, who)

const held = (database: TestDatabase) => database.query('select token, session_pid as pid from yardmaster.position')

test('a table of positions of the first version is brought up to date by the first claim, once', async () => {
  const database = await destination('older')
  const sessions = await Promise.all([open(database), open(database), open(database)])
  const claims = await Promise.all(sessions.map((session) => claim(database, session, claimant())))
  expect(claims.filter((one) => one !== undefined)).toHaveLength(1)
  const [row] = await database.query(`select obj_description('yardmaster.position'::regclass) as version`)
  expect(row).toEqual({ version: 'yardmaster destination schema 2' })
})

test('a row that somebody else has locked is not waited for without end: five seconds, then it is tried anew', async () => {
  const database = await destination('locked row')
  const first = await open(database)
  await claim(database, first, claimant())
  await first.end()
  const stranger = await database.client()
  // Whoever looks like one of ours would be ended.
  await stranger.query(`set application_name = 'stranger'`)
  await stranger.query('begin')
  await stranger.query('select from yardmaster.position for update')
  const session = await open(database)
  const trips = new RoundTrips()
  trips.onSession(session, 'destination')
  const claimed = claim(database, session, claimant())
  const tries = () => trips.destination.filter((text) => text.includes('pg_try_advisory_lock')).length
  await expect.poll(tries, { timeout: 15_000, interval: 50 }).toBe(2)
  await stranger.query('commit')
  expect(await claimed).toMatchObject({ replicationId })
  expect(await session.one(sql`select current_setting('lock_timeout') as value`)).toEqual({ value: '0' })
})

test('lock and token come in one: whoever holds the lock is named by the position', async () => {
  const database = await destination('named')
  const session = await open(database)
  const who = claimant()
  expect(await claim(database, session, who)).toMatchObject({ replicationId, token: who.token, readNumber: '0' })
  expect(await held(database)).toEqual([{ token: who.token, pid: session.pid }])
})

test('a session that an attempt left behind which is over is ended; of one that is not, nothing is touched', async () => {
  const database = await destination('leftover')
  const [first, second] = [await open(database), await open(database)]
  const before = claimant()
  await claim(database, first, before)
  expect(await claim(database, second, claimant())).toBeUndefined()
  expect(await held(database)).toEqual([{ token: before.token, pid: first.pid }])
  const asked: string[] = []
  const after = claimant({
    isOver: async (token) => {
      asked.push(token)
      return true
    },
  })
  expect(await claim(database, second, after)).toMatchObject({ token: after.token })
  expect(asked).toEqual([before.token])
  expect(await held(database)).toEqual([{ token: after.token, pid: second.pid }])
  await expect(first.query(sql`select 1`)).rejects.toThrow()
})

test('somebody who took the lock by the documented function is never ended, whatever is over', async () => {
  const database = await destination('application')
  const session = await open(database)
  const done = claimant()
  await claim(database, session, done)
  await session.end()
  await database.query('create schema s; create table s.t ()')
  const application = await database.client()
  const { rows } = await application.query(`select yardmaster.try_lock_destination('s.t') as got`)
  expect(rows).toEqual([{ got: true }])
  const next = await open(database)
  expect(await claim(database, next, claimant({ isOver: async () => true }))).toBeUndefined()
  expect((await application.query('select 1 as alive')).rows).toEqual([{ alive: 1 }])
})

test('a control database that cannot say whether an attempt is over ends nothing', async () => {
  const database = await destination('unknown')
  const [first, second] = [await open(database), await open(database)]
  await claim(database, first, claimant())
  const isOver = () => Promise.reject(new Error('away'))
  expect(await claim(database, second, claimant({ isOver }))).toBeUndefined()
})
