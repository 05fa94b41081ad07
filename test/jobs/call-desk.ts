import { randomUUID } from 'node:crypto'
import { type CallOutcome, type CallSurroundings, callJob, type JobCall } from '../../src/jobs/call.ts'
import type { EarlierSession } from '../../src/jobs/fence.ts'
import type { Level, NextStart } from '../../src/jobs/notices.ts'
import type { ServerProcess } from '../../src/jobs/server-process.ts'
import { connect, type Session } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'

/** A step as a run's log would have it. */
export interface Step {
  readonly action: string
  message: string | undefined
  level: Level | undefined
  readonly reports: { rows: number; bytes: number; message?: string }[]
}

export interface CallChoice extends Partial<JobCall> {
  earlier?: readonly EarlierSession[]
  signal?: AbortSignal
  onStepEnd?: () => void
  /** The way to the target; default: the database's own URL. */
  url?: string
  connector?: (purpose: string) => Promise<Session>
  /** Called with each session's process before it is claimed; false: the attempt is over. */
  claim?: (process: ServerProcess) => Promise<boolean> | boolean
}

/** Calls jobs in one database, in the test's own process and without a control database, and keeps what they said. */
export class CallDesk {
  readonly url: string
  readonly controlId: string = randomUUID()
  readonly steps: Step[] = []
  readonly nextStarts: NextStart[] = []
  readonly unknowns: string[] = []
  readonly processes: ServerProcess[] = []
  #run = 100_000

  constructor(url: string) {
    this.url = url
  }

  /** A new run of job 1000, attempt 1, unless something else is said. */
  async call(choice: CallChoice): Promise<CallOutcome> {
    const {
      earlier: _earlier,
      signal: _signal,
      url: _url,
      connector: _connector,
      claim: _claim,
      onStepEnd: _onStepEnd,
      ...call
    } = choice
    this.#run += 1
    return callJob(
      {
        controlId: this.controlId,
        jobId: 1000,
        runId: String(this.#run),
        attempt: 1,
        applicationName: 'User-Defined Action [1000]',
        kind: 'procedure',
        procSchema: 'public',
        procName: null,
        statements: null,
        config: null,
        params: null,
        maxRuntime: 0,
        overlaps: false,
        ...call,
      },
      this.#surroundings(choice),
    )
  }

  /** Calls one procedure or function by its name in `public`. */
  async proc(procName: string, choice: CallChoice = {}): Promise<CallOutcome> {
    return this.call({ procName, ...choice })
  }

  async sql(statements: readonly string[], choice: CallChoice = {}): Promise<CallOutcome> {
    return this.call({ kind: 'sql', procSchema: null, statements, ...choice })
  }

  /** The last session as an attempt that the control database has given up left it. */
  left(attemptIsOver = true): EarlierSession[] {
    return this.processes.slice(-1).map((process) => ({ ...process, attemptIsOver, who: 'attempt 1 on worker a' }))
  }

  connector(url = this.url) {
    return (purpose: string) => connect(parseConnectionUrl(url), { side: 'database', purpose, object: 'warehouse' })
  }

  #surroundings({ earlier, signal, url, connector, claim, onStepEnd }: CallChoice): CallSurroundings {
    return {
      connector: connector ?? this.connector(url),
      reporter: {
        step: (action) => {
          const step: Step = { action, message: undefined, level: undefined, reports: [] }
          this.steps.push(step)
          return {
            progress: (news) => void step.reports.push({ ...news }),
            done: (message, level = 'OK') => {
              step.message = message
              step.level = level
              onStepEnd?.()
            },
          }
        },
      },
      claimSession: async (pid, backendStart) => {
        this.processes.push({ pid, backendStart })
        return { mine: (await claim?.({ pid, backendStart })) ?? true, earlier: earlier ?? [] }
      },
      nextStart: (start) => void this.nextStarts.push(start),
      unknown: (reason) => void this.unknowns.push(reason),
      signal: signal ?? new AbortController().signal,
    }
  }
}
