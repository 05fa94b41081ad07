import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../../test/support/databases.ts'
import { Refresher } from '../../../test/support/refresher.ts'
import type { ControlColumn } from '../definition.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('repull source')
  destination = await createDatabase('repull dest')
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

describe('repull', () => {
  /** Rows 1 to 6 at both sides; then the source's are all changed, and 7 and 8 are new there. */
  async function changed(name: string, changes: Changes = {}): Promise<Refresher> {
    const refresher = await inserter(name, 'id int primary key, v text', changes)
    await source.query(`insert into public.${name} select n, 'old' from generate_series(1, 6) n`)
    await refresher.refresh()
    await source.query(`update public.${name} set v = 'new'`)
    await insert(name, `(7, 'new'), (8, 'new')`)
    return refresher
  }
  const values = async (name: string) => (await rows(name)).map((row) => `${row.id} ${row.v}`)
  const old = (...list: number[]) => list.map((id) => `${id} old`)
  const fresh = (...list: number[]) => list.map((id) => `${id} new`)

  test('all: the table is loaded anew up to the bound', async () => {
    const refresher = await changed('all_again')
    expect(await refresher.refresh({ repull: { start: null, end: null } })).toMatchObject({ level: 'OK', rows: 8 })
    expect(await values('all_again')).toEqual(fresh(1, 2, 3, 4, 5, 6, 7, 8))
    expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
  })

  test('all, while a transaction is open that may still write: the old rows stay; a source without rows empties the copy', async () => {
    const auto = { control: { ...bySerial, boundary: 'auto' } }
    const refresher = await inserter('held_up', 'id int generated always as identity primary key, v text', auto)
    const add = () => source.query(`insert into public.held_up (v) values ('x'), ('y')`)
    await add()
    expect(await refresher.refresh()).toMatchObject({ rows: 2 })
    const writer = await source.client()
    await writer.query('begin')
    await writer.query(`insert into public.held_up (v) values ('late')`)
    await add()
    const whole = { repull: { start: null, end: null } }
    expect(await refresher.refresh(whole)).toMatchObject({
      level: 'WARNING',
      tookEffect: false,
      message: expect.stringContaining('the old rows stay'),
    })
    expect(await rows('held_up')).toHaveLength(2)
    await writer.query('commit')
    expect(await refresher.refresh(whole)).toMatchObject({ level: 'OK', rows: 5 })
    await source.query('delete from public.held_up')
    expect(await refresher.refresh(whole)).toMatchObject({ level: 'OK', rows: 0 })
    expect(await rows('held_up')).toEqual([])
  })

  test('B6: only a start: up to the bound, and the position goes with it', async () => {
    const refresher = await changed('from_start')
    expect(await refresher.refresh({ repull: { start: '4', end: null } })).toMatchObject({ level: 'OK', rows: 5 })
    expect(await values('from_start')).toEqual([...old(1, 2, 3), ...fresh(4, 5, 6, 7, 8)])
    expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
  })

  test('only an end: the position stays', async () => {
    const refresher = await changed('to_end')
    expect(await refresher.refresh({ repull: { start: null, end: '4' } })).toMatchObject({ rows: 3 })
    expect(await values('to_end')).toEqual([...fresh(1, 2, 3), ...old(4, 5, 6)])
    expect(await refresher.refresh()).toMatchObject({ rows: 2 })
  })

  test('start and end; an end beyond the bound goes to the bound', async () => {
    const refresher = await changed('between_both')
    expect(await refresher.refresh({ repull: { start: '2', end: '4' } })).toMatchObject({ rows: 2 })
    expect(await values('between_both')).toEqual([...old(1), ...fresh(2, 3), ...old(4, 5, 6)])
    expect(await refresher.refresh({ repull: { start: '6', end: '100' } })).toMatchObject({ rows: 3 })
    expect(await refresher.refresh()).toMatchObject({ reason: 'nothing_new' })
    await insert('between_both', `(9, 'new')`)
    expect(await refresher.refresh()).toMatchObject({ rows: 1 })
  })

  test.each([
    ['empty', { start: '4', end: '4' }, /is empty/],
    ['no value', { start: 'four', end: null }, /'four' is no value of the column id/],
    ['behind everything', { start: '8', end: null }, /rows between the two would never come/],
  ])('a range that is %s is refused, and nothing changes', async (what, repull, message) => {
    const name = `refused_${what.replaceAll(' ', '_')}`
    const refresher = await changed(name)
    await expect(refresher.refresh({ repull })).rejects.toMatchObject({
      code: 'range_invalid',
      message: expect.stringMatching(message),
    })
    expect(await values(name)).toEqual(old(1, 2, 3, 4, 5, 6))
  })

  test('B7: with a limit nothing above the cut is deleted or lost, and it says where to go on', async () => {
    const refresher = await changed('limited_again')
    const cut = await refresher.refresh({ repull: { start: '2', end: null }, limit: 2 })
    expect(cut).toMatchObject({ level: 'WARNING', reason: 'trimmed', rows: 2 })
    expect(cut.message).toContain(`--repull --start '4'`)
    expect(await values('limited_again')).toEqual([...old(1), ...fresh(2, 3), ...old(4, 5, 6)])
    expect(await refresher.refresh({ repull: { start: '4', end: null }, limit: 4 })).toMatchObject({
      reason: 'trimmed',
    })
    expect(await values('limited_again')).toEqual([...old(1), ...fresh(2, 3, 4, 5, 6, 7)])
    expect(await refresher.refresh()).toMatchObject({ rows: 1, level: 'OK' })
    expect(await refresher.refresh({ repull: { start: null, end: null }, limit: 3 })).toMatchObject({
      rows: 3,
      message: expect.stringContaining(`--start '4'`),
    })
    expect(await values('limited_again')).toEqual(fresh(1, 2, 3, 4, 5, 6, 7, 8))
  })

  test('rows that a larger boundary would hold back now are not lost', async () => {
    const refresher = await changed('held_back')
    refresher.set({ control: { ...bySerial, boundary: '5' } })
    expect(await refresher.refresh({ repull: { start: '2', end: null } })).toMatchObject({ rows: 5 })
    expect(await values('held_back')).toEqual([...old(1), ...fresh(2, 3, 4, 5, 6)])
  })
})
