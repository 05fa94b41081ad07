import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, type QualifiedName, quoteQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { BoundMemory } from './bound.ts'
import { destinationLabel, type Replication } from './definition.ts'
import type { Mark } from './mark.ts'
import { hasPositions, lockClass, updatePositionTable } from './position-table.ts'
import { occupiedRelations } from './snapshot-sides.ts'

/** Something that set-up made in the destination. Removal takes these away and nothing else. */
export type MadeObject = { kind: 'schema'; name: string } | { kind: 'table' | 'view'; schema: string; name: string }

/** What one side of a snapshot held before its indexes were dropped for a load. */
export interface IdleIndexes {
  readonly [side: string]: readonly { name: string; definition: string; constraint: string | null }[]
}

/** The part of a position that a refresh writes with its data. Absent keys were never written. */
export interface PositionState {
  /** Side 1 or 2 that the view shows. */
  live?: 1 | 2
  /** `oid` of the table that holds the live rows: another one means that somebody replaced it. */
  liveOid?: number
  /** What the source looked like just before the last copy (`source-fingerprint.ts`). */
  fingerprint?: string | null
  /** ISO time at which the last copy began. */
  copiedAt?: string
  /** Indexes that the people of the destination made on a side, remembered while a load has them dropped. */
  indexes?: IdleIndexes
  /** Names of the indexes that we built on each side, so that the others are known to be people's own. */
  built?: { readonly [side: string]: readonly string[] }
  /** The post_script has still to run for the structure that is there. */
  postScriptDue?: boolean
  /** The old side still has to be emptied: a reader was in the way. */
  oldSideFull?: boolean
  /** Token of the attempt whose rows are there. */
  appliedBy?: string
  /** Incremental types: every row up to here is there. Null: from the beginning; absent: nothing was decided yet. */
  mark?: Mark | null
  /** What the bound's sampling keeps between refreshes (`bound.ts`). */
  memory?: BoundMemory
  /** Largest finite control value that the destination held when we last wrote there; absent where no index tells. */
  highest?: string | null
}

export interface Position {
  readonly type: Replication['type']
  readonly destination: QualifiedName
  readonly replicationId: string
  readonly controlId: string
  readonly lockNumber: number
  readonly readNumber: string
  readonly token: string | null
  readonly state: PositionState
  readonly made: readonly MadeObject[]
}

const columns = sql`type, jsonb_build_object('schema', schema_name, 'name', table_name) as destination, replication_id as "replicationId", control_id as "controlId", lock_number as "lockNumber",
  read_number::text as "readNumber", token, state, made`

/** In the caller's transaction: what set-up registers before it makes anything. Does nothing where it is registered. */
export async function registerPosition(
  session: Session,
  replication: Pick<Replication, 'id' | 'type' | 'destination'>,
  controlId: string,
  made: readonly MadeObject[],
): Promise<void> {
  await session.query(sql`
    insert into yardmaster.position (replication_id, control_id, type, schema_name, table_name, made)
    values (${replication.id}, ${controlId}, ${replication.type}, ${replication.destination.schema},
      ${replication.destination.name}, ${JSON.stringify(made)}::jsonb)
    on conflict (replication_id) do nothing`)
}

/** Makes this control database the one that drives the destination. */
export async function adoptPosition(
  session: Session,
  position: Position,
  replication: Replication,
  controlId: string,
): Promise<void> {
  await session.query(sql`
    update yardmaster.position set control_id = ${controlId}, replication_id = ${replication.id}, token = null
    where replication_id = ${position.replicationId}`)
}

/** The position of a replication; undefined when the destination knows nothing of it. */
export async function findPosition(session: Session, replicationId: string): Promise<Position | undefined> {
  if (!(await hasPositions(session))) return undefined
  return session.first<Position>(
    sql`select ${columns} from yardmaster.position where replication_id = ${replicationId}`,
  )
}

/** Another replication that holds one of the relations that this one needs: its destination, or a side of a snapshot. */
export async function findHolder(
  session: Session,
  replication: Pick<Replication, 'id' | 'type' | 'destination'>,
): Promise<Position | undefined> {
  if (!(await hasPositions(session))) return undefined
  const needed = new Set(occupiedRelations(replication).map(displayQualified))
  const positions = await session.query<Position>(
    sql`select ${columns} from yardmaster.position where replication_id <> ${replication.id}`,
  )
  return positions.find((position) => occupiedRelations(position).some((one) => needed.has(displayQualified(one))))
}

