import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { openControl } from '../control/control.ts'
import { addDatabase } from '../control/databases.ts'
import { loadSecretKey } from '../control/secret-key.ts'
import { type JoinedServer, joinEmbedded } from '../embedded/join-embedded.ts'
import { RunRecorder } from '../monitoring/run-recorder.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { inParallel } from '../replication/link.ts'
import type { NewReplication } from '../replication/store.ts'
import { addReplicationRun, refreshRun } from '../worker/replication-run.ts'
import type { RunResult } from '../worker/run-outcome.ts'
import type { Workplace } from '../worker/workplace.ts'
import { type Datasets, installedDatasets } from './datasets.ts'
import { applyDemoBindings } from './demo-bindings.ts'
import { makeDemoDirectory, removeDeadDemos, removeDemoDirectory } from './demo-directory.ts'
import { demoReplications, demoTag, destinationDatabase, sourceDatabase } from './demo-replications.ts'
import { makeDestination, makeSource } from './source-data.ts'

/** The same name as the command line's, so that its commands work on a demo with `--data-dir`. */
const controlDatabase = 'yardmaster'
/** Everything is thrown away at the end: nothing has to survive a loss of power. */
const settings = { fsync: 'off', full_page_writes: 'off' }

export interface DemoOptions {
  /** Folder in which the demo makes a folder of its own. */
  readonly parent: string
  /** Default: the full data where they are installed. */
  readonly datasets?: Datasets | undefined
  /** Streams that read a large source side by side. */
  readonly streams: number
  readonly signal: AbortSignal
  /** All that the demo's workers get of the environment. */
  readonly environment: Readonly<Record<string, string>>
  /** Tells people what happens. */
  readonly say: (line: string) => void
}

/** Source, destination and control, filled, registered and bound; nothing is copied yet. */
export interface Demo {
  readonly directory: string
  readonly place: Workplace
  /** Opens a session of the demo's own, not the program's. */
  connect(side: 'source' | 'destination', purpose: string): Promise<Session>
}

/**
 * Makes three databases on an embedded server in a folder of their own, and takes everything away when `body` has ended,
 * however it ends. Demos do not meet, also in the same `parent`.
 */
export async function withDemo<Result>(options: DemoOptions, body: (demo: Demo) => Promise<Result>): Promise<Result> {
  for (const sentence of await removeDeadDemos(options.parent)) options.say(sentence)
  const directory = await makeDemoDirectory(options.parent)
  try {
    const databases = [controlDatabase, sourceDatabase, destinationDatabase]
    options.say('Starting PostgreSQL for a source, a destination and a control database …')
    const server = await joinEmbedded({ directory, databases, settings }, options.signal)
    return await onServer(server, directory, options, body)
  } finally {
    // Also when a command of somebody's still uses it: the folder goes.
    await removeDemoDirectory(directory)
  }
}

async function onServer<Result>(
  server: JoinedServer,
  directory: string,
  options: DemoOptions,
  body: (demo: Demo) => Promise<Result>,
): Promise<Result> {
  const { signal } = options
  const connectTo: Demo['connect'] = (side, purpose) => {
    const object = side === 'source' ? sourceDatabase : destinationDatabase
    // Not as `source`: those sessions may not write.
    return connect(parseConnectionUrl(server.url(object)), { side: 'database', purpose: `demo ${purpose}`, object })
  }
  const control = await openControl({
    parts: parseConnectionUrl(server.url(controlDatabase)),
    actor: `${userInfo().username}@${hostname()}`,
    face: 'demo',
    key: loadSecretKey({ file: join(directory, 'key') }),
  })
  try {
    await fill(connectTo, options)
    for (const name of [sourceDatabase, destinationDatabase])
      await addDatabase(control, name, server.url(name), [demoTag])
    await applyDemoBindings(control)
    const recorder = new RunRecorder(control, { name: `demo#${process.pid}`, host: 'demo', slots: 0 })
    const place: Workplace = {
      control,
      // Nothing of the demo refers to the environment.
      environment: () => undefined,
      signal,
      recorder,
      streams: options.streams,
    }
    try {
      return await body({ directory, place, connect: connectTo })
    } finally {
      await recorder.stop()
    }
  } finally {
    await control.close()
  }
}

async function fill(connectTo: Demo['connect'], options: DemoOptions): Promise<void> {
  const data = options.datasets ?? (await installedDatasets())
  options.say(`Filling the source with ${data.origin} …`)
  const [source, destination] = [await connectTo('source', 'set-up'), await connectTo('destination', 'set-up')]
  const cut = () => {
    source.destroy()
    destination.destroy()
  }
  options.signal.addEventListener('abort', cut)
  try {
    if (options.signal.aborted) cut()
    await makeDestination(destination)
    await makeSource(source, data)
  } catch (error) {
    throw options.signal.aborted ? new Failure('cancelled', { message: 'Cancelled.', cause: error }) : error
  } finally {
    options.signal.removeEventListener('abort', cut)
    await Promise.all([source.end(), destination.end()])
  }
}

/** Sets the demo's replications up, as `replication add` does; each holds its rows then. Throws the failure of the first that fails. */
export async function setUpReplications(
  demo: Demo,
  replications: readonly NewReplication[] = demoReplications,
): Promise<RunResult[]> {
  const results: RunResult[] = []
  await inParallel(replications, 2, async (wanted) => {
    const { replication, result } = await addReplicationRun(demo.place, wanted)
    if (result.failure) throw result.failure
    results.push(result)
    // A table that was there is adopted as it is, and filled by its first refresh.
    if (replication === undefined || result.rows > 0) return
    const first = await refreshRun(demo.place, replication, { force: false, wait: 0, takeOver: false })
    if (first.failure) throw first.failure
    results.push(first)
  })
  return results
}
