import { beforeAll, describe, expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import { addReplicationRun } from '../../src/worker/replication-run.ts'
import { createDatabase } from '../support/databases.ts'
import { startProxy } from '../support/proxy.ts'
import { Crew } from './crew.ts'
import { changeGoods, makeGoods, setStage, wanted } from './stage.ts'

let crew: Crew

beforeAll(async () => {
  const source = await createDatabase('crash worker source')
  const proxy = await startProxy(source.url)
  crew = new Crew(await setStage('crash worker', { source }, { source: proxy.url }), proxy)
  await makeGoods(source)
  const { result } = await addReplicationRun(crew.stage.place(), wanted('snapshot'))
  expect(result.failure).toBeUndefined()
  await crew.record.begin()
})

/** Another worker ends what is asked for and what was begun; then nothing goes on, and the copy is the source's. */
async function anotherFinishes(): Promise<void> {
  const { stage } = crew
  await crew.queue()
  const worker = await crew.worker('h2')
  const open = () =>
    stage.controlDatabase.query(
      `select id, status, message from yardmaster.runs where status in ('WAITING', 'RUNNING')`,
    )
  await expect.poll(open, { timeout: 20_000, interval: 20 }).toEqual([])
  const [last] = await stage.controlDatabase.query('select status from yardmaster.runs order by id desc limit 1')
  expect(last).toEqual({ status: 'OK' })
  const alive = () => stage.controlDatabase.query('select host from yardmaster.workers where slots > 0 and alive')
  await expect.poll(alive, { timeout: 20_000, interval: 50 }).toEqual([{ host: 'h2' }])
  expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
  await crew.allIsWell()
  await stage.sessionsEnd()
}

describe('a worker that is killed', () => {
  const points: CrashPoint[] = [
    'worker-after-register',
    'claim-after-commit',
    'refresh-after-claim',
    'load-before-commit',
    'swap-after-commit',
    'refresh-before-outcome',
    'refresh-after-outcome',
  ]
  test.each(points)('at %s: another one goes on', async (point) => {
    await changeGoods(crew.stage.source)
    await crew.queue()
    const died = await crew.start('h1', { crashAt: point }).ended
    expect(died.signal).toBe('SIGKILL')
    await anotherFinishes()
  })

  test('at worker-after-next-starts: the start that it decided is kept', async () => {
    const { controlDatabase } = crew.stage
    const schedule = (options: object) =>
      controlDatabase.query('select yardmaster.alter_replication(job_id, $1) from yardmaster.replications', [
        JSON.stringify(options),
      ])
    await schedule({ schedule_interval: '1 hour' })
    const point: CrashPoint = 'worker-after-next-starts'
    expect((await crew.start('h1', { crashAt: point }).ended).signal).toBe('SIGKILL')
    const [decided] = await controlDatabase.query('select next_start from yardmaster.replications')
    expect(decided?.next_start).toBeInstanceOf(Date)
    await schedule({ schedule_interval: null })
    await anotherFinishes()
  })

  test('at worker-after-release: whom it gave up stays given up, and a third one goes on', async () => {
    await changeGoods(crew.stage.source)
    await crew.queue()
    expect((await crew.start('h1', { crashAt: 'claim-after-commit' }).ended).signal).toBe('SIGKILL')
    expect((await crew.start('h3', { crashAt: 'worker-after-release' }).ended).signal).toBe('SIGKILL')
    await anotherFinishes()
  })

  test('at worker-before-end: what it had ended stays so', async () => {
    await changeGoods(crew.stage.source)
    const worker = await crew.worker('h1', { crashAt: 'worker-before-end' })
    await crew.queue()
    await worker.waitForOutput(/run \d+ OK/)
    expect((await worker.kill('SIGTERM')).signal).toBe('SIGKILL')
    await anotherFinishes()
  })
})
