import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../../../test/support/databases.ts'
import { Refresher } from '../../../test/support/refresher.ts'
import { RoundTrips } from '../../../test/support/round-trips.ts'
import type { ControlColumn } from '../definition.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('inserter source')
  destination = await createDatabase('inserter dest')
})

const bySerial: ControlColumn = { column: 'id', by: 'serial', boundary: '-1', timezone: null, dstWindow: null }
const byTime: ControlColumn = { column: 'at', by: 'time', boundary: '10 minutes', timezone: null, dstWindow: null }

type Changes = ConstructorParameters<typeof Refresher>[3]

/** A replication of `public.<name>`, whose source is made of these columns. */
async function inserter(name: string, columns: string, changes: Changes = {}): Promise<Refresher> {
  await source.query(`create table public.${name} (${columns})`)
  return new Refresher({ source, destination }, 'inserter', `public.${name}`, { control: bySerial, ...changes })
}

const insert = (name: string, values: string) => source.query(`insert into public.${name} values ${values}`)
const rows = (name: string, order = '1') => destination.query(`select * from public.${name} order by ${order}`)
const ids = async (name: string) => (await rows(name)).map((row) => String(row.id))
const state = async (refresher: Refresher) => {
  const [row] = await destination.query(
    'select state, read_number::int as n from yardmaster.position where replication_id = $1',
    [refresher.replication.id],
  )
  return row
}

test('the first copy takes everything below the bound, makes key and indexes; then only what is new comes', async () => {
  const refresher = await inserter('first', 'id int primary key, v text')
  await source.query('create index on public.first (v)')
  refresher.set({ control: { ...bySerial, boundary: '2' } })
  await insert('first', `(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')`)
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 1, reach: { position: '2', behind: 0 } })
  const indexes = await destination.query(`select indexdef from pg_indexes where tablename = 'first'`)
  expect(indexes).toHaveLength(2)
  await insert('first', `(5, 'e'), (6, 'f')`)
  // Neither changes nor deletes come.
  await source.query(`update public.first set v = 'changed' where id = 1`)
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 2, reason: null })
  expect(await rows('first')).toEqual([
    { id: 1, v: 'a' },
    { id: 2, v: 'b' },
    { id: 3, v: 'c' },
  ])
})

test('nothing new: OK, no transaction in the destination, a handful of round trips', async () => {
  const refresher = await inserter('still', 'id int primary key')
  await insert('still', '(1), (2)')
  await refresher.refresh()
  const before = await state(refresher)
  const trips = new RoundTrips()
  const refreshed = await refresher.refresh({ onSession: trips.onSession })
  expect(refreshed).toMatchObject({
    level: 'OK',
    reason: 'nothing_new',
    rows: 0,
    tookEffect: true,
    reach: { position: '3' },
  })
  expect(trips.destination.filter((text) => /begin|commit/.test(text))).toEqual([])
  // What only a copy needs is not read: indexes least of all.
  expect(trips.source.filter((text) => text.includes('pg_index'))).toEqual([])
  expect(trips.source.length).toBeLessThanOrEqual(8)
  expect(trips.destination.length).toBeLessThanOrEqual(6)
  expect(await state(refresher)).toEqual(before)
})

test('an empty source that is filled later; rows at and below zero come', async () => {
  const refresher = await inserter('late', 'id numeric(40,0) primary key')
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 0 })
  await insert('late', '(-5), (0), (1234567890123456789012345678901234567890)')
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
  await insert('late', '(1234567890123456789012345678901234567891)')
  expect(await refresher.refresh()).toMatchObject({ rows: 1 })
  expect((await ids('late')).at(-1)).toBe('1234567890123456789012345678901234567891')
})

test('B5: serial beyond 2^31', async () => {
  const refresher = await inserter('large', 'id bigint primary key')
  await insert('large', '(9007199254740993)')
  await refresher.refresh()
  await insert('large', '(9007199254740994), (9223372036854775806)')
  await refresher.refresh()
  expect(await ids('large')).toEqual(['9007199254740993', '9007199254740994', '9223372036854775806'])
})

