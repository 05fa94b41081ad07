import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { queueRun } from '../jobs/claim.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel, type Replication } from '../replication/definition.ts'
import { addReplication, getReplicationByJob, type NewReplication } from '../replication/store.ts'
import { clearLeftover, planNewReplication, type RefreshOptions } from './replication-run.ts'
import type { Workplace } from './workplace.ts'

/** Hands a refresh to the workers; returns the run's id. */
export async function queueRefresh(
  place: Workplace,
  replication: Replication,
  options: RefreshOptions,
): Promise<string> {
  const current = await getReplicationByJob(place.control, replication.jobId)
  if (current.status === 'removing') {
    const label = destinationLabel(current)
    throw new Failure('replication_broken_off', {
      message: `The removal of ${label} was broken off.`,
      object: label,
      remedy: `Finish it: yardmaster replication remove ${label}`,
    })
  }
  return queueRun(place.control, current.jobId, 'refresh', asJson(options))
}

/** Checks and registers a replication here; workers make its objects and pull its data. */
export async function queueSetup(
  place: Workplace,
  wanted: NewReplication,
): Promise<{ runId: string; replication: Replication }> {
  await releaseLostWorkers(place.control)
  await clearLeftover(place, wanted)
  await planNewReplication(place, wanted)
  const session = await place.control.open(`queue ${destinationLabel(wanted)}`)
  try {
    // In one transaction: nobody ever sees a new job without the run that sets it up.
    await session.script('begin')
    const jobId = await addReplication(session, wanted)
    const options = JSON.stringify(asJson({ force: true, wait: 10_000 }))
    const { id } = await session.one<{ id: string }>(
      sql`select yardmaster.queue_run(${jobId}, 'setup', ${options}::jsonb) as id`,
    )
    await session.script('commit')
    return { runId: id, replication: await getReplicationByJob(place.control, jobId) }
  } finally {
    await session.end()
  }
}

/** What is as it is by default is left out, so that the same wish is the same run; JSON has no infinity. */
function asJson(options: RefreshOptions): Record<string, unknown> {
  const wait = options.wait === Number.POSITIVE_INFINITY ? Number.MAX_SAFE_INTEGER : options.wait
  return Object.fromEntries(Object.entries({ ...options, wait }).filter(([, value]) => value))
}
