import { setTimeout as delay } from 'node:timers/promises'
import type { Binding, PlacementChronicle } from './placement-chronicle.ts'
import { hostNames, type PlacedHosts } from './placement-hosts.ts'
import type { Random } from './random.ts'

const kinds = ['kill', 'stop', 'half-open', 'reset', 'drain', 'bind', 'bind', 'bind', 'fallback', 'example'] as const
type Kind = (typeof kinds)[number]

export const sites = ['CEO', 'QA', 'Marketing'] as const
const examples = ['1-dedicated-with-fallback', '2-dedicated-alone', '3-dedicated-no-fallback', '4-one-way-fallback']
/** Milliseconds within which a process that is gone sends nothing more, and one that is back counts as active. */
const settle = { gone: 1500, back: 5000 }

/** Does things to hosts, bindings and delays, in an order by a seed, and tells the chronicle when. */
export class PlacementNemesis {
  readonly history: string[] = []
  readonly #hosts: PlacedHosts
  readonly #chronicle: PlacementChronicle
  readonly #random: Random
  readonly #longest: number
  /** Hosts that something is done to; nothing else is done to them meanwhile. */
  readonly #troubled = new Map<string, Promise<void>>()
  readonly #peace = new AbortController()
  readonly #bound = new Map<string, Binding>()
  #bag: Kind[] = []

  /** `longest`: milliseconds that a trouble lasts at most; a lease is 15 s. */
  constructor(hosts: PlacedHosts, chronicle: PlacementChronicle, random: Random, longest: number) {
    this.#longest = longest
    this.#hosts = hosts
    this.#chronicle = chronicle
    this.#random = random
  }

  async strike(): Promise<void> {
    if (this.#bag.length === 0) this.#bag = this.#random.shuffled(kinds)
    const kind = this.#bag.pop() as Kind
    if (kind === 'bind') return this.#bind()
    if (kind === 'fallback') return this.#fallback(this.#random.pick(['never', '0', '1 second', '3 seconds']))
    if (kind === 'example') return this.apply(this.#random.pick(examples))
    const host = this.#random.pick(hostNames)
    if (this.#troubled.has(host)) return
    const lasts = Math.round(500 + this.#random.next() * this.#longest)
    this.#note(`${kind} ${host}, ${lasts} ms`)
    const trouble = this.#trouble(kind, host, () =>
      delay(lasts, undefined, { signal: this.#peace.signal }).catch(() => undefined),
    )
    this.#troubled.set(host, trouble)
    void trouble.finally(() => this.#troubled.delete(host))
  }

  /** Makes a worked example all bindings there are, by the program. */
  async apply(example: string): Promise<void> {
    this.#note(`apply ${example}`)
    const begun = Date.now()
    await this.#hosts.bind(example, '--force')
    const done = Date.now()
    const rows = await this.#hosts.crew.stage.controlDatabase.query<{ site: string; host: string; binding: Binding }>(
      'select site, host, binding from yardmaster.bindings',
    )
    for (const site of sites) {
      for (const host of hostNames) {
        const binding = rows.find((row) => row.site === site && row.host === host)?.binding ?? 'none'
        this.#tell(site, host, binding, begun, done)
      }
    }
  }

  /** Ends what lasts, and leaves one worked example in force, by which all sites have hosts. */
  async rest(): Promise<void> {
    this.#peace.abort()
    await Promise.all(this.#troubled.values())
    await this.#fallback('never')
    await this.apply('1-dedicated-with-fallback')
    this.#note('peace')
  }

  #note(what: string): void {
    this.history.push(`${new Date().toISOString()} ${what}`)
  }

  async #bind(): Promise<void> {
    const [site, host] = [this.#random.pick(sites), this.#random.pick(hostNames)]
    const binding = this.#random.pick(['prefer', 'prefer', 'allow', 'forbid', 'none'] as const)
    this.#note(`bind ${site} ${host} ${binding}`)
    const begun = Date.now()
    await this.#query('select yardmaster.set_binding($1, $2, $3, true)', [
      site,
      host,
      binding === 'none' ? null : binding,
    ])
    this.#tell(site, host, binding, begun, Date.now())
  }

  #tell(site: string, host: string, binding: Binding, begun: number, done: number): void {
    const key = `${site} ${host}`
    if (this.#bound.get(key) === binding) return
    this.#bound.set(key, binding)
    this.#chronicle.bound(site, host, binding, begun, done)
  }

  async #fallback(after: string): Promise<void> {
    this.#note(`fallback ${after}`)
    const begun = Date.now()
    await this.#query('select yardmaster.set_fallback(null, $1)', [after])
    this.#chronicle.fallback(after === 'never' ? null : Number.parseInt(after, 10) * 1000, begun, Date.now())
  }

  async #trouble(kind: Kind, host: string, wait: () => Promise<void>): Promise<void> {
    if (kind === 'drain') return this.#drain(host, wait)
    const begun = Date.now()
    const way = this.#hosts.way(host)
    if (kind === 'kill') await this.#hosts.worker(host).kill('SIGKILL')
    else if (kind === 'stop') process.kill(this.#hosts.worker(host).pid, 'SIGSTOP')
    else way.set('both', { kind: kind === 'reset' ? 'reset' : 'half-open' })
    this.#chronicle.up(host, false, begun, Date.now() + settle.gone)
    await wait()
    const back = Date.now()
    if (kind === 'kill') await this.#hosts.start([host])
    else if (kind === 'stop') process.kill(this.#hosts.worker(host).pid, 'SIGCONT')
    else way.set('both', { kind: 'pass' })
    this.#chronicle.up(host, true, back, Date.now() + (kind === 'kill' ? 0 : settle.back))
    this.#note(`${host} is back`)
  }

  async #drain(host: string, wait: () => Promise<void>): Promise<void> {
    for (const drained of [true, false]) {
      const begun = Date.now()
      await this.#query(`select yardmaster.${drained ? 'drain' : 'undrain'}_host($1)`, [host])
      this.#chronicle.drained(host, drained, begun, Date.now())
      if (drained) await wait()
    }
  }

  async #query(text: string, values: unknown[]): Promise<void> {
    await this.#hosts.crew.stage.controlDatabase.query(text, values)
  }
}
