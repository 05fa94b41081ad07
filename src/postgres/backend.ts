import pg from 'pg'
import type { ConnectionParts } from './connection-url.ts'
import type { FilteredConnection } from './filtered-connection.ts'
import { type Introduction, renewal, resumption } from './session-settings.ts'
import type { Side } from './sqlstate.ts'
import { StatementBatch } from './statement-batch.ts'
import { wireOf } from './wire.ts'

export type TlsOptions = false | Record<string, unknown>

/** Milliseconds that a request to cancel may take. */
const cancelPatience = 5000
/** Milliseconds that a server has to answer a connection's good-bye. */
const closePatience = 1000
/** Milliseconds that a server has to make a connection as new, or to say that it is. */
const renewalPatience = 2000

/** Takes the connections of sessions that were ended in health, instead of their being closed. */
export interface Keeper {
  /** Resolves when nothing of the session is left on the server. Never rejects. */
  keep(backend: Backend): Promise<void>
  /** Called when one of them broke without anybody having closed it, borrowed or kept. */
  lost(): void
}

/** One connection and the server process behind it. Several sessions may have it, one after the other. */
export class Backend {
  readonly client: pg.Client
  readonly connection: FilteredConnection
  readonly parts: ConnectionParts
  /** `server_version_num` / 10000. */
  major = 0
  /** Of the server process. */
  pid = 0
  /** When that process began, as `Introduction` has it. */
  started = ''
  /** By `performance.now()`. */
  readonly connectedAt = performance.now()
  /** Hears of it, once, when the connection breaks without anybody having closed it. */
  keeper: Pick<Keeper, 'lost'> | undefined
  readonly #tls: TlsOptions
  #settings: readonly string[] = []
  #standing = ''
  #closed = false
  #broken: Error | undefined
  readonly #onError = (error: Error) => {
    if (this.#broken) return
    this.#broken = error
    if (!this.#closed) this.keeper?.lost()
  }

  constructor(client: pg.Client, connection: FilteredConnection, parts: ConnectionParts, tls: TlsOptions) {
    this.client = client
    this.connection = connection
    this.parts = parts
    this.#tls = tls
    client.setMaxListeners(50)
    client.on('error', this.#onError)
  }

  introduced({ version, pid, started, settings, standing }: Introduction): void {
    this.major = Math.floor(Number(version) / 10000)
    this.pid = pid
    this.started = started
    this.#settings = settings
    this.#standing = standing
  }

  /** What broke the connection while nothing ran on it: whatever runs next is only told that it is broken. */
  get broken(): Error | undefined {
    return this.#broken
  }

  /** Nothing is known against it, and no bytes are under way. */
  get isQuiet(): boolean {
    const { stream, filter } = this.connection
    const still = stream.writableLength === 0 && !stream.isPaused() && filter.sink === undefined
    return still && !this.#broken && !this.#closed && !stream.destroyed
  }

  /**
   * Makes the connection as new: no transaction, no session lock, temporary table, cursor, prepared statement, LISTEN, no
   * role but its own, settings as `connect` makes them. False when it can't be used any more.
   */
  async renew(): Promise<boolean> {
    this.client.removeAllListeners()
    this.client.on('error', this.#onError)
    const renewed = await this.#within(renewalPatience, () => StatementBatch.run(this.client, renewal(this.#settings)))
    return renewed && this.client.getTransactionStatus() === 'I' && this.isQuiet
  }

  /** Readies a renewed connection for its next session. False when it is dead, or what let us in may no longer stand. */
  async resume(side: Side, purpose: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { text, values } = resumption(side, purpose)
    const query = { text, values: [...values], queryMode: 'extended' } as pg.QueryConfig
    let standing: string | undefined
    const answered = await this.#within(
      renewalPatience,
      async () => {
        standing = (await this.client.query<{ standing: string }>(query)).rows[0]?.standing
      },
      signal,
    )
    return answered && standing === this.#standing && this.isQuiet
  }

  /** Whether `work` succeeded in time; the connection is cut when it did not. */
  async #within(patience: number, work: () => Promise<void>, signal?: AbortSignal): Promise<boolean> {
    const cut = () => this.destroy()
    const timer = setTimeout(cut, patience)
    signal?.addEventListener('abort', cut)
    try {
      signal?.throwIfAborted()
      await work()
      return true
    } catch {
      this.destroy()
      return false
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', cut)
    }
  }

  /** At once when something still runs on it. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true
    const closing = this.client.end().catch(() => undefined)
    const grace = new Promise<void>((resolve) => setTimeout(resolve, closePatience).unref())
    await Promise.race([closing, grace])
    this.connection.stream.destroy()
  }

  /** Cuts the connection without a word, as a crash would. */
  destroy(): void {
    this.#closed = true
    this.connection.stream.destroy()
  }

  /**
   * Asks the server to cancel what runs, by a connection of its own. Resolves when the server has taken the request, or
   * after five seconds; never rejects.
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
}
