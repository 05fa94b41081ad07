import { crashPoint } from '../../base/crash-point.ts'
import { Failure } from '../../base/failure.ts'
import { findRelation, type Relation } from '../../postgres/catalog.ts'
import type { Session } from '../../postgres/connect.ts'
import { displayQualified } from '../../postgres/identifier.ts'
import { relation, sql, trusted } from '../../postgres/sql.ts'
import { createTableStatements, matchColumns, type PlannedColumn, planColumns } from '../column-plan.ts'
import { destinationLabel, type Replication, sourceLabel } from '../definition.ts'
import { runStatements } from '../dependents.ts'
import {
  dropStatement,
  type PlannedIndex,
  planIndexes,
  primaryKeyStatement,
  standingIndexes,
} from '../destination-indexes.ts'
import type { Link } from '../link.ts'
import { grantIndexMemory, type Loaded, loadFrozen } from '../load.ts'
import { withCommitLookedUp } from '../lost-commit.ts'
import { holdPosition, movePosition, type Position } from '../position.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult } from '../reporter.ts'
import { resetSequences } from '../sequences.ts'
import { openSource, type SourceRead, wholeRead } from '../source-read.ts'
import { withShortLocks } from '../swap-lock.ts'

interface TablePlan {
  readonly table: Relation | undefined
  readonly columns: readonly PlannedColumn[]
  readonly format: 'binary' | 'text'
  readonly indexes: readonly PlannedIndex[]
  /** Tables that TRUNCATE CASCADE empties as well. */
  readonly cascade: readonly string[]
  /** TRUNCATE with COPY FREEZE shows every snapshot the new rows; a partitioned table can't, and is emptied by DELETE. */
  readonly freeze: boolean
}

