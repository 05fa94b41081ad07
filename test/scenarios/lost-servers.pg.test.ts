import { execFileSync } from 'node:child_process'
import { beforeAll, describe, expect, test } from 'vitest'
import { getReplication } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { createDatabase, type PrivateServer, startServer, type TestDatabase } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { HeldRefresh, type Phase } from './held-refresh.ts'
import { changeGoods, contentOf, makeGoods, reopened, type Stage, setStage, wanted } from './stage.ts'

interface Ground {
  stage: Stage
  proxy: FaultProxy
}

/** A large snapshot that was set up, its source behind a proxy. */
async function groundFor(
  label: string,
  given: { source?: TestDatabase; destination?: TestDatabase; control?: TestDatabase } = {},
): Promise<Ground> {
  const source = given.source ?? (await createDatabase(`${label} source`))
  const proxy = await startProxy(source.url)
  const stage = await setStage(label, { ...given, source }, { source: proxy.url })
  await makeGoods(source, 'large')
  const { result } = await addReplicationRun(stage.place(), wanted('snapshot'))
  expect(result.failure).toBeUndefined()
  return { stage, proxy }
}

async function terminate(database: TestDatabase, filter = `application_name like 'yardmaster load%'`): Promise<void> {
  const ended = await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name not in ('yardmaster test') and ${filter}`,
  )
  expect(ended.length).toBeGreaterThan(0)
}

/** Ends the postmaster and all its processes at once, as a host that loses power does. */
async function killWhole(server: PrivateServer): Promise<void> {
  const children = execFileSync('ps', ['--ppid', String(server.pid), '-o', 'pid='], { encoding: 'utf8' })
  const pids = children.split('\n').flatMap((line) => (line.trim() === '' ? [] : [Number(line)]))
  const killed = server.kill('SIGKILL')
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await killed
}

/** Ends one server process that works for us; its server restarts all of them by itself then. */
async function killBackend(database: TestDatabase): Promise<void> {
  const [backend] = await database.query<{ pid: number }>(
    `select pid from pg_stat_activity where datname = current_database() and application_name like 'yardmaster load%' limit 1`,
  )
  if (!backend) throw new Error('no session of ours is there')
  process.kill(backend.pid, 'SIGKILL')
}

/** Resolves when the server that restarted itself takes connections. */
async function recovered(database: TestDatabase): Promise<void> {
  const connects = () =>
    reopened(database)
      .query('select 1 as one')
      .catch(() => 'not yet')
  await expect.poll(connects, { timeout: 20_000, interval: 50 }).toEqual([{ one: 1 }])
}

/** A new refresh makes it good, and leaves nothing. */
async function healsBy(stage: Stage): Promise<void> {
  const replication = await getReplication(stage.control, 'copies.goods')
  const result = await refreshRun(stage.place(), replication, { force: true, wait: 10_000, takeOver: false })
  expect([result.status, result.failure]).toEqual(['OK', undefined])
  expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
  await stage.nothingRuns()
  await stage.sessionsEnd()
}

describe('server processes that are ended', () => {
  let ground: Ground
  beforeAll(async () => {
    ground = await groundFor('ended processes')
  })

  const cases: { side: 'source' | 'destination'; phase: Phase }[] = [
    { side: 'source', phase: 'load' },
    { side: 'destination', phase: 'load' },
    { side: 'destination', phase: 'index' },
    { side: 'destination', phase: 'swap' },
  ]
  test.each(cases)(
    'of the $side during $phase: named, old rows stay, the next refresh heals',
    async ({ side, phase }) => {
      const { stage, proxy } = ground
      await changeGoods(stage.source)
      const old = await stage.content('copies.goods')
      const held = await HeldRefresh.start(stage, proxy, phase)
      await terminate(stage[side], `application_name like 'yardmaster ${side === 'source' ? 'read' : 'load'}%'`)
      const ended = phase === 'index' ? await held.running.ended : await held.release()
      expect(ended.exitCode).toBe(1)
      expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: `${side}_unreachable` } })
      await held.release()
      expect(await stage.content('copies.goods')).toBe(old)
      expect(await stage.runs()).toMatchObject([{ status: 'CRITICAL', reason: 'failed' }])
      await healsBy(stage)
    },
  )

  test('of the control database: the refresh goes on, its record is whole', async () => {
    const { stage, proxy } = ground
    await changeGoods(stage.source)
    const held = await HeldRefresh.start(stage, proxy, 'load')
    await terminate(stage.controlDatabase, `pid <> ${stage.control.session.pid}`)
    // Whoever looks in this moment sees a session that is lost; its worker comes back and goes on.
    await stage.runs()
    const ended = await held.release()
    expect(ended.json()).toMatchObject({ status: 'OK', rows: 5000 })
    expect(await stage.runs()).toMatchObject([{ status: 'OK', reason: null }])
    const steps = await stage.controlDatabase.query(
      `select action, status, message from yardmaster.steps where run_id = $1 order by ordinal`,
      [ended.json().run_id],
    )
    expect(steps.map((step) => [step.action, step.status])).toEqual(
      ['plan', 'empty the idle table', 'load', 'index', 'analyze', 'swap', 'empty the old table'].map((one) => [
        one,
        'OK',
      ]),
    )
    expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
    await stage.nothingRuns()
    await stage.sessionsEnd()
  })
})

describe('servers that die', () => {
  let server: PrivateServer
  let sourceGround: Ground
  let destinationGround: Ground
  beforeAll(async () => {
    server = await startServer()
    sourceGround = await groundFor('dying source', { source: await server.createDatabase('dying source') })
    destinationGround = await groundFor('dying destination', {
      destination: await server.createDatabase('dying destination'),
    })
  })

  test('the source, SIGKILL of all its processes during load', async () => {
    const { stage, proxy } = sourceGround
    const old = await stage.content('copies.goods')
    const held = await HeldRefresh.start(stage, proxy, 'load')
    await killWhole(server)
    const ended = await held.release()
    expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: 'source_unreachable' } })
    expect(await stage.content('copies.goods')).toBe(old)
    await server.restart()
    sourceGround = { proxy, stage: stage.with({ source: reopened(stage.source) }) }
    await changeGoods(sourceGround.stage.source)
    await healsBy(sourceGround.stage)
  })

  const cases: { how: string; phase: Phase; kill: (destination: TestDatabase) => Promise<void> }[] = [
    { how: 'SIGKILL of all its processes', phase: 'load', kill: () => killWhole(server) },
    { how: 'SIGKILL of one of our processes', phase: 'index', kill: killBackend },
    { how: 'an immediate stop', phase: 'swap', kill: () => server.stop('immediate') },
  ]
  test.each(cases)('the destination, $how during $phase', async ({ phase, kill }) => {
    const { stage, proxy } = destinationGround
    await changeGoods(stage.source)
    const old = await stage.content('copies.goods')
    const held = await HeldRefresh.start(stage, proxy, phase)
    await kill(stage.destination)
    const ended = await held.release()
    expect(ended.exitCode).toBe(1)
    expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: 'destination_unreachable' } })
    // A stop in the middle of its recovery would hang PostgreSQL 18.
    if (kill === killBackend) await recovered(stage.destination)
    else await server.restart()
    const again = stage.with({ destination: reopened(stage.destination) })
    destinationGround = { proxy, stage: again }
    expect(await again.content('copies.goods')).toBe(old)
    await healsBy(again)
  })

  test('the control database’s, during load: the refresh goes on, its steps are written when it is back', async () => {
    const control = await server.createDatabase('dying control')
    const { stage, proxy } = await groundFor('dying control', { control })
    await changeGoods(stage.source)
    const held = await HeldRefresh.start(stage, proxy, 'load')
    await server.stop('immediate')
    const ending = held.release()
    const fresh = await contentOf(stage.source, 'public.goods')
    await expect.poll(() => stage.content('copies.goods'), { timeout: 20_000, interval: 50 }).toBe(fresh)
    await server.restart()
    const ended = await ending
    expect([ended.exitCode, ended.json().status]).toEqual([0, 'OK'])
    const again = stage.with({ controlDatabase: reopened(stage.controlDatabase) })
    await again.control.revive(10_000)
    expect(await again.runs()).toMatchObject([{ status: 'OK', reason: null }])
    const steps = await again.controlDatabase.query(
      `select action, status from yardmaster.steps where run_id = $1 and action in ('load', 'swap')`,
      [ended.json().run_id],
    )
    expect(steps).toEqual([
      { action: 'load', status: 'OK' },
      { action: 'swap', status: 'OK' },
    ])
    await again.nothingRuns()
    await again.sessionsEnd()
  })
})
