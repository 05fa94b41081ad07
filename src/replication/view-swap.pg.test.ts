import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'

let source: TestDatabase
let destination: TestDatabase
let reader: string
let owner: string

beforeAll(async () => {
  source = await createDatabase('structure source')
  destination = await createDatabase('structure dest')
  reader = `reader-${destination.name}`
  owner = `owner-${destination.name}`
  await destination.query(`create role "${reader}" login`)
  await destination.query(`create role "${owner}"`)
  await destination.query(`grant usage on schema public to "${reader}"`)
  await destination.query(`grant usage, create on schema public to "${owner}"`)
})

/** `public.<name>` with three columns and two rows at the source, copied once. */
async function copied(name: string, changes: ConstructorParameters<typeof Refresher>[3] = {}): Promise<Refresher> {
  await source.query(`create table public.${name} (id int primary key, name text, price numeric)`)
  await source.query(`insert into public.${name} values (1, 'one', 1.5), (2, 'two', 2.5)`)
  const refresher = new Refresher({ source, destination }, 'snapshot', `public.${name}`, changes)
  await refresher.refresh()
  return refresher
}

/** Everything about a relation that a reader or owner of it would miss. */
async function dressing(relation: string) {
  const [row] = await destination.query(
    `select pg_get_userbyid(c.relowner) as owner, (select array_agg(a::text order by a::text) from unnest(c.relacl) a) as acl,
       c.reloptions as options, obj_description(c.oid) as comment,
       (select jsonb_object_agg(a.attname, jsonb_build_array(a.attacl::text, col_description(c.oid, a.attnum), pg_get_expr(d.adbin, d.adrelid)))
        from pg_attribute a left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
     from pg_class c where c.oid = $1::regclass`,
    [relation],
  )
  return row
}

const rows = (relation: string) => destination.query(`select * from ${relation} order by 1`)

test.each([
  ['added', 'add column colour text default $$red$$', ['id', 'name', 'price', 'colour']],
  ['dropped', 'drop column price', ['id', 'name']],
  ['renamed', 'rename column price to cost', ['id', 'name', 'cost']],
  ['retyped', 'alter column price type text', ['id', 'name', 'price']],
])(
  'a column is %s: rows, owner, grants, options, comments and views above stay right',
  async (what, change, columns) => {
    const name = `column_${what}`
    const refresher = await copied(name)
    await destination.query(`grant select, update on public.${name} to "${reader}" with grant option`)
    await destination.query(`grant select (id, price), update (name) on public.${name} to public`)
    await destination.query(`revoke insert on public.${name} from current_user`)
    await destination.query(`alter view public.${name} set (security_barrier = true)`)
    await destination.query(`comment on view public.${name} is 'it''s \\ ours'`)
    await destination.query(`comment on column public.${name}.name is 'the name'`)
    await destination.query(`alter view public.${name} alter column name set default 'nobody'`)
    await destination.query(`alter view public.${name} owner to "${owner}"`)
    await destination.query(`grant select on public.${name}_snap1 to "${owner}"`)
    await destination.query(
      `create view public.${name}_names with (security_barrier) as select name, id from public.${name}`,
    )
    await destination.query(`create view public.${name}_first as select * from public.${name}_names where id = 1`)
    await destination.query(`comment on view public.${name}_first is 'first'`)
    await destination.query(`grant select (name) on public.${name}_first to "${reader}"`)
    const before = await dressing(`public.${name}`)
    const above = [await dressing(`public.${name}_names`), await dressing(`public.${name}_first`)]

    await source.query(`alter table public.${name} ${change}`)
    const { level, steps } = await refresher.refresh()

    expect(level).toBe('OK')
    expect(steps.find((step) => step.action === 'empty the idle table')?.message).toMatch(/made/)
    const got = await rows(`public.${name}`)
    expect(Object.keys(got[0])).toEqual(columns)
    expect(got).toEqual(await source.query(`select * from public.${name} order by 1`))
    const { columns: dressed, ...after } = await dressing(`public.${name}`)
    const { columns: were, ...rest } = before
    expect(after).toEqual(rest)
    for (const column of columns.filter((one) => one in were)) expect(dressed[column]).toEqual(were[column])
    expect([await dressing(`public.${name}_names`), await dressing(`public.${name}_first`)]).toEqual(above)
    expect(await rows(`public.${name}_first`)).toEqual([{ name: 'one', id: 1 }])
    // And once more, onto the other side.
    await source.query(`insert into public.${name} (id) values (3)`)
    await refresher.refresh({ force: true })
    expect(await rows(`public.${name}`)).toHaveLength(3)
  },
)

