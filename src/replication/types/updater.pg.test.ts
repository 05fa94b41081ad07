import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../../test/support/databases.ts'
import { Refresher } from '../../../test/support/refresher.ts'
import type { ControlColumn } from '../definition.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('updater source')
  destination = await createDatabase('updater dest')
})

/** Rows are changed together with `n`, which a sequence of the test fills. */
const control: ControlColumn = { column: 'n', by: 'serial', boundary: '-1', timezone: null, dstWindow: null }

type Changes = ConstructorParameters<typeof Refresher>[3]

async function updater(name: string, columns: string, changes: Changes = {}): Promise<Refresher> {
  await source.query(`create table public.${name} (${columns})`)
  return new Refresher({ source, destination }, 'updater', `public.${name}`, { control, ...changes })
}

const insert = (name: string, values: string) => source.query(`insert into public.${name} values ${values}`)
const rows = (name: string) => destination.query(`select * from public.${name} order by 1, 2`)
const texts = async (name: string) => (await rows(name)).map((row) => Object.values(row).join(' '))
const indexes = async (name: string) =>
  (await destination.query(`select indexdef from pg_indexes where tablename = $1 order by 1`, [name])).map((row) =>
    String(row.indexdef).replace(/INDEX \S+ ON/, 'INDEX ON'),
  )

test('new and changed rows come, each once; deletes do not', async () => {
  const refresher = await updater('mixed', 'id int primary key, n int, v text')
  await insert('mixed', `(1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')`)
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
  await source.query(`update public.mixed set n = 4, v = 'B' where id = 2`)
  await insert('mixed', `(4, 5, 'd')`)
  await source.query('delete from public.mixed where id = 3')
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 2 })
  expect(await texts('mixed')).toEqual(['1 1 a', '2 4 B', '3 3 c', '4 5 d'])
  await source.query(`update public.mixed set n = 6, v = 'A' where id = 1`)
  expect(await refresher.refresh()).toMatchObject({ rows: 1 })
  await insert('mixed', `(5, 7, 'e')`)
  expect(await refresher.refresh()).toMatchObject({ rows: 1 })
  expect(await texts('mixed')).toEqual(['1 6 A', '2 4 B', '3 3 c', '4 5 d', '5 7 e'])
  expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
})

test('a composite key; columns that only the destination has keep their values', async () => {
  const refresher = await updater('composite', 'a int, b text, n int, v text, primary key (a, b)')
  await insert('composite', `(1, 'x', 1, 'one'), (1, 'y', 2, 'two')`)
  await refresher.refresh()
  await destination.query(`alter table public.composite add mine text default 'default'`)
  await destination.query(`update public.composite set mine = 'kept'`)
  await source.query(`update public.composite set n = 3, v = 'TWO' where b = 'y'`)
  await insert('composite', `(2, 'x', 4, 'three')`)
  await refresher.refresh()
  expect(await texts('composite')).toEqual(['1 x 1 one kept', '1 y 3 TWO kept', '2 x 4 three default'])
})