test.each([
  ['timestamptz', `now() - interval '1 hour' + interval '1 microsecond' * n`],
  ['timestamp', `(now() at time zone 'Asia/Kolkata') - interval '1 hour' + interval '1 microsecond' * n`],
  ['date', 'current_date - 10 + n'],
])('by time: %s', async (type, value) => {
  const name = `by_${type}`
  const refresher = await inserter(name, `id int, at ${type}`, {
    control: { ...byTime, timezone: type === 'timestamp' ? 'Asia/Kolkata' : null, dstWindow: 'off' },
  })
  const add = (n: number) => source.query(`insert into public.${name} select n, ${value} from (select ${n} as n) one`)
  await add(1)
  await add(2)
  await source.query(
    `insert into public.${name} select 100, ${type === 'timestamp' ? `now() at time zone 'Asia/Kolkata'` : 'now()'}`,
  )
  const first = await refresher.refresh()
  expect(first).toMatchObject({ rows: 2, reach: { position: expect.any(String) } })
  expect((first.reach?.behind ?? 0) > 500).toBe(true)
  await source.query(`update public.${name} set at = at + interval '1 minute' where id = 1`)
  expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
  expect(await ids(name)).toEqual(['1', '2'])
})

test('B8: a condition with OR stays within the range, and joins work', async () => {
  const refresher = await inserter('alternative', 'id int primary key, v text', {
    condition: `, public.wanted w WHERE w.v = alternative.v OR alternative.v = 'always'`,
  })
  await source.query('create table public.wanted (v text)')
  await source.query(`insert into public.wanted values ('x')`)
  await insert('alternative', `(1, 'x'), (2, 'y'), (3, 'always')`)
  await refresher.refresh()
  await insert('alternative', `(4, 'always'), (5, 'z'), (6, 'x')`)
  expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  expect(await ids('alternative')).toEqual(['1', '3', '4', '6'])
  expect(await refresher.validate()).toMatchObject({ match: true, source_count: 4, min: '1', max: '6' })
})

describe('limit', () => {
  test('cuts between values, goes on from there, and equal values stay together', async () => {
    const refresher = await inserter('limited', 'id int, n int generated always as identity', { rowLimit: 3 })
    await refresher.refresh()
    await insert('limited', '(1), (2), (2), (3), (3), (4)')
    const cut = await refresher.refresh()
    expect(cut).toMatchObject({ level: 'WARNING', reason: 'trimmed', rows: 3 })
    expect(cut.message).toContain(`before '3'`)
    expect(await ids('limited')).toEqual(['1', '2', '2'])
    expect(await refresher.refresh({ limit: 2 })).toMatchObject({ rows: 2, reason: 'trimmed' })
    expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 1 })
    expect(await ids('limited')).toEqual(['1', '2', '2', '3', '3', '4'])
  })

  test('a group that would be cut in its midst waits as a whole', async () => {
    const refresher = await inserter('grouped', 'id int', { rowLimit: 3 })
    await refresher.refresh()
    await insert('grouped', '(1), (2), (2), (2)')
    expect(await refresher.refresh()).toMatchObject({ rows: 1, reason: 'trimmed' })
    expect(await refresher.refresh()).toMatchObject({ rows: 3, level: 'OK' })
  })

  test('one value that fills the batch: CRITICAL, nothing is pulled, the position stays, and the limit that would do', async () => {
    const refresher = await inserter('crowded', 'id int', { rowLimit: 3 })
    await refresher.refresh()
    await insert('crowded', '(1), (1), (1), (1), (2)')
    const before = await state(refresher)
    const refused = await refresher.refresh()
    expect(refused).toMatchObject({ level: 'CRITICAL', tookEffect: false, rows: 0 })
    expect(refused.message).toMatch(/4 rows have the id '1', and the limit is 3.*A limit of 4 would do/)
    expect(await state(refresher)).toEqual(before)
    expect(await refresher.refresh({ limit: 4 })).toMatchObject({ rows: 4, reason: 'trimmed' })
    expect(await refresher.refresh()).toMatchObject({ rows: 1, level: 'OK' })
  })

  test('by time: the reach is as far behind as the cut', async () => {
    const refresher = await inserter('slow', 'id int, at timestamptz', { control: byTime, rowLimit: 1 })
    await refresher.refresh()
    await source.query(
      `insert into public.slow select n, now() - interval '1 hour' * (10 - n) from generate_series(1, 3) n`,
    )
    // Nothing before the position comes, so it has to be set back.
    await destination.query(
      `update yardmaster.position set state = state || '{"mark": null}' where table_name = 'slow'`,
    )
    const cut = await refresher.refresh()
    expect(cut.reach?.behind).toBeGreaterThan(7.9 * 3600)
    expect(cut.reach?.behind).toBeLessThan(8.1 * 3600)
  })
})

