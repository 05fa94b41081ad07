import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Claimant, ClaimDesk, type Claimed, claim, finish } from './claim-desk.ts'
import { hosts, limitKeys, PlacementModel, type Step, sites, workerSlots } from './placement-model.ts'

const jobs = 8
const numRuns = Number(process.env.YARDMASTER_HISTORIES ?? 50)

const host = fc.nat(hosts.length - 1)
const job = fc.nat(jobs - 1)
const site = fc.nat(sites.length - 1)
/** Not the last one, which is none. */
const bound = fc.nat(sites.length - 2)
const few = fc.option(fc.integer({ min: 1, max: 2 }))
const wait = fc.record({ kind: fc.constant('wait' as const), job, minutes: fc.integer({ min: 1, max: 20 }) })
const move = fc.record({ kind: fc.constant('move' as const), job, site, pool: fc.boolean() })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('claim' as const), host, slots: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 5, arbitrary: wait },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('end' as const, 'give back' as const), pick: fc.nat(9) }) },
  { weight: 2, arbitrary: move },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('bind' as const),
      site: bound,
      host,
      binding: fc.constantFrom('prefer' as const, 'allow' as const, 'forbid' as const, null),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fallback' as const),
      site: fc.option(bound),
      after: fc.constantFrom('never' as const, 'default' as const, '10 minutes' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'drain' as const,
        'undrain' as const,
        'fall silent' as const,
        'lose' as const,
        'return' as const,
      ),
      host,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('limit' as const),
      key: fc.nat(limitKeys.length - 1),
      slots: fc.option(fc.integer({ min: 0, max: 3 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('host slots' as const), host, slots: few }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pair slots' as const), host, site: bound, slots: few }) },
)

/** One history on the desk and in the model; each claim must give the same. */
class History {
  readonly #desk: ClaimDesk
  readonly #jobs: number[]
  readonly #model = new PlacementModel(jobs)
  readonly #workers = new Map<string, Claimant>()
  readonly #tokens = new Map<string, { token: string; worker: Claimant }>()
  claims = 0

  constructor(desk: ClaimDesk, ids: number[], workers: Claimant[]) {
    this.#desk = desk
    this.#jobs = ids
    hosts.forEach((name, n) => {
      this.#workers.set(name, workers[n] as Claimant)
    })
  }

  async take(step: Step): Promise<void> {
    if (step.kind === 'claim') await this.#claim(hosts[step.host] ?? 'h1', step.slots)
    else if ('pick' in step) await this.#end(step.kind === 'end', step.pick)
    else if (step.kind === 'wait') await this.#wait(step.job, step.minutes)
    else if (step.kind === 'move') await this.#move(step.job, sites[step.site] ?? null, step.pool)
    else if ('host' in step) await this.#takeHost(step)
    else await this.#set(step)
  }

  async #claim(host: string, slots: number): Promise<void> {
    const worker = this.#workers.get(host) as Claimant
    const given: Claimed[] = await claim(worker, slots)
    for (const { run_id: id, token } of given) this.#tokens.set(id, { token, worker })
    this.claims += given.length
    expect(given.map((one) => one.run_id)).toEqual(this.#model.claim(host, slots))
  }

  async #end(well: boolean, pick: number): Promise<void> {
    const running = this.#model.running()
    const run = running[pick % running.length]
    const held = run && this.#tokens.get(run.id)
    if (!run || !held) return
    expect(await finish(held.worker, held.token, well ? 'OK' : 'WAITING')).toBe(true)
    if (well) this.#model.runs = this.#model.runs.filter((other) => other !== run)
    else this.#model.giveBack(run)
  }

  async #wait(job: number, minutes: number): Promise<void> {
    this.#model.add(await this.#desk.wait(this.#jobs[job] ?? 0, `${minutes} minutes`), job, minutes)
  }

  async #move(job: number, site: string | null, pool: boolean): Promise<void> {
    await this.#do('alter_replication($1, $2)', this.#jobs[job], JSON.stringify({ site, pool: pool ? 'etl' : null }))
    this.#model.move(job, site, pool)
  }

  async #takeHost(step: Extract<Step, { host: number }>): Promise<void> {
    const name = hosts[step.host] ?? 'h1'
    const model = this.#model
    if (step.kind === 'drain' || step.kind === 'undrain') {
      await this.#do(`${step.kind}_host($1)`, name)
      model.drained[step.kind === 'drain' ? 'add' : 'delete'](name)
    } else if (step.kind === 'bind') {
      const key = `${sites[step.site]} ${name}`
      await this.#do('set_binding($1, $2, $3, true)', sites[step.site], name, step.binding)
      change(model.bindings, key, step.binding)
    } else if (step.kind === 'host slots') {
      await this.#do('set_host($1, $2)', name, JSON.stringify({ slots: step.slots }))
      change(model.hostSlots, name, step.slots)
    } else if (step.kind === 'pair slots') {
      const of = sites[step.site] ?? ''
      await this.#do('set_host($1, $2)', name, JSON.stringify({ site_slots: { [of]: step.slots } }))
      change(model.pairSlots, `${name} ${of}`, step.slots)
    } else if (step.kind !== 'claim') await this.#live(step.kind, name)
  }

  async #live(kind: 'fall silent' | 'lose' | 'return', name: string): Promise<void> {
    const { id, client } = this.#workers.get(name) as Claimant
    const state = this.#model.state.get(name)
    if (kind === 'fall silent' && state === 'alive') {
      await client.query('update yardmaster.worker set missing_since = clock_timestamp() where id = $1', [id])
      this.#model.state.set(name, 'silent')
    } else if (kind === 'lose' && state !== 'gone') {
      await client.query(
        `update yardmaster.worker set session_pid = 0, missing_since = clock_timestamp() - interval '1 minute' where id = $1`,
        [id],
      )
      await client.query('select yardmaster.release_lost_workers()')
      this.#model.lose(name)
    } else if (kind === 'return' && state === 'silent') {
      await client.query('select yardmaster.beat_worker($1)', [id])
      this.#model.state.set(name, 'alive')
    } else if (kind === 'return' && state === 'gone') {
      this.#workers.set(name, await this.#desk.worker(name, workerSlots, name, client))
      this.#model.state.set(name, 'alive')
    }
  }

  async #set(step: Extract<Step, { kind: 'limit' | 'fallback' }>): Promise<void> {
    if (step.kind === 'fallback') {
      const of = step.site === null ? null : (sites[step.site] ?? '')
      const after = of === null && step.after === 'default' ? 'never' : step.after
      await this.#do('set_fallback($1, $2)', of, after)
      this.#model.fallbacks.set(of, after)
      return
    }
    const key = limitKeys[step.key] ?? 'etl'
    if (step.slots !== null) await this.#do('set_limit($1, $2)', key, step.slots)
    else if (this.#model.limits.has(key)) await this.#do('remove_limit($1)', key)
    change(this.#model.limits, key, step.slots)
  }

  async #do(call: string, ...values: unknown[]): Promise<void> {
    await this.#desk.database.query(`select yardmaster.${call}`, values)
  }

  /** Forgets everything for the next history, but for the jobs. */
  async clear(): Promise<void> {
    const { database } = this.#desk
    for (const table of ['run', 'binding', 'host_site', 'host_address', 'host', 'concurrency_limit', 'worker'])
      await database.query(`delete from yardmaster.${table}`)
    await database.query('update yardmaster.site set inherits_fallback = true, fallback_after = null')
    await database.query('update yardmaster.placement set fallback_after = null')
    for (let job = 0; job < jobs; job += 1) await this.#move(job, null, false)
  }
}

