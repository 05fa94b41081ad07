import { beforeAll, expect, test } from 'vitest'
import type { ControlColumn, ReplicationType } from '../../src/replication/definition.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'

const byTime: ControlColumn = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: 'off' }
const bySerial: ControlColumn = { ...byTime, column: 'id', by: 'serial' }

let source: TestDatabase
let destination: TestDatabase
/** May read the tables that a test names, and not their sequences. */
const role = `lost_rows_${process.pid}`
let readerUrl: string

beforeAll(async () => {
  source = await createDatabase('lost rows source')
  destination = await createDatabase('lost rows dest')
  await source.query(
    `do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$`,
  )
  await source.query(`create role ${role} login password 'x'; grant pg_read_all_stats to ${role}`)
  const parts = new URL(source.url)
  parts.username = role
  parts.password = 'x'
  readerUrl = parts.href
})

const copy = (name: string, control: ControlColumn, type: ReplicationType = 'inserter') =>
  new Refresher({ source, destination }, type, `public.${name}`, { control })

async function ids(name: string): Promise<string> {
  const rows = await destination.query(`select id from public.${name} order by id`)
  return rows.map((row) => Number(row.id)).join(' ')
}

/** Two seconds behind the clock comes to lie behind what was written. */
const pass = () => source.query('select pg_sleep(2.1)')

test('a default in a zone of its own: the bound is in that zone, not nine hours beyond', async () => {
  const table = `(id int primary key, at timestamp not null default (now() at time zone 'utc'))`
  await source.query(`create table public.utc ${table}; insert into public.utc values (1)`)
  const refresher = copy('utc', byTime)
  await pass()
  await refresher.refresh()
  expect(await ids('utc')).toBe('1')
  await source.query('insert into public.utc values (2)')
  await pass()
  await refresher.refresh()
  expect(await ids('utc')).toBe('1 2')
})

test('partitions in two zones: the earlier local time bounds both', async () => {
  await source.query(`create table public.zones (id int, at timestamp not null default (now() at time zone 'utc')) partition by range (id);
    create table public.zones_a partition of public.zones for values from (0) to (10);
    create table public.zones_b partition of public.zones for values from (10) to (20);
    alter table public.zones_b alter at set default (now() at time zone 'America/New_York')`)
  const refresher = copy('zones', byTime)
  await refresher.refresh()
  await source.query('insert into public.zones_a values (1); insert into public.zones_b values (11)')
  await pass()
  await refresher.refresh()
  expect(await ids('zones')).toBe('11')
})

/** A zone whose clocks are put back by an hour in so many seconds. */
async function zoneThatShifts(seconds: number): Promise<string> {
  const [row] = await source.query<{ zone: string }>(
    `select format('STD0DST-1,J%s/0,J%s/%s', extract(doy from make_date(2001, extract(month from start)::int, 15)),
       extract(doy from make_date(2001, extract(month from local)::int, extract(day from local)::int)), local::time(0)) as zone
     from (select date_trunc('second', clock_timestamp() at time zone 'utc') + make_interval(hours => 1, secs => $1) as local) as l,
       lateral (select local - interval '90 days' as start) as s`,
    [seconds],
  )
  return row?.zone ?? ''
}

test.each(['auto', '0 seconds'])('clocks are put back between two refreshes, with boundary %s', async (boundary) => {
  const name = `fold_${boundary.slice(0, 1)}`
  const timezone = await zoneThatShifts(4)
  await source.query(`create table public.${name} (id int primary key, at timestamp not null default timezone('${timezone}', now()));
    insert into public.${name} values (1)`)
  const refresher = copy(name, { ...byTime, boundary, timezone })
  await refresher.refresh()
  await pass()
  await refresher.refresh()
  const [{ back } = { back: null }] = await source.query(
    `select pg_sleep(3), max(at) > timezone('${timezone}', clock_timestamp()) as back from public.${name}`,
  )
  expect(back).toBe(true)
  await source.query(`insert into public.${name} values (2)`)
  await pass()
  await refresher.refresh()
  // The first one has a time that comes once more: it comes then.
  expect(await ids(name)).toBe('2')
})

