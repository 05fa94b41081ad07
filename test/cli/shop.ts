import { expect } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
  // biome-ignore lint/suspicious/noExplicitAny: whatever the command under test prints
  readonly json: any
}

/** A control database with a source `crm` and a destination `dwh`, and commands on them in this process. */
export class Shop {
  readonly control: TestDatabase
  readonly source: TestDatabase
  readonly destination: TestDatabase

  constructor(control: TestDatabase, source: TestDatabase, destination: TestDatabase) {
    this.control = control
    this.source = source
    this.destination = destination
  }

  get environment(): Record<string, string> {
    return { YARDMASTER_CONTROL_URL: this.control.url, YARDMASTER_KEY: '5e'.repeat(32) }
  }

  /** Runs a command in a pipe. Several at once are fine. */
  async run(...args: string[]): Promise<Ran> {
    const terminal = new FakeTerminal({ terminal: false, environment: this.environment })
    const code = await terminal.run(...args)
    const { out, err } = terminal
    if (!args.includes('--json')) return { code, out, err, json: undefined }
    const documents = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    return { code, out, err, json: args.includes('follow') ? documents : documents[0] }
  }

  /** The same, which must end well. */
  async done(...args: string[]): Promise<Ran> {
    const ran = await this.run(...args)
    expect(ran.code, `${args.join(' ')}\n${ran.out}${ran.err}`).toBe(0)
    return ran
  }

  /** Makes a table of ten rows at the source, and a copy of it. */
  async add(name: string, type: string, ...more: string[]): Promise<void> {
    await this.source.query(`create table public.${name} (id int primary key, total int not null)`)
    await this.source.query(`insert into public.${name} select g, g from generate_series(1, 10) g`)
    await this.done('replication', 'add', type, `public.${name}`, '--from', 'crm', '--to', 'dwh', ...more)
  }

  /** Ids at the destination. */
  async ids(name: string): Promise<number[]> {
    const rows = await this.destination.query<{ id: number }>(`select id from public.${name} order by id`)
    return rows.map(({ id }) => id)
  }

  /** Resolves when a session of the program waits for a lock of the source. */
  async readerWaits(): Promise<void> {
    await expect
      .poll(
        () =>
          this.source.query(`select pid from pg_stat_activity where datname = current_database()
            and application_name like 'yardmaster read%' and wait_event_type = 'Lock'`),
        { timeout: 20_000, interval: 20 },
      )
      .not.toEqual([])
  }
}

export async function openShop(label: string): Promise<Shop> {
  const [control, source, destination] = await Promise.all(
    ['control', 'source', 'destination'].map((side) => createDatabase(`${label} ${side}`)),
  )
  if (!control || !source || !destination) throw new Error('a database is missing')
  const shop = new Shop(control, source, destination)
  await shop.done('database', 'add', 'crm', source.url)
  await shop.done('database', 'add', 'dwh', destination.url)
  return shop
}
