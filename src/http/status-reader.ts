import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { listReplications } from '../replication/store.ts'
import { composeStatus } from './compose-status.ts'
import { readAlerts, readJobs } from './job-board.ts'
import { readPlacement } from './placement-store.ts'
import type { StatusDocument } from './status-document.ts'
import { jobHistories, listWorkers, lookAround, recentRuns, StepReader, waitingRuns } from './store.ts'

/** Runs that have ended, on the page. */
const runsShown = 15
/** Runs that wait, on the page: why one does takes the control database some milliseconds. */
const waitingShown = 10

/** Reads what the status page of a control database shows. `about`: sentences about what this is. */
export function statusReader(control: Control, about: () => readonly string[]): () => Promise<StatusDocument> {
  const stepReader = new StepReader()
  return async () => {
    // First of all: it opens the session anew where that was lost.
    await releaseLostWorkers(control)
    const { at, staffed } = await lookAround(control)
    const runs = await recentRuns(control, runsShown)
    return composeStatus({
      at,
      staffed,
      about: about(),
      replications: await listReplications(control),
      histories: await jobHistories(control),
      placement: await readPlacement(control),
      jobs: await readJobs(control),
      alerts: await readAlerts(control),
      workers: await listWorkers(control),
      waiting: await waitingRuns(control, waitingShown),
      runs,
      steps: await stepReader.read(control, runs),
    })
  }
}
