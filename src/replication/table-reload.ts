import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { findRelation, type Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import type { QualifiedName } from '../postgres/identifier.ts'
import { join, relation, sql, trusted } from '../postgres/sql.ts'
import { createTableStatements, matchColumns, type PlannedColumn, planColumns, plannedTable } from './column-plan.ts'
import { destinationLabel, type Replication, sourceLabel } from './definition.ts'
import { runStatements } from './dependents.ts'
import {
  dropStatement,
  explainIndexFailure,
  type PlannedIndex,
  primaryKeyStatement,
  standingIndexes,
} from './destination-indexes.ts'
import { grantIndexMemory, type Loaded, loadFrozen } from './load.ts'
import { committedThenBroken, withCommitLookedUp } from './lost-commit.ts'
import { holdPosition, movePosition, type Position, type PositionState } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { RefreshResult } from './reporter.ts'
import { findSequence } from './sequences.ts'
import type { Chunk, SourceRead } from './source-read.ts'
import { withShortLocks } from './swap-lock.ts'
import { refuseUnsuitable, tablesEmptiedToo } from './table-destination.ts'

/** How a plain table is emptied and filled anew, or made. */
export interface TablePlan {
  readonly table: Relation | undefined
  readonly columns: readonly PlannedColumn[]
  readonly format: 'binary' | 'text'
  readonly indexes: readonly PlannedIndex[]
  /** Tables that are emptied as well. */
  readonly emptiedToo: readonly QualifiedName[]
  /** TRUNCATE with COPY FREEZE shows every snapshot the new rows; a partitioned table can't, and is emptied by DELETE. */
  readonly freeze: boolean
}

/** What a reload puts into the table and writes into the position. */
export interface Reload {
  /** What is read of the source; null for no rows. */
  readonly chunk: Chunk | null
  /** In the transaction that loaded: what changes in the position's state. */
  readonly moved: () => Promise<PositionState>
}

/** Looks at both sides and refuses what cannot work. Changes nothing. */
export async function planTable(
  context: RefreshContext,
  destination: Session,
  position: Position,
  source: SourceRead,
  indexes: readonly PlannedIndex[],
): Promise<TablePlan> {
  const { replication } = context
  const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
  const table = await findRelation(destination, replication.destination)
  if (table) await refuseUnsuitable(destination, table, replication, source)
  for (const name of replication.sequences) await findSequence(destination, name, destinationLabel(replication))
  // Ours comes into being with its first rows: one that stands there before was made by somebody else meanwhile.
  const stranger = table && position.readNumber === '0' && position.made.some((object) => object.kind === 'table')
  if (stranger) {
    const label = destinationLabel(replication)
    throw new Failure('destination_exists', {
      message: `${label} was made by somebody else while it was being set up; it was not touched.`,
      object: label,
    })
  }
  const shape = table ?? plannedTable(replication.destination, columns)
  return {
    table,
    columns,
    format: await matchColumns(columns, source.types, shape, destination),
    indexes,
    emptiedToo: table ? await tablesEmptiedToo(destination, table, replication) : [],
    freeze: table?.kind !== 'partitioned',
  }
}

/** Empty, load, index and position in one transaction: readers see the old rows until it commits, then the new ones. */
export async function reloadTable(
  context: RefreshContext,
  destination: Session,
  source: SourceRead,
  plan: TablePlan,
  { chunk, moved }: Reload,
): Promise<{ loaded: Loaded; broken: Failure | undefined } | { blocked: string }> {
  const { replication, reporter } = context
  const table = replication.destination
  const target = { table, columns: plan.columns.map((column) => column.name), format: plan.format }
  const deadline = Date.now() + replication.swapWait
  const about = { what: `Emptying ${destinationLabel(replication)}`, relations: [table] }
  const emptying = reporter.step('empty the table')
  let loaded: Loaded = { rows: 0, bytes: 0 }
  let emptied = false
  const work = (committing: () => void) =>
    withShortLocks(
      destination,
      about,
      deadline,
      async () => {
        const held = await holdPosition(destination, replication.id, context.token, 'update')
        const rebuilt = await emptyTable(destination, replication, plan, held.state.built?.table ?? [])
        emptied = true
        emptying.done(plan.table ? undefined : 'made')
        await destination.script('set local lock_timeout = 0')
        const loading = reporter.step('load')
        if (chunk) loaded = await loadFrozen(source, chunk, destination, target, plan.freeze, loading)
        loading.done(chunk ? `${loaded.rows} rows, ${loaded.bytes} bytes` : 'no rows')
        const indexing = reporter.step('index')
        await grantIndexMemory(destination)
        await runStatements(destination, rebuilt).catch((error: unknown) => {
          throw explainIndexFailure(destination.failure(error), replication)
        })
        indexing.done(`${rebuilt.length} statements.`)
        const oid = (await findRelation(destination, table))?.oid
        const built = plan.table ? (held.state.built?.table ?? []) : plan.indexes.map((index) => index.name)
        const state = {
          ...held.state,
          ...(await moved()),
          built: { table: built },
          ...(oid === undefined ? {} : { liveOid: oid }),
        }
        await movePosition(destination, held, state, true)
        crashPoint('table-before-commit')
        committing()
      },
      context.signal,
    )
  try {
    return { broken: await withCommitLookedUp(context, destination, work), loaded }
  } catch (error) {
    const failure = destination.failure(error)
    if (failure.code !== 'lock_timeout' || emptied) throw failure
    emptying.done(failure.message, 'WARNING')
    return { blocked: failure.message }
  }
}

/** Somebody held the table until the deadline: no failure, and no new rows. */
export function notEmptied(context: RefreshContext, why: string): RefreshResult {
  const message = `${destinationLabel(context.replication)}: nothing was copied; the old rows stay. ${why}`
  return { level: 'WARNING', reason: null, tookEffect: false, message, rows: 0, bytes: 0 }
}

/** What a refresh comes to whose connection broke behind the commit of its rows. */
export function loadedThenBroken(context: RefreshContext, failure: Failure, loaded: Loaded): RefreshResult {
  const left = 'The new rows are there; sequences and ANALYZE are left to the next refresh.'
  return committedThenBroken(context, failure, loaded, left)
}

/** Empties or makes the table; returns the statements that build its indexes when the rows are there. */
async function emptyTable(
  destination: Session,
  replication: Replication,
  plan: TablePlan,
  built: readonly string[],
): Promise<string[]> {
  const table = replication.destination
  if (!plan.table) {
    await runStatements(destination, createTableStatements(table, plan.columns))
    return [
      ...plan.indexes.map((index) => index.statement),
      ...plan.indexes.filter((index) => index.primary).map((index) => primaryKeyStatement(table, index)),
    ]
  }
  await emptyStanding(destination, table, plan, replication.truncateCascade)
  // Indexes that we made and no constraint needs are built again after the load; everything else stays as it is.
  const ours = (await standingIndexes(destination, table)).filter(
    (index) => built.includes(index.name) && index.constraint === null && index.ours,
  )
  for (const index of ours) await destination.query(trusted(dropStatement(table, index)))
  return ours.map((index) => index.definition)
}

/** A partitioned table is emptied by DELETE: rows that COPY can't freeze, behind a TRUNCATE, no older snapshot would see. */
async function emptyStanding(
  destination: Session,
  table: QualifiedName,
  plan: TablePlan,
  cascade: boolean,
): Promise<void> {
  if (plan.freeze) {
    await destination.query(sql`truncate ${relation(table)}${trusted(cascade ? ' cascade' : '')}`)
    return
  }
  // As TRUNCATE would: nobody writes between the rows that we delete and those that we bring.
  await destination.query(sql`lock table ${relation(table)} in exclusive mode`)
  if (plan.emptiedToo.length > 0) await destination.query(sql`truncate ${join(plan.emptiedToo.map(relation))}`)
  await destination.query(sql`delete from ${relation(table)}`)
}