describe('B17: the key', () => {
  const unfit = [
    'create unique index on public.:t (id)',
    'create unique index on public.:t (code) where code > 0',
    'create unique index on public.:t ((code + 1))',
    'alter table public.:t add unique (code) deferrable',
  ]
  test('a nullable, partial, deferrable index or one of expressions is none: --key is asked for', async () => {
    const refresher = await updater('no_key', 'id int, code int not null, n int')
    for (const statement of unfit) await source.query(statement.replaceAll(':t', 'no_key'))
    await expect(refresher.plan()).rejects.toMatchObject({ code: 'key_missing' })
    await expect(refresher.refresh()).rejects.toMatchObject({ code: 'key_missing' })
  })

  test('the unique index that is whole is it, without its INCLUDE columns', async () => {
    const refresher = await updater('included', 'id int, code int not null, n int')
    for (const statement of unfit) await source.query(statement.replaceAll(':t', 'included'))
    await source.query('create unique index on public.included (code) include (n)')
    await insert('included', '(null, 1, 1), (null, 2, 2)')
    await refresher.refresh()
    await source.query('update public.included set n = 3, id = 7 where code = 1')
    expect(await refresher.refresh()).toMatchObject({ rows: 1 })
    expect(await texts('included')).toEqual(['7 1 3', ' 2 2'])
  })

  test('B23: with --no-index, and with a filter, the destination still gets it', async () => {
    const refresher = await updater('bare', 'id int primary key, n int, v text', { buildIndexes: false })
    await source.query('create index on public.bare (v)')
    await refresher.refresh()
    expect(await indexes('bare')).toEqual(['CREATE UNIQUE INDEX ON public.bare USING btree (id)'])
    const filtered = new Refresher({ source, destination }, 'updater', 'public.bare', {
      ...{ control, to: 'public.filtered', columns: ['id', 'n'] },
    })
    await filtered.refresh()
    expect(await indexes('filtered')).toEqual(['CREATE UNIQUE INDEX ON public.filtered USING btree (id)'])
  })

  test('by hand, for a view: a unique index of ours; the same key twice, or a NULL in it, is named', async () => {
    await source.query('create table public.under (id int, part text, n int)')
    await source.query('create view public.over as select id, part, n from public.under')
    const refresher = new Refresher({ source, destination }, 'updater', 'public.over', { control })
    await expect(refresher.plan()).rejects.toMatchObject({ code: 'key_missing' })
    refresher.set({ key: ['id', 'part'] })
    await insert('under', `(1, 'a', 1), (1, 'a', 2)`)
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'key_not_unique',
      message: expect.stringMatching(
        /public\.over cannot be told apart by \(id, part\), the key that was given: .*is duplicated/,
      ),
    })
    await source.query('delete from public.under where n = 2')
    await refresher.refresh()
    expect(await indexes('over')).toEqual(['CREATE UNIQUE INDEX ON public.over USING btree (id, part)'])
    await source.query('update public.under set n = 2')
    await refresher.refresh()
    expect(await texts('over')).toEqual(['1 a 2'])
    await insert('under', `(2, 'b', 3), (2, 'b', 4), (3, 'c', 5)`)
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'key_not_unique',
      message: expect.stringMatching(/sent 2 rows with the key '2, b', \(id, part\), in one batch for dwh:public.over/),
    })
    await source.query('delete from public.under where n = 4')
    await insert('under', `(4, null, 6)`)
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'key_not_unique',
      message: expect.stringMatching(/1 rows with NULL/),
    })
    await source.query('delete from public.under where part is null')
    expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  })

  test('an adopted destination without an index on exactly the key is refused, with the statement', async () => {
    const refresher = await updater('adopted', 'id int primary key, n int')
    await insert('adopted', '(1, 1), (2, 2)')
    await destination.query('create table public.adopted (id int, n int)')
    await destination.query('create unique index on public.adopted (id, n)')
    await destination.query('create unique index on public.adopted (id) where id > 0')
    const refusal = {
      code: 'key_index_missing',
      remedy: 'In dwh run: CREATE UNIQUE INDEX ON "public"."adopted" ("id");',
    }
    await expect(refresher.plan()).rejects.toMatchObject(refusal)
    await expect(refresher.refresh()).rejects.toMatchObject(refusal)
    await destination.query('CREATE UNIQUE INDEX ON "public"."adopted" ("id")')
    await refresher.refresh()
    await refresher.refresh()
    expect(await texts('adopted')).toEqual(['1 1', '2 2'])
  })

  test('equal keys that differ arrive as they are', async () => {
    await source.query('create extension citext schema public')
    await destination.query('create extension citext schema public')
    const refresher = await updater('alike', 'id public.citext, d numeric, n int, primary key (id, d)')
    await insert('alike', `('Ab', 1.0, 1)`)
    await refresher.refresh()
    await source.query(`update public.alike set id = 'aB', d = 1.00, n = 2`)
    await refresher.refresh()
    expect(await texts('alike')).toEqual(['aB 1.00 2'])
    expect(await refresher.refresh({ repull: { start: '1', end: null } })).toMatchObject({ rows: 1 })
    expect(await texts('alike')).toEqual(['aB 1.00 2'])
  })
})

