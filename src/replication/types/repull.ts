import { crashPoint } from '../../base/crash-point.ts'
import { Failure } from '../../base/failure.ts'
import { displayName } from '../../postgres/identifier.ts'
import { relation, type Sql, sql } from '../../postgres/sql.ts'
import type { Control } from '../control-column.ts'
import { destinationLabel } from '../definition.ts'
import {
  applyIncrement,
  ended,
  type Increment,
  type IncrementPlan,
  planIncrement,
  reachOf,
  refuseCrowd,
} from '../increment.ts'
import type { Standing } from '../increment-destination.ts'
import { isBehind, lookAtRange, type Range, type RepullRange, repullRange } from '../increment-range.ts'
import type { Loaded } from '../load.ts'
import type { Mark } from '../mark.ts'
import type { Repull } from '../refresh-context.ts'
import type { RefreshResult, StepReport } from '../reporter.ts'
import { rowsRead } from '../source-read.ts'
import { appendRows } from './inserter.ts'
import { removeStale } from './stale-rows.ts'
import { Staging } from './updater.ts'

/** What goes at the destination and what comes again. */
interface Replacement {
  readonly range: Range
  /** Rows of the destination that may go. */
  readonly going: readonly Sql[]
  /** The position afterwards: every row up to there is at the destination. */
  readonly mark: Mark
}

/** Copies a range again, in one transaction. What the limit cuts off stays as it is. */
export async function repull(
  work: Increment,
  standing: Standing,
  step: StepReport,
  asked: Repull,
): Promise<RefreshResult> {
  const { context, source, control, bound } = work
  const position = work.position.state.mark ?? null
  const limit = context.limit ?? context.replication.rowLimit
  const found = await repullRange(source, control, asked, { position, bound: bound.mark }, context.replication)
  if (!found) {
    step.done('Nothing was copied yet, and nothing may be.')
    return ended(work, 'nothing was copied yet, and nothing may be.', { reason: 'nothing_new' })
  }
  const look = await lookAtRange(source, control, found.range, limit)
  if (look.crowd !== undefined) return refuseCrowd(work, step, look)
  const replacement = await planReplacement(work, requireControl(work, standing), found, look.cut)
  const plan = await planIncrement(work, standing, true)
  step.done(describe(plan, replacement.range, found))
  const { loaded, removed } = await replace(work, plan, replacement)
  const message = `${loaded.rows} rows copied again${removed === undefined ? '' : `, ${removed} removed`}.`
  if (look.cut === undefined) return ended(work, message, { ...loaded, ...reachAfter(work, replacement.mark) })
  const cut = describeCut(work, look.cut, replacement.mark, asked)
  context.reporter.step('limit').done(cut, 'WARNING')
  return ended(work, `${message} ${cut}`, { ...loaded, level: 'WARNING', reason: 'trimmed' })
}

async function planReplacement(
  { source, control, position }: Increment,
  theirs: Control,
  { range, end }: RepullRange,
  cut: string | undefined,
): Promise<Replacement> {
  const upper = cut === undefined ? range.upper : { value: cut, inclusive: false }
  const last = cut === undefined ? end : upper
  const tests = [...(range.lower ? [theirs.after(range.lower)] : []), ...(last ? [theirs.upTo(last)] : [])]
  const before = position.state.mark ?? null
  const moves = !before || (await isBehind(source, control, upper, before))
  return {
    range: { lower: range.lower, upper },
    going: tests.length > 0 ? tests : [sql`${theirs.ref} is not null`],
    mark: moves ? upper : before,
  }
}

async function replace(
  work: Increment,
  plan: IncrementPlan,
  { range, going, mark }: Replacement,
): Promise<{ loaded: Loaded; removed: number | undefined }> {
  const { context, source, control, key, destination } = work
  const chunk = rowsRead(source, control.between(range.lower, range.upper))
  let removed: number | undefined
  const loaded = await applyIncrement(work, plan, mark, async () => {
    if (key) {
      const loading = context.reporter.step('load')
      const staging = await Staging.make(work, plan, key)
      const rows = await staging.load(chunk, loading)
      loading.done(`${rows.rows} rows, ${rows.bytes} bytes`)
      const deleting = context.reporter.step('delete')
      removed = await removeStale(work, plan, { staging, key, going, mark, step: deleting })
      crashPoint('increment-after-delete')
      await staging.apply()
      deleting.done(`${removed} rows that the source has no more.`)
      return rows
    }
    const deleting = context.reporter.step('delete')
    const where = going.reduce((all, test) => sql`${all} and ${test}`)
    const gone = await destination.affected(sql`delete from ${relation(plan.standing.table)} where ${where}`)
    crashPoint('increment-after-delete')
    deleting.done(`${gone} rows.`)
    const loading = context.reporter.step('load')
    const rows = await appendRows(work, plan, chunk, loading)
    loading.done(`${rows.rows} rows, ${rows.bytes} bytes`)
    return rows
  })
  return { loaded, removed }
}

function requireControl(work: Increment, standing: Standing): Control {
  if (standing.control) return standing.control
  const label = destinationLabel(work.context.replication)
  throw new Failure('destination_unsuitable', {
    message: `The column ${displayName(work.control.name)} of ${label} has another order than the source's, so that no range can be taken out of it; nothing was changed.`,
    object: label,
    remedy: `Copy everything again: yardmaster replication resync ${label}`,
  })
}

function describe(plan: IncrementPlan, { lower, upper }: Range, { end }: RepullRange): string {
  const from = lower ? `from '${lower.value}'` : 'from the first row'
  const until = `to ${upper.inclusive ? '' : 'before '}'${upper.value}'`
  return `${plan.format} copy, again, ${from} ${until}${end ? '' : '; the end is open'}.`
}

function describeCut({ context }: Increment, cut: string, mark: Mark, asked: Repull): string {
  const limit = context.limit ?? context.replication.rowLimit
  const so = `The limit of ${limit} rows cut the range before '${cut}'; nothing from there on was touched.`
  if (mark.value === cut) return `${so} The next refresh goes on from there.`
  const end = asked.end === null ? '' : ` --end '${asked.end}'`
  return `${so} Go on with: yardmaster replication refresh ${destinationLabel(context.replication)} --repull --start '${cut}'${end}`
}

/** Where the copy ends at the bound, it is as near as the bound is; else nothing was found out about that. */
function reachAfter(work: Increment, mark: Mark) {
  return mark.value === work.bound.mark?.value ? reachOf(work, mark) : {}
}
