import { beforeAll, expect, test } from 'vitest'
import { createDatabase, postgres14, startServer, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'
import { RoundTrips } from '../../test/support/round-trips.ts'
import { startStandby } from '../../test/support/standby.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { Sql } from '../postgres/sql.ts'
import { readFingerprint } from './source-fingerprint.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('changes source')
  destination = await createDatabase('changes dest')
})

/** Runs statements at the source, and has its session report what it counted. */
async function write(...statements: string[]): Promise<void> {
  for (const statement of statements) await source.query(statement)
  await source.query('select pg_stat_force_next_flush()')
  await source.query('select 1')
}

async function copied(name: string, create: string, changes: ConstructorParameters<typeof Refresher>[3] = {}) {
  await write(create.replaceAll('%', name))
  const refresher = new Refresher({ source, destination }, 'snapshot', `public.${name}`, changes)
  await refresher.refresh()
  return refresher
}

const count = async (name: string) =>
  (await destination.query<{ n: number }>(`select count(*)::int as n from public.${name}`))[0]?.n

/** Puts something between the lock of a session that reads rows and its reading. */
function beforeReading(session: Session, work: () => Promise<void>): void {
  const script = session.script.bind(session)
  session.script = async (text) => {
    await script(text)
    if (text === 'rollback to savepoint locked') await work()
  }
}

/** Puts something between the reading of the rows and what the destination does with them. */
function afterReading(destinationSession: Session, work: () => Promise<void>): void {
  const query = destinationSession.query.bind(destinationSession)
  destinationSession.query = async (statement) => {
    if (statement.text.includes('maintenance_work_mem')) await work()
    return query(statement)
  }
}

const table = 'create table public.% as select n as id, n::text as name from generate_series(1, 3) n'

test('nothing written: skipped, and the step says how sure that is; force copies', async () => {
  const refresher = await copied('quiet', table)
  const skipped = await refresher.refresh()
  expect(skipped).toMatchObject({ level: 'OK', reason: 'skipped', rows: 0, tookEffect: true })
  expect(skipped.steps[0]?.message).toBe('No change at crm:public.quiet older than 60 s since the last copy.')
  expect(await refresher.refresh({ force: true })).toMatchObject({ reason: null, rows: 3 })
})

test('a skip asks as little as it can', async () => {
  const refresher = await copied('asked', table)
  const trips = new RoundTrips()
  expect(await refresher.refresh({ onSession: trips.onSession })).toMatchObject({ reason: 'skipped' })
  expect(trips.source).toHaveLength(2)
  expect(trips.destination).toHaveLength(4)
  expect(trips.source.filter((text) => /pg_range|pg_index/.test(text))).toEqual([])
})

test('another table of that name between the look and the lock is copied', async () => {
  const refresher = await copied('swapped', table)
  const onSession = (session: Session, side: 'source' | 'destination') => {
    if (side === 'destination') return
    const queries: (statements: readonly Sql[]) => Promise<object[][]> = session.queries.bind(session)
    const late = async (statements: readonly Sql[]) => {
      await write('drop table public.swapped', `create table public.swapped as select 9 as id, 'nine' as name`)
      return queries(statements)
    }
    Object.assign(session, { queries: late })
  }
  expect(await refresher.refresh({ onSession })).toMatchObject({ reason: null, rows: 1 })
})

test.each([
  ['insert', 'insert into public.% values (4)'],
  ['update', `update public.% set name = 'x' where id = 1`],
  ['delete', 'delete from public.% where id = 1'],
  ['truncate', 'truncate public.%'],
  [
    'truncate and the same rows again',
    `truncate public.%; insert into public.% select n, 'y' from generate_series(1, 3) n`,
  ],
  ['vacuum full', 'vacuum full public.%'],
  ['a column more', 'alter table public.% add column more int default 7'],
  ['a column of another type', 'alter table public.% alter column id type bigint'],
  ['a column less', 'alter table public.% drop column name'],
  ['not null', 'alter table public.% alter column id set not null'],
  ['dropped and made again', `drop table public.%; create table public.% as select 1 as id, 'z' as name`],
  [
    'counters reset, and as many writes again',
    `select pg_stat_reset(); insert into public.% select n, 'r' from generate_series(1, 3) n`,
  ],
  [
    'one counter reset, and as many writes again',
    `select pg_stat_reset_single_table_counters('public.%'::regclass); insert into public.% select n, 'r' from generate_series(1, 3) n`,
  ],
])('%s is seen', async (what, change) => {
  const name = what.replaceAll(/\W+/g, '_')
  const refresher = await copied(name, table)
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
  await write(change.replaceAll('%', name))
  const refreshed = await refresher.refresh()
  expect(refreshed).toMatchObject({ reason: null })
  const [theirs] = await source.query(`select jsonb_agg(t order by t::text) as rows from public.${name} t`)
  expect(await destination.query(`select jsonb_agg(t order by t::text) as rows from public.${name} t`)).toEqual([
    theirs,
  ])
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
})

