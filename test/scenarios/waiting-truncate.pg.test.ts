import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { definitionDefaults } from '../../src/replication/definition.ts'
import { Link } from '../../src/replication/link.ts'
import { openSource, openStreams } from '../../src/replication/source-read.ts'
import { getReplication, type NewReplication } from '../../src/replication/store.ts'
import { addReplicationRun, connectorOf, refreshRun } from '../../src/worker/replication-run.ts'
import type { TestDatabase } from '../support/databases.ts'
import { type Stage, setStage } from './stage.ts'

// Somebody at the source asks for an exclusive lock (TRUNCATE, ALTER TABLE) between our first lock and our COPY: they wait
// for us, and a COPY from another session of ours would wait behind them. PostgreSQL does not see that circle.

let stage: Stage
const open = { force: true, wait: 0, takeOver: false }

beforeAll(async () => {
  stage = await setStage('waiting truncate')
  await stage.source.query('create table public.goods (id int primary key)')
})

beforeEach(async () => {
  await stage.source.query('truncate public.goods')
  await stage.source.query('insert into public.goods select generate_series(1, 1000)')
})

function wanted(type: 'snapshot' | 'table'): NewReplication {
  return {
    ...definitionDefaults,
    type,
    sourceDatabase: 'crm',
    source: { schema: 'public', name: 'goods' },
    destinationDatabase: 'dwh',
    destination: { schema: 'copies', name: type },
  }
}

async function waitsForLock(database: TestDatabase, relation: string): Promise<void> {
  const query = 'select from pg_locks where relation = $1::regclass and not granted'
  await expect.poll(() => database.query(query, [relation]), { timeout: 10_000, interval: 5 }).not.toEqual([])
}

/** The table that the next refresh empties first. */
async function emptiedNext(type: 'snapshot' | 'table'): Promise<string> {
  const [position] = await stage.destination.query<{ live: number }>(
    `select (state ->> 'live')::int as live from yardmaster.position where state ->> 'live' is not null`,
  )
  return type === 'table' ? 'copies.table' : `copies.snapshot_snap${3 - (position?.live ?? 0)}`
}

describe.each(['snapshot', 'table'] as const)('type %s', (type) => {
  it('copies the old rows, and the TRUNCATE comes after it', async () => {
    const giveUp = new AbortController()
    onTestFinished(() => giveUp.abort())
    const place = stage.place(giveUp.signal)
    await addReplicationRun(place, wanted(type))
    const replication = await getReplication(stage.control, `copies.${type}`)
    expect(await refreshRun(place, replication, open)).toMatchObject({ status: 'OK', rows: 1000 })
    // The refresh is held at the destination, after it has looked at the source: the one table that it must empty is read.
    const emptied = await emptiedNext(type)
    const reader = await stage.destination.client()
    await reader.query('begin')
    await reader.query(`select from ${emptied}`)
    const refresh = refreshRun(place, replication, open)
    await waitsForLock(stage.destination, emptied)
    const truncation = (await stage.source.client()).query('truncate public.goods')
    await waitsForLock(stage.source, 'public.goods')
    await reader.query('commit')
    expect(await refresh).toMatchObject({ status: 'OK', rows: 1000 })
    await truncation
    expect(await stage.rows(`copies.${type}`)).toBe(1000)
    expect(await refreshRun(place, replication, open)).toMatchObject({ status: 'OK', rows: 0 })
  })
})

it('a read in several streams steps aside', async () => {
  const definition = wanted('snapshot')
  const link = new Link(connectorOf(stage.place(), definition), 'test', new AbortController().signal)
  onTestFinished(() => link.close())
  const source = await openSource(link, definition)
  const truncation = (await stage.source.client()).query('truncate public.goods')
  await waitsForLock(stage.source, 'public.goods')
  await expect(openStreams(link, source, 2)).rejects.toMatchObject({
    code: 'lock_timeout',
    retryable: true,
    message: 'Somebody waits for an exclusive lock on crm:public.goods; the read in several streams stepped aside.',
  })
  await link.close()
  await truncation
})
