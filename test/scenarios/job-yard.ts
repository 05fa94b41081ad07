import { afterAll, expect, onTestFinished } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type RunningCli, startCli } from '../support/process.ts'
import { JobLedger } from './job-ledger.ts'
import { reopened } from './stage.ts'

const key = '42'.repeat(32)
const yards: JobYard[] = []

afterAll(async () => {
  for (const yard of yards) await yard.control.close()
})

export interface TargetSetup {
  readonly name: string
  /** Default: one on the run's server. */
  readonly database?: TestDatabase
  /** Way to it; default: straight. */
  readonly url?: string
  /** It has our schema: functions take effect once. */
  readonly once?: boolean
  readonly tags?: readonly string[]
}

export interface RunRow {
  readonly id: string
  readonly status: string
  readonly reason: string | null
  readonly message: string | null
  readonly attempt: number | null
}

export interface WorkerSetup {
  /** Default: 4. */
  slots?: number
  grace?: string
  /** Way to the control database; default: straight. */
  control?: string
  crashAt?: string
}

/** Jobs in real databases, that write down what they do, and workers as processes of their own. */
export class JobYard {
  readonly control: Control
  readonly ledgers: ReadonlyMap<string, JobLedger>
  readonly controlUrl: string
  readonly #database: TestDatabase
  #open: TestDatabase

  private constructor(database: TestDatabase, control: Control, ledgers: ReadonlyMap<string, JobLedger>) {
    this.controlUrl = database.url
    this.#database = database
    this.#open = database
    this.control = control
    this.ledgers = ledgers
  }

  /** Default: one target, `crm`, that has our schema. */
  static async open(
    label: string,
    targets: readonly TargetSetup[] = [{ name: 'crm', once: true }],
    controlDatabase?: TestDatabase,
  ): Promise<JobYard> {
    const database = controlDatabase ?? (await createDatabase(`${label} control`))
    const control = await openControl({
      parts: parseConnectionUrl(database.url),
      actor: 'test@here',
      face: 'test',
      key: loadSecretKey({ text: key, file: '/nonexistent' }),
    })
    const ledgers = new Map<string, JobLedger>()
    for (const { name, database: given, url, once = false, tags = [] } of targets) {
      const target = given ?? (await createDatabase(`${label} ${name}`))
      ledgers.set(name, await JobLedger.keep(target, once))
      await addDatabase(control, name, url ?? target.url, [...tags])
    }
    const yard = new JobYard(database, control, ledgers)
    yards.push(yard)
    return yard
  }

  get ledger(): JobLedger {
    return [...this.ledgers.values()][0] as JobLedger
  }

  query<Row extends Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]> {
    return this.#open.query<Row>(text, values)
  }

  /** The control server was restarted: what stood there is gone. */
  forgetConnections(): void {
    this.#open = reopened(this.#database)
  }

  /** Makes a job of a definition, in the first target unless that says otherwise. */
  async job(definition: Readonly<Record<string, unknown>>): Promise<number> {
    const whole = { database: [...this.ledgers.keys()][0], verified: true, ...definition }
    const [row] = await this.query<{ id: number }>('select yardmaster.define_job($1) as id', [JSON.stringify(whole)])
    return row?.id ?? 0
  }

  /** Makes one that runs when it is asked for. */
  idle(proc: string, definition: Readonly<Record<string, unknown>> = {}): Promise<number> {
    return this.job({ proc: `public.${proc}`, schedule_interval: null, ...definition })
  }

  async request(job: number): Promise<string> {
    const [row] = await this.query<{ runs: string[] }>('select yardmaster.request_run($1) as runs', [job])
    return row?.runs[0] ?? ''
  }

  async run(id: string): Promise<RunRow> {
    const rows = await this.query<RunRow & Record<string, unknown>>(
      'select id, status, reason, message, attempt from yardmaster.runs where id = $1',
      [id],
    )
    return rows[0] as RunRow
  }

  /** Resolves when a run is like this. */
  async becomes(id: string, like: Partial<RunRow>, timeout = 30_000): Promise<void> {
    await expect.poll(() => this.run(id).catch(() => undefined), { timeout, interval: 50 }).toMatchObject(like)
  }

  /** Starts a worker and returns when it takes work. */
  async worker(host: string, setup: WorkerSetup = {}): Promise<RunningCli> {
    const worker = this.start(host, setup)
    await worker.waitForOutput(/takes work/)
    return worker
  }

  start(host: string, { slots = 4, grace, control, crashAt }: WorkerSetup = {}): RunningCli {
    const args = ['worker', '--host', host, '--slots', String(slots), ...(grace ? ['--grace', grace] : [])]
    const worker = startCli(args, {
      env: {
        YARDMASTER_CONTROL_URL: control ?? this.controlUrl,
        YARDMASTER_KEY: key,
        YARDMASTER_DATA_DIR: '/nonexistent',
        ...(crashAt ? { YARDMASTER_CRASH_AT: crashAt } : {}),
      },
      deadlineMs: 900_000,
    })
    // One that stands still does not end by itself.
    onTestFinished(() => void worker.kill('SIGKILL'))
    return worker
  }

  /** No run, attempt or step is said to go on. */
  async nothingRuns(): Promise<void> {
    const left = () =>
      this.query(`
      select 'run' as what, id::text from yardmaster.run where status = 'RUNNING'
      union all select 'attempt', id::text from yardmaster.attempt where status = 'RUNNING'
      union all select 'step', action from yardmaster.step where status = 'RUNNING'`)
    await expect.poll(left, { timeout: 20_000, interval: 50 }).toEqual([])
  }
}
