import { Failure } from '../base/failure.ts'
import {
  type Column,
  findRelation,
  type Leaf,
  type Relation,
  type RelationRow,
  readLeaves,
  relationOf,
  selectOid,
  selectRelation,
  unknownRelation,
} from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { type Index, readIndexes } from '../postgres/index-catalog.ts'
import { identifier, join, literal, relation, type Sql, sql, trusted } from '../postgres/sql.ts'
import { readTypes, type TypeCatalog } from '../postgres/type-catalog.ts'
import { selectColumns } from './column-plan.ts'
import { type Condition, fromClause, parseCondition } from './condition.ts'
import { type Replication, sourceLabel } from './definition.ts'
import type { Link } from './link.ts'
import { readFingerprint } from './source-fingerprint.ts'

/** Heap bytes of one chunk of a parallel read. Small enough that the streams end together. */
const chunkBytes = 32 * 1024 * 1024
const blockBytes = 8192
/** Milliseconds that a stream waits for a lock that the read as a whole has already. */
const streamLockMs = 1000

/** The source as one refresh sees it: its shape, held against changes by a lock on a session of its own. */
export interface SourceRead {
  readonly session: Session
  readonly relation: Relation
  readonly columns: readonly Column[]
  readonly types: TypeCatalog
  readonly condition: Condition
}

/** The same with its indexes, which are dear to read. */
export interface IndexedSource extends SourceRead {
  readonly indexes: readonly Index[]
}

type SourceDefinition = Pick<Replication, 'sourceDatabase' | 'source' | 'columns' | 'condition'>

/** A source that is locked, and no more is known of it than whether it was written to. */
export interface LockedSource {
  readonly session: Session
  readonly condition: Condition
  /** What tells whether the source was written to; null where nothing can. Sampled before the lock and any snapshot. */
  readonly fingerprint: string | null
}

/**
 * Looks the source up, proves the condition, and takes an ACCESS SHARE lock that stays until the session ends. The lock
 * comes before every snapshot: a TRUNCATE or rewrite that commits between snapshot and lock would show an empty table.
 */
export async function openSource(link: Link, definition: SourceDefinition): Promise<SourceRead> {
  const condition = parseCondition(definition.condition, sourceLabel(definition))
  const session = await link.source()
  const row = await lock<RelationRow>(session, condition, definition, selectRelation(definition.source))
  return readShape(session, condition, definition, relationOf(definition.source, row))
}

/** As `openSource`, with the fingerprint, and no more than that: what a copy needs is read by `readSource`. */
export async function lockSource(
  link: Link,
  definition: SourceDefinition & Pick<Replication, 'buildIndexes'>,
): Promise<LockedSource> {
  const condition = parseCondition(definition.condition, sourceLabel(definition))
  const session = await link.source()
  const sample = await readFingerprint(session, definition.source, definition)
  const locked = await lock<{ oid: number }>(session, condition, definition, selectOid(definition.source))
  const fingerprint = sample !== undefined && sample.oid === locked?.oid ? sample.fingerprint : null
  return { session, condition, fingerprint }
}

/** What a copy needs of a locked source. */
export async function readSource(
  { session, condition }: LockedSource,
  definition: SourceDefinition,
): Promise<SourceRead> {
  return readShape(session, condition, definition, await findRelation(session, definition.source))
}

export async function readIndexed(source: SourceRead): Promise<IndexedSource> {
  const { relation: found, session } = source
  return { ...source, indexes: found.kind === 'view' ? [] : await readIndexes(session, found.oid) }
}

async function readShape(
  session: Session,
  condition: Condition,
  definition: SourceDefinition,
  found: Relation | undefined,
): Promise<SourceRead> {
  if (!found) throw await unknownRelation(session, definition.source)
  const columns = selectColumns(found, definition.columns, sourceLabel(definition))
  const types = await readTypes(
    session,
    columns.map((column) => column.typeOid),
  )
  return { session, relation: found, columns, types, condition }
}

/**
 * In one round trip: a transaction that stays open, the condition in it, which takes the lock, and then `look`, as what
 * stands there under the lock. A failure is the condition's or that of the right to read: nothing else of it can fail.
 */
