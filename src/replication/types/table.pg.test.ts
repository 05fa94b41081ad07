import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../../test/support/databases.ts'
import { Refresher } from '../../../test/support/refresher.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('table source')
  destination = await createDatabase('table dest')
})

/** `public.<name>` with three rows at the source; the destination is made by hand with `create`, `:t` standing for it. */
async function adopted(
  name: string,
  create: string[],
  changes: ConstructorParameters<typeof Refresher>[3] = {},
): Promise<Refresher> {
  await source.query(`create table public.${name} (id int primary key, v text)`)
  await source.query(`insert into public.${name} select n, 'v' || n from generate_series(1, 3) n`)
  for (const statement of create) await destination.query(statement.replaceAll(':t', `public.${name}`))
  return new Refresher({ source, destination }, 'table', `public.${name}`, {
    status: 'active',
    swapWait: 1000,
    ...changes,
  })
}

const rows = (relation: string) => destination.query(`select * from public.${relation} order by 1`)
const three = [
  { id: 1, v: 'v1' },
  { id: 2, v: 'v2' },
  { id: 3, v: 'v3' },
]

test('a table that stands there is adopted: its rows stay until the next refresh, which replaces them', async () => {
  const refresher = await adopted(
    'adopted',
    ['create table :t (id int, v text, more int default 7)', 'insert into :t values (9)'],
    {
      status: 'setting_up',
    },
  )
  const setup = await refresher.refresh()
  expect(setup).toMatchObject({
    level: 'OK',
    rows: 0,
    message: expect.stringMatching(/existed: no data was pulled and no index built/),
  })
  expect(await rows('adopted')).toEqual([{ id: 9, v: null, more: 7 }])
  await refresher.refresh()
  expect(await rows('adopted')).toEqual(three.map((row) => ({ ...row, more: 7 })))
  const [{ n }] = await destination.query(`select count(*)::int as n from pg_indexes where tablename = 'adopted'`)
  expect(n).toBe(0)
})

test('a failed refresh leaves the old rows', async () => {
  const refresher = await adopted('checked', [
    'create table :t (id int check (id < 3), v text)',
    `insert into :t values (1, 'old')`,
  ])
  await expect(refresher.refresh()).rejects.toMatchObject({ sqlstate: '23514' })
  expect(await rows('checked')).toEqual([{ id: 1, v: 'old' }])
})

test('tables that refer to it: refused with their names; with truncate-cascade emptied too, and said', async () => {
  const refresher = await adopted('referred', [
    'create table :t (id int primary key, v text)',
    'create table public.child (id int primary key references :t)',
    'create table public.grandchild (id int references public.child)',
    'insert into :t values (1)',
    'insert into public.child values (1)',
    'insert into public.grandchild values (1)',
  ])
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'dependent_objects',
    message: expect.stringMatching(/^public.child, public.grandchild refer by foreign keys to dwh:public.referred/),
    remedy: expect.stringContaining('truncate-cascade=true'),
  })
  expect(await rows('grandchild')).toHaveLength(1)
  refresher.set({ truncateCascade: true })
  const refreshed = await refresher.refresh()
  expect(refreshed).toMatchObject({
    level: 'WARNING',
    message: expect.stringContaining('TRUNCATE CASCADE also empties public.child, public.grandchild.'),
  })
  expect([await rows('referred'), await rows('child'), await rows('grandchild')]).toEqual([three, [], []])
})

test('a table that refers to itself is nobody else', async () => {
  const refresher = await adopted('itself', [
    'create table :t (id int primary key references :t deferrable initially deferred, v text)',
  ])
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 3 })
})

test('children of it would be emptied with it: refused with their names', async () => {
  const refresher = await adopted('parent', [
    'create table :t (id int, v text)',
    'create table public.heir () inherits (:t)',
    'insert into public.heir values (8)',
  ])
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'dependent_objects',
    message: expect.stringMatching(/^public.heir is a child of dwh:public.parent/),
  })
  refresher.set({ truncateCascade: true })
  expect(await refresher.refresh()).toMatchObject({ level: 'WARNING' })
  expect(await rows('parent')).toEqual(three)
})

