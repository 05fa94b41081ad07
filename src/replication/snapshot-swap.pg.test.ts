import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'

let source: TestDatabase
let destination: TestDatabase
/** The longest that a reader may wait for others' sake: H16's 250 ms, and what a busy machine adds. */
const patience = 600

beforeAll(async () => {
  source = await createDatabase('swap source')
  destination = await createDatabase('swap dest')
  await destination.query('create table public.elsewhere as select 1 as a')
})

/** `public.<name>` with 300 rows of version 0, copied once. `large`: a row a page, so that it is read in parallel. */
async function copied(name: string, size: 'small' | 'large' = 'small', changes = {}): Promise<Refresher> {
  const large = size === 'large'
  await source.query(
    `create table public.${name} (id int primary key, version int, filler text) with (fillfactor = 10)`,
  )
  await source.query(`alter table public.${name} alter filler set storage plain`)
  await source.query(
    `insert into public.${name} select n, 0, repeat('x', ${large ? 800 : 1}) from generate_series(1, ${large ? 4200 : 300}) n`,
  )
  const refresher = new Refresher({ source, destination }, 'snapshot', `public.${name}`, changes)
  await refresher.refresh({ streams: 2 })
  return refresher
}

/** Writes the next version into every row, and deletes one row. */
async function change(name: string): Promise<void> {
  await source.query(`update public.${name} set version = version + 1`)
  await source.query(`delete from public.${name} where id = (select max(id) from public.${name})`)
  await source.query('select pg_stat_force_next_flush()')
  await source.query('select 1')
}

type Seen = { rows: number; versions: number; version: number | null }

async function look(client: Pick<pg.Client, 'query'>, name: string): Promise<Seen> {
  const { rows } = await client.query<Seen>(
    `select count(*)::int as rows, count(distinct version)::int as versions, max(version) as version from public.${name}`,
  )
  return rows[0] as Seen
}

/** A transaction whose snapshot is taken now, though it has not touched the copy yet. */
async function begunReader(isolation = 'repeatable read'): Promise<pg.Client> {
  const client = await destination.client()
  await client.query(`begin isolation level ${isolation}`)
  await client.query('select * from public.elsewhere')
  return client
}

const pidOf = (client: pg.Client) => (client as unknown as { processID: number }).processID

test.each(['repeatable read', 'serializable'])(
  'a %s reader older than the load sees all rows through the swapped view, where one frozen stream brought them',
  async (isolation) => {
    const name = `frozen_${isolation.replace(' ', '_')}`
    const refresher = await copied(name, 'small', { swapWait: 100 })
    const reader = await begunReader(isolation)
    await change(name)
    const refreshed = await refresher.refresh({ force: true })
    expect(refreshed).toMatchObject({ level: 'OK', rows: 299 })
    expect(await look(reader, name)).toEqual({ rows: 299, versions: 1, version: 1 })
    await reader.query('commit')
  },
)

test('the same where the structure changed, and the table was made anew', async () => {
  const refresher = await copied('frozen_anew', 'small', { swapWait: 100 })
  const reader = await begunReader()
  await source.query('alter table public.frozen_anew add column more int')
  await change('frozen_anew')
  await refresher.refresh({ force: true })
  expect(await look(reader, 'frozen_anew')).toEqual({ rows: 299, versions: 1, version: 1 })
  await reader.query('commit')
})

test('a parallel load waits with its swap for every snapshot that is older', async () => {
  const refresher = await copied('parallel', 'large')
  await change('parallel')
  const reader = await begunReader()
  let swapping = false
  const refreshing = refresher.refresh({
    force: true,
    streams: 2,
    onStep: (action) => {
      swapping ||= action === 'swap'
    },
  })
  await expect.poll(() => swapping, { timeout: 20_000, interval: 10 }).toBe(true)
  expect(await look(reader, 'parallel')).toEqual({ rows: 4200, versions: 1, version: 0 })
  await reader.query('commit')
  const refreshed = await refreshing
  expect(refreshed.steps[0]?.message).toMatch(/in parallel/)
  expect(refreshed).toMatchObject({ level: 'OK', rows: 4199 })
  expect(await look(reader, 'parallel')).toEqual({ rows: 4199, versions: 1, version: 1 })
})

