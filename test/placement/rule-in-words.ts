/** Placement as its specification's table says it, row by row; nothing of it is taken from the SQL. Times in minutes. */

export type Binding = 'prefer' | 'allow' | 'forbid' | 'none'

/** Of a host: `up` has a live worker, `drained` takes nothing new. */
export interface HostState {
  readonly up: boolean
  readonly drained: boolean
}

export interface Question {
  /** null: work of no site. */
  readonly site: string | null
  /** The host that is asked about; the others are told by their places in the two lists. */
  readonly host: number
  readonly bindings: readonly Binding[]
  readonly states: readonly HostState[]
  /** null: never. */
  readonly fallback: number | null
  /** null: nothing waits. */
  readonly waited: number | null
  readonly full?: 'host' | 'pair' | 'both'
}

export const bindings: readonly Binding[] = ['none', 'allow', 'prefer', 'forbid']
export const states: readonly HostState[] = [
  { up: false, drained: false },
  { up: true, drained: false },
  { up: true, drained: true },
  { up: false, drained: true },
]
export const yes: readonly string[] = ['prefers', 'allowed', 'fallback_elapsed', 'no_site']

export function isActive(state: HostState | undefined): boolean {
  return state?.up === true && !state.drained
}

/** The answer for one host: why it may not, the first reason of the specification's order, or why it may. */
export function answer(question: Question): string {
  const byTable = tableRow(question)
  if (byTable === 'forbidden' || byTable === 'preferred_elsewhere') return byTable
  const state = question.states[question.host]
  if (!state?.up) return 'inactive'
  if (state.drained) return 'draining'
  if (question.full === 'host' || question.full === 'both') return 'host_full'
  if (question.full === 'pair') return 'pair_full'
  return byTable
}

function tableRow({ site, host, bindings, states, fallback, waited }: Question): string {
  if (site === null) return 'no_site'
  if (bindings[host] === 'forbid') return 'forbidden'
  if (bindings[host] === 'prefer') return 'prefers'
  const somebodyElse = bindings.some(
    (theirs, other) => other !== host && theirs === 'prefer' && isActive(states[other]),
  )
  if (!somebodyElse) return 'allowed'
  return fallback !== null && (waited ?? 0) >= fallback ? 'fallback_elapsed' : 'preferred_elsewhere'
}

/** All lists of `length` choices; the last place changes fastest. */
export function combinations<T>(choices: readonly T[], length: number): T[][] {
  if (length === 0) return [[]]
  return combinations(choices, length - 1).flatMap((head) => choices.map((choice) => [...head, choice]))
}