test('a position ahead of the clock is told, as when another zone is meant from now on', async () => {
  await source.query(
    'create table public.ahead (id int primary key, at timestamp not null); insert into public.ahead values (1, localtimestamp)',
  )
  const refresher = copy('ahead', { ...byTime, timezone: 'Asia/Tokyo' })
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  refresher.set({ control: { ...byTime, timezone: 'utc' } })
  const told = await refresher.refresh()
  expect(told.level).toBe('WARNING')
  expect(told.message).toMatch(/The position '.*' lies ahead of the source's clock \(utc\)/)
})

test('another type of the control column stops the copy, until everything is copied anew', async () => {
  await source.query(
    'create table public.retyped (id int primary key, at timestamptz not null default now()); insert into public.retyped values (1)',
  )
  const refresher = copy('retyped', byTime)
  await refresher.refresh()
  await source.query('alter table public.retyped alter at type timestamp')
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'control_column_unfit',
    message: expect.stringMatching(/"?at"? of crm:public.retyped is timestamp now, and was timestamptz/),
  })
})

test.each([
  ['auto', 'int', true],
  ['auto', 'numeric(10,2)', true],
  ['auto', 'int', false],
  ['0', 'int', true],
  ['0', 'int', false],
])('numbers that begin anew are told: boundary %s, %s, sequence seen: %s', async (boundary, type, seen) => {
  const name = `anew_${boundary}_${type.slice(0, 3)}_${seen}`
  const fill = `insert into public.${name} (v) select 'v' from generate_series(1, $1::int)`
  await source.query(`create sequence public.${name}_s; create table public.${name} (id ${type} primary key default nextval('public.${name}_s'), v text);
    alter sequence public.${name}_s owned by public.${name}.id`)
  await source.query(fill, [20])
  await source.query(`grant select on public.${name} to ${role}`)
  const refresher = new Refresher(
    { source: seen ? source : { url: readerUrl }, destination },
    'inserter',
    `public.${name}`,
    { control: { ...bySerial, boundary } },
  )
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', rows: 20 })
  expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  await source.query(`truncate public.${name} restart identity`)
  await source.query(fill, [3])
  const told = await refresher.refresh()
  expect(told.level).toBe('WARNING')
  expect(told.message).toMatch(
    seen ? /stands at 3, below the position 20/ : /largest value at the source is 3, below the position 20/,
  )
})

test('a value of the far future does not become the position of a table that is adopted', async () => {
  const table = 'public.adopted (id int primary key, at timestamptz not null default now())'
  for (const one of [source, destination]) await one.query(`create table ${table}`)
  await destination.query(`insert into public.adopted values (9, '2999-01-01')`)
  const refresher = copy('adopted', byTime)
  await expect(refresher.refresh()).rejects.toMatchObject({
    code: 'destination_unsuitable',
    message: expect.stringContaining('2999-01-01'),
  })
  await destination.query(`update public.adopted set at = now() - interval '1 day'`)
  await source.query('insert into public.adopted values (1)')
  await pass()
  for (let look = 0; look < 2; look++) expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  expect(await ids('adopted')).toBe('1 9')
})

test('a transaction that began before it was tracked, in a long statement: auto is not used', async () => {
  await source.query('create table public.tracked (id int primary key, at timestamptz not null default now())')
  const refresher = copy('tracked', byTime)
  await refresher.refresh()
  const client = await source.client()
  for (const text of [
    'set track_activities = off',
    'begin',
    'insert into public.tracked values (1)',
    'set track_activities = on',
  ])
    await client.query(text)
  const statement = client.query('select pg_sleep(5)')
  await source.query('insert into public.tracked values (2)')
  await pass()
  expect((await refresher.refresh()).message).toContain('track_activities is off')
  await statement
  await client.query('commit')
  await pass()
  await refresher.refresh()
  expect(await ids('tracked')).toBe('1 2')
})
