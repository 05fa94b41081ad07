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
}