test('a partitioned destination, also referred to; older snapshots see its old rows', async () => {
  const refresher = await adopted(
    'split',
    [
      'create table :t (id int primary key, v text) partition by range (id)',
      'create table :t_1 partition of :t for values from (0) to (2)',
      'create table :t_2 partition of :t default',
      'create table public.refers (id int references :t)',
      'insert into :t values (7)',
      'insert into public.refers values (7)',
    ],
    { truncateCascade: true },
  )
  const reader = await destination.client()
  await reader.query('begin isolation level repeatable read')
  await reader.query('select 1')
  expect(await refresher.refresh()).toMatchObject({ level: 'WARNING', rows: 3 })
  expect((await reader.query('select id from public.split')).rows).toEqual([{ id: 7 }])
  await reader.query('commit')
  expect([await rows('split'), await rows('split_1'), await rows('refers')]).toEqual([three, three.slice(0, 1), []])
})

test.each([
  ['written', ['create table :t (id int, v text)']],
  [
    'written_parts',
    [
      'create table :t (id int, v text) partition by hash (id)',
      'create table :t_1 partition of :t for values with (modulus 1, remainder 0)',
    ],
  ],
])('another writer waits until the new rows are there: %s', async (name, create) => {
  const refresher = await adopted(name, create)
  const writer = await destination.client()
  await writer.query(`set lock_timeout = '300ms'`)
  let outcome: string | undefined
  await refresher.refresh({
    onSession: (session, side) => {
      if (side !== 'source') return
      const script = session.script.bind(session)
      session.script = async (text) => {
        await script(text)
        // The last statement before the rows are read.
        if (!text.includes('rollback to savepoint')) return
        outcome = await writer.query(`insert into public.${name} values (99)`).then(
          () => 'written',
          (error: { code: string }) => error.code,
        )
      }
    },
  })
  expect(outcome).toBe('55P03')
  expect(await rows(name)).toEqual(three)
})

test('an older snapshot sees the new rows, never none', async () => {
  const refresher = await adopted('frozen', ['create table :t (id int, v text)', 'insert into :t values (1)'])
  const reader = await destination.client()
  await reader.query('begin isolation level repeatable read')
  await reader.query('select 1')
  await refresher.refresh()
  expect((await reader.query('select * from public.frozen order by 1')).rows).toEqual(three)
  await reader.query('commit')
})

test('a reader that stays: WARNING with who it is, the old rows, and no other reader is held up', async () => {
  const refresher = await adopted('held', ['create table :t (id int, v text)', 'insert into :t values (1)'])
  const reader = await destination.client()
  await reader.query('begin; select * from public.held')
  let over = false
  const refreshing = refresher.refresh().finally(() => {
    over = true
  })
  let longest = 0
  while (!over) {
    const started = performance.now()
    await rows('held')
    longest = Math.max(longest, performance.now() - started)
  }
  const refreshed = await refreshing
  expect(longest).toBeLessThan(600)
  expect(refreshed).toMatchObject({
    level: 'WARNING',
    tookEffect: false,
    message: expect.stringContaining(`process ${(reader as unknown as { processID: number }).processID} (`),
  })
  expect(await rows('held')).toHaveLength(1)
  await reader.query('commit')
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 3 })
})

test('generated and identity columns of its own are filled there; one that the source would fill is refused', async () => {
  const refresher = await adopted('generated', [
    `create table :t (id int generated always as identity, v text, upper_v text generated always as (upper(v)) stored)`,
  ])
  await refresher.refresh()
  expect(await rows('generated')).toEqual(three.map((row) => ({ ...row, upper_v: row.v.toUpperCase() })))
  const refused = await adopted('made_there', [
    'create table :t (id int, v int generated always as (length($$x$$)) stored)',
  ])
  await expect(refused.refresh()).rejects.toMatchObject({ code: 'column_generated' })
})

