import { chmod, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedServer } from '../../src/embedded/embedded-server.ts'
import { processStart } from '../../src/embedded/process-start.ts'

/** What the tests of one run share; `global-setup.ts` provides it, test files `inject` it. */
declare module 'vitest' {
  interface ProvidedContext {
    /** Of the PostgreSQL 18 server of this run, database `postgres`, superuser. */
    postgresUrl: string
    /** Of this run; holds the servers' directories. */
    runDirectory: string
  }
}

/** Without fsync: the tests kill processes, not the machine. */
export const testSettings = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '300',
  max_prepared_transactions: '10',
  wal_level: 'logical',
  max_wal_senders: '40',
  max_replication_slots: '40',
  log_lock_waits: 'on',
}

const prefix = 'yardmaster-test-'

/** A directory for this run's servers, which the user that PostgreSQL runs under may pass through. */
export async function makeRunDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-${processStart(process.pid)}-`))
  await chmod(directory, 0o711)
  return directory
}

/** Stops every server in a run's directory and removes it. */
export async function removeRunDirectory(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => [])
  for (const name of names) await removeServer(join(directory, name))
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
}

/** Stops the server of this directory, if one runs, and removes the directory. */
export async function removeServer(directory: string): Promise<void> {
  await new EmbeddedServer({ directory }).stop({ mode: 'immediate' })
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
}

/** Removes the directories of runs that were killed. Those of other users stay. */
export async function removeDeadRuns(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const [pid, start] = name.startsWith(prefix) ? name.slice(prefix.length).split('-') : []
    if (pid === undefined || start === undefined || processStart(Number(pid)) === start) continue
    if ((await stat(join(tmpdir(), name))).uid !== process.getuid?.()) continue
    await removeRunDirectory(join(tmpdir(), name)).catch((error) => console.warn(`left behind: ${name}: ${error}`))
  }
}
