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
  /**
   * Aborted when the run is cancelled, takes longer than its `max_runtime`, or its worker stops. Whoever does not return within
   * 5 s from then has the run ended for him, and is waited for no more; his slot stays taken until he returns.
   */
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

/** A function that jobs may run. */
export interface Task {
  readonly run: TaskHandler
  /** Milliseconds that a run may take, also where its job allows more; 0: as long as its job allows. */
  readonly maxRuntime: number
}

/** Tasks by name. */
export type Tasks = ReadonlyMap<string, Task>
