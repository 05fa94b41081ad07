/** Something that changes while others look on: known before a change begins and once it is done, and in doubt in between. */
class Timeline<Value> {
  readonly #changes: { value: Value; begun: number; done: number }[]

  constructor(first: Value) {
    this.#changes = [{ value: first, begun: Number.NEGATIVE_INFINITY, done: Number.NEGATIVE_INFINITY }]
  }

  change(value: Value, begun: number, done: number): void {
    this.#changes.push({ value, begun, done })
  }

  /** Undefined where it can't be known. */
  surely(at: number): Value | undefined {
    const begun = this.#changes.filter((change) => change.begun <= at)
    return begun.some((change) => change.done > at) ? undefined : begun.at(-1)?.value
  }
}

export type Binding = 'prefer' | 'allow' | 'forbid' | 'none'

/** What the program is given to judge one attempt by: its place in time, and the answer of its record. */
export interface PlacedAttempt {
  readonly id: string
  readonly site: string | null
  readonly host: string
  readonly placement: string | null
  /** Milliseconds since the epoch. */
  readonly claimed_at: number
  readonly began_at: number
  /** The claim's own view, from its own snapshot. */
  readonly witnessed: Witnessed
}

export interface Witnessed {
  readonly bindings: Readonly<Record<string, Exclude<Binding, 'none'>>>
  readonly active: readonly string[]
  readonly drained: readonly string[]
  readonly fallback_ms: number | null
  readonly waited_ms: number
}

/**
 * What the test itself did, and when: who was up, drained, bound, by its own clock. It judges attempts by the table of the
 * specification; where something was changing in that moment, either answer is right.
 */
export class PlacementChronicle {
  readonly hosts: readonly string[]
  readonly #up = new Map<string, Timeline<boolean>>()
  readonly #drained = new Map<string, Timeline<boolean>>()
  readonly #bindings = new Map<string, Timeline<Binding>>()
  readonly #fallback = new Timeline<number | null>(null)

  constructor(hosts: readonly string[]) {
    this.hosts = hosts
    for (const host of hosts) {
      this.#up.set(host, new Timeline(true))
      this.#drained.set(host, new Timeline(false))
    }
  }

  up(host: string, value: boolean, begun: number, done: number): void {
    this.#up.get(host)?.change(value, begun, done)
  }

  drained(host: string, value: boolean, begun: number, done: number): void {
    this.#drained.get(host)?.change(value, begun, done)
  }

  bound(site: string, host: string, value: Binding, begun: number, done: number): void {
    this.#of(site, host).change(value, begun, done)
  }

  /** Milliseconds, null for never. */
  fallback(value: number | null, begun: number, done: number): void {
    this.#fallback.change(value, begun, done)
  }

  /** What contradicts the rule about an attempt; nothing where all is well. */
  faults(attempt: PlacedAttempt): string[] {
    const faults = [...this.#outerFaults(attempt), ...innerFaults(attempt)]
    return faults.map((fault) => `attempt ${attempt.id} of ${attempt.site ?? 'no site'} on ${attempt.host}: ${fault}`)
  }

  /** By what the test did alone: it counts what was so from before the claim until behind its end. */
  #outerFaults({ site, host, claimed_at: from, began_at: to, witnessed }: PlacedAttempt): string[] {
    const faults: string[] = []
    const throughout = <Value>(timeline: Timeline<Value> | undefined, value: Value) =>
      timeline?.surely(from) === value && timeline.surely(to) === value
    if (throughout(this.#up.get(host), false)) faults.push('it was not there')
    if (throughout(this.#drained.get(host), true)) faults.push('it was drained')
    if (site === null) return faults
    if (throughout(this.#of(site, host), 'forbid')) faults.push('it was forbidden')
    const fallback = this.#fallback.surely(from)
    const neverBefore = fallback === null || (fallback !== undefined && witnessed.waited_ms < fallback)
    const binding = this.#of(site, host).surely(from)
    if (binding === undefined || binding === 'prefer' || !neverBefore) return faults
    const preferring = this.hosts.filter(
      (other) =>
        other !== host &&
        throughout(this.#of(site, other), 'prefer') &&
        throughout(this.#up.get(other), true) &&
        throughout(this.#drained.get(other), false),
    )
    if (preferring.length > 0) faults.push(`${preferring.join(', ')} preferred it and was there`)
    return faults
  }

  #of(site: string, host: string): Timeline<Binding> {
    const key = JSON.stringify([site, host])
    const timeline = this.#bindings.get(key) ?? new Timeline<Binding>('none')
    this.#bindings.set(key, timeline)
    return timeline
  }
}

/** By what the claim itself saw: its answer must be the rule's, word for word. */
function innerFaults({ site, host, placement, witnessed }: PlacedAttempt): string[] {
  const expected = expectedCode(site, host, witnessed)
  const faults = expected === placement ? [] : [`its record says ${placement}, the rule says ${expected}`]
  if (witnessed.drained.includes(host)) faults.push('it saw itself drained')
  return faults
}

function expectedCode(site: string | null, host: string, seen: Witnessed): string {
  if (site === null) return 'no_site'
  if (seen.bindings[host] === 'forbid') return 'forbidden'
  if (seen.bindings[host] === 'prefer') return 'prefers'
  const somebodyElse = seen.active.some((other) => other !== host && seen.bindings[other] === 'prefer')
  if (!somebodyElse) return 'allowed'
  return seen.fallback_ms !== null && seen.waited_ms >= seen.fallback_ms ? 'fallback_elapsed' : 'preferred_elsewhere'
}
