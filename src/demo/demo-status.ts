import { formatCount } from '../base/duration.ts'
import { printable } from '../postgres/identifier.ts'
import { destinationDatabase, sourceDatabase } from './demo-replications.ts'
import type { SourceWriter } from './source-writer.ts'
import type { WorkerProcess } from './worker-process.ts'

/** What the status page of a demo says beside the status. */
export function aboutDemo(writer: SourceWriter, workers: readonly WorkerProcess[]): string[] {
  return [aboutWriter(writer), ...(writer.isStarted ? [aboutWorkers(workers)] : [])]
}

function aboutWriter({ changes, isOver, refusal }: SourceWriter): string {
  const done = `${formatCount(changes)} transactions so far`
  const refused = refusal === undefined ? '' : ` It was refused something: ${printable(refusal.message)}.`
  if (isOver) return `The writer that changed the source, ${sourceDatabase}, is over: ${done}.${refused}`
  return `A demo: a writer goes on changing the source, ${sourceDatabase}: ${done}, now and then a long one.${refused} The copies are in ${destinationDatabase}.`
}

function aboutWorkers(workers: readonly WorkerProcess[]): string {
  const there = workers.filter((worker) => worker.isRunning)
  const named = there.map((worker) => `${worker.host} (${worker.pid})`).join(' and ')
  if (there.length === 0) return 'Its workers are gone: nothing is refreshed any more.'
  if (there.length < workers.length) return `One worker is left, process ${named}; it does everything now.`
  return `Two workers, processes ${named}, refresh them; kill -9 one, and the other goes on with what it ran.`
}
