import { displayQualified, type QualifiedName } from '../postgres/identifier.ts'

export const replicationTypes = ['snapshot', 'table', 'inserter', 'updater'] as const

export type ReplicationType = (typeof replicationTypes)[number]

/** Incremental types: the column by which new rows are told from those that were copied. */
export interface ControlColumn {
  readonly column: string
  /** `time`: filled by a clock; `serial`: by a sequence. */
  readonly by: 'time' | 'serial'
  /** `auto`, an interval (time; default `10 minutes`) or a whole number (serial; default `10`): how far behind the newest to stop. */
  readonly boundary: string
  /** Zone in which a `timestamp without time zone` is written; null: the source database's own. */
  readonly timezone: string | null
  /** `00:30-02:30`: no refresh then on a day on which that zone shifts; `off`; null for the default. */
  readonly dstWindow: string | null
}

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
  /** Null for the types that copy everything. */
  readonly control: ControlColumn | null
  /** Columns that identify a row, given by hand; null: the source's primary key or unique index. */
  readonly key: readonly string[] | null
  /** Most rows of one refresh; null for no limit. */
  readonly rowLimit: number | null
  readonly schedule: ReplicationSchedule
  /** Milliseconds that the copy may be behind; null for the default: twice the period, at least 5 minutes. */
  readonly lagTarget: number | null
  readonly site: string | null
  /** Jobs of one pool share a limit of that name. */
  readonly pool: string | null
  readonly status: 'setting_up' | 'active' | 'paused' | 'broken' | 'removing'
  readonly version: number
}

/** When a replication is refreshed by itself: never, where both are null. */
export interface ReplicationSchedule {
  /** As PostgreSQL prints an interval. */
  readonly every: string | null
  readonly cron: string | null
  /** Zone of the cron expression, and of an interval's days and months. */
  readonly timezone: string
}

/** What an option is where nobody says otherwise. */
export const definitionDefaults = {
  columns: null,
  condition: null,
  buildIndexes: true,
  loadData: true,
  postScript: [],
  sequences: [],
  truncateCascade: false,
  swapWait: 60_000,
  control: null,
  key: null,
  rowLimit: null,
  schedule: { every: null, cron: null, timezone: 'UTC' },
  lagTarget: null,
  site: null,
  pool: null,
} as const satisfies Partial<Replication>

/** `database:schema.table`, the name of a replication everywhere. */
export function destinationLabel(replication: Pick<Replication, 'destinationDatabase' | 'destination'>): string {
  return `${replication.destinationDatabase}:${displayQualified(replication.destination)}`
}

export function sourceLabel(replication: Pick<Replication, 'sourceDatabase' | 'source'>): string {
  return `${replication.sourceDatabase}:${displayQualified(replication.source)}`
}