async function lock<Row extends object>(
  session: Session,
  condition: Condition,
  definition: SourceDefinition,
  look: Sql,
): Promise<Row | undefined> {
  try {
    const [, , , rows] = await session.queries<[object[], object[], object[], Row[], object[]]>([
      sql`begin transaction isolation level read committed read only`,
      sql`select 1 ${fromClause(relation(definition.source), condition)} limit 0`,
      // Planning the condition may have run a function of the source's, which may have set a path of its own.
      sql`select pg_catalog.set_config('search_path', '', true)`,
      look,
      sql`savepoint locked`,
    ])
    return rows[0]
  } catch (error) {
    throw await explain(session, session.failure(error), definition)
  }
}

async function explain(session: Session, failure: Failure, definition: SourceDefinition): Promise<Failure> {
  const ours = failure.sqlstate?.startsWith('42') || failure.sqlstate?.startsWith('22')
  if (!ours) return failure
  const object = sourceLabel(definition)
  await session.script('rollback')
  const found = await findRelation(session, definition.source)
  if (!found) return unknownRelation(session, definition.source)
  if (failure.code === 'permission_denied') {
    const { limited } = await session.one<{ limited: boolean }>(
      sql`select row_security_active(${found.oid}::oid) as limited`,
    )
    if (limited) return hiddenRows(session, failure, definition)
    return new Failure('permission_denied', {
      message: `${object} cannot be read: ${failure.message}`,
      object,
      remedy: `As the owner: GRANT USAGE ON SCHEMA ${quoteIdentifier(definition.source.schema)} TO …; GRANT SELECT ON ${quoteQualified(definition.source)} TO …; yardmaster database prepare ${definition.sourceDatabase} prints them with the role.`,
      cause: failure,
    })
  }
  if (definition.condition === null) return failure
  return new Failure('condition_invalid', {
    message: `${object} does not understand the condition '${definition.condition}': ${failure.message}`,
    object,
    sqlstate: failure.sqlstate,
    cause: failure,
  })
}

/** A role that a policy hides rows from would copy what it sees, and call it the table. */
function hiddenRows(session: Session, failure: Failure, definition: SourceDefinition): Failure {
  const object = sourceLabel(definition)
  return new Failure('permission_denied', {
    message: `${object} has row-level security, by which our role might not see every row; it is copied as a whole or not at all.`,
    object,
    remedy: `As an administrator: ALTER ROLE ${quoteIdentifier(session.parts.user)} BYPASSRLS; or make a view of the rows that are meant, and copy that.`,
    cause: failure,
  })
}

/**
 * The session for a single stream: the one that holds the lock. Another one of ours would queue behind a TRUNCATE or ALTER
 * TABLE that waits for that lock, and the three would wait for ever. Its one COPY has one snapshot, taken after the lock.
 */
export async function openReader(source: SourceRead): Promise<Session> {
  // A read before may have failed; the lock is older than the savepoint and stays.
  await source.session.script('rollback to savepoint locked')
  await protect(source.session, source)
  return source.session
}

/**
 * Sessions that read the same snapshot of the source, one a stream, at least two. The snapshot is taken after the lock.
 * Throws `lock_timeout` where somebody waits for an exclusive lock already: see `openReader`.
 */
export async function openStreams(link: Link, source: SourceRead, count: number): Promise<Session[]> {
  const begin = 'begin transaction isolation level repeatable read read only'
  const first = await link.source()
  await protect(first, source)
  await first.script(begin)
  await lockStream(first, source)
  const row = await first.one<{ id: string }>(sql`select pg_export_snapshot() as id`)
  await refuseOtherLeaves(first, source)
  const others = await Promise.all(
    Array.from({ length: count - 1 }, async () => {
      const session = await link.source()
      await protect(session, source)
      await session.script(begin)
      await session.query(sql`set transaction snapshot ${literal(row.id)}`)
      await lockStream(session, source)
      return session
    }),
  )
  return [first, ...others]
}

/** Takes a stream's own lock. Nothing can change the table between its snapshot and this: our first lock stands. */
async function lockStream(session: Session, source: SourceRead): Promise<void> {
  await session.script(`set local lock_timeout = ${streamLockMs}`)
  try {
    await session.query(sql`select 1 ${fromClause(relation(source.relation), source.condition)} limit 0`)
  } catch (error) {
    const failure = session.failure(error)
    if (failure.code !== 'lock_timeout') throw failure
    const object = `${session.object}:${displayQualified(source.relation)}`
    throw new Failure('lock_timeout', {
      message: `Somebody waits for an exclusive lock on ${object}; the read in several streams stepped aside.`,
      object,
      retryable: true,
      cause: failure,
    })
  }
  await session.script('set local lock_timeout = 0')
}

