import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedServer } from '../src/embedded/embedded-server.ts'
import { connect, type Session } from '../src/postgres/connect.ts'
import { parseConnectionUrl } from '../src/postgres/connection-url.ts'
import { type Cost, measure } from './measured-process.ts'

const main = new URL('../src/cli/main.ts', import.meta.url).pathname

/** A folder of a benchmark's own with its servers, databases and processes; all of it goes when the benchmark ends. */
export class BenchSite {
  readonly folder: string
  readonly #cleanups: (() => Promise<unknown>)[] = []

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'yardmaster-bench-'))
    chmodSync(this.folder, 0o711)
  }

  /** An embedded server with fsync on. Without settings it is as the program itself would start it. */
  async server(name: string, settings: Record<string, string> = {}): Promise<EmbeddedServer> {
    const server = new EmbeddedServer({ directory: join(this.folder, name), settings })
    await server.start()
    this.atEnd(() => server.stop())
    return server
  }

  async database(server: EmbeddedServer, name: string): Promise<string> {
    const session = await this.session(server.url())
    await session.script(`create database ${name}`)
    return server.url(name)
  }

  async session(url: string): Promise<Session> {
    const session = await connect(parseConnectionUrl(url), { side: 'database', purpose: 'bench' })
    this.atEnd(() => session.end())
    return session
  }

  /** `yardmaster` with these arguments, to its end. */
  async command(controlUrl: string, args: string, environment: Readonly<Record<string, string>> = {}): Promise<Cost> {
    return measure(programLine(this.folder, args), { ...environment, YARDMASTER_CONTROL_URL: controlUrl })
  }

  /** A `yardmaster worker` that takes work. */
  async worker(controlUrl: string, name: string, slots: number): Promise<WorkerProcess> {
    const child = spawn(
      process.execPath,
      [main, '--data-dir', join(this.folder, 'data'), 'worker', '--host', name, '--slots', String(slots)],
      { env: { ...process.env, YARDMASTER_CONTROL_URL: controlUrl }, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    const worker = new WorkerProcess(child)
    this.atEnd(() => worker.stop())
    await worker.ready
    return worker
  }

  /** Called in the opposite order. */
  atEnd(cleanup: () => Promise<unknown>): void {
    this.#cleanups.unshift(cleanup)
  }

  async end(): Promise<void> {
    for (const cleanup of this.#cleanups) await cleanup().catch((error: unknown) => console.error(error))
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The program as a line for a shell; `folder` holds its keys. */
export function programLine(folder: string, args: string): string {
  return `"${process.execPath}" "${main}" --data-dir "${join(folder, 'data')}" --json ${args}`
}

class WorkerProcess {
  readonly ready: Promise<void>
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>

  constructor(child: ChildProcess) {
    this.#child = child
    this.#ended = once(child, 'exit')
    const ready = Promise.withResolvers<void>()
    this.ready = ready.promise
    let said = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (said.includes('takes work')) return
      said += text
      if (said.includes('takes work')) ready.resolve()
    })
    child.once('exit', (code) => ready.reject(new Error(`The worker ended with ${code}: ${said}`)))
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM')
    await this.#ended
  }
}

/** User and system CPU seconds of a server: its postmaster, the processes under it, and those that have ended. */
export function serverCpu(postmaster: number): number {
  let ticks = 0
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const fields = statFields(Number(name))
    if (Number(name) === postmaster) ticks += sum(fields.slice(11, 15))
    else if (Number(fields[1]) === postmaster) ticks += sum(fields.slice(11, 13))
  }
  // USER_HZ, 100 on every Linux.
  return ticks / 100
}

/** User and system CPU seconds of one process. */
export function processCpu(pid: number): number {
  return sum(statFields(pid).slice(11, 13)) / 100
}

/** The fields of /proc/PID/stat behind the name; none for a process that has ended. */
function statFields(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

function sum(fields: readonly string[]): number {
  return fields.reduce((total, field) => total + Number(field), 0)
}

/** The value below which that share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}
