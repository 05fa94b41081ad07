import { onTestFinished } from 'vitest'
import { RunRecorder } from '../../src/monitoring/run-recorder.ts'
import type { TaskHandler, Tasks } from '../../src/worker/tasks.ts'
import { Worker } from '../../src/worker/worker.ts'
import { openTestControl } from '../security/control-database.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

/** A control database with registered databases, and workers of it in the test's own process. */
export class JobCrew {
  readonly control: TestDatabase
  readonly said: string[] = []
  #workers = 0

  private constructor(control: TestDatabase) {
    this.control = control
  }

  /** `databases`: where each name leads to. */
  static async open(label: string, databases: Readonly<Record<string, string>> = {}): Promise<JobCrew> {
    const crew = new JobCrew(await createDatabase(`crew ${label}`))
    await openTestControl(crew.control.url)
    for (const [name, url] of Object.entries(databases)) {
      await crew.control.query('select yardmaster.add_database($1, $2)', [name, `env:${name.toUpperCase()}`])
      crew.#addresses.set(name.toUpperCase(), url)
    }
    return crew
  }

  readonly #addresses = new Map<string, string>()

  /** Leads a database somewhere else from now on. */
  move(name: string, url: string): void {
    this.#addresses.set(name.toUpperCase(), url)
  }

  /** A worker that takes what it can; it is stopped at the end of the test, or before. */
  async worker({
    slots = 4,
    grace = 1000,
    tasks,
  }: {
    slots?: number
    grace?: number
    tasks?: Readonly<Record<string, TaskHandler>>
  } = {}): Promise<Worker> {
    this.#workers += 1
    const control = await openTestControl(this.control.url)
    const identity = { name: `crew#${this.#workers}`, host: `h${this.#workers}`, slots }
    const worker = new Worker(
      {
        control,
        environment: (name) => this.#addresses.get(name),
        signal: new AbortController().signal,
        recorder: new RunRecorder(control, identity),
        streams: 1,
        ...(tasks ? { tasks: tasksOf(tasks) } : {}),
      },
      { slots, grace, say: (line) => void this.said.push(line) },
    )
    await worker.start()
    onTestFinished(() => worker.stop())
    return worker
  }

  /** Makes a job of a definition as `define_job` takes it. */
  async define(definition: Readonly<Record<string, unknown>>): Promise<number> {
    const [row] = await this.control.query<{ id: number }>('select yardmaster.define_job($1) as id', [
      JSON.stringify(definition),
    ])
    return row?.id ?? 0
  }

  /** Asks for a run of a job that runs in one place. */
  async request(jobId: number, params: object | null = null): Promise<string> {
    const [row] = await this.control.query<{ run: string }>('select (yardmaster.request_run($1, $2))[1] as run', [
      jobId,
      params === null ? null : JSON.stringify(params),
    ])
    return row?.run ?? ''
  }

  async runs(jobId: number): Promise<{ id: string; status: string; reason: string | null; message: string | null }[]> {
    return this.control.query('select id, status, reason, message from yardmaster.runs where job_id = $1 order by id', [
      jobId,
    ])
  }
}

function tasksOf(handlers: Readonly<Record<string, TaskHandler>>): Tasks {
  return new Map(Object.entries(handlers).map(([name, run]) => [name, { run, maxRuntime: 0 }]))
}
