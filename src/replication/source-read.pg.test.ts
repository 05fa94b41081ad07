import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { type RefreshChoice, Refresher } from '../../test/support/refresher.ts'
import type { ReplicationType } from './definition.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('read source')
  destination = await createDatabase('read dest')
})

type Changes = ConstructorParameters<typeof Refresher>[3]

/** Copies a source once, by a type, and returns what arrived beside what was meant. */
async function arrives(
  name: string,
  meant: string,
  how: { type?: ReplicationType; changes?: Changes; choice?: RefreshChoice } = {},
) {
  const type = how.type ?? 'snapshot'
  const refresher = new Refresher({ source, destination }, type, name, { to: `${name}_${type}`, ...how.changes })
  const refreshed = await refresher.refresh(how.choice)
  expect(refreshed.level).toBe('OK')
  const json = (relation: string) => `select coalesce(jsonb_agg(t order by t::text), '[]') as rows from ${relation} t`
  const [[got], [wanted]] = [
    await destination.query(json(`${name}_${type}`)),
    await source.query(json(`(${meant}) as x`).replace('as x t', 'as t')),
  ]
  expect(got).toEqual(wanted)
  return { refresher, refreshed, rows: got.rows }
}

describe.each(['snapshot', 'table'] as const)('%s of', (type) => {
  const made = async (name: string, ...statements: string[]) => {
    for (const statement of statements) await source.query(statement.replaceAll(':t', `public.${name}_of_${type}`))
    return `public.${name}_of_${type}`
  }

  test('a partitioned table of several levels, whose leaves have other columns in other places', async () => {
    const name = await made(
      'parted',
      'create table :t (id int, gone int, region text, v text) partition by list (region)',
      'alter table :t drop column gone',
      `create table :t_north partition of :t for values in ('n') partition by range (id)`,
      'create table :t_north_1 partition of :t_north for values from (0) to (10)',
      'create table :t_north_2 (v text, region text, dropped int, id int)',
      'alter table :t_north_2 drop column dropped',
      'alter table :t_north attach partition :t_north_2 for values from (10) to (20)',
      'create table :t_rest partition of :t default',
      `insert into :t values (1, 'n', 'a'), (11, 'n', 'b'), (12, 'n', null), (5, 's', 'c')`,
    )
    expect((await arrives(name, `select * from ${name}`, { type })).rows).toHaveLength(4)
  })

  test('a table with children, of which one has more columns', async () => {
    const name = await made(
      'parent',
      'create table :t (id int primary key, v text)',
      'create table :t_child (more int) inherits (:t)',
      `insert into :t values (1, 'parent')`,
      `insert into :t_child values (2, 'child', 3)`,
    )
    expect((await arrives(name, `select * from ${name}`, { type })).rows).toHaveLength(2)
  })

  test('a view, also with odd columns, a materialized view (B27), an empty table', async () => {
    const view = await made(
      'a_view',
      `create view :t as select n as "Odd ""name", array[n] as "a.b" from generate_series(1, 3) n`,
    )
    await arrives(view, `select * from ${view}`, { type })
    const matview = await made(
      'a_matview',
      'create materialized view :t as select n as id from generate_series(1, 3) n',
      'create unique index on :t (id)',
    )
    await arrives(matview, `select * from ${matview}`, { type })
    const empty = await made('empty', 'create table :t (id int primary key)')
    await arrives(empty, `select * from ${empty}`, { type })
  })

  test.each([
    ['OR stays inside (B8)', `WHERE id = 1 OR id = 2`, 'id in (1, 2)'],
    ['a subselect', 'WHERE id IN (SELECT id FROM public.wanted WHERE yes)', 'id in (1, 3)'],
    ['a further table', ', public.wanted w WHERE w.id = conditional.id AND w.yes', 'id in (1, 3)'],
    ['a join', 'JOIN public.wanted w USING (id) WHERE w.yes', 'id in (1, 3)'],
    ['a join without WHERE', 'NATURAL JOIN public.only_two', 'id = 2'],
    ['an E-string', `WHERE v = e'it\\'s ) or ('`, 'id = 2'],
    ['nothing', 'WHERE false', 'false'],
  ])('rows by a condition: %s', async (_what, condition, meant) => {
    await source.query('drop table if exists public.conditional, public.wanted, public.only_two')
    await source.query(
      `create table public.conditional as select n as id, case when n = 2 then 'it''s ) or (' end as v from generate_series(1, 4) n`,
    )
    await source.query('create table public.wanted as select n as id, n <> 2 as yes from generate_series(1, 3) n')
    await source.query('create table public.only_two as select 2 as id')
    const to = `public.conditional_${type}_${meant.replaceAll(/\W+/g, '_')}_${condition.length}`
    const refresher = new Refresher({ source, destination }, type, 'public.conditional', { condition, to })
    await refresher.refresh()
    expect(await destination.query(`select * from ${to} order by id`)).toEqual(
      await source.query(`select * from public.conditional where ${meant} order by id`),
    )
    expect(await refresher.validate()).toMatchObject({ match: true })
  })
})