test('partitions and children count, also one that is attached', async () => {
  const refresher = await copied('parted', 'create table public.% (id int) partition by range (id)')
  await write(
    'create table public.parted_1 partition of public.parted for values from (0) to (10)',
    'insert into public.parted values (1)',
  )
  expect(await refresher.refresh()).toMatchObject({ rows: 1 })
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
  await write('insert into public.parted_1 values (2)')
  expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  await write('create table public.parted_2 as select 12 as id')
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
  await write('alter table public.parted attach partition public.parted_2 for values from (10) to (20)')
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
  await write('alter table public.parted detach partition public.parted_1')
  expect(await refresher.refresh()).toMatchObject({ rows: 1 })
})

test('a materialized view is copied when it was refreshed, in either way', async () => {
  await write('create table public.base as select 1 as id')
  const refresher = await copied('material', 'create materialized view public.% as select * from public.base')
  await write('create unique index on public.material (id)')
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
  await write('insert into public.base values (2)')
  expect(await refresher.refresh()).toMatchObject({ reason: 'skipped' })
  await write('refresh materialized view public.material')
  expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  await write('insert into public.base values (3)', 'refresh materialized view concurrently public.material')
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
})

test('where counters tell nothing, every refresh copies: views, foreign tables, conditions', async () => {
  await write('create extension postgres_fdw', table.replace('%', 'told'))
  const { port } = new URL(source.url)
  await write(
    `create server loop foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${port}', dbname '${source.name}')`,
    `create user mapping for public server loop options (user '${new URL(source.url).username}', password '${new URL(source.url).password}')`,
  )
  const view = await copied('a_view', 'create view public.% as select * from public.told')
  const foreign = await copied(
    'a_foreign',
    `create foreign table public.% (id int, name text) server loop options (table_name 'told')`,
  )
  const some = await copied('some', table, { condition: 'WHERE id > 1' })
  for (const refresher of [view, foreign, some]) expect(await refresher.refresh()).toMatchObject({ reason: null })
  expect(await count('a_foreign')).toBe(3)
  expect(await count('some')).toBe(2)
})

test.each([
  ['columns', { columns: ['id'] }],
  ['a condition', { condition: 'WHERE id = 2' }],
  ['no indexes', { buildIndexes: false }],
])('another setting is a change: %s', async (what, change) => {
  const refresher = await copied(`set_${what.replaceAll(' ', '_')}`, table.replace('as select', '(id, name) as select'))
  refresher.set(change)
  expect(await refresher.refresh()).toMatchObject({ reason: null })
})

test.each([
  ['dropped with its view', 'drop table public.%_snap1 cascade'],
  [
    'made again by somebody',
    'drop table public.%_snap1 cascade; create table public.%_snap1 (id int); create view public.% as select * from public.%_snap1',
  ],
  ['no longer logged', 'alter table public.%_snap1 set unlogged'],
  ['alone, its view dropped', 'drop view public.%'],
])('a live table that is %s is copied anew', async (what, harm) => {
  const name = `live_${what.replaceAll(/\W+/g, '_')}`
  const refresher = await copied(name, table)
  await destination.query(harm.replaceAll('%', name))
  expect(await refresher.refresh()).toMatchObject({ reason: null, rows: 3, level: 'OK' })
  expect(await count(name)).toBe(3)
})

test('counters that lag: what a session has not reported comes with the refresh behind its report', async () => {
  const refresher = await copied('lagging', table)
  const busy = await source.client()
  await busy.query('insert into public.lagging values (4)')
  await busy.query('select pg_stat_force_next_flush()')
  await busy.query('select 1')
  expect(await refresher.refresh()).toMatchObject({ rows: 4 })
  // Within a second of the last report, and busy from then on: this one stays with the session.
  await busy.query('insert into public.lagging values (5); begin')
  const [seen] = await source.query(`select n_tup_ins::int as n from pg_stat_all_tables where relname = 'lagging'`)
  expect(seen).toEqual({ n: 4 })
  const early = await refresher.refresh()
  expect(early).toMatchObject({ reason: 'skipped' })
  expect(early.steps[0]?.message).toContain('older than 60 s')
  await busy.query('commit; select pg_stat_force_next_flush()')
  await busy.query('select 1')
  expect(await refresher.refresh()).toMatchObject({ rows: 5 })
})

