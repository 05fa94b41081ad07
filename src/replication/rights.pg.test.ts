import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'
import { preparationStatements } from '../control/preparation.ts'
import { connect } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { parseQualifiedName, quoteIdentifier } from '../postgres/identifier.ts'
import { openTransactions } from './open-transactions.ts'

let source: TestDatabase
let destination: TestDatabase
/** Roles with nothing but what the documents say: one that reads the source, one that fills the destination. */
let readerRole: string
let fillerRole: string
let owner: string
let ends: { source: { url: string }; destination: { url: string } }

const as = (database: TestDatabase, role: string) => {
  const url = new URL(database.url)
  url.username = encodeURIComponent(role)
  url.password = 'secret'
  return { url: url.href }
}

beforeAll(async () => {
  source = await createDatabase('rights source')
  destination = await createDatabase('rights dest')
  const mark = destination.name.split('_').slice(-2).join('-')
  readerRole = `ym-source-${mark}`
  fillerRole = `ym-dest-${mark}`
  owner = `owner-${mark}`
  for (const role of [readerRole, fillerRole, owner])
    await source.query(`create role "${role}" login password 'secret'`)
  for (const database of [source, destination]) {
    await database.query(`revoke all on database "${database.name}" from public`)
    await database.query('revoke all on schema public from public')
    await database.query(`grant connect on database "${database.name}" to "${owner}"`)
    await database.query(`create schema shop authorization "${owner}"`)
  }
  await destination.query(`grant connect on database "${destination.name}" to "${fillerRole}"`)
  await destination.query(`create schema yardmaster authorization "${fillerRole}"`)
  await destination.query(`grant usage, create on schema shop to "${fillerRole}"`)
  ends = { source: as(source, readerRole), destination: as(destination, fillerRole) }
})

/** A table of the owner's at the source, prepared for our role by the printed statements and nothing else. */
async function prepared(name: string, ...statements: string[]): Promise<void> {
  await source.query(`set role "${owner}"`)
  await source.query(`create table shop.${name} (id int primary key, v text)`)
  await source.query(`insert into shop.${name} select n, 'v' || n from generate_series(1, 3) n`)
  for (const statement of statements) await source.query(statement)
  await source.query('reset role')
  await prepare(`shop.${name}`)
}

async function prepare(table: string): Promise<void> {
  const session = await connect(parseConnectionUrl(source.url), { side: 'database', purpose: 'test' })
  try {
    const wanted = { role: readerRole, tables: [parseQualifiedName(table)] }
    for (const statement of (await preparationStatements(session, wanted)).statements) await source.query(statement)
  } finally {
    await session.end()
  }
}

const ids = (relation: string) => destination.query(`select id from ${relation} order by 1`)

test.each([
  ['a function', 'create function yardmaster.strange() returns int return 1', 'function yardmaster.strange'],
  ['a view', 'create view yardmaster.strange as select 1 as one', 'yardmaster.strange'],
])('%s that somebody else has put beside the positions stops the refresh', async (what, create, named) => {
  const kind = what.slice(2)
  await prepared(`beside_${kind}`)
  const refresher = new Refresher(ends, 'snapshot', `shop.beside_${kind}`)
  await refresher.refresh()
  await destination.query(`grant usage, create on schema yardmaster to "${owner}"`)
  await destination.query(`set role "${owner}"`)
  await destination.query(create)
  await destination.query('reset role')
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'permission_denied',
    message: `The ${named} in dwh belongs to the role ${quoteIdentifier(owner)}, which could run its own code as ours.`,
  })
  await destination.query(`drop ${kind} yardmaster.strange`)
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
})

test('snapshot: set up, refreshed, with another structure, removed', async () => {
  await prepared('snapped')
  const refresher = new Refresher(ends, 'snapshot', 'shop.snapped')
  await refresher.plan()
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 3 })
  await destination.query(`set role "${fillerRole}"`)
  await destination.query('create view shop.snapped_above as select id from shop.snapped')
  await destination.query('reset role')
  await source.query('alter table shop.snapped drop column v')
  await source.query('insert into shop.snapped values (4)')
  expect(await refresher.refresh({ force: true })).toMatchObject({ level: 'OK', rows: 4 })
  expect(await ids('shop.snapped_above')).toHaveLength(4)
  expect(await refresher.validate()).toMatchObject({ match: true, source_count: 4 })
  await destination.query('drop view shop.snapped_above')
  await refresher.remove('keep')
  expect(await ids('shop.snapped')).toHaveLength(4)
})