function change<Value>(of: Map<string, Value>, key: string, value: Value | null): void {
  if (value === null) of.delete(key)
  else of.set(key, value)
}

test('whatever is bound, drained, limited, moved and lost: each claim gives the oldest of what its host may take, and no more', async () => {
  const desk = await ClaimDesk.open('placement histories')
  const ids = await desk.jobs(jobs, 'placed')
  const clients = await Promise.all(hosts.map(() => desk.database.client()))
  let claims = 0
  const once = async (steps: Step[]) => {
    const workers = await Promise.all(hosts.map((name, n) => desk.worker(name, workerSlots, name, clients[n])))
    const history = new History(desk, ids, workers)
    try {
      for (const one of steps) await history.take(one)
      await desk.rulesHold()
      claims += history.claims
    } finally {
      await history.clear()
    }
  }
  // Jobs of several sites, and much that waits, before anything else.
  const beginning = fc.tuple(
    fc.array(move, { minLength: 6, maxLength: 8 }),
    fc.array(wait, { minLength: 8, maxLength: 12 }),
  )
  const middle = fc.array(step, { minLength: 20, maxLength: 40 })
  const histories = fc.tuple(beginning, middle).map(([[moves, waits], steps]): Step[] => [...moves, ...waits, ...steps])
  await fc.assert(fc.asyncProperty(histories, once), { numRuns, interruptAfterTimeLimit: 50_000 })
  console.log(`${claims} runs were given`)
  expect(claims).toBeGreaterThan(numRuns)
})
