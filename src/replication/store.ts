import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, parseQualifiedName, printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel, type Replication } from './definition.ts'

interface Row {
  job_id: number
  replication_id: string
  type: Replication['type']
  source_database: string
  source_schema: string
  source_name: string
  destination_database: string
  destination_schema: string
  destination_name: string
  columns: string[] | null
  condition: string | null
  build_indexes: boolean
  load_data: boolean
  post_script: string[]
  sequences: string[]
  truncate_cascade: boolean
  swap_wait_ms: number
  control_column: string | null
  control_by: 'time' | 'serial' | null
  boundary: string | null
  control_timezone: string | null
  dst_window: string | null
  key: string[] | null
  row_limit: string | null
  schedule_interval: string | null
  cron: string | null
  timezone: string
  lag_target_ms: number | null
  site: string | null
  pool: string | null
  status: Replication['status']
  version: number
}

const selection = sql`
  select job_id, replication_id, type, source_database, source_schema, source_name, destination_database, destination_schema,
    destination_name, columns, condition, build_indexes, load_data, post_script, sequences, truncate_cascade,
    (extract(epoch from swap_wait) * 1000)::float8 as swap_wait_ms, control_column, control_by, boundary, control_timezone, dst_window,
    key, row_limit, schedule_interval::text, cron, timezone, (extract(epoch from lag_target) * 1000)::float8 as lag_target_ms,
    site, pool, status, version
  from yardmaster.replications`

function fromRow(row: Row): Replication {
  return {
    jobId: row.job_id,
    id: row.replication_id,
    type: row.type,
    sourceDatabase: row.source_database,
    source: { schema: row.source_schema, name: row.source_name },
    destinationDatabase: row.destination_database,
    destination: { schema: row.destination_schema, name: row.destination_name },
    columns: row.columns,
    condition: row.condition,
    buildIndexes: row.build_indexes,
    loadData: row.load_data,
    postScript: row.post_script,
    sequences: row.sequences,
    truncateCascade: row.truncate_cascade,
    swapWait: row.swap_wait_ms,
    control: controlOf(row),
    key: row.key,
    rowLimit: row.row_limit === null ? null : Number(row.row_limit),
    schedule: { every: row.schedule_interval, cron: row.cron, timezone: row.timezone },
    lagTarget: row.lag_target_ms,
    site: row.site,
    pool: row.pool,
    status: row.status,
    version: row.version,
  }
}

function controlOf(row: Row): Replication['control'] {
  if (row.control_column === null || row.control_by === null || row.boundary === null) return null
  const { control_column: column, control_by: by, boundary, control_timezone: timezone, dst_window: dstWindow } = row
  return { column, by, boundary, timezone, dstWindow }
}

export async function listReplications(control: Control): Promise<Replication[]> {
  const rows = await control.session.query<Row>(
    sql`${selection} order by destination_database, destination_schema, destination_name`,
  )
  return rows.map(fromRow)
}

/** Throws `replication_unknown` where it was removed. `patience`: milliseconds to wait for a control database that is away. */
export async function getReplicationByJob(control: Control, jobId: number, patience = 0): Promise<Replication> {
  const row = await control.perform(
    (session) => session.first<Row>(sql`${selection} where job_id = ${jobId}`),
    patience,
  )
  if (row) return fromRow(row)
  const message = `The replication of job ${jobId} was removed.`
  throw new Failure('replication_unknown', { message, object: `job ${jobId}` })
}

/** Finds a replication by `schema.table` or `database:schema.table`. Throws `replication_unknown`, `replication_ambiguous`. */
export async function getReplication(control: Control, label: string): Promise<Replication> {
  const found = await findReplications(control, label)
  const [only] = found
  if (only && found.length === 1) return only
  if (found.length > 1) {
    throw new Failure('replication_ambiguous', {
      message: `Several databases have ${printable(label)}: ${found.map(destinationLabel).join(', ')}.`,
      object: printable(label),
      remedy: `Write one of: ${found.map((one) => `'${destinationLabel(one)}'`).join(', ')}.`,
    })
  }
  const known = await listReplications(control)
  const wanted = splitLabel(label).table.name.toLowerCase()
  const alike = known.filter((one) => one.destination.name.toLowerCase() === wanted).map(destinationLabel)
  const spelled = new Map(
    known.flatMap((one) => [displayQualified(one.destination), destinationLabel(one)].map((as) => [as, one])),
  )
  const meant = spelled.get(nearest(label, [...spelled.keys()]) ?? '')
  const near = alike.length > 0 || !meant ? alike : [destinationLabel(meant)]
  throw new Failure('replication_unknown', {
    message: `No replication has the destination ${printable(label)}${near.length > 0 ? `; there is ${near.join(', ')}` : ''}.`,
    object: printable(label),
  })
}

