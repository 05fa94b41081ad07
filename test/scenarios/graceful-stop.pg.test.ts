import { beforeEach, expect, test } from 'vitest'
import { addReplicationRun } from '../../src/worker/replication-run.ts'
import { Crew } from './crew.ts'
import { changeGoods, wanted } from './stage.ts'

let crew: Crew

beforeEach(async () => {
  crew = await Crew.muster('graceful stop')
  const { result } = await addReplicationRun(crew.stage.place(), wanted('snapshot'))
  expect(result.failure).toBeUndefined()
  await crew.record.begin()
  await changeGoods(crew.stage.source)
})

test('SIGTERM: what runs ends well, nothing more is claimed, and the exit code says which signal it was', async () => {
  const copying = crew.hold()
  const worker = await crew.worker('h1')
  await crew.queue()
  await copying
  const ending = worker.kill('SIGTERM')
  await worker.waitForOutput(/Waiting for 1 runs? to end/)
  const active = () => crew.stage.controlDatabase.query('select host from yardmaster.active_hosts')
  await expect.poll(active, { timeout: 10_000, interval: 20 }).toEqual([])
  // Another job would be free to run, and a slot is.
  const other = wanted('table', { destination: { schema: 'copies', name: 'other' } })
  const second = await crew.stage.controlDatabase.query(
    `select yardmaster.queue_run(yardmaster.add_replication('table', 'crm', 'public', 'goods', 'dwh', $1, $2), 'setup') as id`,
    [other.destination.schema, other.destination.name],
  )
  crew.release()
  const ended = await ending
  expect([ended.exitCode, ended.signal]).toEqual([143, null])
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  const [waiting] = await crew.stage.controlDatabase.query('select status from yardmaster.runs where id = $1', [
    second[0]?.id,
  ])
  expect(waiting).toEqual({ status: 'WAITING' })
  const [gone] = await crew.stage.controlDatabase.query(
    `select end_reason, running::int from yardmaster.workers where host = 'h1'`,
  )
  expect(gone).toEqual({ end_reason: 'stopped', running: 0 })
  await crew.allIsWell()
})

test('past its grace period a run is broken off and given back; another worker ends it at once', async () => {
  const copying = crew.hold()
  const worker = await crew.worker('h1', { grace: '1 s' })
  await crew.queue()
  await copying
  const effects = await crew.record.effects()
  const ended = await worker.kill('SIGTERM')
  expect(ended.exitCode).toBe(143)
  expect(ended.stderr).toContain('given back')
  const [run] = await crew.stage.controlDatabase.query(`select status, reason from yardmaster.runs where queued`)
  expect(run).toEqual({ status: 'WAITING', reason: 'retry' })
  await crew.stage.nothingRuns()
  crew.release()
  const given = await crew.now()
  await crew.worker('h2')
  await crew.attemptsBecome([
    { number: 1, host: 'h1', status: 'CRITICAL' },
    { number: 2, host: 'h2', status: 'OK' },
  ])
  expect(await crew.takenOverAfter(given)).toBeLessThan(5000)
  expect(await crew.record.effects()).toBe(effects + 1)
  await crew.allIsWell()
})

test('a second SIGTERM ends it at once, and its run is taken over', async () => {
  const copying = crew.hold()
  const worker = await crew.worker('h1')
  await crew.queue()
  await copying
  await crew.worker('h2')
  const ending = worker.kill('SIGTERM')
  await worker.waitForOutput(/again to stop at once/)
  const stopped = await crew.now()
  // Two within half a second count as one: it is sent until it counts.
  const again = setInterval(() => process.kill(worker.pid, 'SIGTERM'), 200)
  expect((await ending.finally(() => clearInterval(again))).exitCode).toBe(143)
  crew.release()
  await crew.attemptsBecome([
    { number: 1, host: 'h1', status: 'CRITICAL' },
    { number: 2, host: 'h2', status: 'OK' },
  ])
  expect(await crew.takenOverAfter(stopped)).toBeLessThan(5000)
  await crew.allIsWell()
})
