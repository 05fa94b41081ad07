import { execFileSync } from 'node:child_process'
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { getReplication, listReplications } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { createDatabase } from '../support/databases.ts'
import { changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

const root = process.getuid?.() === 0
let count = 0

/** A tablespace of the run's server on a small disk of its own; undefined where nothing can be mounted. */
async function smallDisk(megabytes: number): Promise<string | undefined> {
  const server = join(inject('runDirectory'), 'main', 'data')
  const { uid, gid } = await stat(server)
  const directory = join(inject('runDirectory'), `disk-${process.pid}-${++count}`)
  await mkdir(directory)
  try {
    const options = `size=${megabytes}m,uid=${uid},gid=${gid},mode=700`
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', directory], { stdio: 'pipe' })
  } catch (error) {
    console.log(`skipped: no tmpfs can be mounted here: ${(error as Error).message}`)
    return undefined
  }
  return directory
}

/** A destination database on a disk of 32 MB, of which an empty database takes about 8. */
async function stageOnSmallDisk(label: string): Promise<Stage | undefined> {
  const directory = await smallDisk(32)
  if (directory === undefined) return undefined
  const source = await createDatabase(`${label} source`)
  const space = `small_${process.pid}_${count}`
  await source.query(`create tablespace ${space} location '${directory}'`)
  const destination = await createDatabase(`${label} destination`)
  await source.query(`alter database ${destination.name} set tablespace ${space}`)
  // A server whose files vanish would fall over, with all other tests: also a failed test gives its database up first.
  onTestFinished(async () => {
    await destination.drop()
    await source.query(`drop tablespace ${space}`)
    execFileSync('umount', [directory])
  })
  const stage = await setStage(label, { source, destination })
  await makeGoods(source, 'large')
  return stage
}

describe.runIf(root).each([
  { way: 'a snapshot in one stream', type: 'snapshot', streams: '1' },
  { way: 'a snapshot in parallel', type: 'snapshot', streams: '2' },
  { way: 'a table', type: 'table', streams: '1' },
] as const)('the destination’s disk is full during $way', ({ type, streams }) => {
  test('named as such; the old rows stay, the room is given back', async () => {
    const stage = await stageOnSmallDisk(`full disk ${type} ${streams}`)
    if (!stage) return
    const { result } = await addReplicationRun(stage.place(), wanted(type))
    expect(result.failure).toBeUndefined()
    const old = await stage.content('copies.goods')
    const before = await databaseSize(stage)
    await growGoods(stage)
    const failed = await stage.run([
      'replication',
      'refresh',
      'copies.goods',
      '--force',
      '--json',
      '--streams',
      streams,
    ])
    expect([failed.exitCode, failed.json().error?.code]).toEqual([1, 'disk_full'])
    expect(failed.json().error.message).not.toContain('given back')
    expect(await stage.content('copies.goods')).toBe(old)
    await stage.sessionsEnd()
    expect(await databaseSize(stage)).toBeLessThan(before + 2_000_000)

    await stage.source.query('delete from public.goods where id > 100000')
    await changeGoods(stage.source)
    const replication = await getReplication(stage.control, 'copies.goods')
    const healed = await refreshRun(stage.place(), replication, { force: true, wait: 10_000, takeOver: false })
    expect([healed.status, healed.failure]).toEqual(['OK', undefined])
    expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
  })
})

test.runIf(root)('the disk is full during a set-up: it is undone, nothing is left', async () => {
  const stage = await stageOnSmallDisk('full disk set-up')
  if (!stage) return
  await growGoods(stage)
  const objects = await stage.objects()
  const before = await databaseSize(stage)
  const { result } = await addReplicationRun(stage.place(), wanted('snapshot'))
  expect(result.failure).toMatchObject({ code: 'disk_full', message: expect.stringContaining('nothing is left of it') })
  expect(await listReplications(stage.control)).toEqual([])
  expect(await stage.objects()).toEqual(objects)
  await stage.sessionsEnd()
  expect(await databaseSize(stage)).toBeLessThan(before + 2_000_000)
})

/** More than the disk holds: 4,000 rows that fill a page each, and can't be compressed. */
async function growGoods(stage: Stage): Promise<void> {
  await stage.source.query('drop index public.goods_name')
  await stage.source.query(
    `insert into public.goods select n, n, (select string_agg(md5(n || '/' || k), '') from generate_series(1, 200) k)
     from generate_series(100001, 104000) n`,
  )
}

async function databaseSize(stage: Stage): Promise<number> {
  await stage.destination.query('checkpoint')
  const [row] = await stage.destination.query(`select pg_database_size(current_database())::float8 as bytes`)
  return row.bytes
}
