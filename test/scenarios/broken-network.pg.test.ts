import { describe, expect, test } from 'vitest'
import { getReplication } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { createDatabase } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

type Type = 'snapshot' | 'table'

/** A replication that was set up, both sides behind proxies. */
async function groundFor(
  label: string,
  type: Type = 'snapshot',
  size: 'small' | 'large' = 'small',
): Promise<{ stage: Stage; source: FaultProxy; destination: FaultProxy }> {
  const databases = { source: await createDatabase(`${label} s`), destination: await createDatabase(`${label} d`) }
  const source = await startProxy(databases.source.url)
  const destination = await startProxy(databases.destination.url)
  const stage = await setStage(label, databases, { source: source.url, destination: destination.url })
  await makeGoods(databases.source, size)
  const { result } = await addReplicationRun(stage.place(), wanted(type))
  expect(result.failure).toBeUndefined()
  await changeGoods(databases.source)
  return { stage, source, destination }
}

const command = ['replication', 'refresh', 'copies.goods', '--force', '--json']

/** Calls when the transaction that moves the position (and shows new rows) sends its COMMIT, before a byte of that is passed on. */
function atCommit(destination: FaultProxy, call: () => void): void {
  destination.when('toServer', 'update yardmaster.position set state', () =>
    destination.when('toServer', 'commit', call),
  )
}

async function healsBy(stage: Stage): Promise<void> {
  await changeGoods(stage.source)
  const replication = await getReplication(stage.control, 'copies.goods')
  const result = await refreshRun(stage.place(), replication, { force: true, wait: 10_000, takeOver: false })
  expect([result.status, result.failure]).toEqual(['OK', undefined])
  expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
  await stage.nothingRuns()
  await stage.sessionsEnd()
}

describe.each(['snapshot', 'table'] as const)('the connection breaks at the COMMIT of a %s', (type) => {
  test('before it arrives: the old rows stay, the refresh failed', async () => {
    const { stage, destination } = await groundFor(`cut before ${type}`, type)
    const old = await stage.content('copies.goods')
    atCommit(destination, () => destination.set('toServer', { kind: 'cut', afterBytes: 0 }))
    const ended = await stage.run(command)
    expect(ended.exitCode).toBe(1)
    expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: 'destination_unreachable' } })
    expect(await stage.content('copies.goods')).toBe(old)
    await healsBy(stage)
  })

  test('before its answer: the new rows are there, and the refresh says so', async () => {
    const { stage, destination } = await groundFor(`cut after ${type}`, type)
    atCommit(destination, () => destination.set('toClient', { kind: 'cut', afterBytes: 0 }))
    const ended = await stage.run(command)
    expect([ended.exitCode, ended.json().status]).toEqual([0, 'WARNING'])
    expect(ended.json().message).toMatch(/Readers see the new rows|The new rows are there/)
    expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
    expect(await stage.runs()).toMatchObject([{ status: 'WARNING' }])
    await healsBy(stage)
  })
})

test('the connection breaks at the COMMIT of a removal: it is looked up', async () => {
  const { stage, destination } = await groundFor('cut removal')
  const remove = ['replication', 'remove', 'copies.goods', '--drop-table', '--yes', '--json']
  const atRemoval = (call: () => void) =>
    destination.when('toServer', 'delete from yardmaster.position', () => destination.when('toServer', 'commit', call))
  atRemoval(() => destination.set('toServer', { kind: 'cut', afterBytes: 0 }))
  const failed = await stage.run(remove)
  expect(failed.json().error.code).toBe('destination_unreachable')
  expect((await getReplication(stage.control, 'copies.goods')).status).toBe('active')
  await healsBy(stage)
  atRemoval(() => destination.set('toClient', { kind: 'cut', afterBytes: 0 }))
  const done = await stage.run(remove)
  expect([done.exitCode, done.json().status]).toEqual([0, 'OK'])
  expect(await stage.content('copies.goods')).toBe('absent')
})

/** One side falls silent in the middle of the rows, for new connections as well. */
async function silentLoad(side: 'source' | 'destination', direction: 'toClient' | 'both'): Promise<void> {
  const { stage, ...proxies } = await groundFor(`silent ${side} ${direction}`, 'snapshot', 'large')
  const old = await stage.content('copies.goods')
  const proxy = proxies[side]
  const silent = Promise.withResolvers<number>()
  proxies.source.when('toServer', 'copy (', () => {
    proxies.source.when('toClient', '....', () => {
      proxy.set(direction, { kind: 'half-open' })
      silent.resolve(Date.now())
    })
  })
  const running = stage.start(command)
  const since = await silent.promise
  const ended = await running.ended
  expect(Date.now() - since).toBeLessThan(30_000)
  expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: `${side}_unreachable` } })
  expect(ended.json().message).toContain('no byte came for 8 s')
  proxy.set('both', { kind: 'pass' })
  expect(await stage.content('copies.goods')).toBe(old)
  await healsBy(stage)
}

/** The answer to the COMMIT never comes; new connections pass. */
async function silentCommit(): Promise<void> {
  const { stage, destination } = await groundFor('silent commit')
  atCommit(destination, () => {
    destination.set('toClient', { kind: 'half-open' })
    const before = destination.accepted
    const timer = setInterval(() => {
      if (destination.accepted === before) return
      clearInterval(timer)
      destination.set('toClient', { kind: 'cut', afterBytes: 0 })
    }, 20)
  })
  const ended = await stage.run(command)
  expect([ended.exitCode, ended.json().status]).toEqual([0, 'WARNING'])
  expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
  await healsBy(stage)
}

/** An index build that waits for longer than a silence may last. */
async function slowIndex(): Promise<void> {
  const { stage, destination } = await groundFor('slow index', 'snapshot', 'large')
  const blocker = await stage.destination.client()
  await blocker.query('begin')
  destination.when('toServer', 'copy "copies"', () => {
    void blocker.query('lock table copies.goods_snap1, copies.goods_snap2 in row exclusive mode')
  })
  const running = stage.start(command)
  const waits = () =>
    stage.destination.query(`select from pg_stat_activity where datname = current_database()
      and wait_event_type = 'Lock' and query like 'CREATE%INDEX%'`)
  await expect.poll(waits, { timeout: 10_000, interval: 20 }).not.toEqual([])
  // Somebody looks for the quiet session; then it has been asked about and was found working.
  const connections = destination.accepted
  await expect.poll(() => destination.accepted, { timeout: 20_000, interval: 50 }).toBeGreaterThan(connections)
  const probes = () =>
    stage.destination.query(`select from pg_stat_activity where application_name = 'yardmaster look for it'
      and datname = current_database()`)
  await expect.poll(probes, { timeout: 10_000, interval: 20 }).toEqual([])
  expect(await waits()).not.toEqual([])
  await blocker.query('commit')
  const ended = await running.ended
  expect(ended.json()).toMatchObject({ status: 'OK' })
  await healsBy(stage)
}

// Side by side, because each waits for its silence to last.
test('connections that are open and dead are noticed within 30 s, slow work is left alone', async () => {
  const stories = {
    'source, its answers': silentLoad('source', 'toClient'),
    'destination, its answers': silentLoad('destination', 'toClient'),
    'destination, both ways': silentLoad('destination', 'both'),
    'the answer to a COMMIT': silentCommit(),
    'a slow index': slowIndex(),
  }
  const ends = await Promise.allSettled(Object.values(stories))
  const failed = ends.flatMap((end, n) => (end.status === 'rejected' ? [[Object.keys(stories)[n], end.reason]] : []))
  expect(failed).toEqual([])
})