test('columns in another order, by a filter that grows in its midst', async () => {
  const refresher = await copied('reordered', { columns: ['id', 'price'] })
  await destination.query('create view public.above_reordered as select price, id from public.reordered')
  await destination.query(`grant select (price) on public.reordered to "${reader}"`)
  refresher.set({ columns: null })
  await refresher.refresh()
  expect(Object.keys((await rows('public.reordered'))[0])).toEqual(['id', 'name', 'price'])
  expect(await rows('public.above_reordered')).toHaveLength(2)
  expect((await dressing('public.reordered')).columns.price[0]).toContain('=r/')
})

test('default privileges of the schema grant nothing that the view did not grant before', async () => {
  const refresher = await copied('defaults')
  await destination.query(`alter default privileges in schema public grant select, insert on tables to "${reader}"`)
  try {
    await source.query('alter table public.defaults drop column price')
    await refresher.refresh()
    expect((await dressing('public.defaults')).acl ?? []).not.toContainEqual(expect.stringContaining(reader))
  } finally {
    await destination.query(`alter default privileges in schema public revoke all on tables from "${reader}"`)
  }
})

test.each([
  ['a view that names it', 'create view public.%_dep as select price from public.%', 'public.%_dep'],
  ['a view of a view', 'create view public.%_dep as select x.* from (select price from public.%) x', 'public.%_dep'],
  ['a whole row', 'create view public.%_dep as select t from public.% t', 'public.%_dep'],
  ['a materialized view', 'create materialized view public.%_dep as select id from public.%', 'public.%_dep'],
  [
    'a function of its rows',
    'create function public.%_dep(public.%) returns int language sql return 1',
    'function public.%_dep(public.%)',
  ],
  [
    'a function whose body reads it',
    'create function public.%_dep() returns bigint language sql begin atomic select count(*) from public.%; end',
    'function public.%_dep()',
  ],
  [
    'a trigger on the view itself',
    `create function public.%_f() returns trigger language plpgsql as 'begin return new; end';
     create trigger %_dep instead of insert on public.% for each row execute function public.%_f()`,
    'trigger %_dep on view public.%',
  ],
  [
    'a trigger on a view above',
    `create function public.%_f() returns trigger language plpgsql as 'begin return new; end';
     create view public.%_above as select id from public.%;
     create trigger %_dep instead of insert on public.%_above for each row execute function public.%_f()`,
    'trigger %_dep on view public.%_above',
  ],
  [
    'a rule of the view',
    'create rule %_dep as on insert to public.% do instead nothing',
    'rule %_dep on view public.%',
  ],
  ['a table of its row type', 'create table public.%_dep (it public.%)', 'column it of table public.%_dep'],
])('%s stops a dropped column before anything is changed', async (what, statement, named) => {
  const name = `stopped_by_${what.replaceAll(/[^a-z]+/g, '_')}`
  const refresher = await copied(name)
  await destination.query(statement.replaceAll('%', name))
  const before = await destination.query(
    `select relname, relfilenode, oid from pg_class where relnamespace = 'public'::regnamespace order by oid`,
  )
  await source.query(`alter table public.${name} drop column price`)
  await source.query(`insert into public.${name} values (3, 'three')`)
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'dependent_objects',
    message: expect.stringMatching(/gone or of another type: price.* depends? on it as it was/),
  })
  await expect(refresher.refresh()).rejects.toThrow(named.replaceAll('%', name))
  expect(
    await destination.query(
      `select relname, relfilenode, oid from pg_class where relnamespace = 'public'::regnamespace order by oid`,
    ),
  ).toEqual(before)
  expect(await rows(`public.${name}`)).toHaveLength(2)
})

