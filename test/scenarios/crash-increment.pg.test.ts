import { beforeAll, describe, expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import { definitionDefaults } from '../../src/replication/definition.ts'
import { getReplication, type NewReplication } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { contentOf, type Stage, setStage } from './stage.ts'

/** What readers see of a refresh that died there, until the next one. */
type Shown = 'old' | 'new'

interface Walk {
  readonly name: string
  readonly type: 'inserter' | 'updater'
  /** Everything that is there already is copied again. */
  readonly repulls: boolean
  readonly points: Partial<Record<CrashPoint, Shown>>
}

const commit = { 'increment-before-commit': 'old', 'increment-after-commit': 'new' } as const

const walks: Walk[] = [
  { name: 'inserter', type: 'inserter', repulls: false, points: { 'load-after-first-chunk': 'old', ...commit } },
  { name: 'updater', type: 'updater', repulls: false, points: { 'increment-after-staging': 'old', ...commit } },
  {
    name: 'repull of an inserter',
    type: 'inserter',
    repulls: true,
    points: { 'increment-after-delete': 'old', ...commit },
  },
  {
    name: 'repull of an updater',
    type: 'updater',
    repulls: true,
    points: { 'increment-after-delete': 'old', ...commit },
  },
]

const everything = { start: null, end: '2200-01-01' }

function wanted(type: Walk['type']): NewReplication {
  return {
    ...definitionDefaults,
    ...{ type, sourceDatabase: 'crm', source: { schema: 'public', name: 'events' } },
    ...{ destinationDatabase: 'dwh', destination: { schema: 'copies', name: 'events' } },
    // No key of an inserter: what came twice would be there twice.
    buildIndexes: false,
    control: { column: 'at', by: 'time', boundary: '0 seconds', timezone: null, dstWindow: null },
  }
}

async function makeEvents(stage: Stage): Promise<void> {
  await stage.source.query(`create table public.events (id bigint generated always as identity primary key, name text,
    at timestamptz not null default clock_timestamp())`)
  await stage.source.query(`insert into public.events (name) select 'event ' || n from generate_series(1, 50) n`)
}

/** New rows; changed ones, where the type follows them; and ones whose control value says nothing, where all come again. */
async function change(stage: Stage, walk: Walk): Promise<void> {
  await stage.source.query(`insert into public.events (name) select 'more ' || n from generate_series(1, 5) n`)
  const quietly = walk.repulls ? '' : ', at = clock_timestamp()'
  if (walk.repulls || walk.type === 'updater') {
    await stage.source.query(`update public.events set name = name || '!'${quietly} where id % 7 = 0`)
  }
  if (walk.repulls) await stage.source.query('delete from public.events where id = (select min(id) from public.events)')
}

describe.each(walks)('$name', (walk) => {
  let stage: Stage

  beforeAll(async () => {
    stage = await setStage(`crash ${walk.name}`)
    await makeEvents(stage)
    const { result } = await addReplicationRun(stage.place(), wanted(walk.type))
    expect(result.failure).toBeUndefined()
  })

  async function refreshNow(): Promise<void> {
    const replication = await getReplication(stage.control, 'copies.events')
    const options = { wait: 10_000, repull: walk.repulls ? everything : null }
    const result = await refreshRun(stage.place(), replication, options)
    expect([result.status, result.failure]).toEqual(['OK', undefined])
  }

  test.each(Object.entries(walk.points))('killed at %s: readers see the %s rows, once', async (point, shown) => {
    await change(stage, walk)
    const old = await stage.content('copies.events')
    const objects = await stage.objects()
    const reader = await stage.watch('copies.events')
    const again = walk.repulls ? ['--repull', '--end', everything.end] : []
    const died = await stage.run(['replication', 'refresh', 'copies.events', ...again], { YARDMASTER_CRASH_AT: point })
    expect([died.signal, died.stdout, died.stderr]).toEqual(['SIGKILL', '', ''])
    const fresh = await contentOf(stage.source, 'public.events')
    expect(fresh).not.toBe(old)
    expect(await stage.content('copies.events')).toBe(shown === 'new' ? fresh : old)
    await stage.workerIsLost()

    await change(stage, walk)
    await refreshNow()
    const last = await contentOf(stage.source, 'public.events')
    expect(await stage.content('copies.events')).toBe(last)
    const known = [old, fresh, last]
    expect((await reader.stop()).filter((seen) => !known.includes(seen))).toEqual([])
    expect(await stage.objects()).toEqual(objects)
    await stage.nothingRuns()
    await stage.sessionsEnd()
  })
})

test('killed at adopt-before-commit: the next command adopts the table as it is then', async () => {
  const stage = await setStage('crash adoption')
  await makeEvents(stage)
  await stage.destination.query('create schema copies')
  await stage.destination.query('create table copies.events (id bigint, name text, at timestamptz)')
  const control = ['--column', 'at', '--by', 'time', '--boundary', '0 seconds']
  const add = [
    'replication',
    'add',
    'inserter',
    'public.events',
    '--from',
    'crm',
    '--to',
    'dwh',
    '--dest',
    'copies.events',
  ]
  const died = await stage.run([...add, ...control], { YARDMASTER_CRASH_AT: 'adopt-before-commit' })
  expect(died.signal).toBe('SIGKILL')
  await stage.workerIsLost()
  const finished = await stage.run(['replication', 'refresh', 'copies.events'])
  expect(finished.exitCode, finished.stderr).toBe(0)
  expect(await stage.rows('copies.events')).toBe(0)
  expect((await stage.run(['replication', 'refresh', 'copies.events'])).exitCode).toBe(0)
  expect(await stage.content('copies.events')).toBe(await contentOf(stage.source, 'public.events'))
})
