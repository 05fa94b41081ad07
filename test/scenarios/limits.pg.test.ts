import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Claimant, ClaimDesk, type Claimed, claim, finish } from './claim-desk.ts'
import { LimitsRecord, type Sharing } from './limits-record.ts'
import { Random } from './random.ts'

/** A way to hold back what runs at once: how it is set, and whose runs it is about. */
interface Limit {
  readonly name: string
  readonly set: (slots: number) => string
  readonly sharing: Sharing
}

const limits: Limit[] = [
  { name: 'a pool', set: (n) => `select yardmaster.set_limit('etl', ${n})`, sharing: `j.pool = 'etl'` },
  { name: 'a site', set: (n) => `select yardmaster.set_limit('site:QA', ${n})`, sharing: `r.site = 'QA'` },
  { name: 'a database', set: (n) => `select yardmaster.set_limit('database:crm', ${n})`, sharing: 'true' },
  { name: 'a host', set: (n) => `select yardmaster.set_host('h', '{"slots": ${n}}')`, sharing: `a.host = 'h'` },
  {
    name: 'a site on a host',
    set: (n) => `select yardmaster.set_host('h', '{"site_slots": {"QA": ${n}}}')`,
    sharing: `a.host = 'h' and r.site = 'QA'`,
  },
]
const [claimers, runs] = [50, 60]

let desk: ClaimDesk
let record: LimitsRecord
let workers: Claimant[]
/** Half of the jobs are of site QA and pool etl. */
let jobs: number[]
let ended: number

async function openDesk(): Promise<void> {
  desk = await ClaimDesk.open('limits')
  jobs = await desk.jobs(runs, 'limited')
  await desk.database.query(
    `select yardmaster.alter_replication(id, '{"site": "QA", "pool": "etl"}') from unnest($1::int[]) id where id % 2 = 0`,
    [jobs],
  )
}

beforeAll(openDesk)

beforeEach(async () => {
  record = await LimitsRecord.begin(desk.database)
  ended = 0
  workers = []
})

afterEach(async () => {
  await desk.database.query('delete from yardmaster.concurrency_limit')
  await desk.database.query('delete from yardmaster.host')
  await desk.database.query('select yardmaster.end_worker(id) from yardmaster.worker')
  for (const { client } of workers) await client.end()
})

/** One run of each job waits. */
async function queueAll(): Promise<void> {
  await desk.database.query('select yardmaster.queue_run(id) from unnest($1::int[]) id', [jobs])
}

async function hire(count: number): Promise<Claimant[]> {
  workers = await Promise.all(Array.from({ length: count }, (_, n) => desk.worker(`w${n}`, 9, 'h')))
  return workers
}

/** Resolves once a hint came, or a tenth of a second has passed. */
function hinted({ client }: Claimant): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer)
      client.off('notification', wake)
      resolve()
    }
    const timer = setTimeout(wake, 100)
    client.on('notification', wake)
  })
}

/** Claims and ends runs until all have ended. What it was given first it keeps until `everybody` has claimed once. */
async function work(worker: Claimant, first: Claimed[], everybody: Promise<unknown>): Promise<void> {
  await everybody
  const deadline = Date.now() + 30_000
  for (let given = first; ended < runs; given = await claim(worker, 2)) {
    if (given.length === 0) await hinted(worker)
    for (const { token } of given) if (await finish(worker, token)) ended += 1
    if (Date.now() > deadline) throw new Error(`${ended} of ${runs} runs have ended within 30 s`)
  }
}

/** All work at once, until everything has ended. `behindFirst`: what is done when everybody has claimed once, and nobody ended anything. */
async function workAll(behindFirst = async () => {}): Promise<void> {
  const begun = performance.now()
  for (const { client } of workers) await client.query('listen yardmaster_work')
  const first = workers.map((worker) => claim(worker, 2))
  const everybody = Promise.all(first).then(behindFirst)
  await Promise.all(workers.map(async (worker, n) => work(worker, (await first[n]) ?? [], everybody)))
  console.log(`${runs} runs by ${workers.length} claimers in ${Math.round(performance.now() - begun)} ms`)
}

async function allEnded(): Promise<void> {
  const left = await desk.database.query(
    `select status, reason, count(*)::int from yardmaster.run where status <> 'OK' group by status, reason`,
  )
  expect(left).toEqual([])
  await desk.rulesHold()
}

test.each(limits)(
  `a limit of 3 of $name, ${claimers} claimers: never more at once by the runs' own records, and all end`,
  async ({ set, sharing }) => {
    await desk.database.query(set(3))
    await hire(claimers)
    await queueAll()
    await workAll()
    await record.isFullAndNoMore(3, sharing)
    await allEnded()
  },
)

