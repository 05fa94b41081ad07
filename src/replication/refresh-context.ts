import type { Replication } from './definition.ts'
import type { Connector } from './link.ts'
import type { Reporter } from './reporter.ts'

/** Everything that a refresh needs from whoever starts it: plain values, two connections, and somebody to tell. */
export interface RefreshContext {
  readonly replication: Replication
  /** The control database's id: the destination checks that no other drives it. */
  readonly controlId: string
  /** Token of the attempt that this is. */
  readonly token: string
  readonly connector: Connector
  readonly reporter: Reporter
  readonly signal: AbortSignal
  /** Streams that read a large source side by side. Default of the option: 2. */
  readonly streams: number
  /** Copy even if nothing seems to have changed. */
  readonly force: boolean
  /** Milliseconds to wait for another refresh of the same destination; Infinity for ever. */
  readonly wait: number
  /** Drive a destination that another control database drove. */
  readonly takeOver: boolean
  /** Most rows of this refresh, in place of the definition's; null for the definition's. Incremental types only. */
  readonly limit: number | null
  /** Copy again what was copied; null for what is new. Incremental types only. */
  readonly repull: Repull | null
  /** Whether the attempt with this token is over: a session that it left in the destination may be ended. */
  readonly isOver: (token: string) => Promise<boolean>
}

/** A range of control values, from `start` to before `end`; null leaves that end open, both null: everything. */
export interface Repull {
  readonly start: string | null
  readonly end: string | null
}