test('at the deadline a parallel load is not shown: WARNING, who was in the way, the old content', async () => {
  const refresher = await copied('deadline', 'large', { swapWait: 300 })
  await change('deadline')
  const reader = await begunReader()
  const refreshed = await refresher.refresh({ force: true, streams: 2 })
  expect(refreshed).toMatchObject({ level: 'WARNING', tookEffect: false })
  expect(refreshed.message).toMatch(
    new RegExp(`not shown yet.*last copy. process ${pidOf(reader)} .* holds a snapshot that is older`),
  )
  expect(await look(reader, 'deadline')).toEqual({ rows: 4200, versions: 1, version: 0 })
  await reader.query('commit')
  expect(await look(reader, 'deadline')).toEqual({ rows: 4200, versions: 1, version: 0 })
  expect(await refresher.refresh({ streams: 2 })).toMatchObject({ level: 'OK', tookEffect: true, rows: 4199 })
  expect(await look(reader, 'deadline')).toEqual({ rows: 4199, versions: 1, version: 1 })
})

test('where a transaction has been open for long already, one frozen stream is chosen, which waits for nobody', async () => {
  const refresher = await copied('long_reader', 'large', { swapWait: 300 })
  await change('long_reader')
  const reader = await begunReader()
  // Until it counts as long (5 s).
  await expect
    .poll(
      () =>
        destination.query(
          `select 1 from pg_stat_activity where pid = ${pidOf(reader)} and xact_start < now() - interval '5.1 s'`,
        ),
      {
        timeout: 10_000,
        interval: 200,
      },
    )
    .toHaveLength(1)
  const refreshed = await refresher.refresh({ force: true, streams: 2 })
  expect(refreshed.steps[0]?.message).toMatch(/one frozen stream/)
  expect(refreshed).toMatchObject({ level: 'OK', tookEffect: true })
  expect(await look(reader, 'long_reader')).toEqual({ rows: 4199, versions: 1, version: 1 })
  await reader.query('commit')
})

/** Reads on and on, each time for at most as long as the test lets it; resolves to the longest wait in milliseconds. */
async function longestWait(statements: readonly string[], until: () => boolean): Promise<number> {
  const client = await destination.client()
  let longest = 0
  while (!until()) {
    for (const statement of statements) {
      const started = performance.now()
      await client.query(statement)
      longest = Math.max(longest, performance.now() - started)
    }
  }
  await client.end()
  return longest
}

test.each([
  ['in place', 'alter table public.% add column more int'],
  ['with all views above', 'alter table public.% drop column filler'],
])('a reader that stays holds the swap up (%s), but no other reader', async (what, ddl) => {
  const name = `held_${what.replaceAll(' ', '_')}`
  const refresher = await copied(name, 'small', { swapWait: 2500 })
  for (const above of ['a', 'b', 'c', 'd']) {
    await destination.query(`create view public.${name}_${above} as select id, version from public.${name}`)
  }
  await source.query(ddl.replace('%', name))
  await change(name)
  const reader = await destination.client()
  await reader.query('begin')
  await look(reader, name)
  let over = false
  const refreshing = refresher.refresh({ force: true }).finally(() => {
    over = true
  })
  const waits = longestWait(
    [name, `${name}_a`, `${name}_d`].map((one) => `select count(*) from public.${one}`),
    () => over,
  )
  const refreshed = await refreshing
  expect(await waits).toBeLessThan(patience)
  expect(refreshed).toMatchObject({ level: 'WARNING', tookEffect: false })
  expect(refreshed.message).toContain(`process ${pidOf(reader)} (`)
  expect(refreshed.took).toBeGreaterThan(2500)
  expect(await look(reader, name)).toEqual({ rows: 300, versions: 1, version: 0 })
  await reader.query('commit')
  expect(await refresher.refresh()).toMatchObject({ level: 'OK', tookEffect: true })
  expect(await look(reader, name)).toEqual({ rows: 299, versions: 1, version: 1 })
})

test('a view above that somebody holds holds up the swap, and no reader of the others', async () => {
  const refresher = await copied('above', 'small', { swapWait: 1500 })
  const views = Array.from({ length: 8 }, (_, index) => `above_${index}`)
  for (const one of views) await destination.query(`create view public.${one} as select id from public.above`)
  await source.query('alter table public.above drop column filler')
  const reader = await destination.client()
  await reader.query('begin')
  // Holds the views, not what they read: only their drop waits.
  for (const one of views.slice(0, 4)) await reader.query(`comment on view public.${one} is 'held'`)
  let over = false
  const refreshing = refresher.refresh({ force: true }).finally(() => {
    over = true
  })
  const waits = longestWait(['select count(*) from public.above_7', 'select count(*) from public.above'], () => over)
  expect(await refreshing).toMatchObject({ level: 'WARNING' })
  expect(await waits).toBeLessThan(patience)
  await reader.query('rollback')
})