test('B26: NULL, NaN and infinity are counted and reported, and never become the position', async () => {
  const refresher = await inserter('unusual', 'id numeric, at timestamptz')
  await source.query(
    `insert into public.unusual values (null, null), ('NaN', 'infinity'), ('infinity', '-infinity'), ('-infinity', null), (3, now())`,
  )
  const first = await refresher.refresh()
  expect(first).toMatchObject({ rows: 1, level: 'OK', reach: { position: '4' } })
  expect(first.message).toContain('4 rows have NULL, NaN or infinity in id, and are not copied.')
  await insert('unusual', '(4, null)')
  const second = await refresher.refresh()
  expect(second.steps[0]?.message).toContain('4 rows have NULL, NaN or infinity in id')
  expect(await ids('unusual')).toEqual(['3', '4'])
})

describe('B24: what does not fit is said when the replication is made', () => {
  test.each([
    [
      'a filter without the control column',
      'inserter',
      { columns: ['v'] },
      { code: 'filter_incomplete', remedy: 'Write --columns v,id' },
    ],
    [
      'a filter without the key',
      'updater',
      { columns: ['v', 'at'], control: byTime },
      { code: 'filter_incomplete', remedy: 'Write --columns v,at,id' },
    ],
    [
      'a control column that is not there',
      'inserter',
      { control: { ...bySerial, column: 'nowhere' } },
      { code: 'control_column_unfit' },
    ],
    [
      'a time by serial',
      'inserter',
      { control: { ...bySerial, column: 'at' } },
      { code: 'control_column_unfit', remedy: 'Write --by time, or name another --column.' },
    ],
    ['a text by time', 'inserter', { control: { ...byTime, column: 'v' } }, { code: 'control_column_unfit' }],
    ['a key that is not there', 'updater', { key: ['nowhere'] }, { code: 'column_unknown' }],
  ] as const)('%s', async (_what, type, changes, refusal) => {
    await source.query('create table if not exists public.fits (id int primary key, v text, at timestamptz)')
    const refresher = new Refresher({ source, destination }, type, 'public.fits', { control: bySerial, ...changes })
    await expect(refresher.plan()).rejects.toMatchObject(refusal)
  })
})

test('the position is checked under its lock: a refresh that another attempt overtook changes nothing', async () => {
  const refresher = await inserter('overtaken', 'id int primary key')
  await insert('overtaken', '(1)')
  await refresher.refresh()
  await insert('overtaken', '(2)')
  const overtake = (change: string) => ({
    onSession: (session: { query: (statement: never) => Promise<unknown> }, side: string) => {
      if (side !== 'source') return
      const query = session.query.bind(session)
      let done = false
      session.query = async (statement: never) => {
        if (!done && String((statement as { text: string }).text).includes('as unusual')) {
          done = true
          await destination.query(`update yardmaster.position set ${change} where table_name = 'overtaken'`)
        }
        return query(statement)
      }
    },
  })
  for (const change of ['token = gen_random_uuid()', 'read_number = read_number + 1']) {
    await expect(refresher.refresh(overtake(change) as never)).rejects.toMatchObject({ code: 'fenced' })
    expect(await ids('overtaken')).toEqual(['1'])
  }
  await refresher.refresh()
  expect(await ids('overtaken')).toEqual(['1', '2'])
})

