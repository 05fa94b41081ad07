import { beforeEach, describe, expect, test } from 'vitest'
import { addReplicationRun } from '../../src/worker/replication-run.ts'
import { startProxy } from '../support/proxy.ts'
import { Crew } from './crew.ts'
import { changeGoods, wanted } from './stage.ts'

let crew: Crew

beforeEach(async () => {
  crew = await Crew.muster('take-over')
  const { result } = await addReplicationRun(crew.stage.place(), wanted('snapshot'))
  expect(result.failure).toBeUndefined()
  await crew.record.begin()
  await changeGoods(crew.stage.source)
})

/** Everything that the destination and the record hold, but for the beats. */
async function everything(): Promise<unknown> {
  const { stage, record } = crew
  return {
    content: await stage.content('copies.goods'),
    objects: await stage.objects(),
    position: await stage.destination.query('select token, read_number, state from yardmaster.position'),
    entries: await record.entries(),
    runs: await stage.controlDatabase.query(
      'select id, status, reason, message, rows, host, attempt from yardmaster.runs',
    ),
    attempts: await stage.controlDatabase.query('select id, status, finished_at from yardmaster.attempt order by id'),
    steps: await stage.controlDatabase.query(
      'select run_id, attempt, ordinal, action, status, message from yardmaster.steps order by attempt_id, ordinal',
    ),
  }
}

const takenOver = [
  { number: 1, host: 'h1', status: 'CRITICAL' },
  { number: 2, host: 'h2', status: 'OK' },
]

test('kill -9 in the middle of a load: another worker goes on within 5 s, and the effect is there once', async () => {
  const copying = crew.hold()
  const first = await crew.worker('h1')
  await crew.queue()
  await copying
  await crew.worker('h2')
  const effects = await crew.record.effects()
  const killed = await crew.now()
  await first.kill('SIGKILL')
  crew.release()
  await crew.attemptsBecome(takenOver)
  expect(await crew.takenOverAfter(killed)).toBeLessThan(5000)
  expect(await crew.record.effects()).toBe(effects + 1)
  const steps = await crew.stage.controlDatabase.query(
    `select status, message from yardmaster.steps where attempt = 1 and status <> 'OK' and action = 'load'`,
  )
  expect(steps).toEqual([{ status: 'CRITICAL', message: expect.stringContaining('The worker vanished') }])
  await crew.allIsWell()
})

describe('a worker that does not answer, and lives', () => {
  test('SIGSTOP: another one ends what it left and goes on within 30 s; awake again it changes nothing', async () => {
    const copying = crew.hold()
    const first = await crew.worker('h1')
    await crew.queue()
    await copying
    await crew.worker('h2')
    const effects = await crew.record.effects()
    const stopped = await crew.now()
    process.kill(first.pid, 'SIGSTOP')
    crew.release()
    await crew.attemptsBecome(takenOver, 60_000)
    expect(await crew.takenOverAfter(stopped)).toBeLessThan(30_000)
    await crew.allIsWell()
    const before = await everything()

    process.kill(first.pid, 'SIGCONT')
    await first.waitForOutput(/run \d+ \w+ in .*another attempt took its place/)
    expect(await everything()).toEqual(before)
    expect(await crew.record.effects()).toBe(effects + 1)

    // It works on.
    const busy = await crew.stage.controlDatabase.query(
      `select host, alive, running::int from yardmaster.workers where slots > 0 order by host`,
    )
    expect(busy).toEqual([
      { host: 'h1', alive: true, running: 0 },
      { host: 'h2', alive: true, running: 0 },
    ])
  })

  test('its connection to the control database half open: the same', async () => {
    const control = await startProxy(crew.stage.controlDatabase.url)
    const copying = crew.hold()
    const first = await crew.worker('h1', { control: control.url })
    await crew.queue()
    await copying
    await crew.worker('h2')
    const cutOff = await crew.now()
    control.set('both', { kind: 'half-open' })
    await crew.attemptsBecome([{ status: 'CRITICAL' }, { host: 'h2', status: 'RUNNING' }], 60_000)
    crew.release()
    await crew.attemptsBecome(takenOver)
    expect(await crew.takenOverAfter(cutOff)).toBeLessThan(30_000)
    await crew.allIsWell()
    const before = await everything()
    control.set('both', { kind: 'pass' })
    await first.waitForOutput(/run \d+ \w+ in .*another attempt took its place/)
    expect(await everything()).toEqual(before)
  })
})

test('what a living attempt holds is never ended by whoever wants the same', async () => {
  const copying = crew.hold()
  const first = await crew.worker('h1')
  await crew.queue()
  await copying
  const holder = () =>
    crew.stage.destination.query(
      `select p.session_pid, a.backend_start from yardmaster.position p join pg_stat_activity a on a.pid = p.session_pid`,
    )
  const before = await holder()
  expect(before).toHaveLength(1)
  const second = await crew.stage.run(['replication', 'refresh', 'copies.goods', '--wait', '2', '--json'])
  expect(second.json()).toMatchObject({ status: 'WARNING' })
  expect(await holder()).toEqual(before)
  crew.release()
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  await crew.allIsWell()
  expect(first.stderr()).not.toContain('CRITICAL')
})

test('the answer to a claim is lost: what it gave is found again, and carried out once', async () => {
  const control = await startProxy(crew.stage.controlDatabase.url)
  const effects = await crew.record.effects()
  await crew.queue()
  control.when('toServer', 'claim_runs', () => control.set('toClient', { kind: 'cut', afterBytes: 0 }))
  await crew.worker('h1', { control: control.url })
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  expect(await crew.record.effects()).toBe(effects + 1)
  await crew.allIsWell()
})

test('a claim whose answer was lost arrives late, behind the look for what it gave: it is carried out all the same', async () => {
  const effects = await crew.record.effects()
  await crew.worker('h1')
  const late = `select * from yardmaster.claim_runs((select id from yardmaster.worker where host = 'h1'), '{replication}', 1)`
  const client = await crew.stage.controlDatabase.client()
  await client.query('begin')
  await client.query(`select yardmaster.queue_run(job_id, 'refresh', '{"force": true}') from yardmaster.replications`)
  expect((await client.query(late)).rows).toHaveLength(1)
  await client.query('commit')
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  expect(await crew.record.effects()).toBe(effects + 1)
  await crew.allIsWell()
})

test('the control database goes away while a run that was just claimed asks where its databases are: it waits', async () => {
  const control = await startProxy(crew.stage.controlDatabase.url)
  const worker = await crew.worker('h1', { control: control.url })
  control.when('toServer', 'join yardmaster.secret', () => control.set('both', { kind: 'reset' }))
  await crew.queue()
  await worker.waitForOutput(/No work can be taken/)
  control.set('both', { kind: 'pass' })
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  await crew.allIsWell()
})

test('a command that is killed leaves nothing that holds up a worker', async () => {
  const copying = crew.hold()
  const command = crew.stage.start(['replication', 'refresh', 'copies.goods', '--force'])
  await copying
  const stopped = await crew.now()
  process.kill(command.pid, 'SIGKILL')
  crew.release()
  await crew.worker('h1')
  await crew.queue()
  await crew.attemptsBecome([{ number: 1, host: 'h1', status: 'OK' }])
  expect(await crew.takenOverAfter(stopped)).toBeLessThan(10_000)
  await crew.allIsWell()
})
