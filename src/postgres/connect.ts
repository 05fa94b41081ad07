import { readFileSync } from 'node:fs'
import pg from 'pg'
import { Failure } from '../base/failure.ts'
import { type ConnectionParts, displayUrl, isLoopback } from './connection-url.ts'
import { FilteredConnection } from './filtered-connection.ts'
import { quoteIdentifier } from './identifier.ts'
import { findPassword } from './password-file.ts'
import { type Sql, sql } from './sql.ts'
import { isConnectionLoss, type Side, toFailure } from './sqlstate.ts'
import { wireOf } from './wire.ts'

/** Oldest and newest PostgreSQL that we work with. */
const supportedMajors = { oldest: 14, newest: 18 } as const

export interface SessionOptions {
  readonly side: Side
  /** What the connection is for; shown in `pg_stat_activity` behind `yardmaster`. */
  readonly purpose: string
  /** What failures are said to have happened to. Default: the URL without its password. */
  readonly object?: string | undefined
  /** Milliseconds until a server that does not answer is given up. Default 10,000. */
  readonly connectTimeout?: number
  /** Its abort ends the attempt at once; an open session does not listen to it. */
  readonly signal?: AbortSignal | undefined
  /** Where a password is looked up that the URL lacks. Default: `.pgpass` in the home of this process's user. */
  readonly passwordFile?: string | undefined
}

/** Iterations of a SCRAM exchange that we compute at most (half a second). PostgreSQL's own default is 4096. */
const maxScramIterations = 1_000_000

/** Milliseconds that a request to cancel may take. */
const cancelPatience = 5000

