import { setTimeout as delay } from 'node:timers/promises'
import type { PrivateServer, TestDatabase } from '../support/databases.ts'
import type { RunningCli } from '../support/process.ts'
import type { FaultProxy } from '../support/proxy.ts'
import type { Random } from './random.ts'

/** A worker that is started anew whenever it was killed, and its way to the control database. */
export interface Victim {
  readonly host: string
  readonly control: FaultProxy
  running: RunningCli
  stopped: boolean
}

export interface Battlefield {
  readonly victims: readonly Victim[]
  /** Starts a worker again; does not wait until it takes work. */
  readonly revive: (victim: Victim) => void
  readonly sides: readonly { readonly database: TestDatabase; readonly proxy: FaultProxy }[]
  readonly controlServer: PrivateServer
}

const kinds = ['kill', 'stop', 'reset control', 'half-open control', 'end sessions', 'cut', 'half-open side'] as const
type Kind = (typeof kinds)[number]

/** Picks faults by a seed, and undoes each after a while. Every kind comes before any comes again. */
export class Nemesis {
  readonly history: string[] = []
  readonly #field: Battlefield
  readonly #random: Random
  readonly #longest: number
  readonly #healing = new Set<Promise<void>>()
  readonly #peace = new AbortController()
  #bag: Kind[] = []

  /** `longest`: milliseconds that a fault lasts at most. */
  constructor(field: Battlefield, random: Random, longest: number) {
    this.#field = field
    this.#random = random
    this.#longest = longest
  }

  async strike(): Promise<void> {
    if (this.#bag.length === 0) this.#bag = this.#random.shuffled(kinds)
    const kind = this.#bag.pop() as Kind
    const victim = this.#random.pick(this.#field.victims)
    const lasts = Math.round(500 + this.#random.next() * this.#longest)
    this.#note(`${kind} ${victim.host}, ${lasts} ms`)
    const undo = await this.#begin(kind, victim)
    if (!undo) return
    const healing = delay(lasts, undefined, { signal: this.#peace.signal })
      .catch(() => undefined)
      .then(undo)
    this.#healing.add(healing)
    void healing.finally(() => this.#healing.delete(healing))
  }

  /** The control server is stopped, away for a while, and started again. */
  async restartControl(): Promise<void> {
    this.#note('control server restarts')
    await this.#field.controlServer.restart()
  }

  /** Undoes every fault that lasts. */
  async rest(): Promise<void> {
    this.#peace.abort()
    await Promise.all(this.#healing)
    this.#note('peace')
  }

  #note(what: string): void {
    this.history.push(`${new Date().toISOString()} ${what}`)
  }

  /** Returns what undoes it, where it lasts. */
  async #begin(kind: Kind, victim: Victim): Promise<(() => void) | undefined> {
    const side = this.#random.pick(this.#field.sides)
    if (kind === 'kill') {
      await victim.running.kill('SIGKILL')
      victim.stopped = false
      this.#field.revive(victim)
      return undefined
    }
    if (kind === 'stop') return this.#stop(victim)
    if (kind === 'end sessions') {
      await side.database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name like 'yardmaster%' and application_name <> 'yardmaster test'
         and random() < 0.5`,
      )
      return undefined
    }
    if (kind === 'cut') {
      const direction = this.#random.pick(['toServer', 'toClient'] as const)
      side.proxy.set(direction, { kind: 'cut', afterBytes: Math.round(this.#random.next() * 20_000) })
      return undefined
    }
    const proxy = kind === 'half-open side' ? side.proxy : victim.control
    proxy.set('both', { kind: kind === 'reset control' ? 'reset' : 'half-open' })
    return () => proxy.set('both', { kind: 'pass' })
  }

  #stop(victim: Victim): () => void {
    const { pid } = victim.running
    process.kill(pid, 'SIGSTOP')
    victim.stopped = true
    return () => {
      if (victim.running.pid !== pid) return
      process.kill(pid, 'SIGCONT')
      victim.stopped = false
    }
  }
}
