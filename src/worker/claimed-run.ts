import type { Claim } from '../jobs/claim.ts'
import { claimedCall } from './job-run.ts'
import { claimedRefresh, type RefreshOptions } from './replication-run.ts'
import type { RunResult } from './run-outcome.ts'
import { claimedTask } from './task-run.ts'
import type { Workplace } from './workplace.ts'

/** Kinds of work that a place can carry out, as claims know them. */
export function kindsOf({ tasks }: Pick<Workplace, 'tasks'>): string[] {
  return ['replication', 'procedure', 'sql', ...[...(tasks?.keys() ?? [])].map((name) => `task:${name}`)]
}

/** Carries out a run that was claimed, by its kind. */
export async function claimedRun(place: Workplace, claim: Claim): Promise<RunResult> {
  const { run_id: runId, job_id: jobId, operation, object, token } = claim
  if (operation !== 'call') {
    return claimedRefresh(place, { runId, jobId, operation, object, token, options: claim.options as RefreshOptions })
  }
  return claim.kind === 'task' ? claimedTask(place, claim) : claimedCall(place, claim)
}