test('table: made by us, and one of somebody else with the grants that are asked for', async () => {
  await prepared('made')
  const refresher = new Refresher(ends, 'table', 'shop.made')
  await refresher.refresh()
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 3 })
  await destination.query(`set role "${owner}"`)
  await destination.query('create table shop.theirs (id serial, v text)')
  await destination.query('create index theirs_index on shop.theirs (v)')
  await destination.query('reset role')
  const theirs = new Refresher(ends, 'table', 'shop.made', { to: 'shop.theirs', sequences: ['shop.theirs_id_seq'] })
  const lacking = {
    code: 'permission_denied',
    remedy: expect.stringMatching(/GRANT SELECT, INSERT, DELETE, TRUNCATE ON "shop"."theirs" TO/),
  }
  await expect(theirs.plan()).rejects.toMatchObject(lacking)
  await destination.query(`grant select, insert, delete, truncate on shop.theirs to "${fillerRole}"`)
  await expect(theirs.plan()).rejects.toMatchObject({
    code: 'permission_denied',
    remedy: expect.stringMatching(/GRANT UPDATE ON SEQUENCE "shop"."theirs_id_seq" TO/),
  })
  await destination.query(`grant update on sequence shop.theirs_id_seq to "${fillerRole}"`)
  await theirs.plan()
  await theirs.refresh()
  expect(await theirs.refresh()).toMatchObject({ level: 'OK', rows: 3 })
  expect(await ids('shop.theirs')).toHaveLength(3)
  expect(await destination.query(`select last_value::int as v from shop.theirs_id_seq`)).toEqual([{ v: 3 }])
})

test.each([18, 14])(
  'PostgreSQL %i shows the open transactions of others to everybody, if not how old they are',
  async (major) => {
    const old = major === 14 ? await (await postgres14()).createDatabase('rights old') : undefined
    if (old) await old.query(`create role "${fillerRole}" login password 'secret'`)
    const database = old ?? destination
    const session = await connect(parseConnectionUrl(as(database, fillerRole).url), {
      side: 'destination',
      purpose: 'test',
    })
    const other = await database.client()
    const pid = (other as unknown as { processID: number }).processID
    const seen = async () => (await openTransactions(session)).filter((one) => one.pid === pid)
    try {
      expect(await seen()).toEqual([])
      await other.query('begin isolation level repeatable read')
      await other.query('select 1')
      expect(await seen()).toEqual([expect.objectContaining({ pid, age: null })])
      await other.query('commit; begin')
      await other.query('select 1')
      // Between two statements at READ COMMITTED nothing is held.
      expect(await seen()).toEqual([])
      await other.query('commit')
    } finally {
      await session.end()
    }
  },
)

test('a large source beside such a transaction: one frozen stream, and its rows for everybody', async () => {
  await prepared(
    'large',
    'alter table shop.large set (fillfactor = 10)',
    'alter table shop.large alter v set storage plain',
  )
  await source.query(`insert into shop.large select n, repeat('x', 800) from generate_series(4, 4300) n`)
  const refresher = new Refresher(ends, 'snapshot', 'shop.large', { swapWait: 300 })
  const other = await destination.client()
  await other.query('begin isolation level repeatable read')
  await other.query('select 1')
  const first = await refresher.refresh({ streams: 2 })
  expect(first.steps[0]?.message).toContain('one frozen stream')
  expect((await other.query('select count(*)::int as n from shop.large')).rows).toEqual([{ n: 4300 }])
  await other.query('commit')
  const second = await refresher.refresh({ streams: 2, force: true })
  expect(second.steps[0]?.message).toContain('in parallel')
  expect(second).toMatchObject({ level: 'OK', rows: 4300 })
})

