import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { startProxy } from '../../test/support/proxy.ts'
import type { Failure } from '../base/failure.ts'
import { connect, type Session } from './connect.ts'
import { parseConnectionUrl } from './connection-url.ts'
import { copyThrough } from './copy.ts'
import { type Sql, sql, trusted } from './sql.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase('copy')
})

async function open(side: 'source' | 'destination', url = database.url): Promise<Session> {
  const session = await connect(parseConnectionUrl(url), { side, purpose: 'test', object: side })
  onTestFinished(() => session.end())
  return session
}

/** A source of `rows` rows, and an empty destination of the same shape. */
async function sides(name: string, check = 'true', urls: { source?: string; destination?: string } = {}) {
  await database.query(`create table public.${name} (id int check (${check}), body text)`)
  const [source, destination] = [await open('source', urls.source), await open('destination', urls.destination)]
  const into = { session: destination, statement: trusted(`copy public.${name} from stdin (format binary)`) }
  const from = (select: string) => ({
    session: source,
    statement: trusted(`copy (${select}) to stdout (format binary)`),
  })
  return { source, destination, into, from }
}

async function count(session: Session, table: string): Promise<unknown> {
  return (await session.one<{ n: number }>(sql`select count(*)::int as n from ${trusted(`public.${table}`)}`)).n
}

/** Each session is asked something that would notice a cancellation, a stray message or an open transaction. */
async function usable(...sessions: Session[]): Promise<void> {
  const answers = sessions.map((session) =>
    session.query(sql`select ${session.object}::text as answer, pg_sleep(0.05)::text as slept`),
  )
  expect(await Promise.all(answers)).toEqual(sessions.map((session) => [{ answer: session.object, slept: '' }]))
}

const bigRows = (rows: number) => `select g, repeat('x', 50000) from generate_series(1, ${rows}) g`

test('rows, bytes and the count', async () => {
  const { source, destination, into, from } = await sides('plain')
  const counter = { rows: 0, bytes: 0 }
  expect(await copyThrough(from(bigRows(100)), into, counter)).toEqual({ rows: 100, sent: 100 })
  expect(counter.rows).toBe(101)
  expect(counter.bytes).toBeGreaterThan(100 * 50_000)
  expect(await copyThrough(from('select 1, null::text where false'), into)).toEqual({ rows: 0, sent: 0 })
  await usable(source, destination)
  expect(await count(destination, 'plain')).toBe(100)
})

describe('a failure leaves both sessions usable', () => {
  test.each([
    ['in the first row', 'select 1 / 0, null::text'],
    ['in mid-copy, after large rows', `select 1000 / (100 - g), repeat('x', 50000) from generate_series(1, 200) g`],
  ])('of the source, %s', async (how, select) => {
    const name = how.startsWith('in the') ? 'source_first' : 'source_mid'
    const { source, destination, into, from } = await sides(name)
    const error = await copyThrough(from(select), into).catch((failure: Failure) => failure)
    expect(error).toMatchObject({ object: 'source', sqlstate: '22012' })
    await usable(source, destination)
    expect(await count(destination, name)).toBe(0)
  })

  test('of the source’s own text: the row is named, and the remedy shows it', async () => {
    const { into, from } = await sides('source_row')
    const error = (await copyThrough(from('select 10 / (3 - g), null from generate_series(1, 9) g'), into).catch(
      (failure: Failure) => failure,
    )) as Failure
    expect(error.message).toContain('in row 3 of')
    expect(error.remedy).toContain('select 10 / (3 - g), null from generate_series(1, 9) g OFFSET 2 LIMIT 1;')
  })

  test.each([
    ['at its first statement', 'destination_none', 'true', 5],
    ['on the last row, when the source is done', 'destination_last', 'id < 3', 3],
    ['in mid-copy, while large rows are on their way', 'destination_mid', 'id < 100', 4000],
  ])('of the destination, %s', async (how, name, check, rows) => {
    for (let round = 0; round < 5; round++) {
      const { source, destination, into, from } = await sides(`${name}_${round}`, check)
      const target = how.startsWith('at its')
        ? { ...into, statement: trusted('copy public.nowhere from stdin (format binary)') }
        : into
      const error = await copyThrough(from(bigRows(rows)), target).catch((failure: Failure) => failure)
      expect(error).toMatchObject({ object: 'destination', sqlstate: how.startsWith('at its') ? '42P01' : '23514' })
      await usable(source, destination)
      expect(await count(destination, `${name}_${round}`)).toBe(0)
    }
  })

  test('of the destination in an open transaction, which is rolled back', async () => {
    const { source, destination, into, from } = await sides('open_transaction', 'id < 100')
    await destination.script('begin')
    await expect(copyThrough(from(bigRows(4000)), into)).rejects.toMatchObject({ sqlstate: '23514' })
    await destination.script('rollback')
    await usable(source, destination)
  })
})

