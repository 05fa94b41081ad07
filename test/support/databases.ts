import { chmod, mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, inject } from 'vitest'
import { type EmbeddedOptions, EmbeddedServer } from '../../src/embedded/embedded-server.ts'
import { processStart } from '../../src/embedded/process-start.ts'
import { removeServer, testSettings } from './test-run.ts'

/** A database of a test's own. It is dropped at the end of its test file, or kept when a test of the file failed. */
export interface TestDatabase {
  name: string
  /** Superuser. */
  url: string
  /** Runs one statement on a connection that this database keeps open, and returns its rows. */
  // biome-ignore lint/suspicious/noExplicitAny: rows of whatever a test asks for
  query<Row extends pg.QueryResultRow = any>(text: string, values?: unknown[]): Promise<Row[]>
  /** A connection more; closed at the end of the test file when the test does not. */
  client(): Promise<pg.Client>
  /** Drops it now, whoever is connected. Twice is fine. */
  drop(): Promise<void>
}

export interface DatabaseOptions {
  /** Default: `template0`, so that nothing a test left in `template1` gets in. */
  template?: string
}

/** A server that tests share; nobody stops it. */
export interface TestServer {
  /** Database `postgres`, superuser. */
  url: string
  createDatabase(label: string, options?: DatabaseOptions): Promise<TestDatabase>
}

const databases: { label: string; database: TestDatabase }[] = []
const privateDirectories: string[] = []
let count = 0

// Importing this file from a test file registers this once for that file.
// biome-ignore lint/correctness/noEmptyPattern: Vitest wants the fixtures destructured, and we need none
afterAll(async ({}, suite) => {
  for (const { label, database } of databases) {
    if (hasFailure(suite)) console.log(`kept after a failure: ${label}: ${database.url}`)
    else await database.drop()
  }
  for (const directory of privateDirectories) await removeServer(directory)
})

function hasFailure(task: { result?: { state: string } | undefined; tasks?: object[] }): boolean {
  return task.result?.state === 'fail' || (task.tasks ?? []).some(hasFailure)
}

/** A fresh database on the run's PostgreSQL 18. Its name holds the label, the process and a number. */
export function createDatabase(label: string, options: DatabaseOptions = {}): Promise<TestDatabase> {
  return createOn(inject('postgresUrl'), label, options)
}

/** The run's PostgreSQL 14: the first who asks starts it, the end of the run stops it. */
export async function postgres14(): Promise<TestServer> {
  const directory = join(inject('runDirectory'), 'pg14')
  const server = new EmbeddedServer({ directory, binaries: 'pg14', settings: testSettings })
  await server.start()
  const url = server.url()
  return { url, createDatabase: (label, options = {}) => createOn(url, label, options) }
}

/** A server of a test's own, to be killed and restarted; at the end of the test file it is gone. */
export interface PrivateServer extends TestServer {
  /** Process id of the postmaster; another one after each `restart`. */
  readonly pid: number
  readonly port: number
  readonly directory: string
  /** Sends a signal to the postmaster, and waits for its end if that is SIGKILL. */
  kill(signal: NodeJS.Signals): Promise<void>
  stop(mode?: 'smart' | 'fast' | 'immediate'): Promise<void>
  /** Starts it, on the same port; a running one is stopped before (`fast`). */
  restart(): Promise<void>
}

/** Default settings: those of the run's server (`fsync` off among them), with `settings` over them. */
export async function startServer(
  options: Pick<EmbeddedOptions, 'binaries' | 'settings' | 'port'> = {},
): Promise<PrivateServer> {
  const directory = await mkdtemp(join(inject('runDirectory'), 'private-'))
  await chmod(directory, 0o711)
  privateDirectories.push(directory)
  const settings = { ...testSettings, ...options.settings }
  const server = new EmbeddedServer({ ...options, directory, settings })
  await server.start()
  const url = server.url()
  let pid = server.pid
  return {
    url,
    directory,
    port: server.port,
    get pid() {
      return pid
    },
    createDatabase: (label, how = {}) => createOn(url, label, how),
    kill: async (signal) => {
      process.kill(pid, signal)
      while (signal === 'SIGKILL' && processStart(pid) !== undefined) await delay(5)
    },
    stop: (mode = 'fast') => server.stop({ mode }),
    restart: async () => {
      await server.stop()
      await server.start()
      if (server.url() !== url) throw new Error(`the port ${new URL(url).port} was taken meanwhile`)
      pid = server.pid
    },
  }
}

async function createOn(serverUrl: string, label: string, options: DatabaseOptions): Promise<TestDatabase> {
  const name = `t_${label
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .slice(0, 30)}_${process.pid}_${++count}`
  const { template = 'template0' } = options
  await onServer(serverUrl, `create database ${pg.escapeIdentifier(name)} template ${pg.escapeIdentifier(template)}`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  const database = openDatabase(name, url.href, serverUrl)
  databases.push({ label, database })
  return database
}

function openDatabase(name: string, url: string, serverUrl: string): TestDatabase {
  const clients: pg.Client[] = []
  let main: Promise<pg.Client> | undefined
  let dropped: Promise<void> | undefined
  const client = async () => {
    const opened = new pg.Client({ connectionString: url, application_name: 'yardmaster test' })
    // A server that a test kills, or a forced drop, breaks the connection; the next query says so.
    opened.on('error', () => {})
    await opened.connect()
    clients.push(opened)
    return opened
  }
  const drop = async () => {
    for (const open of clients) await open.end().catch(() => {})
    await onServer(serverUrl, `drop database if exists ${pg.escapeIdentifier(name)} with (force)`)
  }
  return {
    name,
    url,
    client,
    query: async (text, values) => {
      main ??= client()
      const result = await (await main).query(text, values)
      return result.rows
    },
    drop: () => {
      dropped ??= drop()
      return dropped
    },
  }
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 20_000 })
  client.on('error', () => {})
  await client.connect()
  await client.query(statement).finally(() => client.end())
}
