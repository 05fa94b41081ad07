import type { ReplicationType } from '../../src/replication/definition.ts'

/** A replication type that the conformance suite is run for. */
export interface ConformingType {
  readonly type: ReplicationType
  /** Whether it may be given a destination table that stands there already. */
  readonly adopts: boolean
}

/** Every type passes the whole suite; a new one is a line more. */
export const conformingTypes: readonly ConformingType[] = [
  { type: 'snapshot', adopts: false },
  { type: 'table', adopts: true },
]
