import { spawn } from 'node:child_process'
import { open, readlink, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Binaries } from './binaries.ts'
import { readIfThere } from './durable-file.ts'
import { processStart } from './process-start.ts'
import { type Account, programEnvironment } from './program.ts'

/** A running server, as `postmaster.pid` in its data directory tells of it. */
export interface Postmaster {
  pid: number
  port: number
  /** `ready` once it accepts connections; `starting` also for as long as it recovers from a crash. */
  status: string
}

export type StopMode = 'smart' | 'fast' | 'immediate'

const stopSignals = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const
const pollMs = 15

/** The server that runs in `data`; undefined when none does, also when a killed one left its file behind. */
export async function findPostmaster(data: string): Promise<Postmaster | undefined> {
  const lines = (await readIfThere(join(data, 'postmaster.pid')))?.split('\n')
  const pid = Number(lines?.[0])
  if (lines === undefined || !(pid > 0) || !(await isPostmaster(pid, data))) return undefined
  return { pid, port: Number(lines[3]), status: lines[7]?.trim() ?? '' }
}

/** A process id is used again, above all after the machine was restarted; a postmaster works in its data directory. */
async function isPostmaster(pid: number, data: string): Promise<boolean> {
  if (processStart(pid) === undefined) return false
  if (process.platform !== 'linux') return true
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(data))
  } catch (error) {
    // Another user's process: it cannot be told, so it is taken for the server, and the login decides.
    return (error as NodeJS.ErrnoException).code === 'EACCES'
  }
}

/** The server that runs in `data`, once it has recovered; undefined when there is none, or none any more once it stopped. */
export async function settledPostmaster(
  data: string,
  deadline: number,
  signal?: AbortSignal,
): Promise<Postmaster | undefined> {
  for (;;) {
    const running = await findPostmaster(data)
    if (running === undefined || running.status === 'ready' || Date.now() > deadline) return running
    signal?.throwIfAborted()
    await delay(pollMs)
  }
}

/**
 * Whether a killed server left its file behind. It is removed when its process id now belongs to somebody else, for then
 * PostgreSQL itself would refuse to start. Only under the mutex and only when `findPostmaster` found none.
 */
export async function removeStalePidFile(data: string): Promise<boolean> {
  const file = join(data, 'postmaster.pid')
  const text = await readIfThere(file)
  const pid = Number(text?.split('\n')[0])
  if (pid > 0 && processStart(pid) !== undefined && !(await isPostmaster(pid, data))) await rm(file, { force: true })
  return text !== undefined
}

/** Why a server ended before it was ready. */
export interface EarlyEnd {
  ended: string
}

/**
 * Starts a server and waits until it is ready; otherwise leaves nothing running. It has a session of its own, so that neither the end of this process nor
 * Ctrl-C on its terminal reaches it, and writes to `log` only. Listens on 127.0.0.1, on no other address or socket.
 */
export async function launchPostmaster(
  options: {
    binaries: Binaries
    account: Account | undefined
    data: string
    config: string
    log: string
    port: number
  },
  deadline: number,
  signal?: AbortSignal,
): Promise<Postmaster | EarlyEnd> {
  const log = await open(options.log, 'a', 0o600)
  const address = { listen_addresses: '127.0.0.1', port: String(options.port), unix_socket_directories: '' }
  const settings = { config_file: options.config, ...address }
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(join(options.binaries.directory, 'bin', 'postgres'), ['-D', options.data, ...args], {
    ...options.account,
    cwd: '/',
    env: programEnvironment,
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  })
  const end = { reason: undefined as string | undefined }
  child.once('error', ({ message }) => Object.assign(end, { reason: message }))
  child.once('exit', (code, name) => Object.assign(end, { reason: name ?? `exit code ${code}` }))
  child.unref()
  let ready: Postmaster | undefined
  try {
    while (end.reason === undefined) {
      const running = await findPostmaster(options.data)
      if (running?.pid === child.pid && running?.status === 'ready') {
        ready = running
        return running
      }
      signal?.throwIfAborted()
      if (Date.now() > deadline) return { ended: 'not ready in time' }
      await delay(pollMs)
    }
    return { ended: end.reason }
  } finally {
    if (ready === undefined) child.kill('SIGQUIT')
    while (ready === undefined && end.reason === undefined) await delay(pollMs)
    await log.close()
  }
}

/**
 * Stops a server and waits until its process is gone. One that has not stopped after `limitMs` (a replication client that
 * takes nothing any more can hold up a fast stop for ever) is stopped at once; its next start recovers.
 */
export async function stopPostmaster(postmaster: Postmaster, mode: StopMode, limitMs = 60_000): Promise<void> {
  const start = processStart(postmaster.pid)
  if (start === undefined) return
  let deadline = Date.now() + limitMs
  signalProcess(postmaster.pid, stopSignals[mode])
  while (processStart(postmaster.pid) === start) {
    if (Date.now() > deadline) {
      signalProcess(postmaster.pid, 'SIGQUIT')
      deadline = Number.POSITIVE_INFINITY
    }
    await delay(pollMs)
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
