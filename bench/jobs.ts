/**
 * Jobs that call a procedure in a database: how late they start, how many a second with their whole history. graphile-worker
 * and pg-boss call the same procedure on the same server in the same run, pg_cron one on Debian's PostgreSQL 15 where it is installed.
 *
 *   npm run bench:jobs -- [--parts pickup,throughput,cron] [--samples 200] [--seconds 8] [--cron-minutes 3] [--json FILE]
 *
 * The servers are in a temporary folder, with fsync on.
 */
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import type { EmbeddedServer } from '../src/embedded/embedded-server.ts'
import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import { BenchSite, processCpu, quantile, serverCpu } from './bench-site.ts'
import { hasPgCron, startDebianServer } from './debian-server.ts'
import { bossCalls, graphileThroughput, type Throughput } from './job-queues.ts'

const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: 'pickup,throughput,cron' },
    samples: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '8' },
    'cron-minutes': { type: 'string', default: '3' },
    json: { type: 'string' },
  },
})
const parts = values.parts.split(',')
const [samples, seconds] = [Number(values.samples), Number(values.seconds)]
const site = new BenchSite()

/** What every engine calls: it writes when it began, or nothing at all. */
const procedures = `
  create table begun (job int, at timestamptz);
  create procedure note(job_id int, config jsonb) language sql as 'insert into begun values (job_id, clock_timestamp())';
  create procedure nothing(job_id int, config jsonb) language plpgsql as 'begin end'`

interface Lateness {
  readonly name: string
  readonly samples: number
  readonly p50: number
  readonly p99: number
  readonly worst: number
}

async function main(): Promise<void> {
  console.log(`PostgreSQL 18 (embedded, fsync on), Node ${process.versions.node}, ${cpus().length} cores`)
  const results: Record<string, unknown> = { node: process.versions.node, cores: cpus().length }
  if (parts.includes('pickup')) results.pickup = reportLateness(await pickup())
  if (parts.includes('throughput')) results.throughput = reportThroughput(await throughput())
  if (parts.includes('cron')) results.cron = await cron()
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
}

interface Place {
  readonly server: EmbeddedServer
  readonly controlUrl: string
  readonly control: Session
  readonly targetUrl: string
  readonly target: Session
}

async function place(name: string): Promise<Place> {
  const server = await site.server(name)
  const controlUrl = await site.database(server, 'control')
  const targetUrl = await site.database(server, 'target')
  const target = await site.session(targetUrl)
  await target.script(`set search_path = public; ${procedures}`)
  await site.command(controlUrl, 'database add target "$DB"', { DB: targetUrl })
  return { server, controlUrl, control: await site.session(controlUrl), targetUrl, target }
}

async function addJob({ control }: Place, definition: Record<string, unknown>): Promise<number> {
  const whole = { database: 'target', verified: true, ...definition }
  const row = await control.one<{ id: number }>(
    sql`select yardmaster.define_job(${JSON.stringify(whole)}::jsonb) as id`,
  )
  return row.id
}

/** Schedules of a second, their slots spread over it: from when each was due until its procedure's first statement. */
async function pickup(): Promise<Lateness[]> {
  const here = await place('pickup')
  const worker = await site.worker(here.controlUrl, 'bench', 8)
  const jobs = 8
  for (let job = 0; job < jobs; job += 1) {
    const start = new Date(Date.now() + 1000 + (job * 1000) / jobs).toISOString()
    await addJob(here, { proc: 'public.note', schedule_interval: '1 second', initial_start: start })
  }
  await delay((2 + samples / jobs) * 1000)
  await worker.stop()
  const claimed = await here.control.query<{ late: number }>(sql`
    select extract(epoch from a.started_at - r.slot)::float8 * 1000 as late
    from yardmaster.run r join yardmaster.attempt a on a.run_id = r.id where r.status = 'OK' order by r.id offset ${jobs}`)
  const slots = await here.control.query<{ job_id: number; slot: Date }>(
    sql`select job_id, slot from yardmaster.run where status = 'OK' order by job_id, slot`,
  )
  const begun = await here.target.query<{ job: number; at: number }>(
    sql`select job, extract(epoch from at)::float8 * 1000 as at from public.begun order by job, at`,
  )
  // The first of each job makes connections and plans.
  const first = new Set<number>()
  const late = slots.flatMap(({ job_id, slot }, index) => {
    const isFirst = !first.has(job_id)
    first.add(job_id)
    return isFirst ? [] : [(begun[index]?.at ?? Number.NaN) - slot.getTime()]
  })
  await here.server.stop()
  return [
    lateness(
      'slot of a schedule → claimed',
      claimed.map((row) => row.late),
    ),
    lateness('slot of a schedule → first statement of the procedure', late),
  ]
}

function lateness(name: string, times: readonly number[]): Lateness {
  return {
    name,
    samples: times.length,
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    worst: Math.max(...times),
  }
}

/** Runs that wait, of 200 jobs that may run beside themselves; one worker, then two, with 20 slots each. */
interface Calls extends Throughput {
  /** CPU seconds of the server meanwhile. */
  readonly server: number
}

