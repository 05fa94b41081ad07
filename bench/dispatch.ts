/**
 * How work gets to workers: pickup of what is due, claims, a refresh that finds nothing to do, and what many idle schedules
 * cost. graphile-worker and pg-boss do their part on the same server in the same run.
 *
 *   npm run bench:dispatch -- [--parts pickup,unchanged,claims,idle] [--jobs 100000] [--samples 200] [--seconds 4]
 *     [--idle-seconds 30] [--json FILE]
 *
 * The servers are embedded ones, with fsync on, in a temporary folder.
 */
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { BenchSite } from './bench-site.ts'
import { addIdleReplications, claimThroughput, queueEverything, reportClaims } from './claims.ts'
import { type IdleSchedules, idleSchedules } from './idle-schedules.ts'
import { bossThroughput, graphileThroughput, type Throughput } from './job-queues.ts'
import { type Latency, peerPickup, queuedPickup, scheduledPickup } from './pickup.ts'
import { makeSmallCopies } from './small-copies.ts'
import { type UnchangedRefresh, unchangedRefreshes } from './unchanged-refresh.ts'

const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: 'pickup,unchanged,claims,idle' },
    jobs: { type: 'string', default: '100000' },
    samples: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '4' },
    'idle-seconds': { type: 'string', default: '30' },
    json: { type: 'string' },
  },
})
const parts = values.parts.split(',')
const [jobs, samples, seconds] = [Number(values.jobs), Number(values.samples), Number(values.seconds)]
const site = new BenchSite()
// Tracks nothing until the statements of a run are counted.
const counting = { shared_preload_libraries: 'pg_stat_statements', 'pg_stat_statements.track': 'none' }

async function main(): Promise<void> {
  console.log(`PostgreSQL 18 (embedded, fsync on), Node ${process.versions.node}, ${cpus().length} cores`)
  const results: Record<string, unknown> = { node: process.versions.node, cores: cpus().length, jobs }
  if (parts.includes('pickup') || parts.includes('unchanged')) Object.assign(results, await smallRuns())
  if (parts.includes('claims')) results.claims = await claims()
  if (parts.includes('idle')) results.idle = await idle()
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
}

async function smallRuns(): Promise<Record<string, unknown>> {
  const server = await site.server('small', counting)
  const copies = await makeSmallCopies(site, server)
  const worker = await site.worker(copies.controlUrl, 'bench', 4)
  const results: Record<string, unknown> = {}
  if (parts.includes('unchanged')) {
    results.unchanged = await unchangedRefreshes(copies, samples)
    reportUnchanged(results.unchanged as UnchangedRefresh[])
  }
  if (parts.includes('pickup')) {
    const own = [...(await queuedPickup(copies, samples)), ...(await scheduledPickup(copies, samples))]
    await worker.stop()
    const urls = { graphile: await site.database(server, 'graphile'), boss: await site.database(server, 'boss') }
    results.pickup = [...own, ...(await peerPickup(urls, samples))]
    reportPickup(results.pickup as Latency[])
  }
  await worker.stop()
  await server.stop()
  return results
}

async function claims(): Promise<Throughput[]> {
  const server = await site.server('claims')
  const url = await site.database(server, 'control')
  await site.command(url, 'database add any "$DB"', { DB: url })
  const control = await site.session(url)
  await addIdleReplications(control, jobs, null)
  const results: Throughput[] = []
  const note = (one: Throughput) => {
    results.push(one)
    console.error(`${one.name}: ${(one.jobs / one.seconds).toFixed(0)} a second`)
  }
  for (const connections of [1, 4]) {
    for (const batch of [1, 4, 20]) {
      await queueEverything(control)
      note(await claimThroughput(site, url, connections, batch, seconds))
    }
  }
  const peer = await site.database(server, 'graphile')
  for (const concurrency of [10, 24]) note(await graphileThroughput(site, peer, jobs, concurrency, seconds))
  const boss = await site.database(server, 'boss')
  for (const batch of [1, 20]) note(await bossThroughput(site, boss, jobs, 4, batch, seconds))
  await server.stop()
  reportClaims(`claimed and ended, ${jobs} waiting`, results)
  return results
}

async function idle(): Promise<IdleSchedules> {
  const server = await site.server('idle')
  const result = await idleSchedules(site, server, jobs, Number(values['idle-seconds']))
  await server.stop()
  console.log(`\n${result.schedules} idle schedules: first starts decided after ${result.decided.toFixed(1)} s`)
  for (const { workers, cpu, percent, seconds: over } of result.costs)
    console.log(
      `  ${workers} idle workers: control server ${cpu.toFixed(2)} CPU s in ${over} s, ${percent.toFixed(2)} % of a core more than without`,
    )
  console.log(`  ${result.dueAtOnce} due at once: all wait as runs after ${result.queued.toFixed(2)} s`)
  return result
}

function reportPickup(results: readonly Latency[]): void {
  console.log('\npickup on an idle worker                samples   p50 ms   p99 ms')
  for (const { name, samples: count, p50, p99 } of results)
    console.log(
      `${name.padEnd(40)} ${String(count).padStart(6)} ${p50.toFixed(1).padStart(8)} ${p99.toFixed(1).padStart(8)}`,
    )
}

function reportUnchanged(results: readonly UnchangedRefresh[]): void {
  console.log('\nrefresh that finds nothing to do        runs     p50 ms   p99 ms   statements')
  for (const { name, runs, p50, p99, statements } of results) {
    const each = Object.entries(statements).map(([database, calls]) => `${database} ${calls.toFixed(1)}`)
    console.log(
      `${name.padEnd(38)} ${String(runs).padStart(6)} ${p50.toFixed(1).padStart(10)} ${p99.toFixed(1).padStart(8)}   ${each.join(', ')}`,
    )
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void site.end().then(() => process.exit(130)))
try {
  await main()
} finally {
  await site.end()
}
