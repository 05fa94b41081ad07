import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { queueRun } from '../jobs/claim.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { getReplication } from '../replication/store.ts'
import type { Demo } from './demo.ts'
import { destinationDatabase } from './demo-replications.ts'
import type { DemoServices } from './run-demo.ts'
import { waitForRuns } from './worker-runs.ts'

/** Read by one replication only, so that the lock below holds up nobody else. */
const table = 'travel.airports'

/**
 * Kills a worker with SIGKILL in the middle of a run and waits until the other one has ended it. A lock on the source's
 * table holds the run where it is until the worker is dead. Returns a problem, or what happened.
 */
export async function checkTakeOver(
  demo: Demo,
  { workers, writer }: Pick<DemoServices, 'workers' | 'writer'>,
): Promise<{ problem: string | undefined; good: string }> {
  const { jobId } = await getReplication(demo.place.control, `${destinationDatabase}:${table}`)
  const holder = await demo.connect('source', 'hold')
  try {
    await holder.script(`begin; lock table ${table} in access exclusive mode`)
    const id = await queueRun(demo.place.control, jobId, 'refresh', { force: true })
    const [begun] = await waitForRuns(demo, [id], (run) => run.status === 'RUNNING')
    await waitUntilHeld(holder, writer.pids, demo.place.signal)
    const victim = workers.find((worker) => worker.host === begun?.host)
    if (victim === undefined) return { problem: `run ${id} is carried out by ${begun?.host}`, good: '' }
    const killedAt = Date.now()
    await victim.kill()
    await holder.script('rollback')
    const elsewhere = (run: { host: string | null; status: string }) =>
      run.status !== 'WAITING' && run.host !== victim.host
    await waitForRuns(demo, [id], elsewhere)
    const seconds = ((Date.now() - killedAt) / 1000).toFixed(1)
    const [ended] = await waitForRuns(demo, [id], (run) => run.status !== 'WAITING' && run.status !== 'RUNNING')
    const good = `${victim.host} was killed in the middle of run ${id}; ${ended?.host} went on with it ${seconds} s later`
    const fine = ended?.status === 'OK' && (ended.attempt ?? 0) > 1
    return { problem: fine ? undefined : `${good}; it ended ${ended?.status}: ${ended?.message}`, good }
  } finally {
    await holder.end()
  }
}

/** Resolves when somebody other than the writer waits for the table. */
async function waitUntilHeld(holder: Session, writers: readonly number[], signal: AbortSignal): Promise<void> {
  for (;;) {
    const row = await holder.one<{ held: boolean }>(sql`
      select exists (select from pg_locks where not granted and relation = ${table}::regclass
        and pid <> all(${[...writers]}::int[])) as held`)
    if (row.held) return
    if (signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
    await delay(20)
  }
}

/** Runs that a dead worker left as running; undefined where there is none. */
export async function findStrandedRuns(demo: Demo): Promise<string | undefined> {
  const rows = await demo.place.control.session.query<{ id: string; object: string; worker: string }>(sql`
    select r.id, r.object, r.worker from yardmaster.runs r where r.status = 'RUNNING'
      and not exists (select from yardmaster.workers w where w.name = r.worker and w.alive)`)
  if (rows.length === 0) return undefined
  return rows.map((row) => `run ${row.id} of ${row.object} is RUNNING by ${row.worker}, which is dead`).join('; ')
}
