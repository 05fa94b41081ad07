import type { ControlColumn } from './definition.ts'
import type { Mark } from './mark.ts'
import type { Remembered, SourceClock } from './source-clock.ts'
import type { SourceRead } from './source-read.ts'

/** What both kinds of bound go by. */
export interface Sampling {
  readonly source: SourceRead
  readonly control: ControlColumn
  readonly clock: SourceClock
  readonly last: Mark | null
  readonly before: Remembered
  /** Why what was remembered no longer holds; undefined where it does. */
  readonly broken: string | undefined
  readonly signal: AbortSignal
}