describe('missing at the source', () => {
  const refusal = async (name: string, changes = {}) => {
    const refresher = new Refresher(ends, 'table', name, { to: 'shop.never', ...changes })
    const failure = await refresher.plan().then(
      () => undefined,
      (error: Error & { code: string; remedy: string }) => error,
    )
    expect(failure?.code).toBe('permission_denied')
    return failure
  }

  test('SELECT on the table, USAGE of the schema, SELECT on a column', async () => {
    await source.query('create schema hidden')
    await source.query('create table hidden.t (id int, secret text)')
    expect((await refusal('hidden.t'))?.remedy).toMatch(
      /GRANT USAGE ON SCHEMA "hidden" TO .*; GRANT SELECT ON "hidden"."t" TO/,
    )
    await source.query(`grant usage on schema hidden to "${readerRole}"`)
    expect((await refusal('hidden.t'))?.message).toMatch(/hidden.t.*(cannot be read|may not read)/)
    await source.query(`grant select (id) on hidden.t to "${readerRole}"`)
    expect((await refusal('hidden.t'))?.message).toMatch(/may not read the column secret of crm:hidden.t/)
    await source.query('insert into hidden.t values (1, $$s$$)')
    const some = new Refresher(ends, 'table', 'hidden.t', { to: 'shop.some', columns: ['id'] })
    expect(await some.refresh()).toMatchObject({ rows: 1 })
    expect(await some.refresh()).toMatchObject({ rows: 1 })
  })

  test('a policy that might hide rows is an error, not fewer rows', async () => {
    await prepared(
      'limited',
      'alter table shop.limited enable row level security',
      'create policy p on shop.limited using (id = 1)',
    )
    const failure = await refusal('shop.limited')
    expect(failure?.message).toMatch(/row-level security/)
    expect(failure?.remedy).toMatch(/BYPASSRLS/)
  })

  test.each([
    ['its schema is closed', 'create schema attic; alter table shop.:t_leaf set schema attic'],
    ['it has a policy of its own', 'alter table shop.:t_leaf enable row level security'],
    ['nobody granted it', 'revoke select on shop.:t_leaf from "ROLE"'],
  ])('a leaf that may not be read by itself is read through its parent: %s', async (what, statement) => {
    const name = `parent_${what.split(' ')[1]}`
    await prepared(
      name,
      `drop table shop.${name}`,
      `create table shop.${name} (id int, v text) partition by range (id)`,
      `create table shop.${name}_leaf partition of shop.${name} for values from (0) to (5000)`,
    )
    await source.query(`grant select on shop.${name}_leaf to "${readerRole}"`)
    await source.query(`alter table shop.${name}_leaf alter v set storage plain`)
    await source.query(`alter table shop.${name}_leaf set (fillfactor = 10)`)
    await source.query(`insert into shop.${name} select n, repeat('x', 800) from generate_series(1, 4300) n`)
    await source.query(statement.replaceAll(':t', name).replace('ROLE', readerRole))
    const refresher = new Refresher(ends, 'snapshot', `shop.${name}`)
    const refreshed = await refresher.refresh({ streams: 2 })
    expect(refreshed.steps[0]?.message).toContain('one frozen stream')
    expect(refreshed.rows).toBe(4300)
  })
})

describe('missing at the destination', () => {
  test('CREATE in the schema, CREATE of a schema, a schema for the positions', async () => {
    await prepared('wanted')
    await destination.query('create schema closed')
    for (const [to, remedy] of [
      ['closed.wanted', /GRANT USAGE, CREATE ON SCHEMA "closed" TO/],
      ['new_schema.wanted', /CREATE SCHEMA "new_schema" AUTHORIZATION/],
    ] as const) {
      const refresher = new Refresher(ends, 'snapshot', 'shop.wanted', { to })
      await expect(refresher.plan()).rejects.toMatchObject({
        code: 'permission_denied',
        remedy: expect.stringMatching(remedy),
      })
    }
    const bare = await createDatabase('rights bare')
    await bare.query(`grant create on schema public to "${fillerRole}"`)
    const refresher = new Refresher({ ...ends, destination: as(bare, fillerRole) }, 'table', 'shop.wanted', {
      to: 'public.t',
    })
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'permission_denied',
      remedy: expect.stringMatching(/CREATE SCHEMA yardmaster AUTHORIZATION/),
    })
  })

  test('a policy on the destination is an error', async () => {
    await prepared('policed_copy')
    await destination.query('create table shop.policed_copy (id int, v text)')
    await destination.query('alter table shop.policed_copy enable row level security')
    await destination.query(`grant select, insert, delete, truncate on shop.policed_copy to "${fillerRole}"`)
    const refresher = new Refresher(ends, 'table', 'shop.policed_copy', { status: 'active' })
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'permission_denied',
      message: expect.stringMatching(/row-level security that holds for our role/),
      remedy: expect.stringContaining('BYPASSRLS'),
    })
  })

  test("a view of somebody else's above, when columns go: who it is, and the grant that helps", async () => {
    await prepared('shared')
    const refresher = new Refresher(ends, 'snapshot', 'shop.shared')
    await refresher.refresh()
    await destination.query(`grant select on shop.shared to "${owner}"`)
    await destination.query(`set role "${owner}"`)
    await destination.query('create view shop.foreign_view as select id from shop.shared')
    await destination.query('reset role')
    await source.query('alter table shop.shared drop column v')
    await expect(refresher.refresh({ force: true })).rejects.toMatchObject({
      code: 'permission_denied',
      message: expect.stringMatching(
        /gone or of another type: v.*shop.foreign_view of the role "owner-.*must be made again/,
      ),
      remedy: expect.stringContaining(`GRANT "${owner}" TO "${fillerRole}"`),
    })
    expect(Object.keys((await destination.query('select * from shop.shared'))[0])).toEqual(['id', 'v'])
    await destination.query(`grant "${owner}" to "${fillerRole}"`)
    expect(await refresher.refresh({ force: true })).toMatchObject({ level: 'OK' })
    expect(
      await destination.query(`select pg_get_userbyid(relowner) as owner from pg_class where relname = 'foreign_view'`),
    ).toEqual([{ owner }])
  })
})
