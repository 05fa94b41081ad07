import { hostname } from 'node:os'
import { afterAll, expect } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { RunRecorder } from '../../src/monitoring/run-recorder.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { Worker } from '../../src/worker/worker.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

export interface JobRow {
  readonly status: string
  readonly scheduled: boolean
  readonly next_start: Date | null
  readonly pause_note: string | null
  readonly paused_by: string | null
}

const desks: JobsDesk[] = []

afterAll(async () => {
  for (const desk of desks) await desk.close()
})

/**
 * A control database, and `dwh`, the database that jobs run in. `shared`: one database is both. `dwh` has the procedure `works`, which
 * writes its arguments into `done`, and `fails`.
 */
export class JobsDesk {
  readonly database: TestDatabase
  readonly target: TestDatabase
  readonly control: Control
  #worker: Worker | undefined

  private constructor(database: TestDatabase, target: TestDatabase, control: Control) {
    this.database = database
    this.target = target
    this.control = control
  }

  static async open(label: string, choice: { database?: TestDatabase; shared?: boolean } = {}): Promise<JobsDesk> {
    const database = choice.database ?? (await createDatabase(`${label} control`))
    const target = choice.shared ? database : await createDatabase(`${label} dwh`)
    const control = await openControl({
      parts: parseConnectionUrl(database.url),
      actor: 'test@here',
      face: 'test',
      key: loadSecretKey({ text: '42'.repeat(32), file: '/nonexistent' }),
    })
    await addDatabase(control, 'dwh', target.url, [])
    await target.query(`create table public.done (job_id int, config jsonb, at timestamptz default clock_timestamp());
      create procedure public.works(job_id int, config jsonb) language sql as
        $$ insert into public.done (job_id, config) values ($1, $2) $$;
      create procedure public.fails(job_id int, config jsonb) language plpgsql as
        $$ begin raise exception 'no luck' using errcode = 'P0123', detail = 'none', hint = 'try again'; end $$`)
    const desk = new JobsDesk(database, target, control)
    desks.push(desk)
    return desk
  }

  /** A worker of this process, until the end of the test file. */
  async startWorker(slots = 4): Promise<void> {
    const name = { name: `test#${process.pid}`, host: hostname(), slots }
    const recorder = new RunRecorder(this.control, name)
    const place = {
      control: this.control,
      environment: () => undefined,
      signal: new AbortController().signal,
      recorder,
      streams: 1,
    }
    this.#worker = new Worker(place, { slots, grace: 1000 })
    await this.#worker.start()
  }

  /** `arguments_`: as they stand in SQL. The job is let loose as a worker does who has found its procedure. */
  async add(args: string): Promise<number> {
    const [row] = await this.database.query<{ id: number }>(`select yardmaster.add_job(${args}) as id`)
    const id = row?.id ?? 0
    await this.settle(id)
    return id
  }

  async settle(id: number, fault: string | null = null): Promise<void> {
    await this.database.query(`select yardmaster.settle_verification($1, null, 'public', $2)`, [id, fault])
  }

  async job(id: number): Promise<JobRow> {
    const [row] = await this.database.query<JobRow>('select * from yardmaster.jobs where job_id = $1', [id])
    if (!row) throw new Error(`There is no job ${id}.`)
    return row
  }

  // biome-ignore lint/suspicious/noExplicitAny: columns as the view has them
  async stats(id: number): Promise<any> {
    const [row] = await this.database.query('select * from yardmaster.job_stats where job_id = $1', [id])
    return row
  }

  /** Resolves when so many runs of the job have ended. */
  async ended(id: number, runs = 1): Promise<void> {
    await expect
      .poll(
        async () => Number((await this.stats(id)).total_runs) - Number((await this.stats(id)).job_status === 'Running'),
        {
          interval: 20,
        },
      )
      .toBe(runs)
  }

  async request(id: number): Promise<void> {
    await this.database.query('select yardmaster.request_run($1)', [id])
  }

  /** Has the job a past: its last run ended at `finish`, as if it had begun a second before. */
  async remember(id: number, finish: string, more = ''): Promise<void> {
    await this.database.query(
      `update yardmaster.job_state set last_start = $2::timestamptz - interval '1 s', last_finish = $2, last_slot = $2,
       last_status = 'OK', last_duration = '1 s', next_start = null, next_slot = null ${more} where job_id = $1`,
      [id, finish],
    )
  }

  async close(): Promise<void> {
    await this.#worker?.stop()
    await this.control.close()
  }
}
