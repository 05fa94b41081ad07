import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import type { ControlColumn } from '../../src/replication/definition.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'

/** `npm run soak:boundary` writes for a minute. */
const seconds = Number(process.env.YARDMASTER_SOAK_SECONDS ?? 8)
const writers = 4
/** Milliseconds that a transaction pauses at most at once. */
const longest = 1500

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('writers source')
  destination = await createDatabase('writers dest')
  // Without a key: a row that comes twice is there twice.
  await source.query(
    'create table public.events (id bigint generated always as identity, at timestamptz not null default now(), writer int)',
  )
  await source.query('create index on public.events (id)')
  await source.query('create index on public.events (at)')
})

const chance = (share: number) => Math.random() < share
const some = (from: number, to: number) => from + Math.floor(Math.random() * (to - from + 1))
/** Mostly nothing, sometimes long. */
const pause = () => delay(chance(0.06) ? some(100, longest) : some(0, 10))

/** `early`: numbers that the transaction took before, and has not used yet. */
async function write(client: pg.Client, writer: number, early: string[] = []): Promise<void> {
  const id = early.pop() ?? `nextval('public.events_id_seq')`
  const at = chance(0.5) ? 'now()' : 'clock_timestamp()'
  await client.query(
    `insert into public.events (id, at, writer) overriding system value values (${id}, ${at}, ${writer})`,
  )
}

/** A few rows, some of them in savepoints and exception blocks that are undone. */
async function fill(client: pg.Client, writer: number, early: string[]): Promise<void> {
  for (let left = some(1, 4); left > 0; left--) {
    await write(client, writer, early)
    if (chance(0.3)) {
      await client.query('savepoint s')
      await write(client, writer)
      await pause()
      await client.query(chance(0.5) ? 'rollback to s' : 'release s')
    }
    if (chance(0.1)) {
      await client.query(`do $$ begin insert into public.events (writer) values (${writer}); raise exception 'no';
        exception when others then insert into public.events (writer) values (${writer}); end $$`)
    }
    await pause()
  }
}

/** One connection that writes until the deadline, and leaves nothing open. */
async function writeUntil(deadline: number, writer: number): Promise<void> {
  const client = await source.client()
  for (let number = 0; Date.now() < deadline; number++) {
    await client.query('begin')
    // A number that is taken long before anything is written.
    const early = chance(0.3) ? await client.query(`select nextval('public.events_id_seq') as id`) : { rows: [] }
    if (chance(0.3)) await pause()
    await fill(
      client,
      writer,
      early.rows.map((row) => String(row.id)),
    )
    const end = Math.random()
    if (end < 0.2) {
      const gid = `'writer ${writer} ${number}'`
      await client.query(`prepare transaction ${gid}`)
      // Longer than the two seconds that the bound by time stays behind anyway.
      await (chance(0.2) ? delay(some(2200, 3500)) : pause())
      await client.query(`${chance(0.7) ? 'commit' : 'rollback'} prepared ${gid}`)
    } else await client.query(end < 0.3 ? 'rollback' : 'commit')
  }
}

/** Refreshes without a rest until the writers have stopped and everything is there. Returns the seconds behind, each time. */
async function follow(refresher: Refresher, name: string, isOver: () => boolean): Promise<number[]> {
  const lag: number[] = []
  const isWhole = async () => (await ids(destination, name)) === (await ids(source, 'events'))
  let deadline = Number.POSITIVE_INFINITY
  for (;;) {
    const over = isOver()
    if (over) deadline = Math.min(deadline, Date.now() + 10_000)
    const { reach, level, message } = await refresher.refresh()
    expect(level, message).toBe('OK')
    if (reach) lag.push(reach.behind)
    if (over && ((await isWhole()) || Date.now() > deadline)) return lag
  }
}

/** Every number as often as it is there. */
async function ids(database: TestDatabase, table: string): Promise<string> {
  const [row] = await database.query(`select string_agg(id::text, ',' order by id) as ids from public.${table}`)
  return row?.ids ?? ''
}

test(
  `${writers} connections write for ${seconds} s: by time and by serial every row comes once, within seconds`,
  async () => {
    const auto: ControlColumn = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: 'off' }
    const made = (to: string, control: ControlColumn) =>
      new Refresher({ source, destination }, 'inserter', 'public.events', { to: `public.${to}`, control })
    const byTime = made('by_time', auto)
    const bySerial = made('by_serial', { ...auto, column: 'id', by: 'serial' })
    for (const refresher of [byTime, bySerial]) await refresher.refresh()
    const deadline = Date.now() + seconds * 1000
    let over = false
    const writing = Promise.all(Array.from({ length: writers }, (_, writer) => writeUntil(deadline, writer))).finally(
      () => {
        over = true
      },
    )
    const [timeLag, serialLag] = await Promise.all([
      follow(byTime, 'by_time', () => over),
      follow(bySerial, 'by_serial', () => over),
      writing,
    ])
    const wanted = await ids(source, 'events')
    expect(wanted.split(',').length).toBeGreaterThan(seconds * 10)
    expect(await ids(destination, 'by_time')).toBe(wanted)
    expect(await ids(destination, 'by_serial')).toBe(wanted)
    const figures = (lag: number[]) => {
      const sorted = [...lag].sort((one, other) => one - other)
      const at = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1)
      return `${lag.length} refreshes, behind p50 ${at(0.5)} s, p99 ${at(0.99)} s, most ${Math.max(...lag).toFixed(1)} s`
    }
    console.log(`${wanted.split(',').length} rows; by time: ${figures(timeLag)}; by serial: ${figures(serialLag)}`)
    // A few pauses in one transaction, twice with a PREPARE between, and the two seconds; on a busy machine.
    for (const lag of [timeLag, serialLag]) expect(Math.max(...lag)).toBeLessThan(30)
  },
  (seconds + 60) * 1000,
)
