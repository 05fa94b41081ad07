import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { type ProgramOptions, resolveProgramOptions } from '../config/program-options.ts'
import { type Control, openControl } from '../control/control.ts'
import type { Environment } from '../control/databases.ts'
import type { WorkerIdentity } from '../control/registration.ts'
import { loadSecretKey } from '../control/secret-key.ts'
import { defaultDirectory, embeddedControlDatabase } from '../embedded/default-directory.ts'
import { joinEmbedded } from '../embedded/join-embedded.ts'
import { RunRecorder } from '../monitoring/run-recorder.ts'
import { type ConnectionParts, parseConnectionUrl } from '../postgres/connection-url.ts'
import type { Workplace } from '../worker/workplace.ts'
import { Progress } from './progress.ts'
import { Terminal } from './terminal.ts'

/** Milliseconds for which a worker that starts waits for a control database that is away. */
const startPatience = 60_000

/** What the process hands in: everything that a command may touch of its surroundings. */
export interface Surroundings {
  readonly environment: Environment
  readonly out: NodeJS.WriteStream
  readonly err: NodeJS.WriteStream
  readonly in: NodeJS.ReadStream
  readonly signal: AbortSignal
  /** What Ctrl-C does: it aborts the signal, and the process ends with 130. */
  interrupt(): void
}

/** One command's surroundings, options and terminal. */
export interface CommandContext extends Surroundings {
  readonly options: ProgramOptions
  readonly terminal: Terminal
  readonly dataDirectory: string
}

export function commandContext(surroundings: Surroundings, flags: Readonly<Record<string, unknown>>): CommandContext {
  const options = resolveProgramOptions(flags, surroundings.environment)
  const home = userInfo().homedir
  const dataHome = surroundings.environment('XDG_DATA_HOME')
  return {
    ...surroundings,
    options,
    terminal: new Terminal(options, surroundings, surroundings.environment),
    dataDirectory: options.dataDir ?? defaultDirectory({ XDG_DATA_HOME: dataHome }, process.getuid?.() ?? -1, home),
  }
}

/**
 * Opens the control database, embedded or the one that was named, for as long as `body` runs. One that is away is waited for,
 * `patience` milliseconds.
 */
export async function withControl<Result>(
  context: CommandContext,
  body: (control: Control) => Promise<Result>,
  patience = 0,
): Promise<Result> {
  const { options, environment, dataDirectory, signal } = context
  const server =
    options.control === undefined
      ? await joinEmbedded({ directory: dataDirectory, databases: [embeddedControlDatabase] }, context.signal)
      : undefined
  try {
    const parts: ConnectionParts = parseConnectionUrl(options.control ?? server?.url(embeddedControlDatabase) ?? '')
    const key = loadSecretKey({ text: environment('YARDMASTER_KEY'), file: join(dataDirectory, 'key') })
    const control = await openControl({
      parts,
      signal,
      patience,
      onWait: (why) => context.terminal.say(`Waiting for the control database: ${why}`),
      actor: `${userInfo().username}@${hostname()}`,
      face: 'CLI',
      key,
      passwordFile: environment('PGPASSFILE') || undefined,
    })
    try {
      return await body(control)
    } finally {
      await control.close()
    }
  } finally {
    await server?.leave()
  }
}

/** Carries runs out in this process, with progress on stderr; as a command, or as the worker that it is said to be. */
export async function withWorkplace<Result>(
  context: CommandContext,
  body: (place: Workplace) => Promise<Result>,
  identity: WorkerIdentity = { name: `cli#${process.pid}`, host: hostname(), slots: 0 },
): Promise<Result> {
  return withControl(
    context,
    async (control) => {
      const progress = new Progress(
        context.terminal,
        context.options.logLevel,
        context.environment('YARDMASTER_SCREEN_READER') === '1',
      )
      const recorder = new RunRecorder(control, identity)
      try {
        return await body({
          control,
          environment: context.environment,
          signal: context.signal,
          recorder,
          streams: context.options.streams,
          onStep: (object, step) => progress.step(object, step),
        })
      } finally {
        progress.end()
        await recorder.stop()
      }
      // A worker may be started in the moment in which the control server restarts.
    },
    identity.slots > 0 ? startPatience : 0,
  )
}
