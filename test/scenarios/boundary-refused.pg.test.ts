import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Sql, sql } from '../../src/postgres/sql.ts'
import type { ControlColumn } from '../../src/replication/definition.ts'
import { createDatabase, startServer, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'
import { startStandby } from '../support/standby.ts'

const byTime: ControlColumn = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: 'off' }
const bySerial: ControlColumn = { ...byTime, column: 'id', by: 'serial' }
const columns = 'id bigint generated always as identity primary key, at timestamptz not null default now(), v text'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('refused source')
  destination = await createDatabase('refused dest')
})

async function replication(name: string, control: ControlColumn, made = columns): Promise<Refresher> {
  await source.query(`create table public.${name} (${made})`)
  return new Refresher({ source, destination }, 'inserter', `public.${name}`, { control })
}

const insert = (name: string, value: string) => source.query(`insert into public.${name} (v) values ('${value}')`)

async function copied(name: string): Promise<string> {
  const rows = await destination.query(`select v from public.${name} order by v`)
  return rows.map((row) => row.v).join('')
}

/** Refreshes until the copy holds these rows, for at most ten seconds; each once, and nothing else. */
async function becomes(refresher: Refresher, name: string, wanted: string): Promise<void> {
  const deadline = Date.now() + 10_000
  do await refresher.refresh()
  while ((await copied(name)) !== wanted && Date.now() < deadline)
  expect(await copied(name)).toBe(wanted)
}

async function open(...statements: string[]): Promise<pg.Client> {
  const client = await source.client()
  for (const statement of ['begin', ...statements]) await client.query(statement)
  return client
}

const said = async (refresher: Refresher) => {
  const { steps, level } = await refresher.refresh()
  return { level, message: steps[0]?.message ?? '' }
}

test.each([
  ['time', byTime],
  ['serial', bySerial],
] as const)('by %s: views are refused, and the interval is used', async (kind, control) => {
  await source.query(`create table public.base_${kind} (${columns})`)
  await source.query(`create view public.view_${kind} as select * from public.base_${kind}`)
  await insert(`base_${kind}`, 'a')
  const refresher = new Refresher({ source, destination }, 'inserter', `public.view_${kind}`, { control })
  const { level, message } = await said(refresher)
  expect(level).toBe('OK')
  expect(message).toMatch(/auto is not used: the source is a view.*the boundary is 10( minutes)?\./)
  expect(await copied(`view_${kind}`)).toBe('')
})

test('our own readers hold nothing back; our sessions that write do', async () => {
  const refresher = await replication('own', bySerial)
  await insert('own', 'a')
  const own = await open(`set application_name = 'yardmaster read dwh:public.other'`, 'select 1')
  await refresher.refresh()
  expect(await copied('own')).toBe('a')
  await own.query(`set application_name = 'yardmaster load dwh:public.other'`)
  await insert('own', 'b')
  await refresher.refresh()
  expect(await copied('own')).toBe('a')
  await own.query('commit')
  await becomes(refresher, 'own', 'ab')
})

test('without a default it is said that nothing is proven', async () => {
  const refresher = await replication('bare', byTime, 'id int primary key, at timestamptz, v text')
  const { steps, level } = await refresher.refresh()
  expect(level).toBe('OK')
  expect(steps[0]?.message).toContain('the control column of public.bare has no default')
})

test('a cached sequence is refused; without the cache it is used', async () => {
  const refresher = await replication('cached', bySerial, 'id serial primary key, v text')
  await source.query('alter sequence public.cached_id_seq cache 5')
  await insert('cached', 'a')
  const { steps } = await refresher.refresh()
  expect(steps[0]?.message).toContain('take 5 numbers of public.cached_id_seq at once (ALTER SEQUENCE')
  expect(await copied('cached')).toBe('')
  await source.query('alter sequence public.cached_id_seq cache 1')
  await refresher.refresh()
  expect(await copied('cached')).toBe('a')
})

test('a sequence that was set back is said', async () => {
  const refresher = await replication('reset', bySerial, 'id serial primary key, v text')
  for (const value of ['a', 'b', 'c']) await insert('reset', value)
  await refresher.refresh()
  expect(await copied('reset')).toBe('abc')
  await source.query('truncate public.reset restart identity')
  await insert('reset', 'd')
  const { level, steps } = await refresher.refresh()
  expect(level).toBe('WARNING')
  expect(steps[0]?.message).toContain('The sequence public.reset_id_seq stands at 1, below the position 3')
})

