import type { Control } from '../control/control.ts'
import type { Environment } from '../control/databases.ts'
import type { LiveStep } from '../monitoring/run-log.ts'
import type { RunRecorder } from '../monitoring/run-recorder.ts'
import type { LockWatch } from './lock-watch.ts'
import type { SessionPool } from './session-pool.ts'
import type { Tasks } from './tasks.ts'

/** Where and for whom runs are carried out in this process. */
export interface Workplace {
  readonly control: Control
  readonly environment: Environment
  readonly signal: AbortSignal
  /** Keeps the records of this process's runs. */
  readonly recorder: RunRecorder
  /** Streams that read a large source side by side. */
  readonly streams: number
  /** Keeps connections between runs; without it each session has one of its own. */
  readonly sessions?: SessionPool
  /** Sees who holds up calls that wait for a lock. */
  readonly locks?: LockWatch
  /** Tasks of the library's user that runs may call, by name. */
  readonly tasks?: Tasks
  /** A run that the signal breaks off goes back to the queue, for another worker. */
  readonly givesBack?: boolean
  /** Hears of steps and progress as they happen. */
  readonly onStep?: ((object: string, step: LiveStep) => void) | undefined
}
