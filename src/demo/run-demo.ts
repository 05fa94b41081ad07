import { once } from 'node:events'
import type { ListenAddress } from '../http/listen-address.ts'
import { StatusPage } from '../http/status-page.ts'
import { type Demo, type DemoOptions, refreshEvery, setUpReplications, withDemo } from './demo.ts'
import { demoReplications, destinationDatabase, sourceDatabase } from './demo-replications.ts'
import { demoStatus } from './demo-status.ts'
import { RefreshTimer } from './refresh-timer.ts'
import { SourceWriter } from './source-writer.ts'

/** Milliseconds between two transactions of the writer: a modest rate. */
const writePause = 500

/** Where the demo is, for programs. */
export interface DemoPlace {
  readonly status_page: string
  readonly data_dir: string
}

/** The demo as people meet it: runs until the signal is aborted, then takes everything away. */
export async function runDemo(
  options: DemoOptions & { listen: ListenAddress; ready: (place: DemoPlace) => void },
): Promise<void> {
  await withDemo(options, async (demo) => {
    const services = demoServices(demo, options.listen, writePause)
    const { page, timer, writer } = services
    try {
      await page.start()
      options.say(`Status page: ${page.url}`)
      options.say(`Setting up ${demoReplications.length} replications, ${sourceDatabase} → ${destinationDatabase} …`)
      await setUpReplications(demo)
      await writer.start()
      await timer.start()
      options.say('All are set up. A writer goes on changing the source, and each copy is refreshed every 10 to 20 s.')
      options.say(`The command line works on it too:  npx yardmaster replication list --data-dir ${demo.directory}`)
      options.say('Ctrl-C ends the demo and removes all that it made.')
      options.ready({ status_page: page.url, data_dir: demo.directory })
      if (!options.signal.aborted) await once(options.signal, 'abort')
    } finally {
      await stopServices(services)
    }
  })
}

export interface DemoServices {
  readonly page: StatusPage
  readonly timer: RefreshTimer
  readonly writer: SourceWriter
}

/** The three services of a demo; none is started yet. `pause`: milliseconds between two transactions of the writer. */
export function demoServices(demo: Demo, listen: ListenAddress, pause: number): DemoServices {
  const writer = new SourceWriter(() => demo.connect('source', 'writer'), pause)
  const timer = new RefreshTimer(demo.place, refreshEvery)
  return { page: new StatusPage(listen, demoStatus(demo, timer, writer)), timer, writer }
}

/** Stops what was started, readers of the control database first. */
export async function stopServices({ page, timer, writer }: DemoServices): Promise<void> {
  await page.stop()
  await timer.stop()
  await writer.stop()
}
