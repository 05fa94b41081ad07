import { setTimeout as delay } from 'node:timers/promises'
import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { retryRun } from '../jobs/requests.ts'
import { cancelRun, getRun, listRuns, listSteps, type RunRow, type StepRow } from '../monitoring/run-history.ts'

/** Milliseconds between two looks at a run that is waited for. */
const lookEvery = 200

/** Which runs are listed. */
export interface RunFilter {
  readonly jobId?: number
  readonly status?: 'WAITING' | 'RUNNING' | 'OK' | 'WARNING' | 'CRITICAL'
  /** Default: 50. */
  readonly limit?: number
}

/** Runs of all jobs. Rows are as `yardmaster run list --json` has them. */
export class Runs {
  readonly #control: () => Promise<Control>

  constructor(control: () => Promise<Control>) {
    this.#control = control
  }

  /** Newest first. */
  async list(filter: RunFilter = {}): Promise<RunRow[]> {
    return listRuns(await this.#control(), { limit: 50, ...filter })
  }

  /** Throws `run_unknown`. */
  async get(id: string): Promise<RunRow> {
    return getRun(await this.#control(), id)
  }

  /** The steps of its newest attempt. Throws `run_unknown`. */
  async steps(id: string): Promise<StepRow[]> {
    const control = await this.#control()
    return listSteps(control, await getRun(control, id))
  }

  /**
   * Resolves to the run once it has ended, however it did: look at its `status`. The signal's abort rejects, and leaves the run
   * to the workers. Throws `run_unknown`.
   */
  async wait(id: string, signal?: AbortSignal): Promise<RunRow> {
    for (;;) {
      const control = await this.#control()
      await releaseLostWorkers(control)
      const run = await getRun(control, id)
      if (run.status !== 'WAITING' && run.status !== 'RUNNING') return run
      await delay(lookEvery, undefined, signal ? { signal } : {})
    }
  }

  /** Calls it off. One that runs ends as soon as whoever carries it out has seen that. */
  async cancel(id: string): Promise<void> {
    const control = await this.#control()
    await cancelRun(control, (await getRun(control, id)).id)
  }

  /** Runs once more what has ended; returns the new run's id. */
  async retry(id: string): Promise<string> {
    return retryRun(await this.#control(), id)
  }
}