/** Both what a set-up checks beforehand and the refresh itself refuse; nothing stays at the destination. */
async function refused(refresher: Refresher, expected: { code: string; message: unknown }): Promise<void> {
  await expect(refresher.plan()).rejects.toMatchObject(expected)
  await expect(refresher.refresh()).rejects.toMatchObject(expected)
  await refresher.remove('undo')
  const { schema, name } = refresher.replication.destination
  expect(await destination.query('select to_regclass($1) as t', [`${schema}."${name}"`])).toEqual([{ t: null }])
}

test.each([
  ['WHERE nothing_such = 1', /does not understand the condition.*nothing_such/],
  ['WHERE 1', /does not understand the condition/],
  ['WHERE id = (select max(id) from unknown_table)', /does not understand the condition.*unknown_table/],
  ['WHERE true) OR (true', /closes a parenthesis/],
])('a condition that is wrong: %s', async (condition, message) => {
  await source.query('create table if not exists public.refusing as select 1 as id')
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.refusing', { condition })
  await refused(refresher, { code: 'condition_invalid', message: expect.stringMatching(message) })
})

test.each([
  ['filter_empty', { columns: [] as string[] }, /names no column/],
  ['column_unknown', { columns: ['id', 'Id'] }, /no column "Id"; it has id, v/],
  [
    'table_unknown',
    { source: { schema: 'public', name: 'FILTERED' } },
    /no table or view public."FILTERED"; it has public.filtered/,
  ],
] as const)('%s, before anything is made', async (code, changes, message) => {
  await source.query('create table if not exists public.filtered (id int, v text)')
  const refresher = new Refresher({ source, destination }, 'table', 'public.filtered', changes)
  await refused(refresher, { code, message: expect.stringMatching(message) })
})

test('a condition runs where it can change nothing', async () => {
  await source.query('create table public.victim (n int)')
  await source.query('create table public.innocent as select 1 as id')
  await source.query(`create function public.evil() returns boolean language plpgsql as
    'begin insert into public.victim values (1); return true; end'`)
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.innocent')
  await refresher.refresh()
  refresher.set({ condition: 'WHERE public.evil()' })
  await expect(refresher.refresh()).rejects.toMatchObject({ sqlstate: '25006' })
  await expect(refresher.validate()).rejects.toMatchObject({ sqlstate: '25006' })
  expect(await source.query('select * from public.victim')).toEqual([])
})

