import { expect } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'
import type { Random } from './random.ts'
import { contentOf, reopened, type Stage } from './stage.ts'

const types = ['snapshot', 'table', 'inserter', 'updater'] as const

interface Member {
  readonly table: string
  readonly type: (typeof types)[number]
  readonly site: string | null
}

/** Many small replications of all types, on schedules of 1 to 10 s, and writers on their sources. */
export class Fleet {
  readonly members: readonly Member[]
  readonly #stage: Stage
  readonly #random: Random
  readonly #slowest: number
  #writing: Promise<number> | undefined
  #goesOn = true

  /** `sites`: each has one of every type, then the next one. `slowest`: seconds, of the schedules. */
  constructor(
    stage: Stage,
    count: number,
    random: Random,
    { sites = [null], slowest = 10 }: { sites?: readonly (string | null)[]; slowest?: number } = {},
  ) {
    this.#stage = stage
    this.#random = random
    this.#slowest = slowest
    this.members = Array.from({ length: count }, (_, n) => ({
      table: `t${n}`,
      type: types[n % 4] ?? 'table',
      site: sites[Math.floor(n / 4) % sites.length] ?? null,
    }))
  }

  /** Makes the tables and registers the replications; workers set them up. */
  async launch(): Promise<void> {
    const { source, controlDatabase } = this.#stage
    for (const { table, type, site } of this.members) {
      await source.query(
        `create table public.${table} (id int generated always as identity primary key, v int, at timestamptz not null default now())`,
      )
      await source.query(`insert into public.${table} (v) select n from generate_series(1, 20) n`)
      const incremental = { control_column: 'at', control_by: 'time', boundary: 'auto' }
      const options = {
        schedule_interval: `${1 + this.#random.below(this.#slowest)} s`,
        ...(site === null ? {} : { site }),
        ...(type === 'inserter' || type === 'updater' ? incremental : {}),
      }
      await controlDatabase.query(
        `select yardmaster.queue_run(yardmaster.add_replication($1, 'crm', 'public', $2, 'dwh', 'copies', $2, $3), 'setup')`,
        [type, table, JSON.stringify(options)],
      )
    }
  }

  /** Resolves when all are set up; one whose set-up failed is asked for again. */
  async isSetUp(): Promise<void> {
    const left = async () => {
      const rows = await this.#control().query<{ job_id: number; open: boolean }>(
        `select job_id, exists (select from yardmaster.run r where r.job_id = v.job_id and r.status in ('WAITING', 'RUNNING')) as open
         from yardmaster.replications v where status = 'setting_up'`,
      )
      for (const { job_id, open } of rows) if (!open) await this.#request(job_id)
      return rows.length === 0 ? [] : [rows.length, ...(await this.#failures())]
    }
    await expect.poll(left, { timeout: 60_000, interval: 500 }).toEqual([])
  }

  /** Inserts everywhere; changes and deletes where the type shows them. */
  write(): void {
    const write = async () => {
      const client = await this.#stage.source.client()
      let statements = 0
      for (; this.#goesOn; statements += 1) {
        const { table, type } = this.#random.pick(this.members)
        const id = 1 + this.#random.below(30)
        await client.query(`insert into public.${table} (v) values (${this.#random.below(1000)})`)
        if (type !== 'inserter') await client.query(`update public.${table} set v = v + 1, at = now() where id = ${id}`)
        if (type === 'snapshot' || type === 'table')
          await client.query(`delete from public.${table} where id = ${id + 5}`)
        await new Promise((resolve) => setTimeout(resolve, 15))
      }
      return statements
    }
    this.#writing = write()
  }

  async stopWriting(): Promise<number> {
    this.#goesOn = false
    return (await this.#writing) ?? 0
  }

  /** No schedule any more: only what is asked for runs from here. */
  async endSchedules(): Promise<void> {
    await this.#control().query(
      `select yardmaster.alter_replication(job_id, '{"schedule_interval": null}') from yardmaster.replications`,
    )
    await expect.poll(() => this.#open(), { timeout: 120_000, interval: 100 }).toEqual([])
  }

  /** Refreshes everything until each copy is its source's: `auto` stops two seconds before the clock, so not at once. */
  async becomesEqual(): Promise<void> {
    const deadline = Date.now() + 60_000
    for (let unequal = await this.#unequal(); unequal.length > 0; unequal = await this.#unequal()) {
      if (Date.now() > deadline) expect(unequal).toEqual([])
      for (const { table } of unequal) {
        const [row] = await this.#control().query<{ job_id: number }>(
          'select job_id from yardmaster.replications where source_name = $1',
          [table],
        )
        await this.#request(row?.job_id ?? 0)
      }
      await expect.poll(() => this.#open(), { timeout: 120_000, interval: 100 }).toEqual([])
    }
  }

  async #unequal(): Promise<readonly Member[]> {
    const unequal: Member[] = []
    for (const member of this.members) {
      const copy = await this.#stage.content(`copies.${member.table}`)
      if (copy !== (await contentOf(this.#stage.source, `public.${member.table}`))) unequal.push(member)
    }
    return unequal
  }

  async #request(jobId: number): Promise<void> {
    await this.#control().query(`select yardmaster.queue_run($1, 'refresh', '{"force": true}')`, [jobId])
  }

  /** What the newest failed runs say. */
  #failures(): Promise<{ message: string }[]> {
    return this.#control().query(
      `select object, message from yardmaster.runs where status = 'CRITICAL' order by id desc limit 3`,
    )
  }

  /** Runs that wait or go on, with why. */
  #open(): Promise<{ object: string; status: string }[]> {
    return this.#control().query(
      `select object, status, host, message from yardmaster.runs where status in ('WAITING', 'RUNNING') order by id`,
    )
  }

  /** Its server may have been restarted. */
  #control(): TestDatabase {
    this.#reopened ??= reopened(this.#stage.controlDatabase)
    return this.#reopened
  }

  #reopened: TestDatabase | undefined

  /** The control server was restarted: what stood there is gone. */
  forgetConnections(): void {
    this.#reopened = undefined
  }
}
