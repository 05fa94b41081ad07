import { expect, onTestFinished } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type RunningCli, startCli } from '../support/process.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { DestinationRecord } from './destination-record.ts'
import { contentOf, makeGoods, type Stage, setStage } from './stage.ts'

export interface AttemptRow {
  run_id: string
  number: number
  host: string
  status: string
  started_at: Date
}

export interface WorkerSetup {
  /** Default: 4. */
  slots?: number
  /** Default: the program's own. */
  grace?: string
  /** Way to the control database. Default: straight. */
  control?: string
  crashAt?: string
}

/**
 * Real workers on a stage, whose source is behind a proxy: a load goes on for as long as `hold` says. The destination writes
 * down who changes its positions.
 */
export class Crew {
  readonly stage: Stage
  readonly proxy: FaultProxy
  readonly record: DestinationRecord

  constructor(stage: Stage, proxy: FaultProxy) {
    this.stage = stage
    this.proxy = proxy
    this.record = new DestinationRecord(stage.destination)
  }

  /** With `public.goods` of 5,000 rows and no replication yet. */
  static async muster(label: string, given: { control?: TestDatabase } = {}): Promise<Crew> {
    const source = await createDatabase(`${label} source`)
    const proxy = await startProxy(source.url)
    const crew = new Crew(await setStage(label, { ...given, source }, { source: proxy.url }), proxy)
    await makeGoods(source, 'large')
    return crew
  }

  /** Starts a worker and returns when it takes work. */
  async worker(host: string, setup: WorkerSetup = {}): Promise<RunningCli> {
    const worker = this.start(host, setup)
    await worker.waitForOutput(/takes work/)
    return worker
  }

  start(host: string, setup: WorkerSetup = {}): RunningCli {
    const { slots = 4, grace, control, crashAt } = setup
    const args = ['worker', '--host', host, '--slots', String(slots), ...(grace ? ['--grace', grace] : [])]
    const worker = startCli(args, {
      env: {
        ...this.stage.environment,
        ...(control ? { YARDMASTER_CONTROL_URL: control } : {}),
        ...(crashAt ? { YARDMASTER_CRASH_AT: crashAt } : {}),
      },
      deadlineMs: 600_000,
    })
    // One that stands still does not end by itself.
    onTestFinished(() => void worker.kill('SIGKILL'))
    return worker
  }

  /** From the next copy on, rows come slowly, until `release`. Resolves when a copy has begun. */
  hold(): Promise<void> {
    const copying = Promise.withResolvers<void>()
    this.proxy.when('toServer', 'copy (', () => {
      this.proxy.set('toClient', { kind: 'rate', bytesPerSecond: 40_000 })
      copying.resolve()
    })
    onTestFinished(() => this.release())
    return copying.promise
  }

  release(): void {
    this.proxy.set('both', { kind: 'pass' })
  }

  /** Asks for a refresh of every replication; returns the runs' ids. */
  async queue(options: Readonly<Record<string, unknown>> = { force: true }): Promise<string[]> {
    const rows = await this.stage.controlDatabase.query<{ id: string }>(
      `select yardmaster.queue_run(job_id, 'refresh', $1) as id from yardmaster.replications order by job_id`,
      [JSON.stringify(options)],
    )
    return rows.map((row) => row.id)
  }

  /** Of the runs that workers carry out, in order. */
  attempts(database: Pick<TestDatabase, 'query'> = this.stage.controlDatabase): Promise<AttemptRow[]> {
    return database.query<AttemptRow>(
      `select a.run_id, a.number, a.host, a.status, a.started_at from yardmaster.attempt a
       join yardmaster.run r on r.id = a.run_id where r.queued order by a.run_id, a.number`,
    )
  }

  /** Resolves when these attempts, and no others, are there. */
  async attemptsBecome(expected: Partial<AttemptRow>[], timeout = 30_000): Promise<void> {
    const become = expect.poll(() => this.attempts(), { timeout, interval: 20 }).toMatchObject(expected)
    await become.catch(async (error: unknown) => {
      console.log(await this.#whatGoesOn())
      throw error
    })
    expect(await this.attempts()).toHaveLength(expected.length)
  }

  /** For whoever looks at a failure: the open steps, and who waits for whom in the destination. */
  async #whatGoesOn(): Promise<unknown> {
    const steps = await this.stage.controlDatabase.query(
      `select attempt, action, status, started_at, message from yardmaster.steps order by attempt_id desc, ordinal desc limit 8`,
    )
    const sessions = await this.stage.destination.query(
      `select pid, state, wait_event, pg_blocking_pids(pid) as behind, application_name, left(query, 100) as query
       from pg_stat_activity where datname = current_database() and application_name <> 'yardmaster test'`,
    )
    return { steps, sessions }
  }

  /** The control server's clock. */
  async now(): Promise<Date> {
    const [row] = await this.stage.controlDatabase.query<{ now: Date }>('select clock_timestamp() as now')
    return row?.now ?? new Date(0)
  }

  /** Milliseconds from `since` until the last attempt began. */
  async takenOverAfter(since: Date): Promise<number> {
    const last = (await this.attempts()).at(-1)
    return (last?.started_at.getTime() ?? Number.POSITIVE_INFINITY) - since.getTime()
  }

  /** The copy is the source's, the record of the destination is in order, and nothing is said to go on. */
  async allIsWell(relation = 'copies.goods'): Promise<void> {
    expect(await this.stage.content(relation)).toBe(await contentOf(this.stage.source, 'public.goods'))
    await this.record.isInOrder()
    await this.stage.nothingRuns()
  }
}
