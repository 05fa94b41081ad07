import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import pg from 'pg'
import { Failure } from '../base/failure.ts'
import { type ConnectionParts, displayUrl, isLoopback } from './connection-url.ts'
import { CopyFrameFilter } from './copy-frames.ts'
import { type Sql, sql } from './sql.ts'
import { type Side, toFailure } from './sqlstate.ts'
import { wireOf } from './wire.ts'

/** Oldest and newest PostgreSQL that we work with. */
export const supportedMajors = { oldest: 14, newest: 18 } as const

export interface SessionOptions {
  readonly side: Side
  /** What the connection is for; shown in `pg_stat_activity` behind `yardmaster`. */
  readonly purpose: string
  /** What failures are said to have happened to. Default: the URL without its password. */
  readonly object?: string | undefined
  /** Milliseconds until a server that does not answer is given up. Default 10,000. */
  readonly connectTimeout?: number
}

/** Everything that would make a session of ours depend on a role's or a server's settings. */
const fixedSettings: Readonly<Record<string, string>> = {
  search_path: '',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  standard_conforming_strings: 'on',
  row_security: 'off',
  synchronous_commit: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  // A client that is gone is noticed by the server within seconds, also in the middle of a long statement.
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '5',
  tcp_user_timeout: '20000',
  client_connection_check_interval: '2000',
}

/** What one read takes from a socket at most. Fewer, larger reads cost less; one buffer a session keeps memory flat. */
const readBytes = 256 * 1024

/**
 * The driver's connection with the frame filter before its parser. Without TLS its socket reads into one buffer that is
 * used again and again; with TLS each read brings a buffer of its own.
 */
class FilteredConnection extends pg.Connection {
  readonly filter: CopyFrameFilter

  constructor(config: pg.ConnectionConfig) {
    const filter = new CopyFrameFilter()
    const receive = (bytes: Buffer) => {
      try {
        filter.push(bytes)
      } catch (error) {
        this.stream.destroy(error as Error)
      }
    }
    const onread = {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      callback: (length: number, buffer: Uint8Array) => {
        receive((buffer as Buffer).subarray(0, length))
        return true
      },
    }
    super(config.ssl ? config : ({ ...config, stream: new Socket({ onread }) } as unknown as pg.ConnectionConfig))
    this.filter = filter
    this.#receive = receive
  }

  readonly #receive: (bytes: Buffer) => void

  /** The driver hands its socket over here when there is something to read. */
  attachListeners(stream: NodeJS.EventEmitter): void {
    const attach = (pg.Connection.prototype as unknown as { attachListeners(stream: unknown): void }).attachListeners
    attach.call(this, this.filter)
    stream.on('data', this.#receive)
  }
}

/** One session. Queries reject with a `Failure`; a broken connection rejects what runs and what follows. */
export class Session {
  readonly client: pg.Client
  readonly connection: FilteredConnection
  readonly side: Side
  readonly object: string
  readonly parts: ConnectionParts
  /** `server_version_num` / 10000. */
  major = 0
  /** Backend pid on the server. */
  pid = 0
  #ended = false

  constructor(client: pg.Client, connection: FilteredConnection, parts: ConnectionParts, options: SessionOptions) {
    this.client = client
    this.connection = connection
    this.parts = parts
    this.side = options.side
    this.object = options.object ?? displayUrl(parts)
  }

  /** Runs one statement. A statement without values goes by the extended protocol too, so it can never be two. */
  async query<Row extends object = Record<string, unknown>>(statement: Sql): Promise<Row[]> {
    try {
      const result = await this.client.query({
        text: statement.text,
        values: [...statement.values],
        queryMode: 'extended',
      } as pg.QueryConfig)
      return result.rows as Row[]
    } catch (error) {
      throw this.failure(error)
    }
  }

  /** The first row, or undefined. */
  async first<Row extends object = Record<string, unknown>>(statement: Sql): Promise<Row | undefined> {
    return (await this.query<Row>(statement))[0]
  }

  /** Exactly one row. */
  async one<Row extends object = Record<string, unknown>>(statement: Sql): Promise<Row> {
    const row = await this.first<Row>(statement)
    if (!row) throw new Failure('internal_error', { message: 'A query gave no row.', object: this.object })
    return row
  }

  /** Several statements of our own making at once (simple protocol). Never for text that anybody else wrote. */
  async script(text: string): Promise<void> {
    try {
      await this.client.query(text)
    } catch (error) {
      throw this.failure(error)
    }
  }

  failure(error: unknown): Failure {
    return toFailure(error, { side: this.side, object: this.object })
  }

  get isEnded(): boolean {
    return this.#ended
  }

  /** Closes the session, at once when something still runs on it. Never throws. */
  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    const close = this.client.end().catch(() => undefined)
    const grace = new Promise<void>((resolve) => setTimeout(resolve, 1000).unref())
    await Promise.race([close, grace])
    this.connection.stream.destroy()
  }

