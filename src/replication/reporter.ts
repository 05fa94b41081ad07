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
  readonly reason: 'skipped' | 'locked' | null
  /** False when the destination is as it was before, for lack of a lock. */
  readonly tookEffect: boolean
  readonly message: string
  readonly rows: number
  readonly bytes: number
}