describe('read in parallel', () => {
  /** A row a page, so that it is large enough for that. */
  const large = async (table: string, from: number, to: number) => {
    await source.query(`alter table ${table} alter filler set storage plain`)
    await source.query(`alter table ${table} set (fillfactor = 10)`)
    await source.query(
      `insert into ${table} (id, filler) select n, repeat('x', 800) from generate_series(${from}, ${to}) n`,
    )
  }
  const choice = { streams: 2 }

  test('each leaf by its ranges, whatever its columns are', async () => {
    await source.query('create table public.wide (id int, gone int, filler text) partition by range (id)')
    await source.query('alter table public.wide drop column gone')
    await source.query('create table public.wide_1 partition of public.wide for values from (0) to (2500)')
    await source.query('create table public.wide_2 (filler text, dropped int, id int)')
    await source.query('alter table public.wide_2 drop column dropped')
    await source.query('alter table public.wide attach partition public.wide_2 for values from (2500) to (9000)')
    await large('public.wide_1', 1, 2499)
    await large('public.wide_2', 2500, 5000)
    const { refreshed } = await arrives('public.wide', 'select * from public.wide', { choice })
    expect(refreshed.steps[0]?.message).toMatch(/2 parts in parallel/)
  })

  test('a parent and its children, each row once', async () => {
    await source.query('create table public.elder (id int, filler text)')
    await source.query('create table public.younger (more int) inherits (public.elder)')
    await large('public.elder', 1, 2500)
    await large('public.younger', 2501, 5000)
    const { refreshed } = await arrives('public.elder', 'select * from public.elder', { choice })
    expect(refreshed.steps[0]?.message).toMatch(/2 parts in parallel/)
    expect(refreshed.rows).toBe(5000)
  })

  test('a condition with OR stays within each range', async () => {
    await source.query('create table public.ranged (id int primary key, filler text)')
    await large('public.ranged', 1, 9000)
    const to = 'public.ranged_snapshot'
    const { refreshed } = await arrives('public.ranged', 'select * from public.ranged where id < 3 or id > 8990', {
      choice,
      changes: { to, condition: 'WHERE id < 3 OR id > 8990' },
    })
    expect(refreshed.steps[0]?.message).toMatch(/[2-9] parts in parallel/)
    expect(refreshed.rows).toBe(12)
  })

  test('a partition that is attached when the copy begins: said, and complete with the next', async () => {
    await source.query('create table public.growing (id int, filler text) partition by range (id)')
    await source.query('create table public.growing_1 partition of public.growing for values from (0) to (5000)')
    await large('public.growing_1', 1, 4500)
    await source.query(`create table public.growing_2 as select 6000 as id, 'late' as filler`)
    const refresher = new Refresher({ source, destination }, 'snapshot', 'public.growing')
    const attempt = refresher.refresh({
      ...choice,
      onSession: async (session, side) => {
        if (side !== 'source') return
        const script = session.script.bind(session)
        session.script = async (text) => {
          if (text.includes('repeatable read')) {
            await source
              .query('alter table public.growing attach partition public.growing_2 for values from (5000) to (9000)')
              .catch(() => undefined)
          }
          await script(text)
        }
      },
    })
    await expect(attempt).rejects.toMatchObject({ code: 'source_changed', retryable: true })
    expect(await refresher.refresh(choice)).toMatchObject({ rows: 4501 })
  })
})

test('a condition whose function sets a path does not lead our own looks to other catalogs', async () => {
  await source.query('create schema evil')
  await source.query(
    'create view evil.pg_class as select oid, relname, relnamespace, relkind from pg_catalog.pg_class where false',
  )
  await source.query(`
    create function public.leads_astray() returns boolean immutable language plpgsql as $$ begin
      perform pg_catalog.set_config('search_path', 'evil, pg_catalog', false);
      return true;
    end $$`)
  await source.query('create table public.straying as select n as id from generate_series(1, 3) n')
  for (const type of ['snapshot', 'table'] as const) {
    const changes = { condition: 'WHERE public.leads_astray()' }
    expect((await arrives('public.straying', 'select * from public.straying', { type, changes })).rows).toHaveLength(3)
  }
})

test('the same table name in two schemas, and a source that is its own destination', async () => {
  for (const schema of ['one', 'two']) {
    await source.query(`create schema ${schema}`)
    await source.query(`create table ${schema}.same as select '${schema}' as v`)
    await arrives(`${schema}.same`, `select * from ${schema}.same`)
  }
  await source.query('create table public.here as select n as id from generate_series(1, 3) n')
  const ends = { source, destination: source }
  for (const type of ['snapshot', 'table'] as const) {
    const refresher = new Refresher(ends, type, 'public.here', { to: `copies.here_${type}` })
    await refresher.refresh()
    await source.query('insert into public.here values (9)')
    await refresher.refresh({ force: true })
    expect(await source.query(`select count(*) from copies.here_${type}`)).toEqual(
      await source.query('select count(*) from public.here'),
    )
  }
  const onto = new Refresher(ends, 'table', 'public.here')
  await expect(onto.plan()).rejects.toMatchObject({
    code: 'destination_unsuitable',
    message: 'dwh:public.here is its own source.',
  })
  expect(await source.query('select count(*)::int as n from public.here')).toEqual([{ n: 5 }])
})
