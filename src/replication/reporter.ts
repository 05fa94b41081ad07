/** Levels of a step or a run, mildest first. */
export type Level = 'OK' | 'WARNING' | 'CRITICAL'

export interface StepReport {
  /** Live figures for whoever watches; `totalRows` is an estimate. */
  progress(figures: { rows: number; bytes: number; totalRows?: number | undefined }): void
  /** Ends the step. */
  done(message?: string, level?: Level): void
}

/** What a replication tells the world while it works. Whoever starts it (CLI, worker, demo) hands one in. */
export interface Reporter {
  /** Opens a step; the one before must have ended. A step that is still open when the run fails ends with its error. */
  step(action: string): StepReport
}

/** What a refresh came to. */
export interface RefreshResult {
  readonly level: Level
  readonly reason: 'skipped' | 'locked' | 'nothing_new' | 'trimmed' | null
  /** False when the destination is as it was before, for lack of a lock. */
  readonly tookEffect: boolean
  readonly message: string
  readonly rows: number
  readonly bytes: number
  /** What the copy holds from here on; absent where the refresh found out nothing about that. */
  readonly reach?: Reach
}

/** How far a copy goes. */
export interface Reach {
  /** For people: the bound of an incremental type, in its column's text; null for the others. */
  readonly position: string | null
  /** When the source was looked at, by `performance.now()` of this process. */
  readonly sampledAt: number
  /** Seconds by which the copy was behind the source at that moment, by the source's clock. */
  readonly behind: number
  /** The part of it that is so on purpose, as an interval; absent for none. */
  readonly leavesOut?: string
}