test('a session in a long transaction may hold its report back: nothing is skipped while there is one', async () => {
  await copied('held_back', table)
  const session = await connect(parseConnectionUrl(source.url), { side: 'source', purpose: 'test' })
  const busy = await source.client()
  try {
    const relation = { schema: 'public', name: 'held_back' }
    const fingerprint = async (heldBackAfter?: number) => {
      const definition = { columns: null, condition: null, buildIndexes: true }
      return (await readFingerprint(session, relation, definition, heldBackAfter))?.fingerprint
    }
    expect(await fingerprint(0)).toBe(await fingerprint())
    await busy.query('begin')
    expect(await fingerprint(0)).toBe(undefined)
    expect(await fingerprint()).not.toBe(undefined)
    await busy.query('rollback')
    expect(await fingerprint(0)).not.toBe(undefined)
  } finally {
    await session.end()
  }
})

test('counters are sampled before the rows are read: a write between them comes with the next refresh', async () => {
  const refresher = await copied('between', table)
  const first = await refresher.refresh({
    force: true,
    onSession: (session, side) => {
      if (side === 'destination') afterReading(session, () => write('insert into public.between values (4)'))
    },
  })
  expect(first.rows).toBe(3)
  expect(await refresher.refresh()).toMatchObject({ reason: null, rows: 4 })
})

test('a TRUNCATE cannot come between the snapshot and the rows: it would show an empty table', async () => {
  const refresher = await copied('truncated_between', table)
  const other = await source.client()
  await other.query(`set lock_timeout = '200ms'`)
  let outcome = 'not tried'
  const refreshed = await refresher.refresh({
    force: true,
    onSession: (session, side) => {
      if (side !== 'source') return
      beforeReading(session, async () => {
        outcome = await other.query('truncate public.truncated_between').then(
          () => 'truncated',
          (error: { code: string }) => error.code,
        )
      })
    },
  })
  expect(outcome).toBe('55P03')
  expect(refreshed.rows).toBe(3)
})

test('a physical standby: read, never skipped, and its rows are what it has replayed', async () => {
  const primary = await startServer()
  const first = await primary.createDatabase('primary')
  await first.query(table.replace('%', 'replayed'))
  const standby = await startStandby(primary)
  const refresher = new Refresher(
    { source: { url: standby.url(first.name) }, destination },
    'snapshot',
    'public.replayed',
  )
  expect(await refresher.refresh()).toMatchObject({ rows: 3 })
  expect(await refresher.refresh()).toMatchObject({ reason: null, rows: 3 })
  const writer = await first.client()
  await writer.query('insert into public.replayed values (4)')
  await expect.poll(async () => (await refresher.refresh()).rows, { timeout: 10_000, interval: 100 }).toBe(4)
  expect(await count('replayed')).toBe(4)
  // Several streams under one snapshot work there too.
  await writer.query('alter table public.replayed set (fillfactor = 10)')
  await writer.query(`insert into public.replayed select n, repeat('x', 1900) from generate_series(5, 20000) n`)
  await expect
    .poll(async () => (await refresher.refresh({ streams: 2 })).rows, { timeout: 20_000, interval: 100 })
    .toBe(20_000)
  expect(await count('replayed')).toBe(20_000)
})

test('on PostgreSQL 14 an idle session holds its counts back for ever: nothing is skipped while anybody is connected', async () => {
  const old = await (await postgres14()).createDatabase('changes old')
  await old.query(table.replaceAll('%', 'idle_writer'))
  const refresher = new Refresher({ source: old, destination }, 'snapshot', 'public.idle_writer')
  await refresher.refresh()
  const writer = await old.client()
  await writer.query(`insert into public.idle_writer values (4, 'x')`)
  await writer.query(`insert into public.idle_writer values (5, 'y')`)
  expect(await refresher.refresh()).toMatchObject({ reason: null, rows: 5 })
  expect(await refresher.refresh()).toMatchObject({ reason: null, rows: 5 })
})
