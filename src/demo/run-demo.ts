import { once } from 'node:events'
import type { ListenAddress } from '../http/listen-address.ts'
import { StatusPage } from '../http/status-page.ts'
import { statusReader } from '../http/status-reader.ts'
import { type Demo, type DemoOptions, setUpReplications, withDemo } from './demo.ts'
import { demoReplications, destinationDatabase, sourceDatabase } from './demo-replications.ts'
import { aboutDemo } from './demo-status.ts'
import { SourceWriter } from './source-writer.ts'
import { WorkerProcess } from './worker-process.ts'

/** Milliseconds between two transactions of the writer: a modest rate. */
const writePause = 500
const hosts = ['demo-1', 'demo-2']

/** Where the demo is, for programs. */
export interface DemoPlace {
  readonly status_page: string
  readonly data_dir: string
  /** Process ids. */
  readonly workers: readonly number[]
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
      const [one, other] = workers.map((worker) => worker.pid)
      options.say(
        'All are set up. A writer goes on changing the source, and two workers refresh each copy every 3 to 20 s.',
      )
      options.say(`Try:  kill -9 ${one}  – a worker; the other one, ${other}, goes on with what it ran.`)
      options.say(`The command line works on it too:  npx yardmaster replication list --data-dir ${demo.directory}`)
      options.say('Ctrl-C ends the demo and removes all that it made.')
      options.ready({
        status_page: page.url,
        data_dir: demo.directory,
        workers: workers.map((worker) => worker.pid),
      })
      if (!options.signal.aborted) await once(options.signal, 'abort')
    } finally {
      await stopServices(services)
    }
  })
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
  const workers = hosts.map(
    (host) => new WorkerProcess({ host, directory: demo.directory, control, streams, environment, onDeath }),
  )
  const page = new StatusPage(
    listen,
    statusReader(control, () => aboutDemo(writer, workers)),
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
