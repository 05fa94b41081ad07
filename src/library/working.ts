import { hostname } from 'node:os'
import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import type { Control } from '../control/control.ts'
import type { Environment } from '../control/databases.ts'
import { RunRecorder } from '../monitoring/run-recorder.ts'
import { ownHost } from '../placement/hosts.ts'
import { AlertWatch } from '../worker/alert-watch.ts'
import type { Tasks } from '../worker/tasks.ts'
import { Worker } from '../worker/worker.ts'
import type { Logger } from './task-registry.ts'

export interface WorkOptions {
  /** Name of the host, as placement knows it. Default: the machine's. */
  readonly host?: string
  /** Runs at once, 1 to 1000. Default: 4. */
  readonly slots?: number
  /** How long runs may go on when it is stopped, before they are given back. Default: '30 s'. */
  readonly grace?: string
}

/** What a worker of the library needs. */
export interface WorkSurroundings {
  /** Opens a control session of its own: its life is the worker's. */
  readonly open: () => Promise<Control>
  readonly environment: Environment
  readonly tasks: Tasks
  readonly logger: Logger
  /** 1 for the first worker of this process. */
  readonly ordinal: number
}

interface Begun {
  readonly control: Control
  readonly worker: Worker
  readonly watch: AlertWatch
}

/**
 * Takes runs and carries them out in this process: tasks that it knows, and all that `yardmaster worker` does. Once stopped it is
 * over; `work` gives another one.
 */
export class Working implements Service {
  readonly #surroundings: WorkSurroundings
  readonly #host: string
  readonly #slots: number
  readonly #grace: number
  #starting: Promise<Begun> | undefined
  #stopping: Promise<void> | undefined

  /** Throws `wrong_usage`. */
  constructor(surroundings: WorkSurroundings, { host = hostname(), slots = 4, grace = '30 s' }: WorkOptions) {
    if (!Number.isInteger(slots) || slots < 1 || slots > 1000) {
      throw new Failure('wrong_usage', {
        message: `slots is ${slots}; it must be a whole number from 1 to 1000.`,
        object: 'slots',
        remedy: 'For example: yardmaster.work({ slots: 8 })',
      })
    }
    this.#surroundings = surroundings
    this.#host = host
    this.#slots = slots
    this.#grace = parseDuration(grace, 'grace')
  }

  /** Runs that are under way. */
  async running(): Promise<number> {
    return (await this.#starting)?.worker.running ?? 0
  }

  /** Resolves when it takes work. Twice is fine. Throws what opening the control database throws, and `wrong_usage`. */
  async start(): Promise<void> {
    if (this.#stopping !== undefined) {
      throw new Failure('wrong_usage', {
        message: 'This worker was stopped.',
        object: this.#host,
        remedy: 'Make another one: yardmaster.work()',
      })
    }
    this.#starting ??= this.#begin()
    await this.#starting
  }

  /** Takes nothing more, lets runs end within the grace period, then breaks them off and gives them back. Twice is fine. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end()
    return this.#stopping
  }

  async #begin(): Promise<Begun> {
    const { open, environment, tasks, logger, ordinal } = this.#surroundings
    const control = await open()
    const say = (line: string) => logger.warn(line)
    try {
      await ownHost(control, this.#host, 'host')
      const name = `${this.#host}#${process.pid}${ordinal === 1 ? '' : `.${ordinal}`}`
      const identity = { name, host: this.#host, slots: this.#slots }
      const place = {
        control,
        environment,
        tasks,
        signal: new AbortController().signal,
        recorder: new RunRecorder(control, identity),
        streams: 1,
      }
      const worker = new Worker(place, { slots: this.#slots, grace: this.#grace, say })
      const watch = new AlertWatch(control, { say })
      await worker.start()
      await watch.start()
      return { control, worker, watch }
    } catch (error) {
      await control.close()
      throw error
    }
  }

  async #end(): Promise<void> {
    const begun = await this.#starting?.catch(() => undefined)
    if (!begun) return
    await Promise.all([begun.watch.stop(), begun.worker.stop()])
    await begun.control.close()
  }
}
