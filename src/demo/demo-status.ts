import { formatCount } from '../base/duration.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { composeStatus, type StatusDocument } from '../http/status-document.ts'
import { jobHistories, StepReader } from '../http/store.ts'
import { listRuns } from '../monitoring/run-history.ts'
import { printable } from '../postgres/identifier.ts'
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
    await releaseLostWorkers(control)
    const replications = await listReplications(control)
    const histories = await jobHistories(
      control,
      replications.map((one) => one.jobId),
    )
    const runs = await listRuns(control, { limit: runsShown })
    return composeStatus({
      at: new Date(),
      about: [aboutWriter(writer)],
      replications,
      histories,
      runs,
      steps: await stepReader.read(control, runs),
      every: refreshEvery,
      nextStart: (jobId) => timer.nextStart(jobId),
    })
  }
}

function aboutWriter({ changes, isOver, refusal }: SourceWriter): string {
  const done = `${formatCount(changes)} transactions so far`
  const refused = refusal === undefined ? '' : ` It was refused something: ${printable(refusal.message)}.`
  if (isOver) return `The writer that changed the source, ${sourceDatabase}, is over: ${done}.${refused}`
  return `A writer goes on changing the source, ${sourceDatabase}: ${done}.${refused} Each copy in ${destinationDatabase} is refreshed every 10 to 20 s.`
}
