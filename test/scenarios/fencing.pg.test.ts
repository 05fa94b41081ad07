import { beforeEach, describe, expect, test } from 'vitest'
import { getReplication } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { createDatabase } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { HeldRefresh } from './held-refresh.ts'
import { changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

const command = ['replication', 'refresh', 'copies.goods', '--force', '--json']
let stage: Stage
let proxy: FaultProxy

beforeEach(async () => {
  const source = await createDatabase('fencing source')
  proxy = await startProxy(source.url)
  stage = await setStage('fencing', { source }, { source: proxy.url })
  await makeGoods(source, 'large')
  const { result } = await addReplicationRun(stage.place(), wanted('snapshot'))
  expect(result.failure).toBeUndefined()
  await changeGoods(source)
})

/** Sessions of ours that hold the lock of the replication in the destination. */
function lockHolders(): Promise<{ pid: number }[]> {
  return stage.destination.query(
    `select l.pid from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
     where l.locktype = 'advisory' and l.classid = 1498238285 and l.objid > 0 and l.granted`,
  )
}

test('a paused worker that lost its lock is replaced; awake again it changes nothing and says why', async () => {
  const held = await HeldRefresh.start(stage, proxy, 'load')
  process.kill(held.running.pid, 'SIGSTOP')
  proxy.set('both', { kind: 'pass' })
  const [holder] = await lockHolders()
  await stage.destination.query('select pg_terminate_backend($1)', [holder?.pid])
  await expect.poll(lockHolders, { timeout: 5000, interval: 10 }).toEqual([])

  const replication = await getReplication(stage.control, 'copies.goods')
  const second = await refreshRun(stage.place(), replication, { force: true, wait: 0, takeOver: false })
  expect([second.status, second.rows, second.failure]).toEqual(['OK', 5000, undefined])
  const fresh = await contentOf(stage.source, 'public.goods')
  expect(await stage.content('copies.goods')).toBe(fresh)
  const objects = await stage.objects()
  const position = await stage.destination.query('select token, read_number, state from yardmaster.position')

  process.kill(held.running.pid, 'SIGCONT')
  const first = await held.release()
  expect(first.exitCode).toBe(1)
  expect(['fenced', 'destination_unreachable']).toContain(first.json().error.code)
  expect(await stage.content('copies.goods')).toBe(fresh)
  expect(await stage.objects()).toEqual(objects)
  expect(await stage.destination.query('select token, read_number, state from yardmaster.position')).toEqual(position)
  expect(await stage.runs(2)).toMatchObject([{ status: 'OK' }, { status: 'CRITICAL', reason: 'failed' }])
  await stage.nothingRuns()
  await stage.sessionsEnd()
})

describe('an attempt whose token was replaced', () => {
  const newToken = () => stage.destination.query('update yardmaster.position set token = gen_random_uuid()')

  test.each([
    { way: 'in one stream', streams: '1' },
    { way: 'in parallel', streams: '2' },
  ])('is fenced behind its load, $way: nothing is shown', async ({ streams }) => {
    const old = await stage.content('copies.goods')
    const held = await HeldRefresh.start(stage, proxy, 'load', [...command, '--streams', streams])
    // The loading transaction holds the position, so this takes effect as soon as that has committed.
    const replaced = newToken()
    const ended = await held.release()
    await replaced
    expect([ended.exitCode, ended.json().error.code]).toEqual([1, 'fenced'])
    expect(await stage.content('copies.goods')).toBe(old)
    expect(await stage.runs()).toMatchObject([{ status: 'CRITICAL', reason: 'failed' }])
  })

  test('does not undo a set-up that its successor goes on with', async () => {
    const far = await setStage('fenced set-up', { source: stage.source }, { source: proxy.url })
    const add = [
      'replication',
      'add',
      'snapshot',
      'public.goods',
      '--from',
      'crm',
      '--to',
      'dwh',
      '--dest',
      'copies.goods',
    ]
    const held = await HeldRefresh.start(far, proxy, 'load', [...add, '--json'])
    const replaced = far.destination.query('update yardmaster.position set token = gen_random_uuid()')
    const ended = await held.release()
    await replaced
    expect(ended.json().error.code).toBe('fenced')
    const replication = await getReplication(far.control, 'copies.goods')
    expect(replication.status).toBe('setting_up')
    const result = await refreshRun(far.place(), replication, { force: true, wait: 10_000, takeOver: false })
    expect(result.status).toBe('OK')
    expect(await far.content('copies.goods')).toBe(await contentOf(far.source, 'public.goods'))
  })
})

test('two at once: the second ends at once with WARNING and exit 0, one that waits goes on behind the first', async () => {
  const held = await HeldRefresh.start(stage, proxy, 'load')
  const began = Date.now()
  const second = await stage.run(command)
  expect(Date.now() - began).toBeLessThan(3000)
  expect([second.exitCode, second.json().status]).toEqual([0, 'WARNING'])
  expect(second.json().message).toContain('another refresh holds the lock: process')
  expect(await stage.runs()).toMatchObject([{ status: 'WARNING', reason: 'locked' }])

  const third = stage.start([...command, '--wait', '30'])
  const waiting = () =>
    stage.destination.query(
      `select from pg_stat_activity where datname = current_database() and query like '%yardmaster.position p%pg_locks%'
       and application_name like 'yardmaster load%'`,
    )
  await expect.poll(waiting, { timeout: 10_000, interval: 20 }).not.toEqual([])
  const first = await held.release()
  expect(first.json()).toMatchObject({ status: 'OK', rows: 5000 })
  const waited = await third.ended
  expect([waited.exitCode, waited.json().status, waited.json().rows]).toEqual([0, 'OK', 5000])
  await stage.sessionsEnd()
})