/** table: empties and reloads one plain table in one transaction, in one stream, made where it is absent. */
export async function refreshTable(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<RefreshResult> {
  const { replication, reporter } = context
  const label = destinationLabel(replication)
  const planning = reporter.step('plan')
  const copiedAt = new Date().toISOString()
  const source = await openSource(link, replication)
  const plan = await planTable(context, destination, position, source)
  const warnings = plan.cascade.length > 0 ? [`TRUNCATE CASCADE also empties ${plan.cascade.join(', ')}.`] : []
  planning.done(
    [`${plan.format} copy of ${sourceLabel(replication)} in one stream.`, ...warnings].join(' '),
    warnings.length > 0 ? 'WARNING' : 'OK',
  )
  const skipData = !replication.loadData && replication.status === 'setting_up'
  const { loaded, broken } = await reload(context, link, destination, source, plan, copiedAt, skipData)
  if (broken) return loadedThenBroken(context, broken, loaded)
  await link.end(source.session)
  crashPoint('table-after-commit')
  if (replication.sequences.length > 0) {
    const step = reporter.step('sequences')
    step.done(await resetSequences(destination, replication.sequences, label))
    crashPoint('table-after-sequences')
  }
  const analyzing = reporter.step('analyze')
  await destination.query(sql`analyze ${relation(replication.destination)}`)
  analyzing.done()
  crashPoint('load-after-analyze')
  return {
    level: warnings.length > 0 ? 'WARNING' : 'OK',
    reason: null,
    tookEffect: true,
    message: [`${label}: ${loaded.rows} rows copied.`, ...warnings].join(' '),
    ...loaded,
  }
}

async function planTable(
  context: RefreshContext,
  destination: Session,
  position: Position,
  source: SourceRead,
): Promise<TablePlan> {
  const { replication } = context
  const columns = await planColumns(source.columns, source.types, destination, sourceLabel(replication))
  const table = await findRelation(destination, replication.destination)
  if (table) refuseUnsuitable(table, replication)
  // Ours comes into being with its first rows: one that stands there before was made by somebody else meanwhile.
  const stranger = table && position.readNumber === '0' && position.made.some((object) => object.kind === 'table')
  if (stranger) {
    const label = destinationLabel(replication)
    throw new Failure('destination_exists', {
      message: `${label} was made by somebody else while it was being set up; it was not touched.`,
      object: label,
    })
  }
  const shape = table ?? newShape(replication, columns)
  return {
    table,
    columns,
    format: await matchColumns(columns, source.types, shape, destination),
    indexes: replication.buildIndexes ? planIndexes(source, replication.destination, replication.columns !== null) : [],
    cascade: table ? await referencingTables(destination, table, replication) : [],
    freeze: table?.kind !== 'partitioned',
  }
}

/** Throws `destination_unsuitable` for a destination that no plain COPY can fill. */
export function refuseUnsuitable(
  table: Relation,
  replication: Pick<Replication, 'destination' | 'destinationDatabase'>,
): void {
  if (table.kind === 'table' || table.kind === 'partitioned') return
  const label = destinationLabel(replication)
  throw new Failure('destination_unsuitable', {
    message: `${label} is a ${table.kind}; type table copies into a table.`,
    object: label,
  })
}

function newShape(replication: Replication, columns: readonly PlannedColumn[]): Relation {
  return {
    ...replication.destination,
    oid: 0,
    kind: 'table',
    persistence: 'p',
    comment: null,
    leaves: [],
    columns: columns.map((column, index) => ({
      name: column.name,
      number: index + 1,
      typeOid: column.typeOid,
      typmod: column.source.typmod,
      type: column.type,
      notNull: column.notNull,
      collation: column.collation,
      generated: false,
      comment: null,
      readable: true,
    })),
  }
}

/** Tables that a TRUNCATE of this one would have to empty too. Throws `dependent_objects` when that was not allowed. */
async function referencingTables(destination: Session, table: Relation, replication: Replication): Promise<string[]> {
  const rows = await destination.query<{ schema: string; name: string }>(sql`
    with recursive referencing as (
      select ${table.oid}::oid as oid
      union
      select k.conrelid from referencing r join pg_constraint k on k.confrelid = r.oid and k.contype = 'f')
    select n.nspname as schema, c.relname as name from referencing r join pg_class c on c.oid = r.oid
    join pg_namespace n on n.oid = c.relnamespace where r.oid <> ${table.oid}::oid order by 1, 2`)
  if (rows.length === 0 || replication.truncateCascade) return rows.map(displayQualified)
  const label = destinationLabel(replication)
  const names = rows.map(displayQualified).join(', ')
  throw new Failure('dependent_objects', {
    message: `${names} refer${rows.length === 1 ? 's' : ''} to ${label} by foreign keys, so it cannot be emptied alone; nothing was changed.`,
    object: label,
    remedy: `Drop those foreign keys; or empty those tables too, each time: yardmaster replication set ${label} truncate-cascade=true`,
  })
}

/** Empty, load, index and position in one transaction: readers see the old rows until it commits, then the new ones. */
async function reload(
  context: RefreshContext,
  link: Link,
  destination: Session,
  source: SourceRead,
  plan: TablePlan,
  copiedAt: string,
  skipData: boolean,
): Promise<{ loaded: Loaded; broken: Failure | undefined }> {
  const { replication, reporter } = context
  const table = replication.destination
  const target = { table, columns: plan.columns.map((column) => column.name), format: plan.format }
  const deadline = Date.now() + replication.swapWait
  const about = { what: `Emptying ${destinationLabel(replication)}`, relations: [table] }
  const emptying = reporter.step('empty the table')
  let loaded: Loaded = { rows: 0, bytes: 0 }
  const broken = await withCommitLookedUp(context, destination, (committing) =>
    withShortLocks(
      destination,
      about,
      deadline,
      async () => {
        const held = await holdPosition(destination, replication.id, context.token, 'update')
        const rebuilt = await emptyTable(destination, replication, plan, held.state.built?.table ?? [])
        emptying.done(plan.table ? undefined : 'made')
        await destination.script('set local lock_timeout = 0')
        const loading = reporter.step('load')
        if (!skipData)
          loaded = await loadFrozen(link, source, wholeRead(source), destination, target, plan.freeze, loading)
        loading.done(skipData ? 'no data was asked for' : `${loaded.rows} rows, ${loaded.bytes} bytes`)
        const indexing = reporter.step('index')
        await grantIndexMemory(destination)
        await runStatements(destination, rebuilt)
        indexing.done(`${rebuilt.length} statements.`)
        const oid = (await findRelation(destination, table))?.oid
        const built = plan.table ? (held.state.built?.table ?? []) : plan.indexes.map((index) => index.name)
        const state = {
          ...held.state,
          copiedAt,
          built: { table: built },
          ...(oid === undefined ? {} : { liveOid: oid }),
        }
        await movePosition(destination, held, state, true)
        crashPoint('table-before-commit')
        committing()
      },
      context.signal,
    ),
  )
  return { loaded, broken }
}

/** The new rows are committed, so what breaks behind them makes no failed refresh of it. */
function loadedThenBroken(context: RefreshContext, failure: Failure, loaded: Loaded): RefreshResult {
  const label = destinationLabel(context.replication)
  const left = 'The new rows are there; sequences and ANALYZE are left to the next refresh.'
  if (context.signal.aborted) throw new Failure('cancelled', { message: `Cancelled. ${left}`, object: label })
  const message = `${label}: ${loaded.rows} rows copied. ${left} (${failure.message})`
  return { level: 'WARNING', reason: null, tookEffect: true, message, ...loaded }
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
  if (plan.freeze) {
    await destination.query(sql`truncate ${relation(table)}${trusted(replication.truncateCascade ? ' cascade' : '')}`)
  } else await destination.query(sql`delete from ${relation(table)}`)
  // Indexes that we made and no constraint needs are built again after the load; everything else stays as it is.
  const ours = (await standingIndexes(destination, table)).filter(
    (index) => built.includes(index.name) && index.constraint === null,
  )
  for (const index of ours) await destination.query(trusted(dropStatement(table, index)))
  return ours.map((index) => index.definition)
}
