import { beforeAll, describe, expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import type { NewReplication } from '../../src/replication/store.ts'
import { getReplication } from '../../src/replication/store.ts'
import { validateReplication } from '../../src/replication/validation.ts'
import { addReplicationRun, connectorOf, refreshRun } from '../../src/worker/replication-run.ts'
import { changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

/** What readers see of a refresh that died there, until the next one. */
type Shown = 'old' | 'new'

interface Walk {
  readonly name: string
  readonly size: 'small' | 'large'
  readonly replication: NewReplication
  /** Crash points in the order in which a refresh passes them. */
  readonly points: Partial<Record<CrashPoint, Shown>>
  /** Done before each refresh that is to die, beside the change of rows. */
  readonly prepare?: (stage: Stage, round: number) => Promise<void>
}

const begin = { 'refresh-after-run-recorded': 'old', 'refresh-after-claim': 'old' } as const
const outcome = { 'refresh-before-outcome': 'new', 'refresh-after-outcome': 'new' } as const
const swap = {
  'swap-before-commit': 'old',
  'swap-after-commit': 'new',
  'swap-after-old-emptied': 'new',
} as const

const walks: Walk[] = [
  {
    name: 'snapshot in one frozen stream',
    size: 'small',
    replication: wanted('snapshot'),
    points: {
      ...begin,
      'load-after-first-chunk': 'old',
      'load-before-commit': 'old',
      'load-after-commit': 'old',
      'load-after-analyze': 'old',
      ...swap,
      ...outcome,
    },
  },
  {
    name: 'snapshot in parallel parts',
    size: 'large',
    replication: wanted('snapshot'),
    points: {
      ...begin,
      'load-after-idle-emptied': 'old',
      'load-after-first-chunk': 'old',
      'load-before-commit': 'old',
      'load-after-first-commit': 'old',
      'load-after-commit': 'old',
      'load-after-index': 'old',
      'load-after-key': 'old',
      'load-after-analyze': 'old',
      ...swap,
      ...outcome,
    },
  },
  {
    name: 'snapshot of a new structure, with post_script',
    size: 'small',
    replication: wanted('snapshot', {
      postScript: ['insert into public.scripts select', "comment on view copies.goods is 'commented'"],
    }),
    points: { 'swap-after-commit': 'new', 'swap-after-post-script': 'new', 'swap-after-old-emptied': 'new' },
    prepare: async (stage, round) => {
      await stage.source.query(`alter table public.goods add column extra_${round} int default ${round}`)
    },
  },
  {
    name: 'table',
    size: 'small',
    replication: wanted('table', { sequences: ['public.goods_number'] }),
    points: {
      ...begin,
      'load-after-first-chunk': 'old',
      'table-before-commit': 'old',
      'table-after-commit': 'new',
      'table-after-sequences': 'new',
      'load-after-analyze': 'new',
      ...outcome,
    },
  },
]

describe.each(walks)('$name', (walk) => {
  let stage: Stage
  let round = 0

  beforeAll(async () => {
    stage = await setStage(`crash ${walk.name}`)
    await makeGoods(stage.source, walk.size)
    await stage.destination.query('create table public.scripts (at timestamptz default clock_timestamp())')
    await stage.destination.query('create sequence public.goods_number')
    const { result } = await addReplicationRun(stage.place(), walk.replication)
    expect(result.failure).toBeUndefined()
    await changeGoods(stage.source)
    // From the second refresh on, both sides of a snapshot have their tables and indexes.
    await refreshNow()
  })

  async function refreshNow() {
    const replication = await getReplication(stage.control, 'copies.goods')
    const result = await refreshRun(stage.place(), replication, { force: false, wait: 10_000, takeOver: false })
    expect([result.status, result.failure]).toEqual(['OK', undefined])
  }

  test.each(Object.entries(walk.points))(
    'killed at %s: readers see the %s rows, the next refresh goes on',
    async (point, shown) => {
      round += 1
      await changeGoods(stage.source)
      await walk.prepare?.(stage, round)
      const old = await stage.content('copies.goods')
      const objects = await stage.objects()
      const scripts = await stage.rows('public.scripts')

      const reader = await stage.watch('copies.goods')
      const died = await stage.run(['replication', 'refresh', 'copies.goods', '--force'], {
        YARDMASTER_CRASH_AT: point,
      })
      expect([died.signal, died.stdout, died.stderr]).toEqual(['SIGKILL', '', ''])
      const fresh = await contentOf(stage.source, 'public.goods')
      expect(fresh).not.toBe(old)
      expect(await stage.content('copies.goods')).toBe(shown === 'new' ? fresh : old)
      if (point === 'refresh-after-outcome') expect(await stage.runs()).toMatchObject([{ status: 'OK' }])
      else await stage.workerIsLost()
      const sides = await stage.sides('copies.goods')
      if (walk.replication.type === 'snapshot') expect(sides.said).toBe(sides.shown)

      await changeGoods(stage.source)
      await refreshNow()
      const last = await contentOf(stage.source, 'public.goods')
      expect(await stage.content('copies.goods')).toBe(last)
      const known = [old, fresh, last]
      expect((await reader.stop()).filter((seen) => !known.includes(seen))).toEqual([])
      expect(await stage.objects()).toEqual(objects)
      const replication = await getReplication(stage.control, 'copies.goods')
      const counted = await validateReplication(
        replication,
        connectorOf(stage.place(), replication),
        stage.place().signal,
      )
      expect(counted.match).toBe(true)
      // Its transaction marks it as done: once for each new structure, whatever died.
      expect((await stage.rows('public.scripts')) - scripts).toBe(walk.prepare ? 1 : 0)
      await stage.nothingRuns()
      await stage.sessionsEnd()
    },
  )
})

test('killed at load-after-given-back, behind a load that failed: the next refresh goes on', async () => {
  const stage = await setStage('crash given back')
  await makeGoods(stage.source, 'large')
  // The row that makes it fail comes last, and later.
  const replication = wanted('snapshot', { condition: 'WHERE 1 / (price::int + 5) > -5' })
  expect((await addReplicationRun(stage.place(), replication)).result.failure).toBeUndefined()
  const old = await stage.content('copies.goods')
  await stage.source.query(`insert into public.goods values (0, -5, 'divides by zero')`)
  const died = await stage.run(['replication', 'refresh', 'copies.goods'], {
    YARDMASTER_CRASH_AT: 'load-after-given-back',
  })
  expect(died.signal).toBe('SIGKILL')
  expect(await stage.content('copies.goods')).toBe(old)
  await stage.workerIsLost()
  await stage.source.query('delete from public.goods where id = 0')
  await changeGoods(stage.source)
  const known = await getReplication(stage.control, 'copies.goods')
  expect((await refreshRun(stage.place(), known, { force: true, wait: 10_000, takeOver: false })).status).toBe('OK')
  expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
  await stage.sessionsEnd()
})
