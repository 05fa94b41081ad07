import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { ControlColumn } from '../../src/replication/definition.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'

const byTime: ControlColumn = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: 'off' }
const bySerial: ControlColumn = { ...byTime, column: 'id', by: 'serial' }

describe.each(['18', '14'])('PostgreSQL %s', (version) => {
  let source: TestDatabase
  let destination: TestDatabase

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    source = await server.createDatabase('boundary source')
    destination = await createDatabase('boundary dest')
  })

  const columns = 'id bigint generated always as identity primary key, at timestamptz not null default now(), v text'

  async function replication(name: string, control: ControlColumn, made = columns): Promise<Refresher> {
    await source.query(`create table public.${name} (${made})`)
    return new Refresher({ source, destination }, 'inserter', `public.${name}`, { control })
  }

  const insert = (name: string, value: string, by: { query(text: string): Promise<unknown> } = source) =>
    by.query(`insert into public.${name} (v) values ('${value}')`)

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

  const rows = async (name: string) =>
    (await source.query(`select string_agg(v, '' order by v) as v from public.${name}`))[0]?.v

  describe.each([
    ['time', byTime],
    ['serial', bySerial],
  ] as const)('by %s', (kind, control) => {
    const name = (label: string) => `${label}_${kind}`

    /** Two seconds behind the clock comes to lie behind the newest row; a number does not go by that. */
    async function pass(table: string): Promise<void> {
      if (kind === 'time') await source.query(`select pg_sleep_until(max(at) + interval '2.1 s') from public.${table}`)
    }

    test('a transaction open across refreshes: nothing behind it comes before it, then everything', async () => {
      const refresher = await replication(name('long'), control)
      await insert(name('long'), 'a')
      await becomes(refresher, name('long'), 'a')
      const long = await open(`insert into public.${name('long')} (v) values ('b')`)
      await insert(name('long'), 'c')
      await pass(name('long'))
      for (let look = 0; look < 3; look++) await refresher.refresh()
      expect(await copied(name('long'))).toBe('a')
      await long.query('commit')
      await becomes(refresher, name('long'), 'abc')
    })

    test('savepoints and exception blocks, some of them rolled back', async () => {
      const table = name('nested')
      const refresher = await replication(table, control)
      await refresher.refresh()
      const nested = await open(
        `insert into public.${table} (v) values ('a')`,
        'savepoint one',
        `insert into public.${table} (v) values ('x')`,
        'rollback to one',
        `insert into public.${table} (v) values ('b')`,
        'release one',
        `do $$ begin
          begin insert into public.${table} (v) values ('y'); raise exception 'no'; exception when others then null; end;
          begin insert into public.${table} (v) values ('c'); exception when others then null; end;
        end $$`,
      )
      await insert(table, 'd')
      await pass(table)
      await refresher.refresh()
      expect(await copied(table)).toBe('')
      await nested.query('commit')
      await becomes(refresher, table, 'abcd')
    })

    test('prepared transactions open across refreshes, one after the other without a gap', async () => {
      const table = name('prepared')
      const refresher = await replication(table, control)
      const gid = (number: number) => `'${version} ${table} ${number}'`
      const prepare = async (value: string, number: number) => {
        const client = await open(`insert into public.${table} (v) values ('${value}')`)
        return async () => client.query(`prepare transaction ${gid(number)}`)
      }
      await insert(table, 'a')
      await becomes(refresher, table, 'a')
      const first = await prepare('b', 1)
      await insert(table, 'c')
      await refresher.refresh()
      await first()
      await pass(table)
      await refresher.refresh()
      const second = await prepare('d', 2)
      await second()
      await insert(table, 'e')
      await refresher.refresh()
      expect(await copied(table)).toBe('a')
      await source.query(`commit prepared ${gid(1)}`)
      // The second one is there all the time, and keeps only what is newer than itself.
      await becomes(refresher, table, 'abc')
      await refresher.refresh()
      expect(await copied(table)).toBe('abc')
      await source.query(`commit prepared ${gid(2)}`)
      await becomes(refresher, table, 'abcde')
      expect(await rows(table)).toBe('abcde')
    })

    test('a prepared transaction that is rolled back holds nothing back any more', async () => {
      const table = name('undone')
      const refresher = await replication(table, control)
      await insert(table, 'a')
      await becomes(refresher, table, 'a')
      const client = await open(`insert into public.${table} (v) values ('b')`)
      await client.query(`prepare transaction '${version} ${table}'`)
      await insert(table, 'c')
      await refresher.refresh()
      expect(await copied(table)).toBe('a')
      await source.query(`rollback prepared '${version} ${table}'`)
      await becomes(refresher, table, 'ac')
    })
  })

  test('a number that was taken without writing anything is waited for', async () => {
    const refresher = await replication('taken', bySerial, 'id serial primary key, v text')
    const early = await open(`select nextval('public.taken_id_seq')`)
    await insert('taken', 'b')
    await refresher.refresh()
    expect(await copied('taken')).toBe('')
    await early.query(`insert into public.taken values (1, 'a')`)
    await insert('taken', 'c')
    await refresher.refresh()
    expect(await copied('taken')).toBe('')
    await early.query('commit')
    // The first of the two samples is ripe now, and so is the second.
    await refresher.refresh()
    expect(await copied('taken')).toBe('abc')
  })

  test('the first copy under a prepared transaction stops long before it; its row comes later', async () => {
    const refresher = await replication('begun', byTime)
    await source.query(`insert into public.begun (at, v) values (now() - interval '20 minutes', 'a'), (now(), 'b')`)
    const client = await open(`insert into public.begun (v) values ('c')`)
    await client.query(`prepare transaction '${version} begun'`)
    const { steps } = await refresher.refresh()
    expect(steps[0]?.message).toContain(`'${version} begun' began is not known`)
    expect(await copied('begun')).toBe('a')
    await source.query(`commit prepared '${version} begun'`)
    await becomes(refresher, 'begun', 'abc')
  })
})
