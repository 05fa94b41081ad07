import { beforeAll, describe, expect, test } from 'vitest'
import { listReplications } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import { createDatabase } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { HeldRefresh, type Phase } from './held-refresh.ts'
import { addArguments, changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

const signals = { SIGINT: 130, SIGTERM: 143 } as const
const phases: Phase[] = ['load', 'index', 'swap']
const cases = phases.flatMap((phase) =>
  Object.entries(signals).map(([signal, exitCode]) => ({ phase, signal: signal as keyof typeof signals, exitCode })),
)

let stage: Stage
let proxy: FaultProxy

beforeAll(async () => {
  const source = await createDatabase('interrupted source')
  proxy = await startProxy(source.url)
  stage = await setStage('interrupted', { source }, { source: proxy.url })
  await makeGoods(source, 'large')
})

describe('a refresh', () => {
  beforeAll(async () => {
    const { result } = await addReplicationRun(stage.place(), wanted('snapshot'))
    expect(result.failure).toBeUndefined()
  })

  test.each(cases)(
    '$signal during $phase: exit $exitCode, the destination is as before',
    async ({ phase, signal, exitCode }) => {
      await changeGoods(stage.source)
      const old = await stage.content('copies.goods')
      const held = await HeldRefresh.start(stage, proxy, phase)
      const began = Date.now()
      const ended = await held.running.kill(signal)
      expect(Date.now() - began).toBeLessThan(10_000)
      expect([ended.exitCode, ended.signal]).toEqual([exitCode, null])
      expect(ended.json()).toMatchObject({ status: 'CRITICAL', error: { code: 'cancelled' } })
      expect(ended.stderr).toContain('Stopping cleanly')
      await held.release()
      expect(await stage.content('copies.goods')).toBe(old)
      expect(await stage.runs()).toMatchObject([{ operation: 'refresh', status: 'CRITICAL', reason: 'cancelled' }])
      await stage.nothingRuns()
      await stage.sessionsEnd()
      const [replication] = await listReplications(stage.control)
      if (!replication) throw new Error('the replication is gone')
      expect((await refreshRun(stage.place(), replication, { force: true, wait: 0, takeOver: false })).status).toBe(
        'OK',
      )
      expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
    },
  )
})

test.each(['load', 'index'] as const)(
  'Ctrl-C during the %s of a set-up: nothing is left of it on either side',
  async (phase) => {
    const far = await setStage(`interrupted set-up ${phase}`, { source: stage.source }, { source: proxy.url })
    const objects = await far.objects()
    const held = await HeldRefresh.start(far, proxy, phase, [...addArguments(wanted('snapshot')), '--json'])
    const ending = held.running.kill('SIGINT')
    await held.running.waitForOutput(/Stopping cleanly/)
    // A lock of somebody else's would keep the undoing from its table as well.
    await held.release()
    const ended = await ending
    expect(ended.exitCode).toBe(130)
    expect(ended.json().error).toMatchObject({
      code: 'cancelled',
      message: expect.stringContaining('nothing is left of it'),
    })
    expect(await far.objects()).toEqual(objects)
    expect(await listReplications(far.control)).toEqual([])
    expect(await far.runs()).toMatchObject([{ operation: 'setup', status: 'CRITICAL', reason: 'cancelled' }])
    await far.sessionsEnd()
  },
)
