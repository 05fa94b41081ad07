/** What a history does, one thing after the other. Hosts, jobs and runs by number, modulo how many there are. */
export type Step =
  | { kind: 'claim'; host: number; slots: number }
  | { kind: 'end' | 'give back'; pick: number }
  | { kind: 'wait'; job: number; minutes: number }
  | { kind: 'move'; job: number; site: number; pool: boolean }
  | { kind: 'bind'; site: number; host: number; binding: 'prefer' | 'allow' | 'forbid' | null }
  | { kind: 'fallback'; site: number | null; after: 'never' | 'default' | '10 minutes' }
  | { kind: 'drain' | 'undrain' | 'fall silent' | 'lose' | 'return'; host: number }
  | { kind: 'limit'; key: number; slots: number | null }
  | { kind: 'host slots'; host: number; slots: number | null }
  | { kind: 'pair slots'; host: number; site: number; slots: number | null }

export const hosts = ['h1', 'h2', 'h3'] as const
/** The last one is none. */
export const sites = ['A', 'B', '', null] as const
export const limitKeys = ['etl', 'site:A', 'site:', 'database:crm'] as const
/** Of each worker; one a host. */
export const workerSlots = 4

interface Job {
  site: string | null
  pool: boolean
}

export interface Run {
  readonly id: string
  readonly job: number
  /** Minutes for which it has been due: fewer is younger; between two of the same, the one that waits for longer is older. */
  readonly minutes: number
  site: string | null
  keys: readonly string[]
  host: string | undefined
  attempts: number
}

/** What may be claimed, by the words of the specification: no index, no lane, no round. */
export class PlacementModel {
  readonly jobs: Job[]
  /** Oldest first. */
  runs: Run[] = []
  readonly state = new Map<string, 'alive' | 'silent' | 'gone'>(hosts.map((host) => [host, 'alive']))
  readonly drained = new Set<string>()
  readonly bindings = new Map<string, string>()
  readonly fallbacks = new Map<string | null, string>()
  readonly limits = new Map<string, number>()
  readonly hostSlots = new Map<string, number>()
  readonly pairSlots = new Map<string, number>()

  constructor(jobs: number) {
    this.jobs = Array.from({ length: jobs }, () => ({ site: null, pool: false }))
  }

  add(id: string, job: number, minutes: number): void {
    this.runs.push({ id, job, minutes, ...this.#labels(job), host: undefined, attempts: 0 })
    // Stable: of the same age, the one that came first.
    this.runs.sort((a, b) => b.minutes - a.minutes)
  }

  move(job: number, site: string | null, pool: boolean): void {
    this.jobs[job] = { site, pool }
    for (const run of this.runs) if (run.job === job && run.host === undefined) Object.assign(run, this.#labels(job))
  }

  giveBack(run: Run): void {
    Object.assign(run, this.#labels(run.job), { host: undefined })
  }

  /** What runs on a host that is lost waits again, but for what has cost five workers. */
  lose(host: string): void {
    this.state.set(host, 'gone')
    for (const run of this.running(host)) this.giveBack(run)
    this.runs = this.runs.filter((run) => run.host !== undefined || run.attempts < 5)
  }

  running(host?: string): Run[] {
    return this.runs.filter((run) => run.host !== undefined && (host === undefined || run.host === host))
  }

  /** Takes what a claim of this host must give: the oldest of what it may take, one after the other. */
  claim(host: string, slots: number): string[] {
    if (this.state.get(host) === 'gone') return []
    const given: string[] = []
    for (const run of this.runs) {
      if (given.length >= slots || !this.#hasRoom(host)) break
      if (!this.#mayBegin(run) || !this.mayTake(host, run) || !this.#withinLimits(host, run)) continue
      run.host = host
      run.attempts += 1
      given.push(run.id)
    }
    return given
  }

  /** The table of the specification. */
  mayTake(host: string, run: Run): boolean {
    if (this.drained.has(host)) return false
    if (run.site === null) return true
    const binding = this.bindings.get(`${run.site} ${host}`)
    if (binding === 'forbid' || binding === 'prefer') return binding === 'prefer'
    const preferring = hosts.filter(
      (other) => other !== host && this.isActive(other) && this.bindings.get(`${run.site} ${other}`) === 'prefer',
    )
    return preferring.length === 0 || (this.#fallback(run.site) === '10 minutes' && run.minutes >= 10)
  }

  isActive(host: string): boolean {
    return this.state.get(host) === 'alive' && !this.drained.has(host)
  }

  #fallback(site: string): string | undefined {
    const own = this.fallbacks.get(site) ?? 'default'
    return own === 'default' ? this.fallbacks.get(null) : own
  }

  #labels(job: number): Pick<Run, 'site' | 'keys'> {
    const { site, pool } = this.jobs[job] as Job
    return { site, keys: ['database:crm', ...(pool ? ['etl'] : []), ...(site === null ? [] : [`site:${site}`])] }
  }

  /** One run of a job at a time, the oldest first. */
  #mayBegin(run: Run): boolean {
    if (run.host !== undefined) return false
    const ofJob = this.runs.filter((other) => other.job === run.job)
    return ofJob.every((other) => other.host === undefined) && ofJob[0] === run
  }

  #hasRoom(host: string): boolean {
    const running = this.running(host).length
    return running < workerSlots && running < (this.hostSlots.get(host) ?? Number.POSITIVE_INFINITY)
  }

  #withinLimits(host: string, run: Run): boolean {
    const pair = this.pairSlots.get(`${host} ${run.site}`)
    const beside = this.running(host).filter((other) => other.site === run.site).length
    if (run.site !== null && pair !== undefined && beside >= pair) return false
    return run.keys.every((key) => {
      const limit = this.limits.get(key)
      return limit === undefined || this.running().filter((other) => other.keys.includes(key)).length < limit
    })
  }
}
