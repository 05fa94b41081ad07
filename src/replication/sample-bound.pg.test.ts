import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { connect } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { Bound, LastBound } from './bound.ts'
import type { ControlColumn } from './definition.ts'
import { Link } from './link.ts'
import { sampleBound } from './sample-bound.ts'
import { openSource } from './source-read.ts'

const first: LastBound = { mark: null, memory: {} }
const byTime: ControlColumn = { column: 'c', by: 'time', boundary: '10 minutes', timezone: null, dstWindow: null }
const bySerial: ControlColumn = { ...byTime, by: 'serial', boundary: '10' }

let source: TestDatabase
const links: Link[] = []

beforeAll(async () => {
  source = await createDatabase('bound')
  await source.query(`alter database ${source.name} set timezone to 'Asia/Tokyo'`)
})

afterEach(async () => {
  for (const link of links.splice(0)) await link.close()
})

/** `onQuery` hears of each statement on the source. */
async function look(
  table: string,
  control: ControlColumn,
  last = first,
  onQuery: (text: string) => void = () => undefined,
): Promise<Bound> {
  const { signal } = new AbortController()
  const link = new Link(
    async (side, purpose) => {
      const session = await connect(parseConnectionUrl(source.url), { side, purpose, object: 'crm' })
      const query = session.query.bind(session)
      session.query = (async (statement: Parameters<typeof query>[0]) => {
        onQuery(statement.text)
        return query(statement)
      }) as typeof session.query
      return session
    },
    'test',
    signal,
  )
  links.push(link)
  const definition = {
    ...{ sourceDatabase: 'crm', source: { schema: 'public', name: table }, columns: null, condition: null },
    ...{ buildIndexes: true, control },
  }
  return sampleBound(await openSource(link, definition), control, last, signal)
}

/** Seconds from a text of the column's type to the source's clock, as a session in this zone reads it. */
async function age(value: string, type: string, zone: string): Promise<number> {
  await source.query(`select set_config('timezone', $1, false)`, [zone])
  const [row] = await source.query(
    `select extract(epoch from clock_timestamp() - $1::${type}::timestamptz)::float8 as age`,
    [value],
  )
  return row?.age
}

describe('a fixed boundary by time', () => {
  beforeAll(async () => {
    await source.query('create table instants (c timestamptz)')
    await source.query('create table locals (c timestamp)')
    await source.query('create table days (c date)')
  })

  test.each([
    ['instants', 'timestamptz', null, 'UTC'],
    ['locals', 'timestamp', null, 'Asia/Tokyo'],
    ['locals', 'timestamp', 'America/New_York', 'America/New_York'],
  ])('%s: the clock less the interval, in the zone %s %s', async (table, type, timezone, zone) => {
    const bound = await look(table, { ...byTime, timezone })
    expect(bound).toMatchObject({ level: 'OK', note: undefined, remember: false, mark: { inclusive: false } })
    const found = await age(bound.mark?.value ?? '', type, zone)
    expect(found).toBeGreaterThanOrEqual(600)
    expect(found).toBeLessThan(660)
    expect(bound.behind).toBeCloseTo(600, 3)
  })

  test('a day that is not over yet is left out', async () => {
    const bound = await look('days', { ...byTime, boundary: '0 s', timezone: 'Pacific/Auckland' })
    const [row] = await source.query(`select (clock_timestamp() at time zone 'Pacific/Auckland')::date::text as today`)
    expect(bound.mark).toEqual({ value: row?.today, inclusive: false })
    expect(bound.behind).toBeGreaterThanOrEqual(0)
    expect(bound.behind).toBeLessThanOrEqual(90_000)
  })

  test('never later than the clock', async () => {
    const bound = await look('instants', { ...byTime, boundary: '-1 day' })
    expect(bound.behind).toBe(0)
  })

  test('never below the position, whose distance is told then', async () => {
    const [row] = await source.query(`select (now() - interval '1 minute')::text as value`)
    const bound = await look('instants', byTime, { mark: { value: row?.value, inclusive: false }, memory: {} })
    expect(bound).toMatchObject({ mark: null, level: 'OK' })
    expect(bound.behind).toBeGreaterThanOrEqual(60)
    expect(bound.behind).toBeLessThan(120)
  })
})

describe('a fixed boundary by serial', () => {
  test.each([
    ['int4', '(1), (50)', '10', { value: '40', inclusive: false }],
    ['int8', '(9007199254740993)', '1', { value: '9007199254740992', inclusive: false }],
    ['int8', '(7)', '0', { value: '7', inclusive: true }],
    ['int8', '(3)', '10', { value: '-7', inclusive: false }],
    ['numeric', `('NaN'), ('12.5'), (null)`, '2', { value: '10.5', inclusive: false }],
    ['float8', `('NaN'), ('Infinity'), ('-Infinity'), (1.5)`, '1', { value: '0.5', inclusive: false }],
    ['int4', '(null)', '1', null],
  ])('%s with the values %s, less %s', async (type, values, boundary, mark) => {
    const table = `numbers_${links.length}_${Math.random().toString(36).slice(2)}`
    await source.query(`create table ${table} (c ${type})`)
    await source.query(`insert into ${table} values ${values}`)
    expect(await look(table, { ...bySerial, boundary })).toMatchObject({ mark, behind: null, level: 'OK' })
  })

  test('never below the position; a largest value at an exclusive one is new', async () => {
    await source.query('create table steps (c int)')
    await source.query('insert into steps values (30)')
    const at = (value: string, inclusive: boolean) => ({ mark: { value, inclusive }, memory: {} })
    expect((await look('steps', bySerial, at('25', false))).mark).toBeNull()
    expect((await look('steps', bySerial, at('20', false))).mark).toBeNull()
    expect((await look('steps', bySerial, at('19', true))).mark).toEqual({ value: '20', inclusive: false })
    const whole = { ...bySerial, boundary: '0' }
    expect((await look('steps', whole, at('30', false))).mark).toEqual({ value: '30', inclusive: true })
    expect((await look('steps', whole, at('30', true))).mark).toBeNull()
  })
})

describe('auto by serial', () => {
  test('nothing new: no wait, nothing to remember, although a transaction is open', async () => {
    await source.query('create table quiet (c int generated always as identity)')
    await source.query('insert into quiet default values')
    const auto = { ...bySerial, boundary: 'auto' }
    const bound = await look('quiet', auto)
    expect(bound).toMatchObject({ mark: { value: '1', inclusive: true }, level: 'OK' })
    expect(bound.behind).toBeLessThan(2)
    const open = await source.client()
    await open.query('begin')
    const still = await look('quiet', auto, { mark: bound.mark, memory: bound.memory })
    expect(still).toMatchObject({ mark: null, behind: 0, remember: false })
    await source.query('insert into quiet default values')
    const held = await look('quiet', auto, { mark: bound.mark, memory: bound.memory })
    expect(held).toMatchObject({ mark: null, remember: true })
    expect(held.behind).toBeGreaterThanOrEqual(0)
    // What is waited for is no short transaction any more: it is looked at once with the old sample, and once anew.
    const memory = JSON.parse(JSON.stringify(held.memory))
    let looks = 0
    const again = await look('quiet', auto, { mark: bound.mark, memory }, (text) => {
      if (text.includes('pg_prepared_xacts')) looks += 1
    })
    expect(looks).toBe(2)
    expect(again).toMatchObject({ mark: null, remember: false })
    await open.query('commit')
    expect((await look('quiet', auto, { mark: bound.mark, memory })).mark).toEqual({ value: '2', inclusive: true })
  })
})
