import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { connect, type Session } from './connect.ts'
import { parseConnectionUrl } from './connection-url.ts'
import { sql } from './sql.ts'

let database: TestDatabase
let session: Session

beforeAll(async () => {
  database = await createDatabase('pipeline')
  session = await connect(parseConnectionUrl(database.url), { side: 'database', purpose: 'test' })
  await session.script('create table public.noted (id int primary key)')
  return () => session.end()
})

const noted = async () => (await database.query('select id from public.noted order by id')).map((row) => row.id)

test('gives the rows of each, with values and types as single statements have them', async () => {
  const single = sql`select ${1}::int as n, ${"it's"} as t, ${null}::text as nothing, ${['a', null, 'b"']}::text[] as list, ${true}::boolean as yes`
  const results = await session.queries([
    sql`insert into public.noted values (1)`,
    single,
    sql`select g as id from generate_series(1, 2) g`,
    sql`select 1 as none where false`,
  ])
  expect(results).toEqual([[], await session.query(single), [{ id: 1 }, { id: 2 }], []])
})

test('is one transaction: what a failure follows is undone, what follows it is not run, the session goes on', async () => {
  const failing = session.queries([
    sql`insert into public.noted values (10)`,
    sql`insert into public.noted values (11), (11)`,
    sql`insert into public.noted values (12)`,
  ])
  await expect(failing).rejects.toMatchObject({ sqlstate: '23505' })
  expect(await session.one(sql`select 1 as still`)).toEqual({ still: 1 })
  expect(await noted()).toEqual([1])
})

test('a setting for the transaction holds for all of them, and no longer', async () => {
  const [, during] = await session.queries([
    sql`select set_config('lock_timeout', '5s', true)`,
    sql`select current_setting('lock_timeout') as value`,
  ])
  expect(during).toEqual([{ value: '5s' }])
  expect(await session.one(sql`select current_setting('lock_timeout') as value`)).toEqual({ value: '0' })
})

test('begin leaves the transaction open, and each statement is one', async () => {
  await session.queries([sql`begin`, sql`insert into public.noted values (20)`, sql`savepoint here`])
  await session.script('rollback')
  await expect(session.queries([sql`select 1`, sql`select 2; select 3`])).rejects.toMatchObject({ sqlstate: '42601' })
  await expect(session.queries([sql`copy public.noted from stdin`])).rejects.toMatchObject({ sqlstate: '57014' })
  expect(await session.one(sql`select 1 as still`)).toEqual({ still: 1 })
  expect(await noted()).toEqual([1])
})
