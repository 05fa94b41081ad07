/**
 * Claims where placement decides: 1,000 sites × 20 hosts, all bound, all hosts active, and runs that wait which the claiming
 * hosts may not take. graphile-worker does its part, a forbidden flag a site, on the same server in the same run.
 *
 *   npm run bench:placement -- [--sites 1000] [--open 50] [--waiting 100000] [--jobs 20000] [--seconds 4] [--connections 1,4] [--batches 1,4,20]
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import { BenchSite } from './bench-site.ts'
import { addIdleReplications, claimThroughput, giveLanes, reportClaims } from './claims.ts'
import { graphileFlagged, graphileThroughput, type Throughput } from './job-queues.ts'

const { values } = parseArgs({
  options: {
    sites: { type: 'string', default: '1000' },
    open: { type: 'string', default: '50' },
    waiting: { type: 'string', default: '100000' },
    jobs: { type: 'string', default: '20000' },
    seconds: { type: 'string', default: '4' },
    connections: { type: 'string', default: '1,4' },
    batches: { type: 'string', default: '1,4,20' },
  },
})
const [sites, open, waiting, jobs, seconds] = [
  values.sites,
  values.open,
  values.waiting,
  values.jobs,
  values.seconds,
].map(Number) as [number, number, number, number, number]
const hosts = 20
const site = new BenchSite()

/** Every pair of site and host is bound. The first `open` sites prefer every other host; all others are forbidden on h0 to h3, which claim. */
async function bind(control: Session): Promise<void> {
  await control.query(sql`
    insert into yardmaster.site (name) select 's' || n from generate_series(1, ${sites}::int) n on conflict do nothing`)
  await control.query(sql`
    insert into yardmaster.binding (site, host, binding)
    select 's' || n, 'h' || h, case when n <= ${open}::int then case h % 2 when 0 then 'prefer' else 'allow' end
      when h < 4 then 'forbid' when h % 3 = 0 then 'prefer' else 'allow' end
    from generate_series(1, ${sites}::int) n, generate_series(0, ${hosts - 1}::int) h`)
  for (let host = 0; host < hosts; host += 1) {
    const session = await site.session(url)
    await session.query(sql`select yardmaster.register_worker(${`h${host}`}, ${`h${host}`}, 4)`)
  }
}

/** Sites in turn; what is forbidden has waited for longer than all that is not. */
async function fill(control: Session): Promise<void> {
  await addIdleReplications(control, waiting + jobs, null)
  await control.query(sql`
    update yardmaster.job j set site = case when n.place <= ${waiting}::int
      then 's' || (${open}::int + 1 + n.place % (${sites}::int - ${open}::int)) else 's' || (1 + n.place % ${open}::int) end
    from (select id, row_number() over (order by id)::int as place from yardmaster.job) n where n.id = j.id`)
  await giveLanes(control)
  await control.script('vacuum analyze')
}

/** Tops up the runs that wait to one for each job. */
async function queueAll(control: Session): Promise<void> {
  await control.query(sql`
    insert into yardmaster.run (job_id, slot, database_id, operation, object, site, status, queued, requested)
    select j.id, clock_timestamp() - case when j.site in (select 's' || n from generate_series(1, ${open}::int) n)
      then interval '0' else interval '1 hour' end, 1, 'refresh', 'copy', j.site, 'WAITING', true, false
    from yardmaster.job j
    where not exists (select 1 from yardmaster.run r where r.job_id = j.id and r.status in ('WAITING', 'RUNNING'))`)
  await control.script('vacuum analyze yardmaster.run')
  await control.script('analyze yardmaster.job, yardmaster.attempt, yardmaster.binding')
}

let url = ''

async function main(): Promise<void> {
  console.log(`PostgreSQL 18 (embedded, fsync on), Node ${process.versions.node}, ${cpus().length} cores`)
  const server = await site.server('placement')
  url = await site.database(server, 'control')
  await site.command(url, 'database add any "$DB"', { DB: url })
  const control = await site.session(url)
  await bind(control)
  await fill(control)
  const results: Throughput[] = []
  const note = (one: Throughput) => {
    results.push(one)
    console.error(`${one.name}: ${(one.jobs / one.seconds).toFixed(0)} a second`)
  }
  for (const connections of values.connections.split(',').map(Number)) {
    for (const batch of values.batches.split(',').map(Number)) {
      await queueAll(control)
      // Even hosts: the ones that the open sites prefer.
      note(await claimThroughput(site, url, connections, batch, seconds, (index) => `h${(index * 2) % 4}`))
    }
  }
  const peer = await site.database(server, 'graphile')
  const flags = Array.from({ length: sites }, (_, n) => `s${n}`)
  const forbidding = (concurrency: number) =>
    graphileThroughput(site, peer, jobs, concurrency, seconds, { forbiddenFlags: flags })
  const free = await forbidding(10)
  await graphileFlagged(site, peer, waiting, flags)
  for (const concurrency of [10, 24]) note(await forbidding(concurrency))
  note({ ...free, name: `${free.name}, where none of theirs waits` })
  reportClaims(`claimed and ended, ${sites} sites × ${hosts} hosts, ${waiting} wait that may not be taken`, results)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void site.end().then(() => process.exit(130)))
try {
  await main()
} finally {
  await site.end()
}
