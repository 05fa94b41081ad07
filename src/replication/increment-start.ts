import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { displayName } from '../postgres/identifier.ts'
import { relation, sql } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { fromClause } from './condition.ts'
import { destinationLabel, sourceLabel } from './definition.ts'
import { ended, type Increment, planIncrement, reachOf, stateAfter } from './increment.ts'
import { highestOf, largestOf, readStanding, type Standing } from './increment-destination.ts'
import { describeUnusual, lookAtRange, refuseFuture } from './increment-range.ts'
import { withCommitLookedUp } from './lost-commit.ts'
import type { Mark } from './mark.ts'
import { holdPosition, movePosition, type Position, refuseMoved } from './position.ts'
import type { RefreshContext } from './refresh-context.ts'
import type { RefreshResult, StepReport } from './reporter.ts'
import { planKeyedIndexes, requireKeyIndex } from './row-key.ts'
import { openReader, readIndexed, rowsRead } from './source-read.ts'
import { loadedThenBroken, notEmptied, planTable, reloadTable, type TablePlan } from './table-reload.ts'

const madeTable = (position: Position) => position.made.some((object) => object.kind === 'table')

/** Whether everything is copied: the first time, and when somebody asks for it. With a limit it is a range like any other. */
export function isWholeDue({ repull, limit }: RefreshContext, position: Position): boolean {
  const isFirst = position.readNumber === '0' && madeTable(position)
  return isFirst || (repull !== null && repull.start === null && repull.end === null && limit === null)
}

/** Whether the destination stood there before us, and it was not decided yet where to go on. */
export function isUnadopted(position: Position): boolean {
  return position.readNumber === '0' && !madeTable(position)
}

/** Everything up to the bound, as type `table` copies: in one transaction, frozen, then ANALYZE. */
export async function copyWhole(work: Increment, planning: StepReport): Promise<RefreshResult> {
  const { context, destination, source, control, key, bound } = work
  const { replication } = context
  const unripe = await refuseEmptying(work, planning)
  if (unripe) return unripe
  const indexes = planKeyedIndexes(await readIndexed(source), replication, key, destination.major)
  const plan = await planTable(context, destination, work.position, source, indexes)
  if (plan.table && key) await requireKeyIndex(destination, plan.table, key, replication)
  const skipData = !replication.loadData && replication.status === 'setting_up'
  const range = bound.mark && { lower: null, upper: bound.mark }
  const look = range && (await lookAtRange(source, control, range, null))
  const unusual = look ? describeUnusual(look, displayName(control.name)) : ''
  planning.done(describeWhole(work, plan, unusual), work.level)
  const reload = reloadTable(context, destination, source, plan, {
    chunk: range && !skipData ? rowsRead(source, control.between(null, range.upper)) : null,
    moved: async () => {
      const standing = await readStanding(destination, replication)
      const highest = standing && (await highestOf(destination, standing))
      return stateAfter(work, {}, bound.mark, highest ?? null)
    },
  })
  const outcome = await reload.catch((error: unknown) => Promise.reject(twinsNamed(work, error)))
  if ('blocked' in outcome) return notEmptied(context, outcome.blocked)
  if (outcome.broken) return loadedThenBroken(context, outcome.broken, outcome.loaded)
  await work.link.end(source.session)
  crashPoint('increment-after-commit')
  await analyze(work)
  const from = bound.mark?.inclusive
    ? `behind '${bound.mark.value}'`
    : `from ${bound.mark ? `'${bound.mark.value}'` : 'the first row'} on`
  const message = skipData
    ? `no data was pulled, as was asked for; refreshes bring the rows ${from}.`
    : `${outcome.loaded.rows} rows copied. ${unusual}`.trim()
  return ended(work, message, { ...outcome.loaded, ...reachOf(work, bound.mark) })
}

/** A key that was given by hand, and that two rows of the source have, is told as such. */
function twinsNamed({ context, destination, key }: Increment, error: unknown): Failure {
  const failure = destination.failure(error)
  if (!key?.isGiven || failure.sqlstate !== '23505') return failure
  const label = sourceLabel(context.replication)
  const columns = key.columns.map(displayName).join(', ')
  const message = `Rows of ${label} cannot be told apart by (${columns}), the key that was given: ${failure.message}`
  return new Failure('key_not_unique', { message, object: label, cause: failure })
}

/** Where nothing may be read yet though there are rows, a copy that has rows keeps them. */
async function refuseEmptying(work: Increment, planning: StepReport): Promise<RefreshResult | undefined> {
  const { source, control, bound, position } = work
  if (bound.mark || !position.state.mark) return undefined
  const session = await openReader(source)
  const rows = fromClause(relation(source.relation), source.condition, [control.finite])
  const { any } = await session.one<{ any: boolean }>(sql`select exists (select 1 ${rows}) as any`)
  if (!any) return undefined
  const message =
    'nothing can be copied safely while transactions are open that may still write; the old rows stay. Try again when they have ended.'
  planning.done([message, ...work.notes].join(' '), 'WARNING')
  return ended(work, message, { level: 'WARNING', tookEffect: false })
}

function describeWhole(work: Increment, plan: TablePlan, unusual: string): string {
  const { mark } = work.bound
  const upTo = mark ? `up to ${work.control.name} '${mark.value}'` : 'of no row yet'
  const what = `${plan.format} copy of ${sourceLabel(work.context.replication)} in one stream, ${upTo}.`
  return [what, unusual, ...work.notes].filter((text) => text !== '').join(' ')
}

async function analyze({ context, destination }: Increment): Promise<void> {
  const step = context.reporter.step('analyze')
  await destination.query(sql`analyze ${relation(context.replication.destination)}`)
  step.done()
  crashPoint('load-after-analyze')
}

/** A table that stood there keeps its rows. What it has is taken for what was copied: this once, and never again. */
export async function adoptIncremental(
  work: Omit<Increment, 'bound' | 'sampledAt'>,
  standing: Standing | undefined,
  planning: StepReport,
): Promise<RefreshResult> {
  const { context, destination, position } = work
  const { replication } = context
  const label = destinationLabel(replication)
  const control = standing?.control
  if (!standing || !control) {
    throw new Failure('destination_unsuitable', {
      message: standing
        ? `The column ${displayName(work.control.name)} of ${label} has another order than the source's, so that it cannot be told how far its rows go; nothing was changed.`
        : `${label} is gone; it stood there when the replication was registered.`,
      object: label,
    })
  }
  await planIncrement(work, standing, false)
  let mark: Mark | null = null
  await withCommitLookedUp(context, destination, (committing) =>
    inTransaction(destination, 'begin', async () => {
      const held = await holdPosition(destination, replication.id, context.token, 'update')
      refuseMoved(destination, held, position)
      const highest = await largestOf(destination, standing.table, control)
      if (highest !== null) await refuseFuture(work.source, work.control, highest, label)
      mark = highest === null ? null : { value: highest, inclusive: true }
      const state = { ...held.state, mark, highest, memory: {}, liveOid: standing.table.oid }
      await movePosition(destination, held, state, true)
      crashPoint('adopt-before-commit')
      committing()
    }),
  )
  const goesOn = describeStart(mark)
  planning.done(`The table existed; ${goesOn}.`)
  return ended(work, `existed: no data was pulled and no index built; ${goesOn}.`)
}

function describeStart(mark: Mark | null): string {
  return mark
    ? `the next refresh goes on behind its largest value, '${mark.value}'`
    : 'it is empty, so the next refresh begins with the first row'
}