test('the old side keeps its rows while a snapshot is open that might want them, and is emptied by the next refresh, also by one that skips', async () => {
  const refresher = await copied('deferred', 'small', { swapWait: 200 })
  await change('deferred')
  const reader = await begunReader()
  const refreshed = await refresher.refresh()
  expect(refreshed).toMatchObject({ level: 'OK', tookEffect: true })
  expect(refreshed.steps.at(-1)).toMatchObject({
    action: 'empty the old table',
    message: expect.stringMatching(`left for the next refresh: process ${pidOf(reader)} .*may still read it`),
  })
  expect(await look(reader, 'deferred_snap1')).toMatchObject({ rows: 300 })
  await reader.query('commit')
  const next = await refresher.refresh()
  expect(next.reason).toBe('skipped')
  expect(next.steps.map((step) => step.action)).toEqual(['plan', 'empty the old table'])
  expect(await look(reader, 'deferred_snap1')).toMatchObject({ rows: 0 })
  expect(await look(reader, 'deferred')).toMatchObject({ rows: 299 })
  expect((await refresher.refresh()).steps.map((step) => step.action)).toEqual(['plan'])
})

test('somebody who holds the idle table: WARNING with who it is, before anything was loaded', async () => {
  const refresher = await copied('idle_held', 'small', { swapWait: 200 })
  await change('idle_held')
  await refresher.refresh({ force: true })
  const holder = await destination.client()
  await holder.query('begin')
  await look(holder, 'idle_held_snap1')
  await change('idle_held')
  const refreshed = await refresher.refresh({ force: true })
  expect(refreshed).toMatchObject({ level: 'WARNING', tookEffect: false, rows: 0 })
  expect(refreshed.message).toMatch(
    new RegExp(`last copy. Emptying public.idle_held_snap1 .*process ${pidOf(holder)} `),
  )
  expect(refreshed.steps.map((step) => step.action)).toEqual(['plan', 'empty the idle table'])
  await holder.query('commit')
  expect(await look(holder, 'idle_held')).toEqual({ rows: 299, versions: 1, version: 1 })
  expect(await refresher.refresh({ force: true })).toMatchObject({ level: 'OK', rows: 298 })
})

test('readers at every isolation level see one version and all of its rows, through swap after swap', async () => {
  const refresher = await copied('read_on', 'small', { swapWait: 20_000 })
  let over = false
  const read = async (isolation: string) => {
    const client = await destination.client()
    let before = { rows: 301, versions: 1, version: -1 } as Seen
    let looks = 0
    while (!over) {
      await client.query(`begin isolation level ${isolation}`)
      const seen = await look(client, 'read_on')
      const again = isolation === 'read committed' ? seen : await look(client, 'read_on')
      await client.query('commit')
      expect(seen).toEqual(again)
      expect(seen).toEqual({ rows: 300 - (seen.version ?? 1000), versions: 1, version: seen.version })
      expect(seen.version).toBeGreaterThanOrEqual(before.version ?? 0)
      before = seen
      looks += 1
    }
    await client.end()
    return looks
  }
  const readers = ['read committed', 'repeatable read', 'serializable'].map(read)
  for (let round = 1; round <= 5; round += 1) {
    await change('read_on')
    expect(await refresher.refresh({ force: true })).toMatchObject({ level: 'OK', rows: 300 - round })
  }
  over = true
  for (const looks of await Promise.all(readers)) expect(looks).toBeGreaterThan(5)
})

test('commits are durable whatever the role is set to, and sides are logged', async () => {
  const { username } = new URL(destination.url)
  await destination.query(`alter role "${username}" in database "${destination.name}" set synchronous_commit = off`)
  try {
    const refresher = await copied('durable')
    const settings: unknown[] = []
    await refresher.refresh({
      force: true,
      onSession: async (session, side) => {
        if (side === 'destination') settings.push((await session.client.query('show synchronous_commit')).rows[0])
      },
    })
    expect(new Set(settings.map((one) => JSON.stringify(one)))).toEqual(new Set(['{"synchronous_commit":"on"}']))
    await destination.query('alter table public.durable_snap1 set unlogged')
    await refresher.refresh({ force: true })
    const sides = await destination.query(`select relpersistence as p from pg_class where relname like 'durable_snap_'`)
    expect(sides).toEqual([{ p: 'p' }, { p: 'p' }])
  } finally {
    await destination.query(`alter role "${username}" in database "${destination.name}" reset synchronous_commit`)
  }
})