test('rows that exchange a unique value are in each other’s way, and come all the same', async () => {
  const refresher = await updater('swapped', 'id int primary key, code text unique, n int')
  await insert('swapped', `(1, 'a', 1), (2, 'b', 2), (3, 'c', 3)`)
  await refresher.refresh()
  await destination.query(`alter table public.swapped add mine text default 'new'`)
  await destination.query(`update public.swapped set mine = 'kept'`)
  await source.query(`update public.swapped set n = n + 3, code = translate(code, 'ab', 'xy')`)
  await source.query(`update public.swapped set code = translate(code, 'xy', 'ba') where id < 3`)
  await insert('swapped', `(4, 'd', 7)`)
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 4 })
  expect(await texts('swapped')).toEqual(['1 b 4 kept', '2 a 5 kept', '3 c 6 kept', '4 d 7 new'])
  // One that really is there twice, with a row that the source has no more.
  await source.query('delete from public.swapped where id = 3')
  await insert('swapped', `(5, 'c', 8)`)
  await expect(refresher.refresh()).rejects.toMatchObject({ sqlstate: '23505' })
  expect(await texts('swapped')).toHaveLength(4)
})

test('a trigger of the destination that keeps rows out fails the refresh', async () => {
  const refresher = await updater('guarded', 'id int primary key, n int')
  await insert('guarded', '(1, 1)')
  await refresher.refresh()
  await destination.query(`create function public.keep_out() returns trigger language plpgsql as
    $$ begin return case when new.id <> 2 then new end; end $$`)
  await destination.query(
    'create trigger t before insert on public.guarded for each row execute function public.keep_out()',
  )
  await insert('guarded', '(2, 2), (3, 3)')
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'destination_unsuitable',
    message: expect.stringMatching(/^1 of 2 rows did not get into dwh:public.guarded/),
  })
  expect(await texts('guarded')).toEqual(['1 1'])
})

test('identities of the destination: a key keeps its own, another column is refused with the statement', async () => {
  const refresher = await updater('identities', 'id int primary key, n int, v text')
  await insert('identities', `(1, 1, 'a')`)
  await destination.query(
    'create table public.identities (id int generated always as identity primary key, n int, v text)',
  )
  await refresher.refresh()
  await refresher.refresh()
  await source.query(`update public.identities set n = 2, v = 'b'`)
  await refresher.refresh()
  expect(await texts('identities')).toEqual(['1 2 b'])
  await destination.query(
    'alter table public.identities alter n set not null, alter n add generated always as identity',
  )
  await destination.query('alter table public.identities alter id drop identity')
  await source.query(`update public.identities set n = 3`)
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'column_generated',
    remedy: expect.stringContaining('SET GENERATED BY DEFAULT'),
  })
})

test('the limit keeps equal values together', async () => {
  const refresher = await updater('limited', 'id int primary key, n int', { rowLimit: 2 })
  await refresher.refresh()
  await insert('limited', '(1, 1), (2, 2), (3, 2), (4, 3)')
  expect(await refresher.refresh()).toMatchObject({ level: 'WARNING', reason: 'trimmed', rows: 1 })
  expect(await refresher.refresh()).toMatchObject({ rows: 2, reason: 'trimmed' })
  expect(await refresher.refresh()).toMatchObject({ rows: 1, level: 'OK' })
  await source.query('update public.limited set n = 9')
  expect(await refresher.refresh()).toMatchObject({ level: 'CRITICAL', tookEffect: false })
  expect(await texts('limited')).toEqual(['1 1', '2 2', '3 2', '4 3'])
})