async function throughput(): Promise<Calls[]> {
  const here = await place('throughput')
  const results: Calls[] = []
  const note = (one: Calls) => {
    results.push(one)
    console.error(`${one.name}: ${(one.jobs / one.seconds).toFixed(0)} a second`)
  }
  const [waiting, jobs] = [4000 * seconds, 200]
  for (let job = 0; job < jobs; job += 1)
    await addJob(here, { proc: 'public.nothing', overlap: 'allow', scheduled: false })
  await here.control.query(sql`
    insert into yardmaster.run (job_id, slot, due_at, lane, database_id, operation, object, status, queued, requested, shares)
    select s.job_id, clock_timestamp() + n * interval '1 microsecond', clock_timestamp(), s.lane, s.database_id, 'call', 'nothing', 'WAITING', true, true, true
    from generate_series(1, ${Math.ceil(waiting / jobs)}::int) n, yardmaster.job_state s`)
  await here.control.script('analyze')
  for (const count of [1, 2]) {
    const workers = await Promise.all(
      Array.from({ length: count }, (_, index) => site.worker(here.controlUrl, `w${count}${index}`, 20)),
    )
    await delay(1500)
    const ended = async () =>
      Number(
        (
          await here.control.one<{ ended: string }>(
            sql`select count(*) as ended from yardmaster.run where status = 'OK'`,
          )
        ).ended,
      )
    const workersCpu = () => workers.reduce((sum, worker) => sum + processCpu(worker.pid), 0)
    const [before, started, cpu, serversBefore] = [
      await ended(),
      performance.now(),
      workersCpu(),
      serverCpu(here.server.pid),
    ]
    await delay(seconds * 1000)
    const done = (await ended()) - before
    const took = (performance.now() - started) / 1000
    const spent = { cpu: workersCpu() - cpu, server: serverCpu(here.server.pid) - serversBefore }
    for (const worker of workers) await worker.stop()
    note({
      ...spent,
      name: `yardmaster, ${count} ${count === 1 ? 'worker' : 'workers'} of 20 slots`,
      jobs: done,
      seconds: took,
    })
  }
  const pool = new pg.Pool({ connectionString: here.targetUrl, max: 20 })
  const call = async () => {
    await pool.query('call public.nothing($1, $2)', [1, null])
  }
  const peer = async (run: () => Promise<Throughput>) => {
    const before = serverCpu(here.server.pid)
    const one = await run()
    // Its set-up and warm-up are in it.
    note({ ...one, server: serverCpu(here.server.pid) - before })
  }
  const [graphile, boss] = [await site.database(here.server, 'graphile'), await site.database(here.server, 'boss')]
  await peer(() => graphileThroughput(site, graphile, waiting, 20, seconds, { call }))
  await peer(() => bossCalls(boss, waiting, 20, seconds, call))
  await pool.end()
  await here.server.stop()
  return results
}

/** Minutes of a cron schedule: how late the first statement is, of ours and of pg_cron's, on one server. */
async function cron(): Promise<Lateness[]> {
  if (!hasPgCron()) {
    console.log('\npg_cron is not installed (Debian: postgresql-15-cron); left out')
    return []
  }
  const minutes = Number(values['cron-minutes'])
  const urlOf = await startDebianServer(site, {
    shared_preload_libraries: 'pg_cron',
    'cron.database_name': 'cron',
    'cron.use_background_workers': 'on',
  })
  const admin = await site.session(urlOf('postgres'))
  for (const name of ['control', 'target', 'cron']) await admin.script(`create database ${name}`)
  const peer = await site.session(urlOf('cron'))
  await peer.script(`set search_path = public; create extension pg_cron; ${procedures}`)
  const target = await site.session(urlOf('target'))
  await target.script(`set search_path = public; ${procedures}`)
  await site.command(urlOf('control'), 'database add target "$DB"', { DB: urlOf('target') })
  const control = await site.session(urlOf('control'))
  const jobs = 10
  for (let job = 0; job < jobs; job += 1) {
    await peer.query(sql`select cron.schedule(${`j${job}`}, '* * * * *', 'call public.note(1, null)')`)
    const definition = { proc: 'public.note', cron: '* * * * *', database: 'target', verified: true }
    await control.query(sql`select yardmaster.define_job(${JSON.stringify(definition)}::jsonb)`)
  }
  const worker = await site.worker(urlOf('control'), 'bench', 20)
  await delay(minutes * 60_000)
  await worker.stop()
  const late = (session: Session) =>
    session.query<{ late: number }>(
      sql`select extract(epoch from at - date_trunc('minute', at))::float8 * 1000 as late from public.begun`,
    )
  const results = [
    lateness(
      'yardmaster, * * * * *, 10 jobs in one second',
      (await late(target)).map((row) => row.late),
    ),
    lateness(
      'pg_cron, the same',
      (await late(peer)).map((row) => row.late),
    ),
  ]
  return reportLateness(results)
}

function reportLateness(results: Lateness[]): Lateness[] {
  console.log(`\n${'how late'.padEnd(60)} samples   p50 ms   p99 ms   worst`)
  for (const { name, samples: count, p50, p99, worst } of results)
    console.log(
      `${name.padEnd(60)} ${String(count).padStart(7)} ${p50.toFixed(1).padStart(8)} ${p99.toFixed(1).padStart(8)} ${worst.toFixed(0).padStart(7)}`,
    )
  return results
}

function reportThroughput(results: Calls[]): Calls[] {
  console.log(
    '\ncalls of a procedure that does nothing, with their history'.padEnd(70),
    'per s  CPU ms each: engine  server',
  )
  for (const { name, jobs, seconds: over, cpu = Number.NaN, server } of results)
    console.log(
      `${name.padEnd(68)} ${(jobs / over).toFixed(0).padStart(6)} ${((cpu / jobs) * 1000).toFixed(2).padStart(20)} ${((server / jobs) * 1000).toFixed(2).padStart(7)}`,
    )
  return results
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void site.end().then(() => process.exit(130)))
try {
  await main()
} finally {
  await site.end()
}
