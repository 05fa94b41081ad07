import type { ControlColumn } from './definition.ts'
import type { Level } from './reporter.ts'
import type { SourceRead } from './source-read.ts'

/** How far a copy goes: every row whose control value is below `value` is there; with `inclusive`, equal ones too. */
export interface Mark {
  /** As the source prints it in the control column's type, with our fixed settings (ISO, UTC). Never a JavaScript number. */
  readonly value: string
  readonly inclusive: boolean
}

/** What one look at the source allows the next refresh to read. */
export interface Bound {
  /** Up to where it may be read; null: nothing beyond what is there already. */
  readonly mark: Mark | null
  /** Seconds by which the mark is behind the source's clock; null for serial columns. */
  readonly behind: number | null
  /** What people should know: why `auto` was not used, who holds the bound back. */
  readonly note: string | undefined
  readonly level: Level
  /** Kept in the position between refreshes, as it is; plain JSON. */
  readonly memory: BoundMemory
}

/** Samples that are not ripe yet, the source's identity and clock when it was last looked at. */
export type BoundMemory = Readonly<Record<string, unknown>>

/** Looks at the source, before the data's snapshot is taken. `last` is the position's mark, null at the first copy. */
export type SampleBound = (
  source: SourceRead,
  control: ControlColumn,
  last: { readonly mark: Mark | null; readonly memory: BoundMemory },
  signal: AbortSignal,
) => Promise<Bound>