/** Throws `destination_taken` when a position belongs to another control database or another replication. */
export function refuseForeign(position: Position | undefined, replication: Replication, controlId: string): void {
  if (!position || (position.controlId === controlId && position.replicationId === replication.id)) return
  const label = destinationLabel(replication)
  const holder = displayQualified(position.destination)
  if (position.controlId === controlId) {
    throw new Failure('replication_exists', {
      message: `${label} is, or needs, a relation of the ${position.type} replication whose destination is ${holder}; nothing was changed.`,
      object: label,
    })
  }
  throw new Failure('destination_taken', {
    message: `${label} is, or needs, a relation of ${holder}, which another control database drives (${position.controlId}; this is ${controlId}).`,
    object: label,
    ...(replication.status === 'setting_up' ? { remedy: freeingRemedy(position) } : {}),
  })
}

/** What frees a destination whose control database is gone for good. */
function freeingRemedy(position: Position): string {
  const [first, ...sides] = occupiedRelations(position).map(quoteQualified)
  const objects = sides.length > 0 ? `DROP VIEW IF EXISTS ${first}; DROP TABLE IF EXISTS ${sides.join(', ')}; ` : ''
  return `Remove it there. Where that control database is gone for good, free the destination by: ${objects}DELETE FROM yardmaster.position WHERE replication_id = '${position.replicationId}'; then add it here.`
}

/** Who holds the session lock, for a message. */
export async function lockHolder(session: Session, lockNumber: number): Promise<string> {
  const row = await session.first<{ pid: number; application_name: string | null }>(sql`
    select l.pid, a.application_name from pg_locks l left join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.classid = ${lockClass} and l.objid = ${lockNumber} and l.objsubid = 2 and l.granted
      and l.database = (select oid from pg_database where datname = current_database())`)
  return row
    ? `process ${row.pid}${row.application_name ? ` (${row.application_name})` : ''}`
    : 'a session that has just ended'
}

/** Who wants to write, and how long it may wait for another who does. */
export interface Claimant {
  /** Of the attempt. */
  readonly token: string
  /** Milliseconds; Infinity for ever. */
  readonly wait: number
  /** Whether the attempt with this token is over, so that what it left behind may be ended. */
  readonly isOver: (token: string) => Promise<boolean>
  readonly signal?: AbortSignal
}

/** Milliseconds that the session of an attempt that is over gets to end. */
const leftoverPatience = 10_000

/**
 * Takes the session lock and makes this attempt the only one that may write, in one statement: whoever holds the lock is known
 * by the position from the first moment. Undefined where somebody else holds it to the end of the wait. A session that an
 * attempt has left behind that everybody gave up (its worker hangs, or is cut off) is ended. Throws `replication_unknown`.
 */
export async function claimDestination(
  session: Session,
  openHelper: () => Promise<Session>,
  position: Pick<Position, 'replicationId' | 'lockNumber'>,
  claimant: Claimant,
): Promise<Position | undefined> {
  await updatePositionTable(session)
  let deadline = Date.now() + claimant.wait
  for (let leftoverEnded = false; ; ) {
    const claimed = await tryClaim(session, openHelper, position, claimant.token)
    if (claimed) return claimed
    if (!leftoverEnded && (await endLeftover(session, position, claimant))) {
      leftoverEnded = true
      deadline = Math.max(deadline, Date.now() + leftoverPatience)
    }
    if (Date.now() >= deadline) return undefined
    claimant.signal?.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftoverEnded ? 20 : 200, deadline - Date.now())))
  }
}

