import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { runWithinOneWait, withShortLocks } from './swap-lock.ts'

let database: TestDatabase
let session: Session
const tables = ['a', 'b', 'c', 'd'].map((name) => ({ schema: 'public', name }))
const about = { what: 'The test', relations: tables }

beforeAll(async () => {
  database = await createDatabase('swap lock')
  for (const { name } of tables) await database.query(`create table public.${name} (x int)`)
  session = await connect(parseConnectionUrl(database.url), { side: 'destination', purpose: 'test', object: 'dwh' })
  return () => session.end()
})

async function holder(name: string): Promise<pg.Client> {
  const client = await database.client()
  await client.query(`begin; lock table public.${name} in access share mode`)
  return client
}

const lock = (name: string) => `lock table public.${name} in access exclusive mode`

test('several locks are waited for as long as one: whoever is queued behind the first waits for all', async () => {
  const holders = await Promise.all(tables.map(({ name }) => holder(name)))
  let tries = 0
  await withShortLocks(session, about, Date.now() + 10_000, async () => {
    tries += 1
    // Each lets go 60 ms after the one before: any single wait would be short enough.
    if (tries === 1) {
      for (const [index, one] of holders.entries()) setTimeout(() => void one.query('commit'), 60 * (index + 1))
    }
    await runWithinOneWait(
      session,
      tables.map(({ name }) => lock(name)),
    )
  })
  expect(tries).toBeGreaterThan(1)
})

test('at the deadline it names who was in the way, and what was begun is rolled back', async () => {
  const client = await holder('a')
  const failed = withShortLocks(session, about, Date.now() + 300, async () => {
    await session.query(sql`insert into public.b values (1)`)
    await runWithinOneWait(session, [lock('a')])
  })
  await expect(failed).rejects.toMatchObject({
    code: 'lock_timeout',
    retryable: true,
    message: expect.stringMatching(
      new RegExp(
        `^The test waited for a lock that process ${(client as unknown as { processID: number }).processID} \\(yardmaster, for \\d+ s\\) holds, and gave up.$`,
      ),
    ),
  })
  expect(await database.query('select * from public.b')).toEqual([])
  await client.query('rollback')
})

test('a deadlock is tried again, any other failure is not', async () => {
  let tries = 0
  const body = async (state: string) => {
    tries += 1
    if (tries === 1) await session.script(`do $$ begin raise exception 'x' using errcode = '${state}'; end $$`)
    return tries
  }
  expect(await withShortLocks(session, about, Date.now() + 5000, () => body('40P01'))).toBe(2)
  tries = 0
  await expect(withShortLocks(session, about, Date.now() + 5000, () => body('23505'))).rejects.toMatchObject({
    sqlstate: '23505',
  })
  expect(tries).toBe(1)
})

test('a signal ends the waiting', async () => {
  const client = await holder('c')
  const stop = new AbortController()
  let tries = 0
  const waiting = withShortLocks(
    session,
    about,
    Date.now() + 60_000,
    async () => {
      tries += 1
      if (tries === 2) stop.abort()
      await runWithinOneWait(session, [lock('c')])
    },
    stop.signal,
  )
  await expect(waiting).rejects.toThrow('aborted')
  await client.query('rollback')
})
