import { randomUUID } from 'node:crypto'
import { connect, type Session } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { parseQualifiedName } from '../../src/postgres/identifier.ts'
import { definitionDefaults, type Replication, type ReplicationType } from '../../src/replication/definition.ts'
import type { Connector } from '../../src/replication/link.ts'
import { refreshReplication } from '../../src/replication/refresh.ts'
import type { Repull } from '../../src/replication/refresh-context.ts'
import { type RemovalMode, removeFromDestination } from '../../src/replication/removal.ts'
import type { Level, RefreshResult } from '../../src/replication/reporter.ts'
import { planSetup } from '../../src/replication/setup.ts'
import { type CountedRange, type Validation, validateReplication } from '../../src/replication/validation.ts'

/** A step as a run's log would have it. */
export interface Step {
  action: string
  message: string | undefined
  level: Level
}

export interface Refreshed extends RefreshResult {
  steps: readonly Step[]
  /** Milliseconds. */
  took: number
}

export interface RefreshChoice {
  /** Default: false. */
  force?: boolean
  /** Default: 1, so one stream. */
  streams?: number
  limit?: number
  repull?: Repull
  signal?: AbortSignal
  /** Hears of each step before what it stands for begins. The refresh does not wait for what it starts. */
  onStep?: (action: string) => void
  /** Sees each session before the refresh gets it, to put something between its statements. */
  onSession?: (session: Session, side: 'source' | 'destination') => void | Promise<void>
  /** Fails the refresh as if its worker had died: no clean-up beyond closed sessions. Default: a new one. */
  token?: string
}

/** URLs of a source and a destination; the same one twice is fine. */
export interface Ends {
  readonly source: { readonly url: string }
  readonly destination: { readonly url: string }
}

const controlId = randomUUID()

/** One replication, refreshed in the test's own process and without a control database. */
export class Refresher {
  readonly ends: Ends
  replication: Replication

  constructor(ends: Ends, type: ReplicationType, source: string, changes: Partial<Replication> & { to?: string } = {}) {
    const { to = source, ...more } = changes
    this.ends = ends
    this.replication = {
      ...definitionDefaults,
      jobId: 1,
      id: randomUUID(),
      type,
      sourceDatabase: 'crm',
      source: parseQualifiedName(source),
      destinationDatabase: 'dwh',
      destination: parseQualifiedName(to),
      swapWait: 5000,
      status: 'setting_up',
      version: 1,
      ...more,
    }
  }

  /** Changes the definition, as `replication set` does. */
  set(changes: Partial<Replication>): void {
    this.replication = { ...this.replication, ...changes }
  }

  /** What a set-up checks before it changes anything. */
  async plan() {
    return planSetup(this.replication, controlId, this.#connector({}), new AbortController().signal)
  }

  /** The first one finishes the set-up. Throws what the refresh throws. */
  async refresh(choice: RefreshChoice = {}): Promise<Refreshed> {
    const steps: Step[] = []
    const started = Date.now()
    const result = await refreshReplication({
      replication: this.replication,
      controlId,
      token: choice.token ?? randomUUID(),
      connector: this.#connector(choice),
      reporter: {
        step: (action) => {
          const step: Step = { action, message: undefined, level: 'OK' }
          steps.push(step)
          choice.onStep?.(action)
          return {
            progress: () => undefined,
            done: (message, level = 'OK') => {
              step.message = message
              step.level = level
            },
          }
        },
      },
      signal: choice.signal ?? new AbortController().signal,
      streams: choice.streams ?? 1,
      force: choice.force ?? false,
      wait: 10_000,
      takeOver: false,
      limit: choice.limit ?? null,
      repull: choice.repull ?? null,
      isOver: async () => false,
    })
    if (this.replication.status === 'setting_up' && result.tookEffect) this.set({ status: 'active' })
    return { ...result, steps, took: Date.now() - started }
  }

  async remove(mode: RemovalMode): Promise<void> {
    await removeFromDestination(this.replication, controlId, mode, this.#connector({}), new AbortController().signal)
  }

  async validate(range?: CountedRange): Promise<Validation> {
    return validateReplication(this.replication, this.#connector({}), new AbortController().signal, range)
  }

  #connector(choice: RefreshChoice): Connector {
    return async (side, purpose) => {
      const object = side === 'source' ? this.replication.sourceDatabase : this.replication.destinationDatabase
      const session = await connect(parseConnectionUrl(this.ends[side].url), { side, purpose, object })
      await choice.onSession?.(session, side)
      return session
    }
  }
}
