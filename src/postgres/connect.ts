import { readFileSync } from 'node:fs'
import pg from 'pg'
import { Failure } from '../base/failure.ts'
import { Backend, type Keeper, type TlsOptions } from './backend.ts'
import { type ConnectionParts, displayUrl, isLoopback } from './connection-url.ts'
import { FilteredConnection } from './filtered-connection.ts'
import { quoteIdentifier } from './identifier.ts'
import { findPassword } from './password-file.ts'
import { Pipeline } from './pipeline.ts'
import { applicationName, type Introduction, introduce } from './session-settings.ts'
import { type Sql, sql } from './sql.ts'
import { isConnectionLoss, type Side, toFailure } from './sqlstate.ts'

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
  /** Takes the connection when the session is ended in health. Default: it is closed. */
  readonly keeper?: Keeper | undefined
}

/** Iterations of a SCRAM exchange that we compute at most (half a second). PostgreSQL's own default is 4096. */
const maxScramIterations = 1_000_000

/**
 * One session. Queries reject with a `Failure`; a broken connection rejects what runs and what follows. A session that was
 * ended stays ended, also where its connection lives on as another session.
 */
export class Session {
  readonly side: Side
  readonly object: string
  /** Statements that the server has been told in full, and has not answered yet (`stall-watch.ts`). */
  awaited = 0
  readonly #backend: Backend
  readonly #keeper: Keeper | undefined
  #ended = false
  #givenBack = false
  #cancelled = false
  #last = Promise.resolve()

  /** `backend` is as `connect` or `Backend.resume` left it. */
  constructor(backend: Backend, options: SessionOptions) {
    this.#backend = backend
    this.#keeper = options.keeper
    this.side = options.side
    this.object = options.object ?? displayUrl(backend.parts)
  }

  get parts(): ConnectionParts {
    return this.#backend.parts
  }

  /** `server_version_num` / 10000. */
  get major(): number {
    return this.#backend.major
  }

  /** Backend pid on the server. */
  get pid(): number {
    return this.#backend.pid
  }

  /** When the server process began: `2030-01-31T02:30:00.000000Z`. */
  get started(): string {
    return this.#backend.started
  }

  /** Throws where the connection is somebody else's by now. */
  get client(): pg.Client {
    this.#requireOwn()
    return this.#backend.client
  }

  /** Throws where the connection is somebody else's by now. */
  get connection(): FilteredConnection {
    this.#requireOwn()
    return this.#backend.connection
  }

  #requireOwn(): void {
    if (!this.#givenBack) return
    throw new Failure('internal_error', { message: 'A session was used after its end.', object: this.object })
  }

  /** Runs one statement. A statement without values goes by the extended protocol too, so it can never be two. */
  async query<Row extends object = Record<string, unknown>>(statement: Sql): Promise<Row[]> {
    const { text, values } = statement
    const query = { text, values: [...values], queryMode: 'extended' } as pg.QueryConfig
    return (await this.#run(() => this.client.query(query))).rows as Row[]
  }

  /** Runs one statement that changes rows. Returns how many. */
  async affected(statement: Sql): Promise<number> {
    const { text, values } = statement
    const query = { text, values: [...values], queryMode: 'extended' } as pg.QueryConfig
    return (await this.#run(() => this.client.query(query))).rowCount ?? 0
  }

  /**
   * Runs several in one round trip, and in one transaction where none is open; gives the rows of each. Where one fails,
   * what follows it is not run.
   */
  async queries<Rows extends object[][]>(statements: { readonly [Index in keyof Rows]: Sql }): Promise<Rows> {
    return (await this.#run(() => Pipeline.run(this.client, statements))) as Rows
  }

  /** One after the other: the driver's own queue is going away (pg 9), and it says so on stderr. */
  async #run<Result>(work: () => Promise<Result>): Promise<Result> {
    const before = this.#last
    const turn = Promise.withResolvers<void>()
    this.#last = turn.promise
    await before
    this.awaited += 1
    try {
      this.#requireOwn()
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
    const { connection, broken } = this.#backend
    const general =
      error instanceof Error && /not queryable|^Connection terminated|Client was closed/.test(error.message)
    const first = this.#givenBack ? undefined : (connection.violation ?? (general ? broken : undefined))
    return toFailure(error instanceof Failure ? error : (first ?? error), { side: this.side, object: this.object })
  }

  get isEnded(): boolean {
    return this.#ended
  }

  /**
   * Ends the session: when this resolves, its transaction is over, and its locks and temporary tables are gone. The
   * connection is closed, at once when something still runs on it, or goes back to its keeper. Never throws.
   */
  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    if (!this.#keeper || this.#cancelled || this.awaited > 0 || !this.#backend.isQuiet) return this.#backend.close()
    this.#givenBack = true
    await this.#keeper.keep(this.#backend)
  }

  /**
   * Asks the server to cancel what runs on this session, by a connection of its own. Resolves when the server has taken the
   * request, or after five seconds; never rejects.
   */
  async cancel(): Promise<void> {
    if (this.#givenBack) return
    // It may arrive late, and must not hit whoever has the connection next.
    this.#cancelled = true
    await this.#backend.cancel()
  }

  /** Cuts the connection without a word, as a crash would. */
  destroy(): void {
    this.#ended = true
    if (!this.#givenBack) this.#backend.destroy()
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
  const backend = new Backend(newClient(parts, options, connection, tls), connection, parts, tls)
  const session = new Session(backend, options)
  refuseOpenPassword(session)
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
    await prepareSession(session, backend)
    backend.keeper = options.keeper
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

async function prepareSession(session: Session, backend: Backend): Promise<void> {
  // First and by itself: until then names resolve by whatever path the role or the database was given.
  await session.query(sql`select pg_catalog.set_config('search_path', '', false)`)
  const introduction = await session.one<Introduction>(introduce(session.side))
  backend.introduced(introduction)
  const { oldest, newest } = supportedMajors
  if (!(session.major >= oldest && session.major <= newest)) {
    throw new Failure('version_unsupported', {
      message: `The server is PostgreSQL ${session.major}; versions ${oldest} to ${newest} are supported.`,
      object: session.object,
    })
  }
  const announced = (session.client as unknown as { processID: number }).processID
  if (announced !== session.pid) {
    throw new Failure('pooler_refused', {
      message: `The connection to ${session.parts.host}:${session.parts.port} runs through a pooler (it announced process ${announced}, the server's is ${session.pid}).`,
      object: session.object,
    })
  }
}

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
