import { formatCount } from '../base/duration.ts'
import { printable } from '../postgres/identifier.ts'
import { destinationDatabase, sourceDatabase } from './demo-replications.ts'
import type { SourceWriter } from './source-writer.ts'
import type { WorkerProcess } from './worker-process.ts'

/** What the status page of a demo says beside the status. */
export function aboutDemo(writer: SourceWriter, workers: readonly WorkerProcess[]): string[] {
  return [aboutWriter(writer), ...(writer.isStarted ? [aboutWorkers(workers), aboutJobs] : [])]
}

const aboutJobs = 'Of its jobs, send_invoices fails on purpose, so that there is an alert to see.'

function aboutWriter({ changes, isOver, refusal }: SourceWriter): string {
  const done = `${formatCount(changes)} transactions so far`
  const refused = refusal === undefined ? '' : ` It was refused something: ${printable(refusal.message)}.`
  if (isOver) return `The writer that changed the source, ${sourceDatabase}, is over: ${done}.${refused}`
  return `A demo: a writer goes on changing the source, ${sourceDatabase}: ${done}, now and then a long one.${refused} The copies are in ${destinationDatabase}.`
}

function aboutWorkers(workers: readonly WorkerProcess[]): string {
  const [gone, there] = [workers.filter((worker) => !worker.isRunning), workers.filter((worker) => worker.isRunning)]
  const named = (some: readonly WorkerProcess[]) =>
    listed(some.map((worker) => `${worker.host} (process ${worker.pid})`))
  if (there.length === 0) return 'Its hosts are gone: nothing is refreshed any more.'
  if (gone.length > 0)
    return `${listed(gone.map((worker) => worker.host))} ${gone.length === 1 ? 'is' : 'are'} gone; ${named(there)} ${there.length === 1 ? 'is' : 'are'} left. Placement says who does what now.`
  const [first] = there
  return `Three hosts, ${named(there)}, refresh them, each what it may; kill -9 ${first?.pid}, and qa goes on with Marketing, which ceo never does.`
}

function listed(names: readonly string[]): string {
  return [names.slice(0, -1).join(', '), names.at(-1)].filter(Boolean).join(' and ')
}
