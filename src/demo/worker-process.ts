import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** Runs that one worker carries out at once. */
const slots = 2
/** How long runs may go on when a demo ends; what is not done then is thrown away with everything else. */
const grace = '3 s'
/** Milliseconds after which a worker that was told to stop is killed. */
const stopPatience = 15_000

export interface WorkerProcessOptions {
  readonly host: string
  /** The demo's folder, which leads to its control database. */
  readonly directory: string
  readonly control: Control
  readonly streams: number
  /** All that the process gets of the environment. */
  readonly environment: Readonly<Record<string, string>>
  /** Hears when the process ends without being told to. */
  readonly onDeath: (sentence: string) => void
}

/**
 * `yardmaster worker` as a process of its own, as on any host. It ends with the demo however that ends: its input is a pipe
 * that nobody writes to, and whose end it sees (`--until-eof`). It is in a process group of its own, so that Ctrl-C reaches only the demo,
 * which ends it in order.
 */
export class WorkerProcess implements Service {
  readonly #options: WorkerProcessOptions
  #child: ChildProcess | undefined
  #ended: Promise<unknown> = Promise.resolve()
  #expected = false

  constructor(options: WorkerProcessOptions) {
    this.#options = options
  }

  get host(): string {
    return this.#options.host
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves when it is registered. One that has ended may be started again. */
  async start(signal?: AbortSignal): Promise<void> {
    const { environment } = this.#options
    this.#expected = false
    const log = await open(this.#log, 'a', 0o600)
    try {
      const stdio = ['pipe', log.fd, log.fd] as const
      this.#watch(spawn(process.execPath, this.#arguments(), { stdio: [...stdio], env: environment, detached: true }))
    } finally {
      await log.close()
    }
    while (!(await this.#isRegistered())) {
      if (!this.isRunning) throw await this.#failed()
      await delay(50, undefined, { signal })
    }
  }

  async stop(): Promise<void> {
    this.#expected = true
    if (!this.isRunning) return
    this.#child?.kill('SIGTERM')
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), stopPatience)
    await this.#ended
    clearTimeout(timer)
  }

  /** Ends it at once, as a crash does. */
  async kill(): Promise<void> {
    this.#expected = true
    this.#child?.kill('SIGKILL')
    await this.#ended
  }

  get #log(): string {
    return join(this.#options.directory, `worker-${this.host}.log`)
  }

  #arguments(): string[] {
    const { directory, streams } = this.#options
    // From the sources in a checkout, compiled in an installed package.
    const main = new URL(`../cli/main${extname(import.meta.url)}`, import.meta.url)
    const own = ['worker', '--host', this.host, '--slots', String(slots), '--grace', grace, '--until-eof']
    return [fileURLToPath(main), ...own, '--data-dir', directory, '--streams', String(streams)]
  }

  #watch(child: ChildProcess): void {
    this.#child = child
    child.stdin?.on('error', () => undefined)
    this.#ended = once(child, 'exit').catch(() => undefined)
    child.on('exit', (code, signal) => {
      if (this.#expected) return
      this.#options.onDeath(
        `Worker ${this.host} (process ${child.pid}) has ended, by ${signal ?? `exit code ${code}`}.`,
      )
    })
  }

  async #isRegistered(): Promise<boolean> {
    const row = await this.#options.control.perform(
      (session) =>
        session.one<{ there: boolean }>(
          sql`select exists (select from yardmaster.workers where name = ${`${this.host}#${this.pid}`} and alive) as there`,
        ),
      0,
    )
    return row.there
  }

  async #failed(): Promise<Failure> {
    this.#expected = true
    const log = await readFile(this.#log, 'utf8').catch(() => '')
    const why = log.trimEnd() === '' ? '' : ` Its last words:\n${log.trimEnd().split('\n').slice(-5).join('\n')}`
    return new Failure('internal_error', { message: `The worker ${this.host} did not start.${why}`, object: this.host })
  }
}