test('what fails leaves rows and position as they were', async () => {
  const refresher = await inserter('failing', 'id int primary key, v int')
  await insert('failing', '(1, 1)')
  await refresher.refresh()
  await destination.query('alter table public.failing add check (v < 5)')
  const before = await state(refresher)
  await insert('failing', '(2, 2), (3, 9)')
  await expect(refresher.refresh()).rejects.toMatchObject({ sqlstate: '23514' })
  expect([await ids('failing'), await state(refresher)]).toEqual([['1'], before])
  await destination.query('alter table public.failing drop constraint failing_v_check')
  expect(await refresher.refresh()).toMatchObject({ rows: 2 })
})

test('a partitioned parent, a view and a materialized view as sources', async () => {
  await source.query('create table public.parts (id int, v text) partition by range (id)')
  await source.query('create table public.parts_1 partition of public.parts for values from (0) to (10)')
  await source.query('create table public.parts_2 partition of public.parts default')
  await source.query('create view public.seen as select id, v from public.parts')
  await source.query('create materialized view public.kept as select id, v from public.parts')
  for (const name of ['parts', 'seen', 'kept']) {
    const refresher = new Refresher({ source, destination }, 'inserter', `public.${name}`, { control: bySerial })
    await refresher.refresh()
    await source.query(`insert into public.parts values (1, '${name}'), (20, '${name}')`)
    await source.query('refresh materialized view public.kept')
    await refresher.refresh()
    const [{ n }] = await source.query(`select count(*)::int as n from public.${name}`)
    expect(await rows(name, 'id, v')).toHaveLength(n)
    await source.query('truncate public.parts')
    await source.query('refresh materialized view public.kept')
  }
})

test('daylight saving: a local time in a zone that shifts today waits for the window’s end', async () => {
  const [{ day }] =
    await source.query(`select extract(doy from now())::int - case when extract(year from now())::int % 4 = 0
    and extract(doy from now()) > 59 then 1 else 0 end as day`)
  const shifting = `AAA0BBB,J${day}/0:30,J${day > 10 ? 1 : 300}`
  const control = { ...byTime, column: 'at', timezone: 'UTC', dstWindow: '00:00-23:59' }
  const refresher = await inserter('shifting', 'id int, at timestamp', { control })
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  refresher.set({ control: { ...control, timezone: shifting } })
  const paused = await refresher.refresh()
  expect(paused).toMatchObject({ level: 'OK', rows: 0, message: expect.stringMatching(/: paused for daylight saving/) })
  await expect(refresher.refresh({ repull: { start: null, end: null } })).rejects.toMatchObject({ code: 'clock_shift' })
  refresher.set({ control: { ...control, timezone: shifting, dstWindow: 'off' } })
  expect((await refresher.refresh()).message).not.toMatch(/paused/)
  refresher.set({ control: { ...control, timezone: 'Nowhere/Else' } })
  await expect(refresher.refresh()).rejects.toMatchObject({ code: 'timezone_unknown' })
})

test('from PostgreSQL 14, and into it', async () => {
  const old = await (await postgres14()).createDatabase('inserter 14')
  for (const ends of [
    { source: old, destination },
    { source, destination: old },
  ]) {
    const name = ends.source === old ? 'from_14' : 'into_14'
    await ends.source.query(`create table public.${name} (id bigint primary key, v text)`)
    await ends.source.query(`insert into public.${name} values (1, 'a')`)
    for (const type of ['inserter', 'updater'] as const) {
      const to = `${type}.${name}`
      const refresher = new Refresher(ends, type, `public.${name}`, { control: bySerial, to })
      await refresher.refresh()
      await ends.source.query(`insert into public.${name} select max(id) + 1, 'b' from public.${name}`)
      expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 1 })
      await refresher.refresh({ repull: { start: '1', end: null } })
      const [{ n }] = await ends.destination.query(`select count(*)::int as n from ${to}`)
      expect(n).toBe(type === 'inserter' ? 2 : 3)
    }
  }
})