test.each([
  ['timestamp', "timezone('Asia/Tokyo', now())"],
  ['timestamp(0)', "timezone('Asia/Tokyo', now())"],
])('a %s in the zone that the definition names', async (type, value) => {
  const table = `tokyo_${type.replaceAll(/\W/g, '')}`
  const made = `id int generated always as identity, at ${type} not null default ${value}, v text`
  const refresher = await replication(table, { ...byTime, timezone: 'Asia/Tokyo' }, made)
  await insert(table, 'a')
  const first = await refresher.refresh()
  expect(await copied(table)).toBe('')
  expect(first.reach?.behind).toBeGreaterThanOrEqual(2)
  expect(first.reach?.behind).toBeLessThan(60)
  await becomes(refresher, table, 'a')
})

describe('a role that is no superuser', () => {
  const role = `boundary_${process.pid}`
  let url: string

  beforeAll(async () => {
    await source.query(`create role ${role} login password 'x'`)
    const parts = new URL(source.url)
    parts.username = role
    parts.password = 'x'
    url = parts.href
  })

  async function limited(name: string, control: ControlColumn): Promise<Refresher> {
    await source.query(`create table public.${name} (${columns})`)
    await source.query(`grant select on public.${name} to ${role}`)
    return new Refresher({ source: { url }, destination }, 'inserter', `public.${name}`, { control })
  }

  test('by time: the sessions of others are hidden, until it may see them', async () => {
    const refresher = await limited('hidden', byTime)
    await source.query(`insert into public.hidden (at, v) values (now() - interval '1 hour', 'a')`)
    await insert('hidden', 'b')
    const first = await said(refresher)
    expect(first.level).toBe('OK')
    expect(first.message).toMatch(
      /may not see since when .* write \(GRANT pg_read_all_stats\); the boundary is 10 minutes/,
    )
    expect(await copied('hidden')).toBe('a')
    await source.query(`grant pg_read_all_stats to ${role}`)
    await becomes(refresher, 'hidden', 'ab')
    await source.query(`revoke pg_read_all_stats from ${role}`)
    await insert('hidden', 'c')
    // The interval's bound lies below the position by now: nothing comes, and nothing goes back.
    const { message } = await said(refresher)
    expect(message).toContain('auto is not used')
    expect(message).toContain('Nothing new')
    await source.query(`grant pg_read_all_stats to ${role}`)
    await becomes(refresher, 'hidden', 'abc')
    await source.query(`revoke pg_read_all_stats from ${role}`)
  })

  test('by serial: open transactions are seen without any right', async () => {
    const refresher = await limited('shown', bySerial)
    await insert('shown', 'a')
    await refresher.refresh()
    expect(await copied('shown')).toBe('a')
    const long = await open(`insert into public.shown (v) values ('b')`)
    await insert('shown', 'c')
    await refresher.refresh()
    expect(await copied('shown')).toBe('a')
    await long.query('commit')
    await becomes(refresher, 'shown', 'abc')
  })
})

test('a session that is not tracked is refused, and one that was not when it began', async () => {
  const refresher = await replication('untracked', byTime)
  await source.query(`insert into public.untracked (at, v) values (now() - interval '1 hour', 'a')`)
  const silent = await source.client()
  await silent.query('set track_activities = off')
  expect((await said(refresher)).message).toContain('track_activities is off for process')
  await silent.query('begin')
  await silent.query(`insert into public.untracked (v) values ('b')`)
  await silent.query('set track_activities = on')
  expect((await said(refresher)).message).toContain('track_activities is off for process')
  expect(await copied('untracked')).toBe('a')
  await silent.query('commit')
  await becomes(refresher, 'untracked', 'ab')
})

test('what the session knew of others’ activity before does not count', async () => {
  const refresher = await replication('stale', byTime)
  await insert('stale', 'a')
  await becomes(refresher, 'stale', 'a')
  let writer: pg.Client | undefined
  await refresher.refresh({
    onSession: (session, side) => {
      const queries: (statements: readonly Sql[]) => Promise<object[][]> = session.queries.bind(session)
      const late = async (statements: readonly Sql[]) => {
        const results = await queries(statements)
        if (side !== 'source' || statements.at(-1)?.text !== 'savepoint locked') return results
        await session.query(sql`select count(*) from pg_stat_activity`)
        writer = await open(`insert into public.stale (v) values ('b')`)
        await insert('stale', 'c')
        await session.query(sql`select pg_sleep(2.5)`)
        return results
      }
      Object.assign(session, { queries: late })
    },
  })
  expect(await copied('stale')).toBe('a')
  await writer?.query('commit')
  await becomes(refresher, 'stale', 'abc')
})

