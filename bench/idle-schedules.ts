import { setTimeout as delay } from 'node:timers/promises'
import type { EmbeddedServer } from '../src/embedded/embedded-server.ts'
import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import { type BenchSite, serverCpu } from './bench-site.ts'
import { addIdleReplications } from './claims.ts'

export interface IdleCost {
  readonly workers: number
  readonly seconds: number
  /** CPU seconds of all processes of the control server. */
  readonly cpu: number
  /** Share of one core, less that of the same server without workers, in percent. */
  readonly percent: number
}

export interface IdleSchedules {
  readonly schedules: number
  /** Seconds until a worker had decided all first starts. */
  readonly decided: number
  readonly costs: readonly IdleCost[]
  readonly dueAtOnce: number
  /** Seconds until they were runs that wait. */
  readonly queued: number
}

/** What schedules cost that have nothing to do, on a control server of their own; then how many of them become due at once. */
export async function idleSchedules(
  site: BenchSite,
  server: EmbeddedServer,
  schedules: number,
  seconds: number,
): Promise<IdleSchedules> {
  const url = await site.database(server, 'control')
  await site.command(url, 'database add any "$DB"', { DB: url })
  const control = await site.session(url)
  await addIdleReplications(control, schedules, '1 day')
  await control.script('vacuum analyze')
  await control.script('checkpoint')
  const without = await cpuOver(server, seconds)
  const started = performance.now()
  const workers = [await site.worker(url, 'idle1', 4)]
  const decided = await untilDecided(control, started)
  const costs = [cost(0, seconds, without, without)]
  for (const count of [1, 2]) {
    if (count === 2) workers.push(await site.worker(url, 'idle2', 4))
    // What the new worker brought about, and the vacuum behind the decisions, is over.
    await control.script('vacuum analyze')
    await control.script('checkpoint')
    await delay(6000)
    costs.push(cost(count, seconds, await cpuOver(server, seconds), without))
  }
  for (const worker of workers) await worker.stop()
  const dueAtOnce = Math.round(schedules / 5)
  return { schedules, decided, costs, dueAtOnce, queued: await queueAtOnce(control, dueAtOnce) }
}

async function cpuOver(server: EmbeddedServer, seconds: number): Promise<number> {
  const before = serverCpu(server.pid)
  await delay(seconds * 1000)
  return serverCpu(server.pid) - before
}

function cost(workers: number, seconds: number, cpu: number, without: number): IdleCost {
  return { workers, seconds, cpu, percent: ((cpu - without) / seconds) * 100 }
}

async function untilDecided(control: Session, started: number): Promise<number> {
  for (const deadline = Date.now() + 180_000; Date.now() < deadline; await delay(50)) {
    const row = await control.one<{ open: boolean }>(
      sql`select exists (select 1 from yardmaster.job_state where scheduled and next_start is null) as open`,
    )
    if (!row.open) return (performance.now() - started) / 1000
  }
  throw new Error('The next starts were not decided within three minutes.')
}

/** By the function that each claim calls first, as one worker would with free slots. */
async function queueAtOnce(control: Session, count: number): Promise<number> {
  await control.query(sql`update yardmaster.job_state set next_start = clock_timestamp() - interval '1 second', next_slot = clock_timestamp() - interval '1 second'
    where job_id in (select id from yardmaster.job order by id limit ${count})`)
  const started = performance.now()
  for (let made = 0; made < count; ) {
    await control.query(sql`select yardmaster.queue_due_slots('{replication}')`)
    made = Number(
      (await control.one<{ made: string }>(sql`select count(*) as made from yardmaster.run where status = 'WAITING'`))
        .made,
    )
  }
  return (performance.now() - started) / 1000
}
