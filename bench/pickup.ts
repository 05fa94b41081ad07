import { setTimeout as delay } from 'node:timers/promises'
import type { Session } from '../src/postgres/connect.ts'
import { type Sql, sql } from '../src/postgres/sql.ts'
import { quantile } from './bench-site.ts'
import { bossPickup, graphilePickup, type PickupPeer } from './job-queues.ts'
import type { SmallCopies } from './small-copies.ts'

/** Milliseconds from when work is due, or is asked for, until it begins. */
export interface Latency {
  readonly name: string
  readonly samples: number
  readonly p50: number
  readonly p99: number
}

/** One run after another, each asked for when the worker has nothing to do. */
export async function queuedPickup({ control, unchanged }: SmallCopies, samples: number): Promise<Latency[]> {
  const claimed: number[] = []
  const begun: number[] = []
  for (let sample = 0; sample < samples; sample += 1) {
    const before = performance.timeOrigin + performance.now()
    const { id } = await control.one<{ id: string }>(sql`select yardmaster.queue_run(${unchanged}) as id`)
    await ended(control, id)
    const times = await startsOf(control, sql`r.id = ${id}`)
    for (const one of times) {
      claimed.push(one.claimed - before)
      begun.push(one.begun - before)
    }
    await delay(10 + Math.random() * 20)
  }
  return [latency('queue_run → claimed', claimed), latency('queue_run → first step', begun)]
}

/** Slots of a schedule: the interval's slots are known instants, and the timers of the worker are to meet them. */
export async function scheduledPickup({ control, scheduled }: SmallCopies, samples: number): Promise<Latency[]> {
  await schedule(control, scheduled, '1 second')
  const jobs = scheduled.length
  await delay((1 + samples / jobs) * 1000)
  await schedule(control, scheduled, null)
  const times = await startsOf(control, sql`r.job_id = any (${scheduled}) and not r.requested and r.status = 'OK'`)
  return [
    latency(
      `slot of a schedule → claimed`,
      times.map((one) => one.claimed - one.slot),
    ),
    latency(
      `slot of a schedule → first step`,
      times.map((one) => one.begun - one.slot),
    ),
  ]
}

/** The peers, one after the other, each alone on the server that the worker used. */
export async function peerPickup(urls: { graphile: string; boss: string }, samples: number): Promise<Latency[]> {
  const results: Latency[] = []
  for (const open of [() => graphilePickup(urls.graphile), () => bossPickup(urls.boss)]) {
    const peer = await open()
    results.push(await peerLatency(peer, samples))
    await peer.stop()
  }
  return results
}

async function peerLatency(peer: PickupPeer, samples: number): Promise<Latency> {
  // The first ones make plans and connections.
  for (let warm = 0; warm < 5; warm += 1) await peer.once()
  const times: number[] = []
  for (let sample = 0; sample < samples; sample += 1) {
    await delay(10 + Math.random() * 20)
    times.push(await peer.once())
  }
  return latency(peer.name, times)
}

export async function ended(control: Session, runId: string): Promise<void> {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await delay(4)) {
    const run = await control.one<{ status: string; message: string | null }>(
      sql`select status, message from yardmaster.run where id = ${runId}`,
    )
    if (run.status === 'OK') return
    if (run.status === 'CRITICAL') throw new Error(`Run ${runId}: ${run.message}`)
  }
  throw new Error(`Run ${runId} did not end within 30 s.`)
}

async function schedule(control: Session, jobs: readonly number[], interval: string | null): Promise<void> {
  for (const job of jobs) {
    await control.query(
      sql`select yardmaster.alter_replication(${job}, ${JSON.stringify({ schedule_interval: interval })}::jsonb)`,
    )
    // Each with slots of its own: they count from here.
    if (interval !== null) await delay(1000 / jobs.length)
  }
}

/** Milliseconds since the epoch. The first step's time is the worker's, the others are the server's: one machine, one clock. */
async function startsOf(control: Session, which: Sql): Promise<{ slot: number; claimed: number; begun: number }[]> {
  return control.query(sql`
    select extract(epoch from r.slot)::float8 * 1000 as slot, extract(epoch from a.started_at)::float8 * 1000 as claimed,
      extract(epoch from s.started_at)::float8 * 1000 as begun
    from yardmaster.run r join yardmaster.attempt a on a.run_id = r.id and a.number = 1
    join yardmaster.step s on s.attempt_id = a.id and s.ordinal = 1 where ${which}`)
}

function latency(name: string, times: readonly number[]): Latency {
  return { name, samples: times.length, p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
}
