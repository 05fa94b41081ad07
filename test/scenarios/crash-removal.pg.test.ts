import { beforeAll, describe, expect, test } from 'vitest'
import {
  addReplication,
  findReplication,
  getReplication,
  listReplications,
  setReplicationStatus,
} from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun, removeReplicationRun } from '../../src/worker/replication-run.ts'
import { changeGoods, contentOf, makeGoods, type Stage, setStage, wanted } from './stage.ts'

const quick = { force: true, wait: 10_000, takeOver: false }

const walks = (['snapshot', 'table'] as const).flatMap((type) =>
  (['keep', 'drop'] as const).map((mode) => ({ type, mode })),
)

/** Points, and whether the destination has been changed by then. */
const deaths = [
  { point: 'refresh-after-run-recorded', removed: false },
  { point: 'remove-after-mark', removed: false },
  { point: 'remove-after-claim', removed: false },
  { point: 'remove-after-destination', removed: true },
  { point: 'remove-after-control', removed: true },
  { point: 'refresh-before-outcome', removed: true },
  { point: 'refresh-after-outcome', removed: true },
] as const

describe.each(walks)('removal of a $type, $mode', ({ type, mode }) => {
  let stage: Stage
  let objects: string[]

  beforeAll(async () => {
    stage = await setStage(`remove ${type} ${mode}`)
    await makeGoods(stage.source)
    objects = await stage.objects()
  })

  test.each(deaths)(
    'killed at $point: rows stay until they are dropped, the next removal ends it',
    async ({ point, removed }) => {
      await addReplicationRun(stage.place(), wanted(type))
      const rows = await stage.content('copies.goods')
      const args = ['replication', 'remove', 'copies.goods', ...(mode === 'drop' ? ['--drop-table', '--yes'] : [])]
      const died = await stage.run(args, { YARDMASTER_CRASH_AT: point })
      expect([died.signal, died.stdout]).toEqual(['SIGKILL', ''])
      expect(await stage.content('copies.goods')).toBe(mode === 'drop' && removed ? 'absent' : rows)
      if (point === 'refresh-after-outcome') expect(await stage.runs()).toMatchObject([{ status: 'OK' }])
      else await stage.workerIsLost()

      const left = await findReplication(stage.control, 'copies.goods')
      if (left?.status === 'removing') {
        await expect(refreshRun(stage.place(), left, quick)).rejects.toMatchObject({ code: 'replication_broken_off' })
      }
      if (left) expect((await removeReplicationRun(stage.place(), left, mode)).status).toBe('OK')
      expect(await listReplications(stage.control)).toEqual([])
      expect(await stage.content('copies.goods')).toBe(mode === 'drop' ? 'absent' : rows)
      if (mode === 'keep') {
        const kept = (await stage.objects()).filter(
          (one) => !objects.includes(one) && !/goods_(pkey|price|name)|not_null/.test(one),
        )
        expect(kept).toEqual(['destination schema copies', 'destination table copies.goods'])
        await stage.destination.query('drop schema copies cascade')
      }
      expect(await stage.objects()).toEqual(objects)
      await stage.nothingRuns()
      await stage.sessionsEnd()
    },
  )
})

test('a removal that fails leaves a replication that goes on, also when it is killed at remove-after-withdrawal', async () => {
  const stage = await setStage('withdrawn removal')
  await makeGoods(stage.source)
  await addReplicationRun(stage.place(), wanted('snapshot'))
  await stage.destination.query('create view public.above as select id from copies.goods')
  const args = ['replication', 'remove', 'copies.goods', '--drop-table', '--yes', '--json']
  const refused = await stage.run(args)
  expect(refused.json().error.code).toBe('dependent_objects')
  expect((await getReplication(stage.control, 'copies.goods')).status).toBe('active')
  const died = await stage.run(args, { YARDMASTER_CRASH_AT: 'remove-after-withdrawal' })
  expect(died.signal).toBe('SIGKILL')
  await stage.workerIsLost()
  await changeGoods(stage.source)
  const replication = await getReplication(stage.control, 'copies.goods')
  expect((await refreshRun(stage.place(), replication, quick)).status).toBe('OK')
  expect(await stage.content('copies.goods')).toBe(await contentOf(stage.source, 'public.goods'))
})

test('a control database that is not the destination’s is refused; resync --take-over, killed at refresh-after-take-over, goes on', async () => {
  const first = await setStage('first control')
  await makeGoods(first.source)
  await addReplicationRun(first.place(), wanted('snapshot'))
  // As after a restore of the control database: it knows the replication, the destination belongs to another one.
  const second = await setStage('second control', { source: first.source, destination: first.destination })
  const job = await addReplication(second.control.session, wanted('snapshot'))
  await setReplicationStatus(
    second.control,
    { ...wanted('snapshot'), jobId: job, id: '', status: 'setting_up', version: 1 },
    'active',
  )

  await changeGoods(first.source)
  const old = await first.content('copies.goods')
  const refused = await second.run(['replication', 'refresh', 'copies.goods', '--json'])
  expect([refused.exitCode, refused.json().error.code]).toEqual([1, 'destination_taken'])
  expect(refused.json().error.message).toContain(first.control.id)
  expect(refused.json().error.message).toContain(second.control.id)
  expect(await first.content('copies.goods')).toBe(old)

  const takeOver = ['replication', 'resync', 'copies.goods', '--take-over', '--json']
  const died = await second.run(takeOver, { YARDMASTER_CRASH_AT: 'refresh-after-take-over' })
  expect(died.signal).toBe('SIGKILL')
  expect(await first.content('copies.goods')).toBe(old)
  await second.workerIsLost()
  const taken = await second.run(takeOver)
  expect([taken.exitCode, taken.json().status]).toEqual([0, 'OK'])
  expect(await first.content('copies.goods')).toBe(await contentOf(first.source, 'public.goods'))

  const late = await first.run(['replication', 'refresh', 'copies.goods', '--force', '--json'])
  expect(late.json().error.code).toBe('destination_taken')
})