/** Everything that would make a session of ours depend on a role's or a server's settings. */
const fixedSettings: Readonly<Record<string, string>> = {
  search_path: '',
  // Nothing of ours shows notices; a view may raise one for each row.
  client_min_messages: 'error',
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
  /** Statements that the server has been told in full, and has not answered yet (`stall-watch.ts`). */
  awaited = 0
  readonly #tls: TlsOptions
  /** What broke the connection while nothing ran on it: whatever runs next is only told that it is broken. */
  #broken: Error | undefined
  #ended = false
  #last = Promise.resolve()

  constructor(
    client: pg.Client,
    connection: FilteredConnection,
    parts: ConnectionParts,
    options: SessionOptions,
    tls: TlsOptions,
  ) {
    this.#tls = tls
    this.client = client
    client.on('error', (error) => {
      this.#broken ??= error
    })
    this.connection = connection
    this.parts = parts
    this.side = options.side
    this.object = options.object ?? displayUrl(parts)
  }

  /** Runs one statement. A statement without values goes by the extended protocol too, so it can never be two. */
  async query<Row extends object = Record<string, unknown>>(statement: Sql): Promise<Row[]> {
    const { text, values } = statement
    const query = { text, values: [...values], queryMode: 'extended' } as pg.QueryConfig
    return (await this.#run(() => this.client.query(query))).rows as Row[]
  }

  /** One after the other: the driver's own queue is going away (pg 9), and it says so on stderr. */
  async #run<Result>(work: () => Promise<Result>): Promise<Result> {
    const before = this.#last
    const turn = Promise.withResolvers<void>()
    this.#last = turn.promise
    await before
    this.awaited += 1
    try {
      return await work()
    } catch (error) {
      throw this.failure(error)
    } finally {
      this.awaited -= 1
      turn.resolve()
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
    await this.#run(() => this.client.query(text))
  }

  failure(error: unknown): Failure {
    const general =
      error instanceof Error && /not queryable|^Connection terminated|Client was closed/.test(error.message)
    const first = this.connection.violation ?? (general ? this.#broken : undefined)
    return toFailure(error instanceof Failure ? error : (first ?? error), { side: this.side, object: this.object })
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

  /**
   * Asks the server to cancel what runs on this session, by a connection of its own. Resolves when the server has taken the
   * request, or after five seconds; never rejects.
   */
  cancel(): Promise<void> {
    const key = this.client as unknown as { processID: number; secretKey: number }
    const request = new pg.Connection({ ssl: this.#tls } as pg.ConnectionConfig)
    const wire = wireOf(request)
    request.on('error', () => undefined)
    request.on('connect', () =>
      this.parts.sslMode === 'disable' ? wire.cancel(key.processID, key.secretKey) : wire.requestSsl(),
    )
    request.on('sslconnect', () => wire.cancel(key.processID, key.secretKey))
    const { host, port } = this.parts
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
    return new Promise((resolve) => {
      const giveUp = setTimeout(() => request.stream.destroy(), cancelPatience).unref()
      // The server closes a cancel request's connection when it has taken it.
      request.once('end', () => {
        clearTimeout(giveUp)
        request.stream.destroy()
        resolve()
      })
    })
  }

  /** Cuts the connection without a word, as a crash would. */
  destroy(): void {
    this.#ended = true
    this.connection.stream.destroy()
  }
}

/**
 * Opens a session with fixed settings. Throws `…_unreachable`, `authentication_failed`, `permission_denied`,
 * `database_missing`, `too_many_connections`, `version_unsupported`, `pooler_refused`, `tls_failed`,
 * `password_unprotected`, `protocol_violated`.
 */
export async function connect(parts: ConnectionParts, options: SessionOptions): Promise<Session> {
  const tls = tlsOptions(parts)
  const connection = new FilteredConnection({
    ssl: tls,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5000,
  } as pg.ConnectionConfig)
  const session = new Session(newClient(parts, options, connection, tls), connection, parts, options, tls)
  refuseOpenPassword(session)
  session.client.setMaxListeners(50)
  const patience = options.connectTimeout ?? 10_000
  let expired = false
  // Until our first statements are answered: a server that lets us in and then says nothing is as good as none.
  const timer = setTimeout(() => {
    expired = true
    connection.stream.destroy(new Error('timeout expired'))
  }, patience)
  const onAbort = () => connection.stream.destroy(new Error('aborted'))
  options.signal?.addEventListener('abort', onAbort)
  try {
    options.signal?.throwIfAborted()
    await session.client.connect()
    await prepareSession(session)
    return session
  } catch (error) {
    session.destroy()
    if (options.signal?.aborted)
      throw new Failure('cancelled', { message: 'Cancelled.', object: session.object, cause: error })
    throw explain(session, session.failure(error), expired ? patience : undefined)
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', onAbort)
  }
}

function newClient(parts: ConnectionParts, options: SessionOptions, connection: pg.Connection, ssl: TlsOptions) {
  const client = new pg.Client({
    host: parts.host,
    port: parts.port,
    user: parts.user,
    database: parts.database,
    ssl,
    sslnegotiation: 'postgres',
    connection,
    scramMaxIterations: maxScramIterations,
    application_name: applicationName(options.purpose),
    password: () => passwordFor(parts, options),
  } as pg.ClientConfig)
  // The driver fills these from PGOPTIONS and PGREPLICATION; nothing but the URL decides what a session is.
  const parameters = (client as unknown as { connectionParameters: { options?: string; replication?: string } })
    .connectionParameters
  delete parameters.options
  delete parameters.replication
  return client
}

function passwordFor(parts: ConnectionParts, options: SessionOptions): string {
  if (parts.password !== undefined) return parts.password
  const { file, password, ignored } = findPassword(parts, options.passwordFile)
  if (password !== undefined) return password
  const why = ignored === undefined ? `nor has ${file} one for it` : `and ${file} was not read: ${ignored}`
  throw new Failure('authentication_failed', {
    message: `${parts.host}:${parts.port} asks for the password of ${parts.user}; the URL has none, ${why}.`,
    object: options.object ?? displayUrl(parts),
  })
}

/** What the server or the socket said, with what is needed to do something about it. */
function explain(session: Session, failure: Failure, waited: number | undefined): Failure {
  const { parts, object } = session
  const address = parts.host.startsWith('/') ? parts.host : `${parts.host}:${parts.port}`
  const detail = { object, cause: failure.cause, retryable: failure.retryable, sqlstate: failure.sqlstate }
  if (waited !== undefined) {
    const message = `${address} did not answer within ${waited / 1000} s.`
    return new Failure(`${session.side}_unreachable`, { ...detail, message, retryable: true })
  }
  if (failure.code === 'permission_denied') {
    const remedy = `As its owner or an administrator: GRANT CONNECT ON DATABASE ${quoteIdentifier(parts.database)} TO ${quoteIdentifier(parts.user)};`
    return new Failure('permission_denied', { ...detail, message: failure.message, remedy })
  }
  if (isConnectionLoss(failure) || failure.code === 'tls_failed')
    return new Failure(failure.code, { ...detail, message: `${address}: ${failure.message}` })
  return failure
}

/** PostgreSQL cuts application names at 63 bytes; ours say what for. */
function applicationName(purpose: string): string {
  return `yardmaster ${purpose}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 63)
}

async function prepareSession(session: Session): Promise<void> {
  // First and by itself: until then names resolve by whatever path the role or the database was given.
  await session.query(sql`select pg_catalog.set_config('search_path', '', false)`)
  const settings = { ...fixedSettings, default_transaction_read_only: session.side === 'source' ? 'on' : 'off' }
  const names = Object.keys(settings)
  const row = await session.one<{ version: string; pid: number }>(sql`
    select current_setting('server_version_num') as version, pg_catalog.pg_backend_pid() as pid,
      (select count(pg_catalog.set_config(s.name, w.value, false))
       from unnest(${names}::text[], ${Object.values(settings)}::text[]) as w(name, value)
       join pg_catalog.pg_settings s on lower(s.name) = lower(w.name)) as settings`)
  session.major = Math.floor(Number(row.version) / 10000)
  session.pid = row.pid
  const { oldest, newest } = supportedMajors
  if (!(session.major >= oldest && session.major <= newest)) {
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

type TlsOptions = false | Record<string, unknown>

/** `require` with a CA verifies it, as libpq does. */
function tlsOptions(parts: ConnectionParts): TlsOptions {
  if (parts.sslMode === 'disable') return false
  const verifies = parts.sslMode !== 'require' || parts.sslRootCert !== undefined
  const options: Record<string, unknown> = { rejectUnauthorized: verifies }
  if (parts.sslMode !== 'verify-full') options.checkServerIdentity = () => undefined
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

function refuseOpenPassword({ connection, parts, object }: Session): void {
  if (parts.sslMode !== 'disable' || isLoopback(parts.host)) return
  for (const request of ['authenticationCleartextPassword', 'authenticationMD5Password']) {
    connection.prependListener(request, () => {
      connection.stream.destroy()
      connection.removeAllListeners(request)
      connection.emit(
        'error',
        new Failure('password_unprotected', {
          message: `${parts.host}:${parts.port} asks for the password ${request.includes('MD5') ? 'as MD5' : 'in clear text'} over plain TCP; it was not sent.`,
          object,
        }),
      )
    })
  }
}
