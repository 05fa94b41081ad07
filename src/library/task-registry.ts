import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'
import type { Task, TaskContext as WorkerContext } from '../worker/tasks.ts'
import { pointerOf, type StandardSchema } from './standard-schema.ts'

/** Faults of a payload that a message names. */
const mostFaults = 5

/** Where the library says what it does: `console` fits. */
export interface Logger {
  debug(message: string, details?: object): void
  info(message: string, details?: object): void
  warn(message: string, details?: object): void
  error(message: string, details?: object): void
}

/** What a task is told of its run, and what it may say of it. */
export interface TaskContext extends WorkerContext {
  /** The one that the library was opened with; each line has task, job, run and attempt in its details. */
  readonly logger: Logger
}

export interface TaskOptions<Schema extends StandardSchema = StandardSchema> {
  /** What the payload is checked against before the function is called: zod, or any other Standard Schema. Default: anything. */
  readonly payload?: Schema
  /** How long a run may take, as `'10 minutes'`, also where its job allows more. Default: as long as its job allows. */
  readonly maxRuntime?: string
}

/** Tasks of one process, by name. Those that come later are known to its workers at once. */
export class TaskRegistry {
  readonly tasks = new Map<string, Task>()
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** Throws `task_refused`, and `wrong_usage` for what is no interval. */
  add(
    name: string,
    { payload: schema, maxRuntime }: TaskOptions,
    run: (payload: unknown, context: TaskContext) => unknown,
  ): void {
    const fault = this.#faultOf(name)
    if (fault !== undefined) {
      throw new Failure('task_refused', {
        message: `No task can be registered as '${printable(name)}': ${fault}.`,
        object: printable(name),
        remedy: "Give each task a name of its own: yardmaster.task('send_report', …)",
      })
    }
    this.tasks.set(name, {
      maxRuntime: maxRuntime === undefined ? 0 : parseDuration(maxRuntime, 'maxRuntime'),
      run: async (payload, context) => {
        const details = { task: name, job: context.jobId, run: context.runId, attempt: context.attempt }
        return run(schema ? await fitting(name, schema, payload) : payload, {
          ...context,
          logger: withDetails(this.#logger, details),
        })
      },
    })
  }

  #faultOf(name: string): string | undefined {
    if (name === '' || name !== printable(name)) return 'it is no name'
    if (this.tasks.has(name)) return 'there is one already'
    return undefined
  }
}

/** The payload as its schema gives it back. Throws `payload_refused`. */
export async function fitting<Output>(
  name: string,
  schema: StandardSchema<unknown, Output>,
  payload: unknown,
): Promise<Output> {
  const result = await schema['~standard'].validate(payload)
  if (result.issues === undefined) return result.value
  const faults = result.issues
    .slice(0, mostFaults)
    .map((issue) => `${pointerOf(issue) || 'as a whole'}: ${printable(issue.message)}`)
  const more = result.issues.length > mostFaults ? `; and ${result.issues.length - mostFaults} more` : ''
  throw new Failure('payload_refused', {
    message: `The payload does not fit task ${name}: ${faults.join('; ')}${more}.`,
    object: name,
  })
}

function withDetails(logger: Logger, fixed: object): Logger {
  return {
    debug: (message, details) => logger.debug(message, { ...fixed, ...details }),
    info: (message, details) => logger.info(message, { ...fixed, ...details }),
    warn: (message, details) => logger.warn(message, { ...fixed, ...details }),
    error: (message, details) => logger.error(message, { ...fixed, ...details }),
  }
}