/** As `getReplication`, undefined when there is none. */
export async function findReplication(control: Control, label: string): Promise<Replication | undefined> {
  return (await findReplications(control, label))[0]
}

async function findReplications(control: Control, label: string): Promise<Replication[]> {
  const { database, table } = splitLabel(label)
  const rows = await control.session.query<Row>(sql`
    ${selection} where destination_schema = ${table.schema} and destination_name = ${table.name}
      and (${database}::text is null or destination_database = ${database}::text)`)
  return rows.map(fromRow)
}

function splitLabel(label: string) {
  const match = /^([a-z0-9][a-z0-9_.-]*):(.*)$/s.exec(label)
  return { database: match?.[1] ?? null, table: parseQualifiedName(match?.[2] ?? label) }
}

export type NewReplication = Omit<Replication, 'jobId' | 'id' | 'status' | 'version'>

/** Registers a replication as `setting_up` and returns its job id. Throws `replication_exists`. */
export async function addReplication(session: Session, wanted: NewReplication): Promise<number> {
  try {
    const row = await session.one<{ id: number }>(sql`
      select yardmaster.add_replication(${wanted.type}, ${wanted.sourceDatabase}, ${wanted.source.schema}, ${wanted.source.name},
        ${wanted.destinationDatabase}, ${wanted.destination.schema}, ${wanted.destination.name},
        ${JSON.stringify(optionsOf(wanted))}::jsonb) as id`)
    return row.id
  } catch (error) {
    const failure = session.failure(error)
    if (failure.sqlstate !== '23505') throw failure
    throw replicationExists(wanted)
  }
}

/** A definition as the options of the SQL functions. */
function optionsOf(wanted: NewReplication): Record<string, unknown> {
  const { control, schedule } = wanted
  return {
    columns: wanted.columns,
    condition: wanted.condition,
    build_indexes: wanted.buildIndexes,
    load_data: wanted.loadData,
    post_script: wanted.postScript,
    sequences: wanted.sequences,
    truncate_cascade: wanted.truncateCascade,
    swap_wait: `${wanted.swapWait} milliseconds`,
    ...(control && {
      control_column: control.column,
      control_by: control.by,
      boundary: control.boundary,
      control_timezone: control.timezone,
      dst_window: control.dstWindow,
      key: wanted.key,
      row_limit: wanted.rowLimit,
    }),
    schedule_interval: schedule.every,
    cron: schedule.cron,
    timezone: schedule.timezone,
    lag_target: wanted.lagTarget === null ? null : `${wanted.lagTarget} milliseconds`,
    site: wanted.site,
    pool: wanted.pool,
  }
}

export function replicationExists(wanted: Pick<Replication, 'destination' | 'destinationDatabase'>): Failure {
  const label = destinationLabel(wanted)
  return new Failure('replication_exists', {
    message: `${label} is the destination of another replication already.`,
    object: label,
  })
}

/** Changes options; absent keys stay. Keys and values as in the SQL function `alter_replication`. */
export async function alterReplication(
  control: Control,
  replication: Replication,
  changes: Record<string, unknown>,
): Promise<Replication> {
  await control.session.query(
    sql`select yardmaster.alter_replication(${replication.jobId}, ${JSON.stringify(changes)}::jsonb)`,
  )
  return getReplicationByJob(control, replication.jobId)
}

/** Throws `job_refused` where it is to be removed and other jobs start after it. */
export async function setReplicationStatus(
  control: Control,
  replication: Replication,
  status: Replication['status'],
): Promise<void> {
  try {
    await control.session.query(sql`select yardmaster.set_replication_status(${replication.jobId}, ${status})`)
  } catch (error) {
    const failure = control.session.failure(error)
    if (failure.sqlstate !== 'YM002') throw failure
    const { hint, message } = failure.cause as { hint?: string; message: string }
    throw new Failure('job_refused', {
      message,
      object: destinationLabel(replication),
      cause: failure,
      ...(hint ? { remedy: hint } : {}),
    })
  }
}

/** Forgets the definition; the job's history stays. */
export async function forgetReplication(control: Control, replication: Replication): Promise<void> {
  await control.session.query(sql`select yardmaster.remove_replication(${replication.jobId})`)
}

/** No run starts by itself until it is resumed. */
export async function pauseReplication(control: Control, replication: Replication, note: string | null): Promise<void> {
  await control.session.query(sql`select yardmaster.pause_replication(${replication.jobId}, ${note}::text)`)
}

export async function resumeReplication(control: Control, replication: Replication): Promise<void> {
  await control.session.query(sql`select yardmaster.resume_replication(${replication.jobId})`)
}
