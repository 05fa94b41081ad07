import { expect } from 'vitest'
import { addReplicationRun } from '../../src/worker/replication-run.ts'
import type { RunningCli } from '../support/process.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { Crew } from './crew.ts'
import { wanted } from './stage.ts'

/** The hosts of the worked examples. */
export const hostNames = ['qa.local', 'marketing.local', 'ceo.local', 'fallback.local'] as const

interface PlacedAttempt {
  readonly number: number
  readonly host: string
  readonly status: string
  readonly placement: string
  readonly started_at: Date
  /** When the run was due. */
  readonly slot: Date
}

/** One worker process each under four names, every one by a way of its own to the control database, and small copies of sites. */
export class PlacedHosts {
  readonly crew: Crew
  readonly #ways = new Map<string, FaultProxy>()
  readonly #workers = new Map<string, RunningCli>()
  readonly #jobs = new Map<string, number>()

  private constructor(crew: Crew) {
    this.crew = crew
  }

  /** Nobody works yet. */
  static async open(label: string): Promise<PlacedHosts> {
    const hosts = new PlacedHosts(await Crew.muster(label))
    for (const host of hostNames) hosts.#ways.set(host, await startProxy(hosts.crew.stage.controlDatabase.url))
    return hosts
  }

  /** Makes a worked example all bindings there are. */
  async bind(example: string, ...flags: string[]): Promise<void> {
    const path = new URL(`../placement/worked-examples/workers-${example}.csv`, import.meta.url).pathname
    await this.run('binding', 'apply', path, ...flags)
  }

  /** A command of the program, which must succeed. */
  async run(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.crew.stage.run(args)
    expect(exitCode, stderr).toBe(0)
    return stdout
  }

  /** A copy that is set up. `source`: a table of the source; made, with a row, where it is not there. */
  async add(table: string, site: string | null, source = table): Promise<void> {
    const { stage } = this.crew
    await stage.source.query(`create table if not exists public.${source} as select 1 as id`)
    const { result } = await addReplicationRun(
      stage.place(),
      wanted('table', {
        source: { schema: 'public', name: source },
        destination: { schema: 'copies', name: table },
        site,
      }),
    )
    expect(result.failure).toBeUndefined()
    const [job] = await stage.controlDatabase.query<{ job_id: number }>(
      'select job_id from yardmaster.replications where destination_name = $1',
      [table],
    )
    this.#jobs.set(table, job?.job_id ?? 0)
  }

  /** Starts workers side by side; resolves when all of them take work. */
  async start(names: readonly string[] = hostNames, slots = 4): Promise<void> {
    const start = async (host: string) => {
      this.#workers.set(host, await this.crew.worker(host, { slots, control: this.way(host).url }))
    }
    await Promise.all(names.map(start))
  }

  way(host: string): FaultProxy {
    const way = this.#ways.get(host)
    if (!way) throw new Error(`there is no host ${host}`)
    return way
  }

  worker(host: string): RunningCli {
    const worker = this.#workers.get(host)
    if (!worker) throw new Error(`nobody works on ${host}`)
    return worker
  }

  /** Queues a refresh of a copy; returns the run's id. */
  async ask(table: string): Promise<string> {
    const [row] = await this.crew.stage.controlDatabase.query<{ id: string }>(
      `select yardmaster.queue_run($1, 'refresh', '{"force": true}') as id`,
      [this.#jobs.get(table)],
    )
    return row?.id ?? ''
  }

  attempts(run: string): Promise<PlacedAttempt[]> {
    return this.crew.stage.controlDatabase.query<PlacedAttempt>(
      `select a.number, a.host, a.status, a.placement, a.started_at, r.slot
       from yardmaster.attempt a join yardmaster.run r on r.id = a.run_id where r.id = $1 order by a.number`,
      [run],
    )
  }

  /** Resolves when a run has so many attempts, with the last of them. */
  async begins(run: string, number = 1, timeout = 40_000): Promise<PlacedAttempt> {
    const count = async () => (await this.attempts(run)).length
    await expect.poll(count, { timeout, interval: 20, message: `attempts of run ${run}` }).toBe(number)
    return (await this.attempts(run)).at(-1) as PlacedAttempt
  }

  /** Resolves when a run has ended well, with its last attempt. */
  async ends(run: string, timeout = 20_000): Promise<PlacedAttempt> {
    const status = async () => (await this.attempts(run)).at(-1)?.status
    await expect.poll(status, { timeout, interval: 20, message: `run ${run}` }).toBe('OK')
    return (await this.attempts(run)).at(-1) as PlacedAttempt
  }

  /** Asks for a copy again and again until a run of it is given to a host. Returns when that run began. */
  async comesTo(table: string, host: string, timeout = 40_000): Promise<Date> {
    const deadline = Date.now() + timeout
    for (;;) {
      const attempt = await this.ends(await this.ask(table))
      if (attempt.host === host) return attempt.started_at
      if (Date.now() > deadline) throw new Error(`${table} still goes to ${attempt.host}`)
    }
  }
}

/** Prints a time that was seen; returns it, in milliseconds. */
export function seen(what: string, from: Date, to: Date): number {
  const milliseconds = to.getTime() - from.getTime()
  console.log(`${what}: ${milliseconds} ms`)
  return milliseconds
}
