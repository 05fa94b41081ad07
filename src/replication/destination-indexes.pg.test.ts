import { beforeAll, expect, test } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('indexes source')
  destination = await createDatabase('indexes dest')
  for (const database of [source, destination]) {
    await database.query(`create collation public."Odd ""C""" (provider = libc, locale = 'C')`)
    await database.query(`create function public.twice(int) returns int immutable language sql as 'select $1 * 2'`)
    await database.query(
      `create function public.compared(int, int) returns int immutable language sql as 'select btint4cmp($2, $1)'`,
    )
    await database.query(`create operator class public.backwards for type int using btree as
      operator 1 >, operator 2 >=, operator 3 =, operator 4 <=, operator 5 <, function 1 public.compared(int, int)`)
  }
})

/** `public.<name>` with 50 rows; `:t` in the statements that follow stands for it. */
async function makeSource(name: string, ...statements: string[]): Promise<void> {
  await source.query(`create table public.${name} (id int not null, name text, tags int[], body tsvector, place point,
    during int4range, at timestamptz)`)
  await source.query(`insert into public.${name} select n, 'n' || n, array[n, n + 1], to_tsvector('simple', 'w' || n),
    point(n, n), int4range(n, n + 2), '2026-01-01'::timestamptz + n * interval '1 h' from generate_series(1, 50) n`)
  for (const statement of statements) await source.query(statement.replaceAll(':t', `public.${name}`))
}

/** Definitions of all valid indexes of a table without its name and theirs; a key's says so. */
async function indexes(database: TestDatabase, table: string): Promise<string[]> {
  const rows = await database.query<{ definition: string }>(
    `select regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX .* ON \\S+ USING', 'INDEX USING')
       || case when i.indisprimary then ' KEY' else '' end as definition
     from pg_index i where i.indrelid = $1::regclass and i.indisvalid order by 1`,
    [table],
  )
  return rows.map((row) => row.definition)
}

const names = async (database: TestDatabase, table: string) =>
  (
    await database.query<{ name: string }>(
      `select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = $1::regclass order by 1`,
      [table],
    )
  ).map((row) => row.name)

const kinds = [
  'create index on :t using gin (tags)',
  'create index on :t using gin (body) with (fastupdate = off)',
  'create index on :t using gist (place)',
  'create index on :t using gist (body tsvector_ops (siglen = 64))',
  'create index on :t using spgist (during)',
  'create index on :t using brin (at) with (pages_per_range = 4)',
  'create index on :t using brin (id int4_minmax_multi_ops (values_per_range = 16))',
  'create index on :t using hash (name)',
  'create index on :t (lower(name), (id % 7) desc)',
  'create index on :t (public.twice(id))',
  `create index on :t (name) where id > 3 and name <> 'it''s; -- )' and name <> e'\\\\'`,
  'create unique index on :t (id) include (name, at)',
  'create unique index on :t (name desc nulls last, id asc nulls first) nulls not distinct',
  'create index on :t (name collate public."Odd ""C""", name text_pattern_ops)',
  'create index on :t (lower(name) collate "C")',
  'create index on :t ((name || name) collate public."Odd ""C""") with (fillfactor = 70)',
  'create index on :t (id public.backwards)',
]

test.each(['snapshot', 'table'] as const)('%s: every kind of index arrives as it was, and stays', async (type) => {
  const name = `kinds_${type}`
  await makeSource(name, 'alter table :t add primary key (id) include (at)', ...kinds)
  const refresher = new Refresher({ source, destination }, type, `public.${name}`)
  const first = await refresher.refresh()
  expect(first.level).toBe('OK')
  const expected = await indexes(source, `public.${name}`)
  expect(expected).toHaveLength(kinds.length + 1)
  const table = type === 'table' ? `public.${name}` : `public.${name}_snap1`
  expect(await indexes(destination, table)).toEqual(expected)
  await refresher.refresh({ force: true })
  await refresher.refresh({ force: true })
  expect(await indexes(destination, table)).toEqual(expected)
})

test('what PostgreSQL 14 does not know is made as near as it can', async () => {
  const old = await (await postgres14()).createDatabase('indexes old')
  await makeSource('new_kinds', 'create unique index on :t (name) nulls not distinct')
  await new Refresher({ source, destination: old }, 'table', 'public.new_kinds').refresh()
  expect(await indexes(old, 'public.new_kinds')).toEqual(['CREATE UNIQUE INDEX USING btree (name)'])
})

test('what is no plain index is no index of the copy: invalid ones, exclusion constraints', async () => {
  await makeSource(
    'others',
    'alter table :t add exclude using gist (place with ~=)',
    'create unique index twice_there on :t ((1)) where id < 0',
    'alter table :t add unique (id) deferrable',
  )
  await source.query(`update pg_index set indisvalid = false where indexrelid = 'public.twice_there'::regclass`)
  await new Refresher({ source, destination }, 'table', 'public.others').refresh()
  expect(await indexes(destination, 'public.others')).toEqual(['CREATE UNIQUE INDEX USING btree (id)'])
})

test('two destinations of one source in one schema: no name collides (B21)', async () => {
  await makeSource(
    'one_source',
    'alter table :t add constraint the_key primary key (id)',
    'create index the_index on :t (name)',
  )
  const made = [
    new Refresher({ source, destination }, 'table', 'public.one_source', { to: 'public.first_copy' }),
    new Refresher({ source, destination }, 'table', 'public.one_source', { to: 'public.second_copy' }),
    new Refresher({ source, destination }, 'snapshot', 'public.one_source', { to: 'public.third_copy' }),
  ]
  for (const one of made) {
    await one.refresh()
    await one.refresh({ force: true })
  }
  const tables = ['first_copy', 'second_copy', 'third_copy_snap1', 'third_copy_snap2']
  for (const table of tables) {
    expect(await indexes(destination, `public.${table}`)).toEqual(await indexes(source, 'public.one_source'))
  }
  const all = (await Promise.all(tables.map((table) => names(destination, `public.${table}`)))).flat()
  expect(new Set(all).size).toBe(8)
})

