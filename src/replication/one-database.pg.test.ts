import { expect, test } from 'vitest'
import { setStage, wanted } from '../../test/scenarios/stage.ts'
import { createDatabase } from '../../test/support/databases.ts'
import { addReplicationRun, refreshRun, removeReplicationRun } from '../worker/replication-run.ts'
import { alterReplication, getReplicationByJob } from './store.ts'

test('source, destination and control in one database: set up, refreshed, removed, and the control database stays whole', async () => {
  const database = await createDatabase('all in one')
  const stage = await setStage('all in one', { source: database, destination: database, control: database })
  await database.query('create table public.goods as select n as id from generate_series(1, 3) n')
  for (const type of ['snapshot', 'table'] as const) {
    const { replication, result } = await addReplicationRun(stage.place(), wanted(type))
    expect(result).toMatchObject({ status: 'OK', rows: 3 })
    if (!replication) throw new Error('nothing was registered')
    const options = { force: true, wait: 0, takeOver: false }
    expect(await refreshRun(stage.place(), replication, options)).toMatchObject({ status: 'OK', rows: 3 })
    expect(await removeReplicationRun(stage.place(), replication, 'drop')).toMatchObject({ status: 'OK' })
  }
  expect(
    await database.query(`select to_regclass('yardmaster.position') as position, to_regclass('copies.goods') as copy`),
  ).toEqual([{ position: null, copy: null }])
  expect((await stage.runs(6)).map((run) => run.status)).toEqual(Array(6).fill('OK'))
})

test('what was set stays as it was set, whatever else is changed, and over refreshes (B16)', async () => {
  const stage = await setStage('settings stay')
  await stage.source.query('create table public.goods (id int primary key, name text)')
  const settings = {
    columns: ['id'],
    condition: 'WHERE id > 0',
    buildIndexes: false,
    swapWait: 0,
    site: 'north',
    postScript: ['select 1'],
  }
  const { replication } = await addReplicationRun(stage.place(), wanted('snapshot', settings))
  if (!replication) throw new Error('nothing was registered')
  expect(replication).toMatchObject(settings)
  await alterReplication(stage.control, replication, { site: 'south' })
  await refreshRun(stage.place(), replication, { force: true, wait: 0, takeOver: false })
  const after = await getReplicationByJob(stage.control, replication.jobId)
  expect(after).toMatchObject({ ...settings, site: 'south' })
  const indexes = await stage.destination.query(`select 1 from pg_indexes where schemaname = 'copies'`)
  expect(indexes).toEqual([])
})
