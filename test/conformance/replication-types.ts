import type { ReplicationType } from '../../src/replication/definition.ts'

/** A replication type that the conformance suite is run for. */
export interface ConformingType {
  readonly type: ReplicationType
  /** Whether it may be given a destination table that stands there already. */
  readonly adopts: boolean
  /** Whether it follows columns that are added to or dropped from the source. */
  readonly followsColumns: boolean
}

/** Every type passes the whole suite; a new one is a line more. */
export const conformingTypes: readonly ConformingType[] = [
  { type: 'snapshot', adopts: false, followsColumns: true },
  { type: 'table', adopts: true, followsColumns: false },
]