/**
 * Chunks name their leaves, and our lock on the parent keeps nobody from attaching one, or from detaching one concurrently:
 * under the snapshot they must still be all.
 */
async function refuseOtherLeaves(session: Session, source: SourceRead): Promise<void> {
  const now = await readLeaves(session, source.relation.oid)
  const ids = (leaves: readonly Leaf[]) => leaves.map((leaf) => leaf.oid).join()
  if (ids(now) === ids(source.relation.leaves)) return
  const object = displayQualified(source.relation)
  throw new Failure('source_changed', {
    message: `A partition or child of ${object} was attached or detached while its copy began; nothing was copied.`,
    object,
    retryable: true,
  })
}

/** A table that was swapped for a view or foreign table between check and COPY must not run its code as us (CVE-2024-7348). */
async function protect(session: Session, source: SourceRead): Promise<void> {
  const plain = source.relation.leaves.every((leaf) => leaf.kind === 'table') && source.relation.kind !== 'view'
  if (!plain || source.condition.where !== '' || source.condition.from !== '') return
  await session.query(sql`
    select set_config(name, 'view, foreign-table', false) from pg_settings where name = 'restrict_nonsystem_relation_kind'`)
}

/** A part of the source that one COPY reads. */
export interface Chunk {
  readonly select: Sql
  /** True where the source's size says nothing about how much is read. */
  readonly isPart?: boolean
}

/** The whole source as one read. */
export function wholeRead(source: SourceRead): Chunk {
  return { select: sql`select ${columnList(source)} ${fromClause(relation(source.relation), source.condition)}` }
}

/** The rows that meet further tests, beside the condition. */
export function rowsRead(source: SourceRead, tests: readonly Sql[]): Chunk {
  const from = fromClause(relation(source.relation), source.condition, tests)
  return { select: sql`select ${columnList(source)} ${from}`, isPart: true }
}

/**
 * Ranges of blocks of each leaf, for reading side by side under one snapshot; undefined where the source is small, has no
 * blocks of its own, or has leaves that our role may not read by themselves.
 */
export function chunkedRead(source: SourceRead, atLeastBytes: number): Chunk[] | undefined {
  const { relation: found, condition } = source
  const bytes = found.leaves.reduce((sum, leaf) => sum + leaf.bytes, 0)
  const plain = found.leaves.every((leaf) => leaf.kind !== 'foreign' && leaf.readable)
  // Leaves are read under the parent's name; a condition might spell that out with its schema.
  const renamed = condition.where !== '' && found.leaves.some((leaf) => leaf.oid !== found.oid)
  if (
    renamed ||
    found.kind === 'view' ||
    found.kind === 'foreign' ||
    condition.from !== '' ||
    !plain ||
    bytes < atLeastBytes
  )
    return undefined
  return found.leaves.flatMap((leaf) => {
    const blocks = Math.ceil(leaf.bytes / blockBytes)
    const step = Math.ceil(chunkBytes / blockBytes)
    const table = leaf.oid === found.oid ? relation(found) : sql`${relation(leaf)} as ${identifier(found.name)}`
    return Array.from({ length: Math.max(1, Math.ceil(blocks / step)) }, (_, index) => {
      const from = index * step
      const last = from + step >= blocks
      const tests = [
        ...(from === 0 ? [] : [sql`${identifier(found.name)}.ctid >= ${tid(from)}`]),
        ...(last ? [] : [sql`${identifier(found.name)}.ctid < ${tid(from + step)}`]),
      ]
      return { select: sql`select ${columnList(source)} ${fromClause(sql`only ${table}`, condition, tests)}` }
    })
  })
}

function tid(block: number): Sql {
  return trusted(`'(${block},0)'::pg_catalog.tid`)
}

function columnList(source: SourceRead): Sql {
  return join(source.columns.map((column) => sql`${identifier(source.relation.name)}.${identifier(column.name)}`))
}
