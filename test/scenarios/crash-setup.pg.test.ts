import { beforeAll, describe, expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import type { NewReplication } from '../../src/replication/store.ts'
import { findReplication, getReplication, listReplications } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun, removeReplicationRun } from '../../src/worker/replication-run.ts'
import { addArguments, changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

/** What there is of a set-up that died there. `as before`: nothing, or the table that was adopted, untouched. */
type Shown = 'as before' | 'whole'

interface Walk {
  readonly name: string
  readonly size: 'small' | 'large'
  readonly adopts?: true
  readonly replication: NewReplication
  readonly points: Partial<Record<CrashPoint, Shown>>
}

/** What a user may do next; each walk begins with another one, so that each point meets all three. */
const nextCommands = ['add again', 'refresh', 'remove'] as const

const begin = {
  'refresh-after-run-recorded': 'as before',
  'setup-after-register': 'as before',
  'setup-after-destination-objects': 'as before',
  'refresh-after-claim': 'as before',
} as const
const end = {
  'setup-after-initial-load': 'whole',
  'setup-after-activate': 'whole',
  'refresh-before-outcome': 'whole',
  'refresh-after-outcome': 'whole',
} as const
const load = {
  'load-after-first-chunk': 'as before',
  'load-before-commit': 'as before',
  'load-after-commit': 'as before',
  'load-after-analyze': 'as before',
  'swap-before-commit': 'as before',
} as const
const swap = {
  'swap-after-commit': 'whole',
  'swap-after-post-script': 'whole',
  'swap-after-old-emptied': 'whole',
} as const

const walks: Walk[] = [
  {
    name: 'snapshot',
    size: 'small',
    replication: wanted('snapshot', { postScript: ['select 1'] }),
    points: { ...begin, ...load, ...swap, ...end },
  },
  {
    name: 'snapshot in parallel parts',
    size: 'large',
    replication: wanted('snapshot'),
    points: {
      'load-after-idle-emptied': 'as before',
      'load-after-first-commit': 'as before',
      'load-after-index': 'as before',
      'load-after-key': 'as before',
      'swap-after-commit': 'whole',
    },
  },
  {
    name: 'table',
    size: 'small',
    replication: wanted('table', { sequences: ['public.goods_number'] }),
    points: {
      ...begin,
      'load-after-first-chunk': 'as before',
      'table-before-commit': 'as before',
      'table-after-commit': 'whole',
      'table-after-sequences': 'whole',
      'load-after-analyze': 'whole',
      ...end,
    },
  },
  {
    name: 'table that was there before',
    size: 'small',
    adopts: true,
    replication: wanted('table', { destination: { schema: 'public', name: 'mine' } }),
    points: {
      ...begin,
      'setup-after-initial-load': 'as before',
      'setup-after-activate': 'as before',
      'refresh-before-outcome': 'as before',
    },
  },
]

const cases = walks.map((walk, first) => ({
  ...walk,
  deaths: Object.entries(walk.points).map(([point, shown], n) => ({
    point,
    shown,
    next: nextCommands[(first + n) % nextCommands.length] ?? 'refresh',
  })),
}))

describe.each(cases)('set-up of a $name', (walk) => {
  const label = `${walk.replication.destination.schema}.${walk.replication.destination.name}`
  let stage: Stage
  let objects: string[]
  let before: string

  beforeAll(async () => {
    stage = await setStage(`set-up ${walk.name}`)
    await makeGoods(stage.source, walk.size)
    await stage.destination.query('create sequence public.goods_number')
    await stage.destination.query('create table public.mine (id int primary key, price numeric, name text, own text)')
    await stage.destination.query(`insert into public.mine values (-1, 1, 'mine', 'own')`)
    objects = await stage.objects()
    before = await stage.content(label)
  })

  const content = async () =>
    (await contentOf(stage.destination, label, 'id, price, name')).replace(/^0 rows.*/, 'empty')

  async function refreshNow() {
    const replication = await getReplication(stage.control, label)
    const result = await refreshRun(stage.place(), replication, { force: true, wait: 10_000, takeOver: false })
    expect([result.status, result.failure]).toEqual(['OK', undefined])
  }

  async function removeNow(mode: 'keep' | 'drop') {
    const replication = await getReplication(stage.control, label)
    const result = await removeReplicationRun(stage.place(), replication, mode)
    expect([result.status, result.failure]).toEqual(['OK', undefined])
  }

  async function goOn(next: (typeof nextCommands)[number]): Promise<'stands' | 'is gone'> {
    const known = await getReplication(stage.control, label)
    if (next === 'remove') return 'is gone'
    if (next === 'refresh') await refreshNow()
    else if (known.status === 'active') {
      await expect(addReplicationRun(stage.place(), walk.replication)).rejects.toMatchObject({
        code: 'replication_exists',
      })
    } else {
      const { result } = await addReplicationRun(stage.place(), walk.replication)
      expect([result.status, result.failure]).toEqual(['OK', undefined])
    }
    return 'stands'
  }

  test.each(walk.deaths)('killed at $point: $shown; then: $next', async ({ point, shown, next }) => {
    const died = await stage.run(addArguments(walk.replication), { YARDMASTER_CRASH_AT: point })
    expect([died.signal, died.stdout, died.stderr]).toEqual(['SIGKILL', '', ''])
    const fresh = await contentOf(stage.source, 'public.goods')
    if (shown === 'whole') expect(await content()).toBe(fresh)
    else expect(await stage.content(label)).toBe(before)
    if (point === 'refresh-after-outcome') expect(await stage.runs()).toMatchObject([{ status: 'OK' }])
    else await stage.workerIsLost()

    if ((await goOn(next)) === 'stands') {
      expect((await getReplication(stage.control, label)).status).toBe('active')
      await changeGoods(stage.source)
      await refreshNow()
      expect(await content()).toBe(await contentOf(stage.source, 'public.goods'))
    }
    await removeNow(walk.adopts ? 'keep' : 'drop')
    expect(await listReplications(stage.control)).toEqual([])
    expect(await stage.objects()).toEqual(objects)
    await stage.destination.query(`truncate public.mine`)
    await stage.destination.query(`insert into public.mine values (-1, 1, 'mine', 'own')`)
    await stage.nothingRuns()
    await stage.sessionsEnd()
  })
})

describe.each(['snapshot', 'table'] as const)('undoing a set-up that fails, %s', (type) => {
  let stage: Stage
  let objects: string[]
  // Read to row 150, then a division by zero.
  const failing = wanted(type, { condition: 'WHERE 1 / (id - 150) > -5' })

  beforeAll(async () => {
    stage = await setStage(`undo ${type}`)
    await makeGoods(stage.source)
    objects = await stage.objects()
  })

  async function nothingIsLeft() {
    expect(await listReplications(stage.control)).toEqual([])
    expect(await stage.objects()).toEqual(objects)
    await stage.nothingRuns()
    await stage.sessionsEnd()
  }

  test('leaves nothing, and says so', async () => {
    const failed = await stage.run([...addArguments(failing), '--json'])
    expect(failed.exitCode).toBe(1)
    expect(failed.json().error).toMatchObject({ message: expect.stringContaining('division by zero') })
    expect(failed.json().error.message).toContain('The set-up was undone; nothing is left of it.')
    await nothingIsLeft()
  })

  const deaths = [
    'remove-after-claim',
    'undo-after-destination',
    'undo-after-control',
    'refresh-before-outcome',
  ] as const
  test.each(deaths)('killed at %s: the next command clears up', async (point) => {
    const died = await stage.run(addArguments(failing), { YARDMASTER_CRASH_AT: point })
    expect(died.signal).toBe('SIGKILL')
    expect(await stage.content('copies.goods')).toBe('absent')
    await stage.workerIsLost()
    const left = await findReplication(stage.control, 'copies.goods')
    if (left && point === 'undo-after-destination') {
      expect((await removeReplicationRun(stage.place(), left, 'keep')).status).toBe('OK')
    } else {
      const { result } = await addReplicationRun(stage.place(), failing)
      expect(result.failure?.message).toContain('The set-up was undone')
    }
    await nothingIsLeft()
  })

  test.each([
    'refresh-after-run-recorded',
    'remove-after-mark',
    'remove-after-claim',
    'undo-after-destination',
    'remove-after-control',
  ] as const)('what a dead set-up left is being removed, killed at %s: the next command clears up', async (point) => {
    const good = wanted(type)
    await stage.run(addArguments(good), { YARDMASTER_CRASH_AT: 'setup-after-initial-load' })
    await stage.workerIsLost()
    const died = await stage.run(['replication', 'remove', 'copies.goods'], { YARDMASTER_CRASH_AT: point })
    expect(died.signal).toBe('SIGKILL')
    await stage.workerIsLost()
    const { replication, result } = await addReplicationRun(stage.place(), good)
    expect([result.status, result.failure]).toEqual(['OK', undefined])
    expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
    if (replication) await removeReplicationRun(stage.place(), replication, 'drop')
    await nothingIsLeft()
  })
})