test('a destination that is told something else in the middle of a row would hang: it is cut off', async () => {
  const proxy = await startProxy(database.url)
  const { destination, into, from } = await sides('cut_row', 'true', { source: proxy.url })
  proxy.set('toClient', { kind: 'cut', afterBytes: 75_000 })
  await expect(copyThrough(from(bigRows(1000)), into)).rejects.toMatchObject({ code: 'source_unreachable' })
  await expect(destination.query(sql`select 1`)).rejects.toMatchObject({ code: 'destination_unreachable' })
  expect(await count(await open('destination'), 'cut_row')).toBe(0)
})

test.each([
  ['source', 'source_unreachable'],
  ['destination', 'destination_unreachable'],
] as const)('a %s that goes while the source is held', async (goes, code) => {
  const proxy = await startProxy(database.url)
  const { source, destination, into, from } = await sides(`gone_${goes}`, 'true', { destination: proxy.url })
  const held = watchHeld(source)
  proxy.set('toServer', { kind: 'rate', bytesPerSecond: 1_000_000 })
  const copying = copyThrough(from(bigRows(4000)), into).catch((failure: Failure) => failure)
  await held
  const gone = goes === 'source' ? source : destination
  await database.query('select pg_terminate_backend($1)', [gone.pid])
  proxy.set('both', { kind: 'pass' })
  expect(await copying).toMatchObject({ code })
  if (goes === 'destination') await usable(source)
})

test('a slow destination holds the source: what is under way stays small', async () => {
  const [reading, writing] = [await startProxy(database.url), await startProxy(database.url)]
  const { source, into, from } = await sides('slow', 'true', { source: reading.url, destination: writing.url })
  writing.set('toServer', { kind: 'rate', bytesPerSecond: 40_000_000 })
  const [readBefore, writtenBefore] = [reading.bytes('toClient'), writing.bytes('toServer')]
  const copying = copyThrough(from(bigRows(2400)), into)
  await watchHeld(source)
  let most = 0
  const look = setInterval(() => {
    const underWay = reading.bytes('toClient') - readBefore - (writing.bytes('toServer') - writtenBefore)
    most = Math.max(most, underWay)
  }, 20)
  onTestFinished(() => clearInterval(look))
  expect(await copying).toEqual({ rows: 2400, sent: 2400 })
  // 120 MB went through; between the two proxies are the buffers of two sockets, and one read of ours.
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThan(24 * 1024 * 1024)
})

/** Resolves when reading from this session's socket is paused. */
function watchHeld(session: Session): Promise<void> {
  return new Promise((resolve) => session.connection.stream.once('pause', () => resolve()))
}

test('the statement of the source can never be two', async () => {
  const { source, into } = await sides('two')
  const two: Sql = trusted('copy (select 1, null::text) to stdout (format binary); drop table public.two')
  await expect(copyThrough({ session: source, statement: two }, into)).rejects.toMatchObject({ sqlstate: '42601' })
  expect(await count(source, 'two')).toBe(0)
})