/** The row may be locked by a worker that lost its session lock and does not know it yet: its sessions are ended. */
async function tryClaim(
  session: Session,
  openHelper: () => Promise<Session>,
  { replicationId, lockNumber }: Pick<Position, 'replicationId' | 'lockNumber'>,
  token: string,
): Promise<Position | undefined> {
  for (let round = 0; ; round += 1) {
    const ending = setTimeout(() => void endBlockers(session, openHelper).catch(() => undefined), 500)
    try {
      const [, [row]] = await session.queries<[object[], { got: boolean; claimed: Position | null }[]]>([
        sql`select set_config('lock_timeout', '5s', true)`,
        sql`
        with lock as materialized (select pg_try_advisory_lock(${lockClass}, ${lockNumber}) as got),
        claimed as (
          update yardmaster.position set token = ${token}, session_pid = pg_backend_pid(), updated_at = clock_timestamp(),
            session_start = (select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid())
          where replication_id = ${replicationId} and (select got from lock) returning ${columns})
        select lock.got, to_jsonb(claimed) as claimed from lock left join claimed on true`,
      ])
      if (!row?.got) return undefined
      if (row.claimed) return row.claimed
      const message = `The replication was removed from ${session.object} while this waited for its lock.`
      throw new Failure('replication_unknown', { message, object: session.object })
    } catch (error) {
      const failure = session.failure(error)
      if (failure.code !== 'lock_timeout' || round >= 5) throw failure
    } finally {
      clearTimeout(ending)
    }
  }
}

/** Ends the session that holds the lock for an attempt that is over; true when there was one. */
async function endLeftover(
  session: Session,
  { replicationId, lockNumber }: Pick<Position, 'replicationId' | 'lockNumber'>,
  { isOver }: Claimant,
): Promise<boolean> {
  const holder = sql`
    from yardmaster.position p
    join pg_locks l on l.locktype = 'advisory' and l.classid = ${lockClass} and l.objid = ${lockNumber} and l.objsubid = 2
      and l.granted and l.database = (select oid from pg_database where datname = current_database()) and l.pid = p.session_pid
    join pg_stat_activity a on a.pid = p.session_pid and a.backend_start = p.session_start
    where p.replication_id = ${replicationId}`
  const found = await session.first<{ token: string }>(sql`select p.token ${holder} and p.token is not null`)
  if (!found || !(await isOver(found.token).catch(() => false))) return false
  // Looked up again: by now that process may work for somebody else.
  await session.query(sql`select pg_terminate_backend(a.pid) ${holder} and p.token = ${found.token}`)
  return true
}

async function endBlockers(session: Session, openHelper: () => Promise<Session>): Promise<void> {
  const helper = await openHelper()
  try {
    await helper.query(sql`
      select pg_terminate_backend(a.pid) from pg_stat_activity a
      where a.pid = any(pg_blocking_pids(${session.pid})) and a.application_name like 'yardmaster%' and a.pid <> ${session.pid}`)
  } finally {
    await helper.end()
  }
}

/** Inside a transaction that changes data: holds the row until its end, and throws `fenced` when the token is another's. */
export async function holdPosition(
  session: Session,
  replicationId: string,
  token: string,
  strength: 'share' | 'update',
): Promise<Position> {
  const select = sql`select ${columns} from yardmaster.position where replication_id = ${replicationId} and token = ${token}`
  const row = await session.first<Position>(strength === 'share' ? sql`${select} for share` : sql`${select} for update`)
  if (row) return row
  throw fenced(session)
}

/** Moves the position; the caller's transaction holds it for update. Throws `fenced` where it is not what was held. */
export async function movePosition(
  session: Session,
  held: Position,
  state: PositionState,
  advance: boolean,
): Promise<void> {
  const written: PositionState = advance && held.token !== null ? { ...state, appliedBy: held.token } : state
  const moved = await session.query(sql`
    update yardmaster.position set state = ${JSON.stringify(written)}::jsonb, read_number = read_number + ${advance ? 1 : 0},
      updated_at = clock_timestamp()
    where replication_id = ${held.replicationId} and token = ${held.token} and read_number = ${held.readNumber}::bigint
    returning 1`)
  if (moved.length === 0) throw fenced(session)
}

/** Throws `fenced` where the position is not the one that was read before: what was decided by that holds no more. */
export function refuseMoved(session: Session, held: Position, read: Position): void {
  if (held.readNumber !== read.readNumber) throw fenced(session)
}

function fenced(session: Session): Failure {
  return new Failure('fenced', {
    message: 'Another attempt took over this replication; this one changed nothing more.',
    object: session.object,
  })
}
