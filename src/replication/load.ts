import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { type CopyCounter, copyThrough } from '../postgres/copy.ts'
import { displayQualified, type QualifiedName } from '../postgres/identifier.ts'
import { identifier, join, relation, type Sql, sql, trusted } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { inParallel, type Link } from './link.ts'
import { holdPosition } from './position.ts'
import type { StepReport } from './reporter.ts'
import { type Chunk, openReader, openStreams, type SourceRead } from './source-read.ts'

/** Milliseconds between two progress reports. */
const progressEvery = 500

export interface LoadTarget {
  readonly table: QualifiedName
  readonly columns: readonly string[]
  readonly format: 'binary' | 'text'
}

/** What every transaction that changes data must hold. */
export interface Fence {
  readonly replicationId: string
  readonly token: string
}

export interface Loaded {
  readonly rows: number
  readonly bytes: number
}

/** COPY of one chunk into a session's open transaction. `freeze` where the transaction itself made or emptied the table. */
async function loadChunk(
  from: Session,
  chunk: Chunk,
  to: Session,
  target: LoadTarget,
  freeze: boolean,
  counter: CopyCounter,
): Promise<number> {
  const format = trusted(target.format)
  const columns = join(target.columns.map(identifier))
  const { rows, sent } = await copyThrough(
    { session: from, statement: sql`copy (${chunk.select}) to stdout (format ${format})` },
    { session: to, statement: copyIn(target.table, columns, format, freeze) },
    counter,
  )
  if (rows === sent) return rows
  const table = `${to.object}:${displayQualified(target.table)}`
  throw new Failure('destination_unsuitable', {
    message: `${sent - rows} of ${sent} rows did not get into ${table}: a trigger of it keeps them out. Nothing was changed.`,
    object: table,
    remedy: 'Drop or disable that trigger, or leave those rows out with --where.',
  })
}

function copyIn(table: QualifiedName, columns: Sql, format: Sql, freeze: boolean): Sql {
  return sql`copy ${relation(table)} (${columns}) from stdin (format ${format}${trusted(freeze ? ', freeze' : '')})`
}

/**
 * Loads chunks side by side under one snapshot of the source, each lane in a transaction of its own: only into a table
 * that nobody reads. All lanes commit, or the caller starts again with an empty table.
 */
export async function loadInParallel(
  link: Link,
  source: SourceRead,
  chunks: readonly Chunk[],
  width: number,
  target: LoadTarget,
  fence: Fence,
  step: StepReport,
): Promise<Loaded> {
  const lanes = Math.min(width, chunks.length)
  const readers = await openStreams(link, source, lanes)
  const writers = await Promise.all(readers.map(() => link.destination()))
  const counter: CopyCounter = { rows: 0, bytes: 0 }
  const stop = reportProgress(step, counter, source)
  let rows = 0
  try {
    for (const writer of writers) {
      await writer.script('begin')
      await holdPosition(writer, fence.replicationId, fence.token, 'share')
    }
    await inParallel(chunks, lanes, async (chunk, lane) => {
      const [reader, writer] = [readers[lane], writers[lane]]
      // Not `rows += await …`: that reads the sum before it waits, and loses what other lanes add meanwhile.
      const loaded = reader && writer ? await loadChunk(reader, chunk, writer, target, false, counter) : 0
      rows += loaded
      crashPoint('load-after-first-chunk')
    })
    crashPoint('load-before-commit')
    for (const writer of writers) {
      await writer.script('commit')
      crashPoint('load-after-first-commit')
    }
  } finally {
    stop()
    await Promise.all([...readers, ...writers].map((session) => link.end(session)))
  }
  return { rows, bytes: counter.bytes }
}

/** Loads one read into the open transaction of `writer`; with `freeze` only where that made or emptied the table. */
export async function loadFrozen(
  source: SourceRead,
  chunk: Chunk,
  writer: Session,
  target: LoadTarget,
  freeze: boolean,
  step: StepReport,
): Promise<Loaded> {
  const reader = await openReader(source)
  const counter: CopyCounter = { rows: 0, bytes: 0 }
  const stop = reportProgress(step, counter, source, chunk.isPart)
  try {
    const rows = await loadChunk(reader, chunk, writer, target, freeze, counter)
    // Frames are counted on the way, and binary COPY ends with one that is no row.
    counter.rows = rows
    crashPoint('load-after-first-chunk')
    return { rows, bytes: counter.bytes }
  } finally {
    stop()
  }
}

/** Runs index statements side by side, each in a transaction of its own. */
export async function buildInParallel(
  link: Link,
  statements: readonly string[],
  width: number,
  fence: Fence,
): Promise<void> {
  const lanes = Math.min(width, statements.length)
  const sessions = await Promise.all(Array.from({ length: lanes }, () => link.destination()))
  try {
    await Promise.all(sessions.map(grantIndexMemory))
    await inParallel(statements, lanes, async (statement, lane) => {
      const session = sessions[lane]
      if (!session) return
      await inTransaction(session, 'begin', async () => {
        await holdPosition(session, fence.replicationId, fence.token, 'share')
        await session.query(trusted(statement))
      })
      crashPoint('load-after-index')
    })
  } finally {
    await Promise.all(sessions.map((session) => link.end(session)))
  }
}

/** A sort in memory halves the time of an index on 2 million rows; the server's own setting stands where it is higher. */
export async function grantIndexMemory(session: Session): Promise<void> {
  await session.query(sql`
    select set_config('maintenance_work_mem', '256MB', false) from pg_settings
    where name = 'maintenance_work_mem' and setting::bigint < 262144`)
}

function reportProgress(step: StepReport, counter: CopyCounter, source: SourceRead, isPart = false): () => void {
  const estimates = source.relation.leaves.map((leaf) => leaf.rows)
  const whole = !isPart && source.condition.where === '' && source.condition.from === '' && estimates.length > 0
  const total = whole && estimates.every((rows) => rows >= 0) ? estimates.reduce((sum, rows) => sum + rows, 0) : 0
  const report = () => step.progress({ ...counter, ...(total > 0 ? { totalRows: total } : {}) })
  const timer = setInterval(report, progressEvery)
  return () => {
    clearInterval(timer)
    report()
  }
}
