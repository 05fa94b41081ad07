/** What a task is told of the run that it carries out. */
export interface TaskContext {
  readonly jobId: number
  readonly runId: string
  /** 1 for the first attempt at the run. */
  readonly attempt: number
  /** What the run was due for. */
  readonly slot: Date
  /** Name of the registered database that the job runs in; null where it has none. */
  readonly database: string | null
  /** Aborted when the run is cancelled, takes longer than its `max_runtime`, or its worker stops. */
  readonly signal: AbortSignal
  /** Opens a step of the run; the one before ends. */
  step(action: string): void
  /** Says how far the open step is. */
  progress(figures: { readonly rows?: number; readonly bytes?: number; readonly message?: string }): void
  /** The run ends with this level at least. */
  level(level: 'WARNING' | 'CRITICAL', message?: string): void
  /** When the job is to start next: a time, or `infinity` for never. */
  nextStart(at: Date | 'infinity'): void
}

/** Carries out one run. What it returns is not kept; what it throws fails the run. */
export type TaskHandler = (payload: unknown, context: TaskContext) => Promise<unknown> | unknown

/** Tasks by name. */
export type Tasks = ReadonlyMap<string, TaskHandler>
