import { chmod, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Binaries } from './binaries.ts'
import type { DataDirectory } from './data-directory.ts'
import { readIfThere, writeDurably } from './durable-file.ts'
import { portInUse, startFailed } from './embedded-failure.ts'
import { findFreePort, isFree } from './port.ts'
import { launchPostmaster, type Postmaster, removeStalePidFile, settledPostmaster } from './postmaster.ts'
import type { Account } from './program.ts'

/** How long processes of a killed server may keep its shared memory, in which time no other one starts. */
const orphansMs = 15_000
/** A log above this is set aside at the next start, as `server.log.1`. */
const logBytes = 16 * 1024 * 1024
const portAttempts = 10
/** How long the port of a killed server is waited for. */
const portMs = 3_000

interface LaunchOptions extends DataDirectory {
  binaries: Binaries
  account: Account | undefined
  port?: number | undefined
  settings?: Record<string, string> | undefined
  /** Milliseconds since the epoch. */
  deadline: number
}

/**
 * Starts the server of a directory in which none runs. Tries again while a port that was free is taken from us, and while
 * processes of a killed server are still there. Only under the mutex.
 *
 * Errors: `embedded_port_in_use`, `embedded_start_failed`, `disk_full`; those of the file system.
 */
export async function launch(options: LaunchOptions, signal?: AbortSignal): Promise<Postmaster> {
  const { directory, data } = options
  const log = join(directory, 'server.log')
  const config = await writeConfig(directory, options.settings)
  if (((await stat(log).catch(() => undefined))?.size ?? 0) > logBytes) await rename(log, `${log}.1`)
  const crashed = await removeStalePidFile(data)
  const patience = Math.min(options.deadline, Date.now() + (crashed ? orphansMs : 0))
  for (let attempt = 1; ; attempt++) {
    const port = await choosePort(directory, options.port, crashed)
    const started = await launchPostmaster({ ...options, config, log, port }, options.deadline, signal)
    if (!('ended' in started)) {
      await writeDurably(join(directory, 'port'), String(port))
      return started
    }
    // Somebody who was killed just after the spawn may have left a server on its way, which ours then gave way to.
    const other = await settledPostmaster(data, options.deadline, signal)
    if (other !== undefined) return other
    const taken = !(await isFree(port))
    if (taken && options.port !== undefined) throw portInUse(port, 'another program listens on it')
    if (!(taken && attempt < portAttempts) && Date.now() > patience) throw await startFailed(directory, started.ended)
    signal?.throwIfAborted()
    await delay(200)
  }
}

/**
 * Writes `server.conf`, which the server reads in place of its own file, and which has that one in it; what ALTER SYSTEM
 * sets comes after both. It is not in the data directory, where the server's user could put a link for root to follow.
 */
async function writeConfig(directory: string, given: Record<string, string> = {}): Promise<string> {
  const settings = { timezone: 'UTC', log_timezone: 'UTC', ...given }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
  const file = join(directory, 'server.conf')
  await writeFile(file, `include 'data/postgresql.conf'\n${lines.join('')}`)
  await chmod(file, 0o644)
  return file
}

/**
 * The port used last comes first, so that URLs which somebody wrote down stay right; processes of a killed server may hold
 * it for a moment.
 */
async function choosePort(directory: string, asked: number | undefined, crashed: boolean): Promise<number> {
  const wanted = asked ?? Number(await readIfThere(join(directory, 'port')))
  const patience = Date.now() + (crashed ? portMs : 0)
  while (wanted > 0) {
    if (await isFree(wanted)) return wanted
    if (Date.now() < patience) await delay(50)
    else if (asked === undefined) break
    else throw portInUse(asked, 'another program listens on it')
  }
  return findFreePort()
}