test('its own triggers fire; one that keeps rows out fails the refresh', async () => {
  await destination.query(`create function public.note() returns trigger language plpgsql as
    $$ begin insert into public.noted values (tg_op); return null; end $$`)
  await destination.query('create table public.noted (op text)')
  const refresher = await adopted('triggers', [
    'create table :t (id int, v text)',
    'create trigger note after insert or truncate on :t for each statement execute function public.note()',
  ])
  await refresher.refresh()
  expect(await rows('noted')).toEqual([{ op: 'INSERT' }, { op: 'TRUNCATE' }])
  await destination.query(`create function public.drop_row() returns trigger language plpgsql as
    $$ begin return case when new.id <> 2 then new end; end $$`)
  await destination.query(
    'create trigger drops before insert on public.triggers for each row execute function public.drop_row()',
  )
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'destination_unsuitable',
    message: expect.stringMatching(/^1 of 3 rows did not get into dwh:public.triggers/),
  })
  expect(await rows('triggers')).toEqual(three)
})

test('deferred constraints: one that holds at the end holds, one that does not fails at the commit, and the old rows stay', async () => {
  const refresher = await adopted('deferred', [
    'create table public.allowed (id int primary key)',
    'insert into public.allowed values (1), (2)',
    'create table :t (id int references public.allowed deferrable initially deferred, v text)',
    'insert into :t values (1)',
  ])
  await expect(refresher.refresh()).rejects.toMatchObject({ sqlstate: '23503' })
  expect(await rows('deferred')).toHaveLength(1)
  await destination.query('insert into public.allowed values (3)')
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
})

test('an unlogged destination is filled', async () => {
  const refresher = await adopted('unlogged', ['create unlogged table :t (id int, v text)'])
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 3 })
})

test.each([
  ['a view', 'create view :t as select 1 as id, $$x$$ as v'],
  ['a materialized view', 'create materialized view :t as select 1 as id, $$x$$ as v'],
])('%s is no destination', async (what, create) => {
  const refresher = await adopted(`kind_${what.replaceAll(' ', '_')}`, [create])
  await expect(refresher.plan()).rejects.toMatchObject({ code: 'destination_unsuitable' })
  await expect(refresher.refresh()).rejects.toMatchObject({ code: 'destination_unsuitable' })
})

test('a missing column and a narrower type: what is missing, and the statement that adds it; nothing was emptied', async () => {
  const refresher = await adopted('narrow', ['create table :t (id int)', 'insert into :t values (1)'])
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'destination_column_missing',
    remedy: expect.stringContaining('ALTER TABLE "public"."narrow" ADD COLUMN "v" text'),
  })
  await destination.query('alter table public.narrow add v varchar(1)')
  await expect(refresher.refresh()).rejects.toMatchObject({ code: 'column_type_mismatch' })
  expect(await rows('narrow')).toHaveLength(1)
})

test('our own indexes are rebuilt, those of other people and constraints stay', async () => {
  await source.query('create table public.ours (id int primary key, v text)')
  await source.query('create index on public.ours (v)')
  const refresher = new Refresher({ source, destination }, 'table', 'public.ours')
  await refresher.refresh()
  await destination.query('create index theirs on public.ours (lower(v))')
  const all = () =>
    destination.query(`select indexname as name, indexdef from pg_indexes where tablename = 'ours' order by 1`)
  const before = await all()
  expect(before).toHaveLength(3)
  const nodes = () => destination.query(`select oid from pg_class where relname = 'theirs'`)
  const theirs = await nodes()
  await refresher.refresh()
  expect(await all()).toEqual(before)
  expect(await nodes()).toEqual(theirs)
})