test('the clock went back: rows below the position are read again by key until the clock has passed it', async () => {
  const refresher = await replication('stepped', byTime)
  refresher.set({ type: 'updater' })
  await source.query(`insert into public.stepped (at, v) values (now() - interval '1 hour', 'a')`)
  await refresher.refresh()
  const { id } = refresher.replication
  // As if this had been copied by a clock that was five seconds ahead of what it is now.
  await destination.query(
    `update yardmaster.position set state = jsonb_set(jsonb_set(state, '{memory,clock}', to_jsonb((extract(epoch from now() + interval '5 s') * 1000000)::int8)),
       '{mark,value}', to_jsonb((now() + interval '3 s')::text)) where replication_id = $1`,
    [id],
  )
  await insert('stepped', 'b')
  const back = await said(refresher)
  expect(back.level).toBe('WARNING')
  expect(back.message).toContain("The source's clock went back by")
  expect(await copied('stepped')).toBe('ab')
  await insert('stepped', 'c')
  const waiting = await said(refresher)
  expect(waiting.level).toBe('WARNING')
  expect(waiting.message).toContain('until the clock has passed the position')
  expect(await copied('stepped')).toBe('abc')
  const deadline = Date.now() + 15_000
  let last = await said(refresher)
  while (last.level === 'WARNING' && Date.now() < deadline) last = await said(refresher)
  expect(last.level).toBe('OK')
  await insert('stepped', 'd')
  await becomes(refresher, 'stepped', 'abcd')
})

test.each([
  ['system', '"1"', 'another server than before'],
  ['timeline', '"000000FF"', 'took another way'],
])('another %s: the last ten minutes are read again, once', async (key, value, why) => {
  const refresher = await replication(`moved_${key}`, byTime)
  refresher.set({ type: 'updater' })
  await insert(`moved_${key}`, 'a')
  await becomes(refresher, `moved_${key}`, 'a')
  await destination.query(
    `update yardmaster.position set state = jsonb_set(state, '{memory,${key}}', $2) where replication_id = $1`,
    [refresher.replication.id, value],
  )
  // A row that the destination had not seen, although the position is past it.
  await source.query(`insert into public.moved_${key} (at, v) values (now() - interval '1 minute', 'b')`)
  const back = await said(refresher)
  expect(back.level).toBe('WARNING')
  expect(back.message).toContain(why)
  expect(await copied(`moved_${key}`)).toBe('ab')
  expect((await said(refresher)).level).toBe('OK')
})

test('a table that a subscription writes to is refused', async () => {
  const publisher = await createDatabase('publisher')
  const slot = `boundary_${process.pid}`
  await publisher.query(`create table public.fed (${columns})`)
  await publisher.query('create publication p for table public.fed')
  await publisher.query(`select pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
  await source.query(`create table public.fed (${columns})`)
  await source.query(
    `create subscription s connection '${publisher.url}' publication p
       with (create_slot = false, slot_name = '${slot}', copy_data = false, enabled = false)`,
  )
  for (const control of [byTime, bySerial]) {
    const to = `public.fed_${control.by}`
    const { message } = await said(new Refresher({ source, destination }, 'inserter', 'public.fed', { control, to }))
    expect(message).toContain('auto is not used: a subscription writes to public.fed')
  }
  await source.query('alter subscription s set (slot_name = none)')
  await source.query('drop subscription s')
  await publisher.query(`select pg_drop_replication_slot('${slot}')`)
})

test('a standby is refused, by time and by serial', async () => {
  const primary = await startServer()
  const database = await primary.createDatabase('boundary primary')
  await database.query(`create table public.followed (${columns})`)
  await database.query(`insert into public.followed (at, v) values (now() - interval '1 hour', 'a')`)
  const standby = await startStandby(primary)
  const ends = { source: { url: standby.url(database.name) }, destination }
  for (const control of [byTime, bySerial]) {
    const to = `public.followed_${control.by}`
    const { message } = await said(new Refresher(ends, 'inserter', 'public.followed', { control, to }))
    expect(message).toContain('auto is not used: the source is a standby')
  }
  expect(await copied('followed_time')).toBe('a')
})
