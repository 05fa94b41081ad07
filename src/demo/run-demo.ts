import { once } from 'node:events'
import type { ListenAddress } from '../http/listen-address.ts'
import { machineRoutes } from '../http/metrics.ts'
import { StatusPage } from '../http/status-page.ts'
import { statusReader } from '../http/status-reader.ts'
import { type Demo, type DemoOptions, setUpReplications, withDemo } from './demo.ts'
import { demoHosts } from './demo-bindings.ts'
import { addDemoJobs, type DemoJobs, gatewayUp } from './demo-jobs.ts'
import { demoReplications, destinationDatabase, sourceDatabase } from './demo-replications.ts'
import { aboutDemo } from './demo-status.ts'
import { SourceWriter } from './source-writer.ts'
import { WorkerProcess } from './worker-process.ts'

/** Milliseconds between two transactions of the writer: a modest rate. */
const writePause = 500

/** Where the demo is, for programs. */
export interface DemoPlace {
  readonly status_page: string
  readonly data_dir: string
  /** One process a host, in the same order. */
  readonly hosts: readonly string[]
  readonly workers: readonly number[]
  readonly jobs: DemoJobs
}

/** The demo as people meet it: runs until the signal is aborted, then takes everything away. */
export async function runDemo(
  options: DemoOptions & { listen: ListenAddress; ready: (place: DemoPlace) => void },
): Promise<void> {
  await withDemo(options, async (demo) => {
    const services = demoServices(demo, options, options.listen, writePause)
    const { page, workers, writer } = services
    try {
      await page.start()
      options.say(`Status page: ${page.url}`)
      options.say(`Setting up ${demoReplications.length} replications, ${sourceDatabase} → ${destinationDatabase} …`)
      await setUpReplications(demo)
      await writer.start()
      await startWorkers(services, options.signal)
      const jobs = await addDemoJobs(demo)
      for (const line of startText(demo.directory, workers)) options.say(line)
      options.ready({
        status_page: page.url,
        data_dir: demo.directory,
        hosts: workers.map((worker) => worker.host),
        workers: workers.map((worker) => worker.pid),
        jobs,
      })
      if (!options.signal.aborted) await once(options.signal, 'abort')
    } finally {
      await stopServices(services)
    }
  })
}

/** What people read when everything is there. */
function startText(directory: string, workers: readonly WorkerProcess[]): string[] {
  const pids = new Map(workers.map((worker) => [worker.host, worker.pid]))
  return [
    'All are set up. A writer goes on changing the source, and three workers, as on three hosts, refresh each copy every 3 to 20 s:',
    `  marketing (process ${pids.get('marketing')}) does the work of site Marketing`,
    `  qa (process ${pids.get('qa')}) that of QA, which no other host may do, and Marketing's while marketing is away`,
    `  ceo (process ${pids.get('ceo')}) that of CEO, and never Marketing's or QA's`,
    '  all three that of Sales, which is not bound, that of no site, and that of CEO while ceo is away',
    'They also run four jobs: sum_up_flights every 20 s, note_sizes in both databases, refresh_marts whenever its two copies',
    'have been refreshed, and send_invoices, which fails on purpose: it is tried again, and alerts after the third failure.',
    'Try, in another terminal:',
    `  kill -9 ${pids.get('marketing')}  # within seconds qa does the work of Marketing; ceo never does`,
    `  npx yardmaster binding explain Marketing --data-dir ${directory}  # who may run it now, and why`,
    `  npx yardmaster worker --host marketing --data-dir ${directory}  # a new worker there: the work comes back`,
    `  npx yardmaster job list --data-dir ${directory}  # replications too; alert list: what somebody should look at`,
    `  npx yardmaster job alter send_invoices --config '${gatewayUp}' --data-dir ${directory}  # its next try ends well, and the alert is over`,
    'Ctrl-C ends the demo and removes all that it made.',
  ]
}

export interface DemoServices {
  readonly page: StatusPage
  readonly workers: readonly WorkerProcess[]
  readonly writer: SourceWriter
}

/** The services of a demo; none is started yet. `pause`: milliseconds between two transactions of the writer. */
export function demoServices(demo: Demo, options: DemoOptions, listen: ListenAddress, pause: number): DemoServices {
  const writer = new SourceWriter(() => demo.connect('source', 'writer'), pause)
  const { control } = demo.place
  const { environment, streams, say: onDeath } = options
  const workers = demoHosts.map(
    (host) => new WorkerProcess({ host, directory: demo.directory, control, streams, environment, onDeath }),
  )
  const page = new StatusPage(
    listen,
    statusReader(control, () => aboutDemo(writer, workers)),
    machineRoutes(control),
  )
  return { page, workers, writer }
}

export async function startWorkers({ workers }: DemoServices, signal: AbortSignal): Promise<void> {
  // All of them, so that none is on its way when the demo is taken away.
  const started = await Promise.allSettled(workers.map((worker) => worker.start(signal)))
  for (const one of started) if (one.status === 'rejected') throw one.reason
}

/** Stops what was started, readers of the control database first. */
export async function stopServices({ page, workers, writer }: DemoServices): Promise<void> {
  await page.stop()
  await Promise.all([...workers.map((worker) => worker.stop()), writer.stop()])
}