  /** Asks the server to cancel what runs on this session, by a connection of its own. Never waits, never throws. */
  cancel(): void {
    const key = this.client as unknown as { processID: number; secretKey: number }
    const request = new pg.Connection({ ssl: tlsOptions(this.parts) } as pg.ConnectionConfig)
    const wire = wireOf(request)
    request.on('error', () => undefined)
    request.on('connect', () =>
      this.parts.sslMode === 'disable' ? wire.cancel(key.processID, key.secretKey) : wire.requestSsl(),
    )
    request.on('sslconnect', () => wire.cancel(key.processID, key.secretKey))
    const { host, port } = this.parts
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
    setTimeout(() => request.stream.destroy(), 5000).unref()
  }

  /** Cuts the connection without a word, as a crash would. */
  destroy(): void {
    this.#ended = true
    this.connection.stream.destroy()
  }
}

/**
 * Opens a session with fixed settings. Throws `…_unreachable`, `authentication_failed`, `database_missing`,
 * `version_unsupported`, `pooler_refused`, `tls_failed`, `password_unprotected`.
 */
export async function connect(parts: ConnectionParts, options: SessionOptions): Promise<Session> {
  const ssl = tlsOptions(parts)
  const connection = new FilteredConnection({
    ssl,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5000,
  } as pg.ConnectionConfig)
  const client = new pg.Client({
    host: parts.host,
    port: parts.port,
    user: parts.user,
    database: parts.database,
    ssl,
    connection,
    connectionTimeoutMillis: options.connectTimeout ?? 10_000,
    application_name: applicationName(options.purpose),
    ...(parts.password === undefined ? {} : { password: parts.password }),
  } as pg.ClientConfig)
  const session = new Session(client, connection, parts, options)
  refuseOpenPassword(connection, parts)
  client.on('error', () => undefined)
  client.setMaxListeners(50)
  try {
    await client.connect()
    await prepareSession(session)
    return session
  } catch (error) {
    session.destroy()
    throw session.failure(error)
  }
}

/** PostgreSQL cuts application names at 63 bytes; ours say what for. */
export function applicationName(purpose: string): string {
  return `yardmaster ${purpose}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 63)
}

async function prepareSession(session: Session): Promise<void> {
  const names = Object.keys(fixedSettings)
  const row = await session.one<{ version: string; pid: number }>(sql`
    select current_setting('server_version_num') as version, pg_catalog.pg_backend_pid() as pid,
      (select count(pg_catalog.set_config(s.name, w.value, false))
       from unnest(${names}::text[], ${Object.values(fixedSettings)}::text[]) as w(name, value)
       join pg_catalog.pg_settings s on lower(s.name) = lower(w.name)) as settings`)
  session.major = Math.floor(Number(row.version) / 10000)
  session.pid = row.pid
  const { oldest, newest } = supportedMajors
  if (session.major < oldest || session.major > newest) {
    throw new Failure('version_unsupported', {
      message: `The server is PostgreSQL ${session.major}; versions ${oldest} to ${newest} are supported.`,
      object: session.object,
    })
  }
  const announced = (session.client as unknown as { processID: number }).processID
  if (announced !== row.pid) {
    throw new Failure('pooler_refused', {
      message: `The connection to ${session.parts.host}:${session.parts.port} runs through a pooler (it announced process ${announced}, the server's is ${row.pid}).`,
      object: session.object,
    })
  }
}

function tlsOptions(parts: ConnectionParts): false | Record<string, unknown> {
  if (parts.sslMode === 'disable') return false
  const options: Record<string, unknown> = { rejectUnauthorized: parts.sslMode !== 'require' }
  if (parts.sslMode === 'verify-ca') options.checkServerIdentity = () => undefined
  if (parts.sslRootCert !== undefined) {
    try {
      options.ca = readFileSync(parts.sslRootCert, 'utf8')
    } catch (error) {
      throw new Failure('tls_failed', {
        message: `The certificate ${parts.sslRootCert} cannot be read: ${(error as Error).message}`,
        object: displayUrl(parts),
        cause: error,
      })
    }
  }
  return options
}

function refuseOpenPassword(connection: pg.Connection, parts: ConnectionParts): void {
  if (parts.sslMode !== 'disable' || isLoopback(parts.host)) return
  for (const request of ['authenticationCleartextPassword', 'authenticationMD5Password']) {
    connection.prependListener(request, () => {
      connection.stream.destroy()
      connection.removeAllListeners(request)
      connection.emit(
        'error',
        new Failure('password_unprotected', {
          message: `${parts.host} asks for the password ${request.includes('MD5') ? 'as MD5' : 'in clear text'} over plain TCP; it was not sent.`,
          object: displayUrl(parts),
        }),
      )
    })
  }
}
