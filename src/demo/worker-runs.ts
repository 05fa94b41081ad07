import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { queueRun } from '../jobs/claim.ts'
import { sql } from '../postgres/sql.ts'
import type { Demo } from './demo.ts'

/** Milliseconds between two looks at a run. */
const lookEvery = 50
/** Milliseconds for which a run may wait and last: far more than any takes here. */
const patience = 60_000

/** A run as the workers left it. */
export interface WorkerRun {
  readonly id: string
  readonly object: string
  readonly status: string
  readonly reason: string | null
  readonly message: string | null
  readonly rows: string | null
  readonly host: string | null
  /** The rule's code by which the host got it. */
  readonly placement: string | null
  readonly started_at: Date | null
  readonly attempt: number | null
}

/** Hands a refresh of each of these jobs to the workers and waits until all have ended. */
export async function runByWorkers(demo: Demo, jobIds: readonly number[]): Promise<WorkerRun[]> {
  const ids: string[] = []
  for (const jobId of jobIds) ids.push(await queueRun(demo.place.control, jobId, 'refresh', {}))
  return waitForRuns(demo, ids, (run) => run.status !== 'WAITING' && run.status !== 'RUNNING')
}

/** Resolves when every one of these runs is as wanted. Throws where that takes too long. */
export async function waitForRuns(
  demo: Demo,
  ids: readonly string[],
  wanted: (run: WorkerRun) => boolean,
): Promise<WorkerRun[]> {
  const { control, signal } = demo.place
  for (const deadline = Date.now() + patience; ; ) {
    const runs = await control.perform(
      (session) =>
        session.query<WorkerRun>(sql`
          select id, object, status, reason, message, rows, host, placement, started_at, attempt from yardmaster.runs
          where id = any(${ids}::bigint[])`),
      0,
    )
    if (runs.every(wanted)) return runs
    if (signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
    if (Date.now() > deadline) {
      const open = runs.filter((run) => !wanted(run)).map((run) => `run ${run.id} of ${run.object} is ${run.status}`)
      throw new Failure('internal_error', { message: `The workers do not come to an end: ${open.join('; ')}.` })
    }
    await delay(lookEvery)
  }
}