test('a new column needs no view to be made again: whatever hangs on it stays', async () => {
  const refresher = await copied('grows')
  await destination.query('create materialized view public.grows_m as select price from public.grows')
  await source.query('alter table public.grows add column more int')
  const [{ oid }] = await destination.query(`select 'public.grows'::regclass::oid as oid`)
  expect((await refresher.refresh()).level).toBe('OK')
  expect(await destination.query(`select 'public.grows'::regclass::oid as oid`)).toEqual([{ oid }])
  expect(Object.keys((await rows('public.grows'))[0])).toContain('more')
})

test('post_script: at the first copy and behind each change of structure, not between', async () => {
  await destination.query('create table public.ran (at serial, what text)')
  const refresher = await copied('scripted', {
    postScript: [
      `insert into public.ran (what) select 'rows ' || count(*) from public.scripted`,
      `create index if not exists scripted_name on public.scripted_snap1 (name)`,
    ],
  })
  expect(await rows('public.ran')).toEqual([{ at: 1, what: 'rows 2' }])
  await source.query(`insert into public.scripted values (3, 'three', 3)`)
  await refresher.refresh({ force: true })
  expect(await rows('public.ran')).toHaveLength(1)
  await source.query('alter table public.scripted drop column price')
  await refresher.refresh({ force: true })
  expect(await rows('public.ran')).toEqual([
    { at: 1, what: 'rows 2' },
    { at: 2, what: 'rows 3' },
  ])
})

test('post_script that fails is said, rolled back as a whole, and run again without another copy', async () => {
  await destination.query('create table public.tried (n int)')
  await source.query('create table public.failing as select 1 as id')
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.failing', {
    postScript: [
      'insert into public.tried values (1)',
      'insert into public.not_yet values (1)',
      'select set_config($$search_path$$, $$x$$, false)',
    ],
  })
  await expect(refresher.refresh()).rejects.toMatchObject({
    message: expect.stringMatching(/post_script of dwh:public.failing failed and was rolled back: .*not_yet/),
  })
  refresher.set({ status: 'active' })
  expect(await rows('public.failing')).toHaveLength(1)
  expect(await rows('public.tried')).toEqual([])
  await destination.query('create table public.not_yet (n int)')
  const again = await refresher.refresh()
  expect(again.reason).toBe('skipped')
  expect(again.steps.map((step) => step.action)).toContain('post_script')
  expect(await rows('public.tried')).toHaveLength(1)
  expect((await refresher.refresh()).steps.map((step) => step.action)).not.toContain('post_script')
})

test('what post_script sets or unlocks is its own', async () => {
  await source.query('create table public.selfish as select 1 as id, 2 as more')
  const refresher = new Refresher({ source, destination }, 'snapshot', 'public.selfish', {
    postScript: ['select pg_advisory_unlock_all()', `set search_path = nowhere`, `set lock_timeout = 1`],
  })
  await refresher.refresh()
  await source.query('alter table public.selfish drop column more')
  let locks: Promise<unknown> | undefined
  const done = await refresher.refresh({
    onStep: (action) => {
      if (action !== 'empty the old table') return
      locks = destination.query(`select count(*)::int as held from pg_locks where locktype = 'advisory' and objsubid = 2
        and database = (select oid from pg_database where datname = current_database())`)
    },
  })
  expect(done.steps.map((step) => step.action)).toContain('post_script')
  expect(await locks).toEqual([{ held: 1 }])
})

test('what is granted on the table that readers see is granted on the one that comes', async () => {
  const refresher = await copied('invoker')
  await source.query('update public.invoker set price = 0')
  await refresher.refresh({ force: true })
  // Side 2 is live; side 1 stands there with grants of its own.
  await destination.query(`grant select on public.invoker_snap1 to "${owner}"`)
  await destination.query(`alter view public.invoker set (security_invoker = true)`)
  await destination.query(`grant select on public.invoker, public.invoker_snap2 to "${reader}"`)
  await source.query('update public.invoker set price = 1')
  await refresher.refresh({ force: true })
  const [{ acl }] = await destination.query(`select relacl::text as acl from pg_class where relname = 'invoker_snap1'`)
  expect(acl).toContain(reader)
  expect(acl).not.toContain(owner)
  await destination.query(`set role "${reader}"`)
  expect(await rows('public.invoker').finally(() => destination.query('reset role'))).toHaveLength(2)
})
