import { releaseLostWorkers } from '../control/registration.ts'
import { claimRuns, dueJobs } from '../jobs/claim.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { claimedRun, kindsOf } from './claimed-run.ts'
import { JobVerification } from './job-verification.ts'
import type { RunResult } from './run-outcome.ts'
import type { Workplace } from './workplace.ts'

export interface DuePass {
  /** Only replications of this type; null for all. */
  readonly type: string | null
  /** Most runs; null for all that are due. */
  readonly most: number | null
  /** Runs at once: the slots that this process is registered with. */
  readonly parallel: number
}

export interface DueResult extends RunResult {
  readonly job_id: number
  /** What was run, as people know it. */
  readonly object: string
}

/**
 * One pass over what is due when it begins, and over what waits for a worker: least recently run first. A job that another
 * process takes meanwhile is left to it. `onResult` hears of each end.
 */
export async function runDue(
  place: Workplace,
  { type, most, parallel }: DuePass,
  onResult: (result: DueResult) => void,
): Promise<DueResult[]> {
  const { control, recorder } = place
  await releaseLostWorkers(control)
  // Jobs that were added in SQL: where this is all that ever works, nobody else looks at them.
  const verification = new JobVerification(place)
  await verification.pass()
  await verification.stop()
  await decideNextStarts(control)
  const due = await dueJobs(control, kindsOf(place), type)
  const results: DueResult[] = []
  // What is under way counts too.
  let begun = 0
  const next = async (jobId: number): Promise<boolean> => {
    if (place.signal.aborted || begun >= (most ?? Number.POSITIVE_INFINITY)) return false
    begun += 1
    const [claim] = await claimRuns(control, recorder.registration.id, kindsOf(place), 1, [jobId])
    if (!claim) {
      begun -= 1
      return false
    }
    const result = { ...(await claimedRun(place, claim)), job_id: jobId, object: claim.object }
    results.push(result)
    onResult(result)
    return true
  }
  const work = async () => {
    for (let job = due.shift(); job !== undefined; job = due.shift()) {
      // No more runs of it than there were: one whose slots come by the second would never let the pass end.
      for (let run = 0; run < job.runs; run += 1) if (!(await next(job.job_id))) break
    }
  }
  await recorder.start()
  await Promise.all(Array.from({ length: parallel }, work))
  await decideNextStarts(control)
  return results
}