test('with a column filter only the key, without what it included of other columns', async () => {
  await makeSource(
    'filtered',
    'alter table :t add primary key (id) include (at)',
    'create index on :t (id)',
    'create index on :t (public.twice(id))',
  )
  await new Refresher({ source, destination }, 'table', 'public.filtered', { columns: ['id', 'name'] }).refresh()
  expect(await indexes(destination, 'public.filtered')).toEqual(['CREATE UNIQUE INDEX USING btree (id) KEY'])
})

test('a filter without the key: none', async () => {
  await makeSource('keyless', 'alter table :t add primary key (id)')
  await new Refresher({ source, destination }, 'table', 'public.keyless', { columns: ['name'] }).refresh()
  expect(await indexes(destination, 'public.keyless')).toEqual([])
})

test.each(['snapshot', 'table'] as const)('%s without indexes, at each refresh', async (type) => {
  const name = `without_${type}`
  await makeSource(name, 'alter table :t add primary key (id)')
  const refresher = new Refresher({ source, destination }, type, `public.${name}`, { buildIndexes: false })
  await refresher.refresh()
  const first = type === 'table' ? `public.${name}` : `public.${name}_snap1`
  expect(await indexes(destination, first)).toEqual([])
  await refresher.refresh({ force: true })
  expect(await indexes(destination, type === 'table' ? first : `public.${name}_snap2`)).toEqual([])
})

test('without data: the indexes stand, and the next refresh brings the rows though the source did not change', async () => {
  await makeSource('no_data', 'alter table :t add primary key (id)')
  for (const type of ['snapshot', 'table'] as const) {
    const to = `public.no_data_${type}`
    const refresher = new Refresher({ source, destination }, type, 'public.no_data', { to, loadData: false })
    expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 0 })
    expect(await indexes(destination, type === 'table' ? to : `${to}_snap1`)).toHaveLength(1)
    expect(await destination.query(`select count(*)::int as n from ${to}`)).toEqual([{ n: 0 }])
    expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 50, reason: null })
  }
})

test("people's own indexes on a side survive its loads, and changes of structure where they fit", async () => {
  await makeSource('owned', 'alter table :t add primary key (id)', 'create index on :t (name)')
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.owned')
  await refresher.refresh()
  await refresher.refresh({ force: true })
  await destination.query('create index my_expression on public.owned_snap1 (lower(name)) where id > 2')
  await destination.query('create index my_at on public.owned_snap1 using brin (at)')
  await destination.query('alter table public.owned_snap1 add constraint my_unique unique (name, id)')
  const before = await indexes(destination, 'public.owned_snap1')
  await refresher.refresh({ force: true })
  await refresher.refresh({ force: true })
  expect(await indexes(destination, 'public.owned_snap1')).toEqual(before)
  expect(await names(destination, 'public.owned_snap1')).toEqual(
    expect.arrayContaining(['my_at', 'my_expression', 'my_unique']),
  )
  await source.query('alter table public.owned drop column at')
  const changed = await refresher.refresh({ force: true })
  expect(changed.steps.find((step) => step.action === 'index')).toMatchObject({
    level: 'WARNING',
    message: expect.stringContaining('Your own index my_at does not fit the new structure, and is gone.'),
  })
  expect(await names(destination, 'public.owned_snap1')).toEqual(expect.arrayContaining(['my_expression', 'my_unique']))
})

test("people's own indexes survive a parallel load that was broken off after it had dropped them", async () => {
  await source.query('create table public.broken_off (id int primary key, filler text) with (fillfactor = 10)')
  await source.query('alter table public.broken_off alter filler set storage plain')
  await source.query(`insert into public.broken_off select n, repeat('x', 800) from generate_series(1, 4200) n`)
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.broken_off')
  await refresher.refresh({ streams: 2 })
  await refresher.refresh({ streams: 2, force: true })
  await destination.query('create index mine on public.broken_off_snap1 (id, filler)')
  const stop = new AbortController()
  const broken = refresher.refresh({
    streams: 2,
    force: true,
    signal: stop.signal,
    onStep: (action) => action === 'load' && stop.abort(),
  })
  await expect(broken).rejects.toMatchObject({ code: 'cancelled' })
  expect(await names(destination, 'public.broken_off_snap1')).toEqual([])
  expect(await refresher.refresh({ streams: 2, force: true })).toMatchObject({ rows: 4200 })
  expect(await names(destination, 'public.broken_off_snap1')).toContain('mine')
})

test('an index that needs what the destination lacks: refused with what to do, nothing left behind', async () => {
  await source.query(`create function public.only_here(int) returns int immutable language sql as 'select $1'`)
  await makeSource('needy', 'create index on :t (public.only_here(id))')
  for (const type of ['snapshot', 'table'] as const) {
    const refresher = new Refresher({ source, destination }, type, 'public.needy')
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'index_refused',
      message: expect.stringMatching(/^An index of crm:public.needy cannot be made in dwh: .*only_here/),
      remedy: expect.stringContaining('replication set dwh:public.needy index=false'),
    })
    expect(await destination.query(`select to_regclass('public.needy') as t`)).toEqual([{ t: null }])
    await refresher.remove('undo')
  }
})
