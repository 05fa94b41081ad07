import { beforeAll, beforeEach, expect, test } from 'vitest'
import { type Claimant, ClaimDesk, claim, finish } from './claim-desk.ts'

// Without these hints a host that alone may take what waits looks for it 5 s later.

let desk: ClaimDesk
let [h1, h2]: (Claimant | undefined)[] = []
let job: number
/** Hints that the worker on h2 has heard. */
let heard: number

beforeAll(async () => {
  desk = await ClaimDesk.open('hints')
  ;[h1, h2] = [await desk.worker('h1', 2), await desk.worker('h2', 2)]
  ;[job = 0] = await desk.jobs(1, 'hinted')
  await desk.database.query('select yardmaster.set_fallback(null, $1)', ['never'])
  await h2.client.query('listen yardmaster_work')
  h2.client.on('notification', () => {
    heard += 1
  })
})

beforeEach(() => {
  heard = 0
})

function both(): [Claimant, Claimant] {
  if (!h1 || !h2) throw new Error('nobody is there')
  return [h1, h2]
}

/** What was sent before has arrived with the answer to this. */
async function hints(): Promise<number> {
  const [, two] = both()
  await two.client.query('select 1')
  return heard
}

test('a run ends: whoever may take the next one of its job is told, and nobody where none waits', async () => {
  const [one] = both()
  await desk.queue(job)
  const [first] = await claim(one, 1)
  await desk.wait(job, '1 second')
  await hints()
  heard = 0
  await finish(one, first?.token ?? '')
  expect(await hints()).toBe(1)
  const [second] = await claim(one, 1)
  heard = 0
  await finish(one, second?.token ?? '')
  expect(await hints()).toBe(0)
})

test('a worker that was lost lives again: it is told to look, and not at every beat', async () => {
  const [one, two] = both()
  await desk.database.query(
    `update yardmaster.worker set session_pid = 0, missing_since = clock_timestamp() - interval '1 minute' where id = $1`,
    [two.id],
  )
  await one.client.query('select yardmaster.release_lost_workers()')
  await hints()
  heard = 0
  await two.client.query('select yardmaster.beat_worker($1)', [two.id])
  expect(await hints()).toBe(1)
  await two.client.query('select yardmaster.beat_worker($1)', [two.id])
  expect(await hints()).toBe(1)
})
