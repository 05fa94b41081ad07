import { setTimeout as delay } from 'node:timers/promises'
import { Logger, makeWorkerUtils, type Runner, run, type WorkerUtils } from 'graphile-worker'
import { PgBoss } from 'pg-boss'
import { sql } from '../src/postgres/sql.ts'
import type { BenchSite } from './bench-site.ts'

/** What a job queue did: jobs in so many seconds. */
export interface Throughput {
  readonly name: string
  readonly jobs: number
  readonly seconds: number
  /** CPU seconds of whoever took the jobs, where it was measured. */
  readonly cpu?: number
}

const quiet = new Logger(() => () => undefined)

/** graphile-worker: jobs that do nothing, or make a call, of a queue as long as ours, for some seconds. */
export async function graphileThroughput(
  site: BenchSite,
  url: string,
  waiting: number,
  concurrency: number,
  seconds: number,
  { forbiddenFlags = [], call = async () => undefined }: { forbiddenFlags?: string[]; call?: () => Promise<void> } = {},
): Promise<Throughput> {
  const session = await site.session(url)
  const utils = await makeWorkerUtils({ connectionString: url, logger: quiet })
  await utils.migrate()
  await utils.release()
  // All at once: one by one it takes a minute.
  await session.script(`
    select count(*) from graphile_worker.add_jobs(array(
      select row('nothing', '{}'::json, null, null, null, null, null, null)::graphile_worker.job_spec
      from generate_series(1, ${waiting} - (select count(*)::int from graphile_worker._private_jobs where flags is null))));
    analyze`)
  let jobs = 0
  const nothing = async () => {
    await call()
    jobs += 1
  }
  const options = {
    connectionString: url,
    concurrency,
    maxPoolSize: concurrency + 2,
    logger: quiet,
    noHandleSignals: true,
    forbiddenFlags,
  }
  const runner = await run({ ...options, taskList: { nothing } })
  const counted = await count(() => jobs, seconds)
  await runner.stop()
  const forbidden = forbiddenFlags.length > 0 ? `, ${forbiddenFlags.length} forbidden flags` : ''
  return { name: `graphile-worker, concurrency ${concurrency}${forbidden}`, ...counted }
}

/** Jobs of graphile-worker that no worker takes that is forbidden these flags, older than all others. */
export async function graphileFlagged(
  site: BenchSite,
  url: string,
  waiting: number,
  flags: readonly string[],
): Promise<void> {
  const session = await site.session(url)
  const utils = await makeWorkerUtils({ connectionString: url, logger: quiet })
  await utils.migrate()
  await utils.release()
  await session.query(sql`
    select count(*) from graphile_worker.add_jobs(array(
      select row('nothing', '{}'::json, null, now() - interval '1 hour', null, null, null,
        array[(${[...flags]}::text[])[1 + n % ${flags.length}::int]])::graphile_worker.job_spec
      from generate_series(1, ${waiting}::int) n))`)
  await session.end()
}

/** pg-boss: fetch and complete from several loops, for some seconds. */
export async function bossThroughput(
  site: BenchSite,
  url: string,
  waiting: number,
  loops: number,
  batch: number,
  seconds: number,
): Promise<Throughput> {
  const boss = new PgBoss({ connectionString: url, max: loops + 2, supervise: false, schedule: false })
  boss.on('error', (error: unknown) => console.error(error))
  await boss.start()
  const queue = `nothing-${loops}-${batch}`
  await boss.createQueue(queue)
  for (let made = 0; made < waiting; made += 10_000) {
    await boss.insert(
      queue,
      Array.from({ length: Math.min(10_000, waiting - made) }, () => ({ data: {} })),
    )
  }
  const session = await site.session(url)
  await session.script('analyze')
  let jobs = 0
  let over = false
  const loop = async () => {
    while (!over) {
      const fetched = await boss.fetch(queue, { batchSize: batch })
      if (fetched.length === 0) return
      await boss.complete(
        queue,
        fetched.map((job) => job.id),
      )
      jobs += fetched.length
    }
  }
  const running = Array.from({ length: loops }, loop)
  const counted = await count(() => jobs, seconds)
  over = true
  await Promise.all(running)
  await boss.deleteQueue(queue)
  await boss.stop({ graceful: false })
  return { name: `pg-boss, ${loops} connections, ${batch} at once`, ...counted }
}

/** pg-boss: jobs that make a call, from `loops` loops of one job each; the jobs that ended are kept. */
export async function bossCalls(
  url: string,
  waiting: number,
  loops: number,
  seconds: number,
  call: () => Promise<void>,
): Promise<Throughput> {
  const boss = new PgBoss({ connectionString: url, max: loops + 2, supervise: false, schedule: false })
  boss.on('error', (error: unknown) => console.error(error))
  await boss.start()
  await boss.createQueue('calls')
  for (let made = 0; made < waiting; made += 10_000)
    await boss.insert(
      'calls',
      Array.from({ length: Math.min(10_000, waiting - made) }, () => ({ data: {} })),
    )
  let jobs = 0
  let over = false
  const loop = async () => {
    while (!over) {
      const [job] = await boss.fetch('calls')
      if (!job) return
      await call()
      await boss.complete('calls', job.id)
      jobs += 1
    }
  }
  const running = Array.from({ length: loops }, loop)
  const counted = await count(() => jobs, seconds)
  over = true
  await Promise.all(running)
  await boss.stop({ graceful: false })
  return { name: `pg-boss, ${loops} loops one by one`, ...counted }
}

/** The first half second warms up and is not counted. */
async function count(jobs: () => number, seconds: number): Promise<{ jobs: number; seconds: number; cpu: number }> {
  await delay(500)
  const [before, started, cpu] = [jobs(), performance.now(), process.cpuUsage()]
  await delay(seconds * 1000)
  const { user, system } = process.cpuUsage(cpu)
  return { jobs: jobs() - before, seconds: (performance.now() - started) / 1000, cpu: (user + system) / 1e6 }
}

/** An idle queue that is given one job at a time. Milliseconds from before the call until the job's function is called. */
export interface PickupPeer {
  readonly name: string
  once(): Promise<number>
  stop(): Promise<void>
}

export async function graphilePickup(url: string): Promise<PickupPeer> {
  const utils: WorkerUtils = await makeWorkerUtils({ connectionString: url, logger: quiet })
  await utils.migrate()
  let started = Promise.withResolvers<number>()
  const taskList = { pickup: async () => started.resolve(performance.now()) }
  const runner: Runner = await run({
    connectionString: url,
    concurrency: 4,
    logger: quiet,
    noHandleSignals: true,
    taskList,
  })
  return {
    name: 'graphile-worker, add → start',
    once: async () => {
      started = Promise.withResolvers<number>()
      const before = performance.now()
      await utils.addJob('pickup', {})
      return (await started.promise) - before
    },
    stop: async () => {
      await runner.stop()
      await utils.release()
    },
  }
}

export async function bossPickup(url: string): Promise<PickupPeer> {
  const boss = new PgBoss({ connectionString: url, useListenNotify: true, supervise: false, schedule: false })
  boss.on('error', (error: unknown) => console.error(error))
  await boss.start()
  await boss.createQueue('pickup', { notify: true })
  let started = Promise.withResolvers<number>()
  await boss.work('pickup', async () => started.resolve(performance.now()))
  return {
    name: 'pg-boss with NOTIFY, send → start',
    once: async () => {
      started = Promise.withResolvers<number>()
      const before = performance.now()
      await boss.send('pickup', {})
      return (await started.promise) - before
    },
    stop: () => boss.stop({ graceful: false }),
  }
}
