import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { Refresher } from '../support/refresher.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('occupied_source')
  destination = await createDatabase('occupied_destination')
  await source.query('create table public.goods (id int primary key, name text)')
  await source.query("insert into public.goods select g, 'good ' || g from generate_series(1, 50) g")
})

const rows = async (relation: string) =>
  (await destination.query<{ count: string }>(`select count(*) as count from ${relation}`))[0]?.count

test.each(['goods_snap1', 'goods_snap2'])('%s of a snapshot is no destination of another replication', async (side) => {
  const snapshot = new Refresher({ source, destination }, 'snapshot', 'public.goods')
  await snapshot.refresh()
  const intruder = new Refresher({ source, destination }, 'table', 'public.goods', { to: `public.${side}` })
  await expect(intruder.plan()).rejects.toMatchObject({ code: 'replication_exists' })
  await expect(intruder.refresh()).rejects.toMatchObject({ code: 'replication_exists' })
  expect(await rows('public.goods')).toBe('50')
  await snapshot.remove('drop')
})

test('a snapshot whose side would be the table of another replication is refused', async () => {
  const table = new Refresher({ source, destination }, 'table', 'public.goods', { to: 'public.items_snap2' })
  await table.refresh()
  const snapshot = new Refresher({ source, destination }, 'snapshot', 'public.goods', { to: 'public.items' })
  await expect(snapshot.plan()).rejects.toMatchObject({ code: 'replication_exists' })
  await expect(snapshot.refresh()).rejects.toMatchObject({ code: 'replication_exists' })
  await table.remove('drop')
})
