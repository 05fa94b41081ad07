import { displayQualified, type QualifiedName } from '../postgres/identifier.ts'

export type ReplicationType = 'snapshot' | 'table'

/** A replication as the view `replications` has it. */
export interface Replication {
  readonly jobId: number
  /** What the destination's position row knows it by. */
  readonly id: string
  readonly type: ReplicationType
  readonly sourceDatabase: string
  readonly source: QualifiedName
  readonly destinationDatabase: string
  readonly destination: QualifiedName
  /** Names of the columns to copy; null for all. */
  readonly columns: readonly string[] | null
  /** SQL that follows the source's FROM. */
  readonly condition: string | null
  readonly buildIndexes: boolean
  readonly loadData: boolean
  /** Statements that run in the destination after its structure was made or changed. */
  readonly postScript: readonly string[]
  /** Destination sequences that are set to the maximum of the columns that use them. */
  readonly sequences: readonly string[]
  readonly truncateCascade: boolean
  /** Milliseconds to wait for readers before a swap, and before the old side is emptied. */
  readonly swapWait: number
  readonly site: string | null
  readonly status: 'setting_up' | 'active' | 'broken' | 'removing'
  readonly version: number
}

/** `database:schema.table`, the name of a replication everywhere. */
export function destinationLabel(replication: Pick<Replication, 'destinationDatabase' | 'destination'>): string {
  return `${replication.destinationDatabase}:${displayQualified(replication.destination)}`
}

export function sourceLabel(replication: Pick<Replication, 'sourceDatabase' | 'source'>): string {
  return `${replication.sourceDatabase}:${displayQualified(replication.source)}`
}
