import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../../test/support/databases.ts'
import { Refresher } from '../../../test/support/refresher.ts'
import type { ControlColumn } from '../definition.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('incremental source')
  destination = await createDatabase('incremental dest')
})

const bySerial: ControlColumn = { column: 'id', by: 'serial', boundary: '-1', timezone: null, dstWindow: null }

type Changes = ConstructorParameters<typeof Refresher>[3]

/** A replication of `public.<name>`, whose source is made of these columns. */
async function inserter(name: string, columns: string, changes: Changes = {}): Promise<Refresher> {
  await source.query(`create table public.${name} (${columns})`)
  return new Refresher({ source, destination }, 'inserter', `public.${name}`, { control: bySerial, ...changes })
}

const insert = (name: string, values: string) => source.query(`insert into public.${name} values ${values}`)
const rows = (name: string, order = '1') => destination.query(`select * from public.${name} order by ${order}`)
const ids = async (name: string) => (await rows(name)).map((row) => String(row.id))

describe('the destination', () => {
  test('adopted: its rows are taken for what was copied, once; a retention job there does not move it back', async () => {
    const refresher = await inserter('adopted', 'id int primary key, v text')
    await source.query(`insert into public.adopted select n, 'theirs' from generate_series(1, 5) n`)
    await destination.query('create table public.adopted (id int primary key, v text)')
    await destination.query(`insert into public.adopted values (1, 'ours'), (3, 'ours')`)
    const setup = await refresher.refresh()
    expect(setup).toMatchObject({ level: 'OK', rows: 0 })
    expect(setup.message).toMatch(
      /existed: no data was pulled and no index built; the next refresh goes on behind its largest value, '3'/,
    )
    await destination.query('delete from public.adopted')
    expect(await refresher.refresh()).toMatchObject({ level: 'WARNING', rows: 2 })
    expect(await ids('adopted')).toEqual(['4', '5'])
  })

  test('adopted and empty: from the beginning', async () => {
    const refresher = await inserter('adopted_empty', 'id int')
    await insert('adopted_empty', '(-1), (2)')
    await destination.query('create table public.adopted_empty (id int, extra text)')
    await refresher.refresh()
    expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  })

  test('--no-data: the position begins at the bound of now', async () => {
    const refresher = await inserter('no_data', 'id int primary key', { loadData: false })
    await insert('no_data', '(1), (2)')
    const setup = await refresher.refresh()
    expect(setup.message).toMatch(/no data was pulled, as was asked for; refreshes bring the rows from '3' on/)
    await insert('no_data', '(3)')
    await refresher.refresh()
    expect(await ids('no_data')).toEqual(['3'])
  })

  test('--no-data without a boundary: what is there is behind us, the newest row with it', async () => {
    const refresher = await inserter('no_newest', 'id int primary key', {
      loadData: false,
      control: { ...bySerial, boundary: '0' },
    })
    await insert('no_newest', '(1), (2)')
    expect((await refresher.refresh()).message).toMatch(/refreshes bring the rows behind '2'\./)
  })

  test('somebody deleted there: WARNING once; somebody inserted behind the position: CRITICAL until a repull', async () => {
    const refresher = await inserter('touched', 'id int primary key')
    await source.query('insert into public.touched select generate_series(1, 5)')
    await refresher.refresh()
    await destination.query('delete from public.touched where id > 3')
    const warned = await refresher.refresh()
    expect(warned).toMatchObject({ level: 'WARNING', reason: 'nothing_new' })
    expect(warned.message).toMatch(/its largest id was '5', and now it is '3'/)
    expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
    await destination.query('insert into public.touched values (6)')
    await insert('touched', '(6), (7)')
    const refused = await refresher.refresh()
    expect(refused).toMatchObject({ level: 'CRITICAL', tookEffect: false })
    expect(refused.message).toMatch(/holds id '6', and the position goes to '6'.*--repull --start '6'/)
    expect(await ids('touched')).toEqual(['1', '2', '3', '6'])
    expect(await refresher.refresh({ repull: { start: '6', end: null } })).toMatchObject({ level: 'OK', rows: 2 })
    expect(await refresher.refresh()).toMatchObject({ level: 'OK', reason: 'nothing_new' })
    expect(await ids('touched')).toEqual(['1', '2', '3', '6', '7'])
  })

  test('another table under the name, or none: nothing is copied before a resync', async () => {
    const refresher = await inserter('replaced', 'id int primary key')
    await insert('replaced', '(1)')
    await refresher.refresh()
    await destination.query('alter table public.replaced rename to elsewhere')
    await insert('replaced', '(2)')
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'destination_replaced',
      message: expect.stringMatching(/is gone/),
    })
    await destination.query('create table public.replaced (id int primary key)')
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'destination_replaced',
      message: expect.stringMatching(/is another table/),
      remedy: expect.stringContaining('replication resync dwh:public.replaced'),
    })
    await refresher.refresh({ repull: { start: null, end: null } })
    expect(await ids('replaced')).toEqual(['1', '2'])
    expect(await refresher.refresh()).toMatchObject({ level: 'OK' })
  })

  test('unlogged: refused', async () => {
    const refresher = await inserter('volatile', 'id int primary key')
    await destination.query('create unlogged table public.volatile (id int primary key)')
    const refusal = { code: 'destination_unsuitable', remedy: 'ALTER TABLE "public"."volatile" SET LOGGED;' }
    await expect(refresher.plan()).rejects.toMatchObject(refusal)
    await expect(refresher.refresh()).rejects.toMatchObject(refusal)
  })

  test('a missing column is named, with the statement that adds it; nothing is copied', async () => {
    const refresher = await inserter('drifting', 'id int primary key')
    await insert('drifting', '(1)')
    await refresher.refresh()
    await source.query('alter table public.drifting add v text')
    expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
    await insert('drifting', `(2, 'x')`)
    await expect(refresher.refresh()).rejects.toMatchObject({
      code: 'destination_column_missing',
      remedy: expect.stringContaining('ADD COLUMN "v" text'),
    })
    await destination.query('alter table public.drifting add v text')
    await refresher.refresh()
    expect(await rows('drifting')).toEqual([
      { id: 1, v: null },
      { id: 2, v: 'x' },
    ])
  })

  test('a wider column there, and one of another order', async () => {
    const refresher = await inserter('wider', 'id int')
    await insert('wider', '(2)')
    await destination.query('create table public.wider (id numeric)')
    await destination.query('create index on public.wider (id)')
    await refresher.refresh()
    await refresher.refresh()
    await insert('wider', '(11)')
    expect(await refresher.refresh({ repull: { start: '2', end: '3' } })).toMatchObject({ rows: 1 })
    expect(await refresher.refresh()).toMatchObject({ rows: 1 })
    const other = await inserter('as_text', 'id int')
    await destination.query('create table public.as_text (id text)')
    await expect(other.refresh()).rejects.toMatchObject({
      code: 'destination_unsuitable',
      message: expect.stringMatching(/another order/),
    })
  })
})
