import { composeStatus, type StatusDocument } from '../http/status-document.ts'
import { jobHistories, StepReader } from '../http/store.ts'
import { listRuns, markLostAttempts } from '../monitoring/run-log.ts'
import { listReplications } from '../replication/store.ts'
import { type Demo, refreshEvery } from './demo.ts'
import { destinationDatabase, sourceDatabase } from './demo-replications.ts'
import type { RefreshTimer } from './refresh-timer.ts'
import type { SourceWriter } from './source-writer.ts'

/** Runs on the page. */
const runsShown = 15

/** Reads what the status page of a demo shows. */
export function demoStatus(demo: Demo, timer: RefreshTimer, writer: SourceWriter): () => Promise<StatusDocument> {
  const stepReader = new StepReader()
  return async () => {
    const { control } = demo.place
    await markLostAttempts(control)
    const replications = await listReplications(control)
    const histories = await jobHistories(
      control,
      replications.map((one) => one.jobId),
    )
    const runs = await listRuns(control, { limit: runsShown })
    const changes = writer.changes.toLocaleString('en-US')
    return composeStatus({
      at: new Date(),
      about: [
        `A writer goes on changing ${sourceDatabase}: ${changes} transactions so far. Each copy in ${destinationDatabase} is refreshed every 10 to 20 s.`,
      ],
      trouble: writer.failure === undefined ? [] : [`The demo's writer has stopped: ${String(writer.failure)}.`],
      replications,
      histories,
      runs,
      steps: await stepReader.read(control, runs),
      every: refreshEvery,
      nextStart: (jobId) => timer.nextStart(jobId),
    })
  }
}