test('a repull of a range: what left the range is not lost, what the source has no more goes', async () => {
  const refresher = await updater('again', 'id int primary key, n int, v text', { condition: `WHERE v <> 'hidden'` })
  await source.query(`insert into public.again select g, g, 'old' from generate_series(1, 10) g`)
  refresher.set({ control: { ...control, boundary: '2' } })
  await refresher.refresh()
  expect(await texts('again')).toHaveLength(7)
  // Without the control column, so that no refresh brings it; 4 is gone; 5 moved to a value not ripe; 6 to one before.
  await source.query(`update public.again set v = 'new' where id in (2, 3)`)
  await source.query('delete from public.again where id = 4')
  await source.query(`update public.again set n = 9, v = 'later' where id = 5`)
  await source.query(`update public.again set n = 0, v = 'before' where id = 6`)
  await source.query(`update public.again set v = 'hidden', n = 9 where id = 7`)
  const again = await refresher.refresh({ repull: { start: '3', end: null } })
  expect(again).toMatchObject({ level: 'OK', message: expect.stringMatching(/, 2 removed/) })
  expect(await texts('again')).toEqual(['1 1 old', '2 2 old', '3 3 new', '5 5 old', '6 0 before'])
  refresher.set({ control })
  await refresher.refresh()
  expect(await texts('again')).toEqual([
    ...['1 1 old', '2 2 old', '3 3 new', '5 9 later', '6 0 before', '8 8 old', '9 9 old', '10 10 old'].sort(
      (a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10),
    ),
  ])
})

test('a repull after somebody inserted at the destination, also under a key that the source has elsewhere', async () => {
  const refresher = await updater('foreign_rows', 'id int primary key, n int unique')
  await source.query(`insert into public.foreign_rows select g, g from generate_series(1, 5) g`)
  await refresher.refresh()
  await destination.query('update public.foreign_rows set n = 50 where id = 2')
  await destination.query('insert into public.foreign_rows values (60, 60)')
  expect(await refresher.refresh()).toMatchObject({ level: 'CRITICAL' })
  await refresher.refresh({ repull: { start: '5', end: null } })
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  expect(await texts('foreign_rows')).toEqual(['1 1', '2 2', '3 3', '4 4', '5 5'])
})

test('a repull with a limit leaves what lies above the cut', async () => {
  const refresher = await updater('cut', 'id int primary key, n int, v text')
  await source.query(`insert into public.cut select g, g, 'old' from generate_series(1, 6) g`)
  await refresher.refresh()
  await source.query(`update public.cut set v = 'new' where id <> 2`)
  await source.query('delete from public.cut where id = 2')
  const cut = await refresher.refresh({ repull: { start: null, end: null }, limit: 2 })
  expect(cut).toMatchObject({ level: 'WARNING', reason: 'trimmed', message: expect.stringContaining(`--start '4'`) })
  expect(await texts('cut')).toEqual(['1 1 new', '3 3 new', '4 4 old', '5 5 old', '6 6 old'])
})

test('B9: validation counts between the bounds of the destination, as the condition lets rows through', async () => {
  const refresher = await updater('counted', 'id int primary key, n int', { condition: 'WHERE n <> 3 OR n = 4' })
  await source.query('insert into public.counted select g, g from generate_series(1, 8) g')
  refresher.set({ control: { ...control, boundary: '2' } })
  await refresher.refresh()
  expect(await refresher.validate()).toEqual({ match: true, source_count: 4, dest_count: 4, min: '1', max: '5' })
  await destination.query('delete from public.counted where id = 4')
  expect(await refresher.validate()).toMatchObject({ match: false, source_count: 4, dest_count: 3 })
  expect(await refresher.validate({ lower: '5', upper: null })).toEqual({
    match: true,
    source_count: 1,
    dest_count: 1,
    min: '5',
    max: '5',
  })
  expect(await refresher.validate({ lower: null, upper: '4' })).toMatchObject({ match: true, source_count: 2 })
  expect(await refresher.validate({ lower: '4', upper: '6' })).toMatchObject({
    match: false,
    source_count: 2,
    dest_count: 1,
  })
  await destination.query('delete from public.counted')
  expect(await refresher.validate()).toMatchObject({ match: false, source_count: 4, dest_count: 0 })
  await expect(refresher.validate({ lower: 'x', upper: null })).rejects.toMatchObject({ code: 'range_invalid' })
})
