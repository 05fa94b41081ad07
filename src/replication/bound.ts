import type { ControlColumn } from './definition.ts'
import type { Mark } from './mark.ts'
import type { Level } from './reporter.ts'
import type { SourceRead } from './source-read.ts'

/** What one look at the source allows the next refresh to read. */
export interface Bound {
  /** Up to where it may be read; null: nothing beyond what is there already. Never below the position's mark. */
  readonly mark: Mark | null
  /**
   * Seconds by which a copy up to `mark` is behind the source's clock; where that is null, a copy up to the position's.
   * Null where nothing tells: serial columns with a fixed boundary.
   */
  readonly behind: number | null
  /** The interval that a fixed boundary, also one in place of `auto`, leaves out on purpose; absent for the others. */
  readonly leavesOut?: string
  /** What people should know: why `auto` was not used, who holds the bound back. */
  readonly note: string | undefined
  readonly level: Level
  /** Kept in the position between refreshes, as it is; plain JSON. */
  readonly memory: BoundMemory
  /** True where `memory` has to be stored even when there was nothing to copy: else what is in it never ripens. */
  readonly remember: boolean
  /**
   * Set after the source's clock or history went back: rows may have come below the position. Types with a key read again
   * from here up to `mark`, or up to the position's mark where that is null; the others can but tell (`note` does).
   */
  readonly overlap?: Mark
}

/** Samples that are not ripe yet, the source's identity and clock when it was last looked at (`source-clock.ts`). */
export type BoundMemory = Readonly<Record<string, unknown>>

/** The position, as the sampling needs it. */
export interface LastBound {
  readonly mark: Mark | null
  readonly memory: BoundMemory
}

/** Looks at the source, before the data's snapshot is taken. `last` is the position's mark, null at the first copy. */
export type SampleBound = (
  source: SourceRead,
  control: ControlColumn,
  last: LastBound,
  signal: AbortSignal,
) => Promise<Bound>
