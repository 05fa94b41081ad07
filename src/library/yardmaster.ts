import { homedir, hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { type Control, openControl } from '../control/control.ts'
import type { Environment } from '../control/databases.ts'
import { loadSecretKey } from '../control/secret-key.ts'
import { defaultDirectory, embeddedControlDatabase } from '../embedded/default-directory.ts'
import { type JoinedServer, joinEmbedded } from '../embedded/join-embedded.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { Alerts } from './alerts.ts'
import { type JobChoices, Jobs } from './jobs.ts'
import { Runs } from './runs.ts'
import type { InputOf, OutputOf, StandardSchema } from './standard-schema.ts'
import { fitting, type Logger, type TaskContext, type TaskOptions, TaskRegistry } from './task-registry.ts'
import { Working, type WorkOptions } from './working.ts'

/** Milliseconds for which a control database that is away is waited for by whoever asks it something. */
const patience = 10_000
/** The same for a worker that starts, perhaps in the moment in which the control server restarts. */
const startPatience = 60_000

export interface YardmasterOptions {
  /** URL of the control database. Default: the embedded one of `dataDirectory`, shared with the command line. */
  readonly control?: string | undefined
  /** The key that stored passwords are encrypted with, as YARDMASTER_KEY has it. Default: the file `key` in `dataDirectory`. */
  readonly key?: string | undefined
  /** Default: where the command line has it. */
  readonly dataDirectory?: string | undefined
  /**
   * Reads the variables that registered databases refer to (`env:CRM_URL`). Default: none is set; nothing here reads the
   * environment by itself.
   */
  readonly environment?: Environment | undefined
  /** Default: nothing is printed. `console` fits. */
  readonly logger?: Logger | undefined
}

/** A task as it was registered. */
export interface RegisteredTask<Input> {
  readonly name: string
  /** Makes a job that runs it; returns its number. Throws `payload_refused` for what does not fit, and what `jobs.add` throws. */
  add(job: TaskJob<Input>): Promise<number>
}

/** A job of a task. */
export interface TaskJob<Input> extends JobChoices {
  readonly payload: Input
  /** Told to the task; also `tag:T`, for a run in each. Default: none. */
  readonly database?: string
}

const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

/**
 * Opens the control database, and makes or updates its schema where that is needed. Close it at the end (`await using` does).
 * Throws `control_unreachable`, `control_newer`, `url_invalid`, `key_wrong` and what the embedded server throws.
 */
export async function openYardmaster(options: YardmasterOptions = {}): Promise<Yardmaster> {
  const { environment = () => undefined } = options
  const userData = { XDG_DATA_HOME: environment('XDG_DATA_HOME') }
  const directory = options.dataDirectory ?? defaultDirectory(userData, process.getuid?.() ?? -1, homedir())
  const server =
    options.control === undefined ? await joinEmbedded({ directory, databases: [embeddedControlDatabase] }) : undefined
  try {
    const parts = parseConnectionUrl(options.control ?? server?.url(embeddedControlDatabase) ?? '')
    const key = loadSecretKey({ text: options.key, file: join(directory, 'key') })
    const actor = `${userInfo().username}@${hostname()}`
    const open = (waits: number) => openControl({ parts, key, actor, face: 'library', patience: waits })
    return new Yardmaster(await open(patience), open, server, options)
  } catch (error) {
    await server?.leave()
    throw error
  }
}

/** What this process knows of one control database: its jobs, runs and alerts, and its own tasks and workers. */
export class Yardmaster {
  readonly jobs: Jobs
  readonly runs: Runs
  readonly alerts: Alerts
  readonly #control: Control
  readonly #open: (patience: number) => Promise<Control>
  readonly #server: JoinedServer | undefined
  readonly #environment: Environment
  readonly #logger: Logger
  readonly #registry: TaskRegistry
  readonly #workers = new Set<Working>()
  #closing: Promise<void> | undefined

  /** See `openYardmaster`. */
  constructor(
    control: Control,
    open: (patience: number) => Promise<Control>,
    server: JoinedServer | undefined,
    { environment = () => undefined, logger = silent }: YardmasterOptions,
  ) {
    this.#control = control
    this.#open = open
    this.#server = server
    this.#environment = environment
    this.#logger = logger
    this.#registry = new TaskRegistry(logger)
    // A session that was lost, perhaps with its server, is opened anew first.
    const revived = async () => {
      this.#requireOpen()
      await control.revive(patience)
      return control
    }
    this.jobs = new Jobs(revived, environment)
    this.runs = new Runs(revived)
    this.alerts = new Alerts(revived)
  }

  /**
   * Registers a function as a task, which jobs may run by its name on every process that knows it. The payload is the job's
   * configuration with the parameters of the run laid over it. Where it does not fit the schema the function is not called, and
   * the run ends CRITICAL with the reason `refused`, which is no failure to be retried. What the function throws fails the run. Its
   * signal is aborted when the run is cancelled, over time, or its worker stops. Throws `task_refused`.
   */
  task<Schema extends StandardSchema>(
    name: string,
    options: TaskOptions<Schema> & { readonly payload: Schema },
    run: (payload: OutputOf<Schema>, context: TaskContext) => unknown,
  ): RegisteredTask<InputOf<Schema>>
  task(
    name: string,
    options: Pick<TaskOptions, 'maxRuntime'>,
    run: (payload: unknown, context: TaskContext) => unknown,
  ): RegisteredTask<unknown>
  task(
    name: string,
    options: TaskOptions,
    run: (payload: unknown, context: TaskContext) => unknown,
  ): RegisteredTask<unknown> {
    this.#registry.add(name, options, run)
    return {
      name,
      add: async ({ payload, ...job }) => {
        // Kept as it is given: each run has it checked again, with its parameters.
        if (options.payload) await fitting(name, options.payload, payload)
        return this.jobs.add({ ...job, task: name, config: payload })
      },
    }
  }

  /** A worker in this process; `start` it. Throws `wrong_usage`. */
  work(options: WorkOptions = {}): Working {
    this.#requireOpen()
    const working = new Working(
      {
        open: () => this.#open(startPatience),
        environment: this.#environment,
        tasks: this.#registry.tasks,
        logger: this.#logger,
        ordinal: this.#workers.size + 1,
      },
      options,
    )
    this.#workers.add(working)
    return working
  }

  /** Stops its workers, then ends what it opened. Twice is fine. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #requireOpen(): void {
    if (this.#closing === undefined) return
    throw new Failure('wrong_usage', {
      message: 'This Yardmaster was closed.',
      object: 'Yardmaster',
      remedy: 'Open another one: await openYardmaster()',
    })
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#workers].map((working) => working.stop()))
    await this.#control.close()
    await this.#server?.leave()
  }
}
