import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import type { Backend, Keeper } from '../postgres/backend.ts'
import { connect, Session, type SessionOptions } from '../postgres/connect.ts'
import { type ConnectionParts, displayUrl } from '../postgres/connection-url.ts'
import { ConnectGate } from './connect-gate.ts'

export interface SessionPoolOptions {
  /** Idle connections to one database at most; the longest idle goes first. Default: 4. */
  readonly idleLimit?: number
  /** Milliseconds for which a connection is kept idle. Default: 60,000, above the usual schedules of 10 to 30 s. */
  readonly idleFor?: number
  /**
   * Milliseconds after its making for which a connection is used again. Default: 120,000: what no server tells (a name
   * that leads to another one since a fail-over, a password that was changed on a standby's primary) holds for that long.
   */
  readonly usedFor?: number
}

interface Idle {
  readonly backend: Backend
  readonly timer: NodeJS.Timeout
}

/**
 * Keeps the connections of sessions that have ended for those that follow, and keeps databases that are away from being
 * stormed. What is handed out is as new (`Backend.renew`), was asked a moment ago whether it still is welcome, and is
 * nobody else's. How many sessions are open at a time is up to those who open them.
 *
 * Works without `start`, and after `stop`: then nothing is kept.
 */
export class SessionPool implements Service {
  readonly #idleLimit: number
  readonly #idleFor: number
  readonly #usedFor: number
  /** By who connects where as whom; the longest idle first. */
  readonly #idle = new Map<string, Idle[]>()
  readonly #gates = new Map<string, ConnectGate>()
  #keeps = false

  constructor({ idleLimit = 4, idleFor = 60_000, usedFor = 120_000 }: SessionPoolOptions = {}) {
    this.#idleLimit = idleLimit
    this.#idleFor = idleFor
    this.#usedFor = usedFor
  }

  async start(): Promise<void> {
    this.#keeps = true
  }

  /** Closes what is idle; what is borrowed is closed by whoever has it. */
  async stop(): Promise<void> {
    this.#keeps = false
    await Promise.all([...this.#idle.keys()].map((key) => this.#drop(key)))
  }

  /**
   * A session as `connect` gives it; ended in health, its connection comes back. Throws what `connect` throws, also
   * without trying, while the database counts as dead (`ConnectGate`).
   */
  async open(parts: ConnectionParts, options: SessionOptions): Promise<Session> {
    const key = keyOf(parts, options)
    const keeper: Keeper = {
      keep: (backend) => this.#keep(key, backend),
      // One that breaks takes the idle ones with it: the next shows where the server is now.
      lost: () => void this.#drop(key),
    }
    const wanted = { ...options, keeper }
    const kept = await this.#resume(key, wanted)
    if (kept) return kept
    const asking = { side: options.side, object: options.object ?? displayUrl(parts), signal: options.signal }
    return this.#gate(key).pass(asking, () => this.#connect(parts, wanted))
  }

  async #resume(key: string, options: SessionOptions): Promise<Session | undefined> {
    const backend = this.#take(key)
    if (!backend) return undefined
    if (await backend.resume(options.side, options.purpose, options.signal)) return new Session(backend, options)
    await backend.close()
    if (options.signal?.aborted) throw new Failure('cancelled', { message: 'Cancelled.', object: options.object })
    // What became of one became of all.
    void this.#drop(key)
    return undefined
  }

  /** The one that was used last: the others become old, and go. */
  #take(key: string): Backend | undefined {
    const idle = this.#idle.get(key)?.pop()
    if (!idle) return undefined
    clearTimeout(idle.timer)
    if (this.#mayKeep(idle.backend)) return idle.backend
    void idle.backend.close()
    return this.#take(key)
  }

  async #connect(parts: ConnectionParts, options: SessionOptions): Promise<Session> {
    try {
      return await connect(parts, options)
    } catch (error) {
      // What we hold idle, for this database or others of the server, may be what fills it.
      const full = error instanceof Failure && error.code === 'too_many_connections'
      if (!full || !(await this.#dropServer(parts))) throw error
      return connect(parts, options)
    }
  }

  async #keep(key: string, backend: Backend): Promise<void> {
    if (!this.#mayKeep(backend) || !(await backend.renew()) || !this.#mayKeep(backend)) return backend.close()
    const idle = this.#idle.get(key) ?? []
    this.#idle.set(key, idle)
    idle.push({ backend, timer: setTimeout(() => void this.#closeIdle(key, backend), this.#idleFor) })
    const surplus = idle.length > this.#idleLimit ? idle[0] : undefined
    if (surplus) await this.#closeIdle(key, surplus.backend)
  }

  #mayKeep(backend: Backend): boolean {
    return this.#keeps && backend.isQuiet && performance.now() - backend.connectedAt < this.#usedFor
  }

  async #closeIdle(key: string, backend: Backend): Promise<void> {
    const idle = this.#idle.get(key) ?? []
    const at = idle.findIndex((one) => one.backend === backend)
    if (at === -1) return
    for (const { timer } of idle.splice(at, 1)) clearTimeout(timer)
    if (idle.length === 0) this.#idle.delete(key)
    await backend.close()
  }

  async #drop(key: string): Promise<void> {
    const idle = this.#idle.get(key) ?? []
    await Promise.all(idle.map(({ backend }) => backend).map((backend) => this.#closeIdle(key, backend)))
  }

  /** Closes what is idle on a server, in whichever database. False where nothing was. */
  async #dropServer({ host, port }: ConnectionParts): Promise<boolean> {
    const there = ({ backend }: Idle) => backend.parts.host === host && backend.parts.port === port
    const keys = [...this.#idle].filter(([, idle]) => idle.some(there)).map(([key]) => key)
    await Promise.all(keys.map((key) => this.#drop(key)))
    return keys.length > 0
  }

  #gate(key: string): ConnectGate {
    const known = this.#gates.get(key)
    if (known) return known
    for (const [old, gate] of this.#gates) if (gate.isForgettable) this.#gates.delete(old)
    const gate = new ConnectGate()
    this.#gates.set(key, gate)
    return gate
  }
}

/** Everything that decides where a connection leads and as whom; another password is another connection. */
function keyOf(parts: ConnectionParts, { passwordFile }: SessionOptions): string {
  const { host, port, user, password, database, sslMode, sslRootCert } = parts
  return JSON.stringify([host, port, user, password, database, sslMode, sslRootCert, passwordFile])
}