test('all limits at once, changed all the time, and workers that are lost: none is passed, nobody waits for ever', async () => {
  const random = new Random(4)
  for (const { set } of limits) await desk.database.query(set(3))
  await desk.database.query(`select yardmaster.set_limit('idle', 1)`)
  await hire(claimers)
  let takenOver = 0
  // Whoever is lost may come back before anybody takes its run: then once more.
  for (let round = 1; takenOver === 0 && round <= 5; round += 1) {
    ended = 0
    await queueAll()
    await Promise.all([workAll(loseOne), changeLimits(random), loseWorkers()])
    for (const { sharing } of limits) expect(await record.crowds(sharing, 3)).toEqual([])
    await allEnded()
    takenOver = (await desk.database.query('select id from yardmaster.attempt where number > 1')).length
  }
  console.log(`${takenOver} runs were taken over`)
  expect(takenOver).toBeGreaterThan(0)
})

/** Until all runs have ended. */
async function changeLimits(random: Random): Promise<void> {
  const client = await desk.database.client()
  let rounds = 0
  for (; ended < runs; rounds += 1) {
    const changes = [
      ...[1, 2, 3].map((n) => random.pick(limits).set(n)),
      `select yardmaster.remove_limit('idle')`,
      `select yardmaster.drain_host('h')`,
      `select yardmaster.set_binding('QA', 'h', 'prefer')`,
      `select yardmaster.set_binding('QA', 'h', null)`,
    ]
    for (const change of random.shuffled(changes)) await client.query(change)
    await client.query(`select yardmaster.set_limit('idle', 1), yardmaster.undrain_host('h')`)
  }
  console.log(`limits were changed in ${rounds} rounds`)
  await client.end()
}

/** As if the session of one that carries out a run had been missing for longer than it gets to come back: it goes back to the queue. */
async function loseOne(): Promise<void> {
  await desk.database.query(
    `update yardmaster.worker set session_pid = 0, missing_since = clock_timestamp() - interval '1 minute'
     where id = (select worker_id from yardmaster.attempt where status = 'RUNNING' order by id desc limit 1)`,
  )
  await desk.database.query('select yardmaster.release_lost_workers()')
}

/** Until all runs have ended; all that are lost come back. */
async function loseWorkers(): Promise<void> {
  while (ended < runs) {
    await loseOne()
    // The time between two losses is part of the scenario: else nobody would end anything.
    await desk.database.query('select pg_sleep(0.1)')
    await desk.database.query('select yardmaster.beat_worker(id) from yardmaster.worker where slots > 0')
  }
}

describe('two claims at once, each of other jobs', () => {
  let one: Claimant
  let two: Claimant
  let halves: [number[], number[]]

  beforeEach(async () => {
    ;[one, two] = (await hire(2)) as [Claimant, Claimant]
    const limited = jobs.filter((id) => id % 2 === 0)
    halves = [limited.slice(0, 9), limited.slice(9)]
    await queueAll()
  })

  afterEach(async () => {
    await openDesk()
  })

  test.each(limits)(
    'a limit of $name: the second counts what the first has taken, once that is known',
    async ({ set }) => {
      await desk.database.query(set(3))
      await one.client.query('begin')
      expect(await claim(one, 9, halves[0])).toHaveLength(3)
      const second = claim(two, 9, halves[1])
      await somebodyWaits()
      await one.client.query('commit')
      expect(await second).toEqual([])
    },
  )

  test('without the lock on what is counted, they pass every limit', async () => {
    await desk.database.query(
      'create or replace function yardmaster.lock_limits(host text) returns boolean language sql as $$ select true $$',
    )
    for (const { set, sharing } of limits) {
      await desk.database.query(set(3))
      await one.client.query('begin')
      const given: Claimed[] = await claim(one, 9, halves[0])
      expect(await claim(two, 9, halves[1])).toHaveLength(3)
      await one.client.query('commit')
      expect(given).toHaveLength(3)
      expect(await record.crowds(sharing, 3)).not.toEqual([])
      await desk.database.query(`select yardmaster.give_up_attempts(array[${one.id}, ${two.id}])`)
      await desk.database.query('delete from yardmaster.concurrency_limit')
      await desk.database.query('delete from yardmaster.host')
    }
  })
})

async function somebodyWaits(): Promise<void> {
  const waiting = () =>
    desk.database.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
  await expect.poll(waiting, { timeout: 10_000, interval: 5 }).not.toEqual([])
}
