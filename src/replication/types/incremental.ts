import type { Session } from '../../postgres/connect.ts'
import { displayName } from '../../postgres/identifier.ts'
import { controlOf, sourceControl } from '../control-column.ts'
import { destinationLabel } from '../definition.ts'
import {
  applyIncrement,
  ended,
  type Increment,
  type IncrementPlan,
  planIncrement,
  reachOf,
  refuseCrowd,
  worse,
} from '../increment.ts'
import {
  findTampering,
  readStanding,
  requireSameTable,
  type Standing,
  type Tampering,
} from '../increment-destination.ts'
import { describeUnusual, lookAtRange, type Range, secondsBetween } from '../increment-range.ts'
import { adoptIncremental, copyWhole, isUnadopted, isWholeDue } from '../increment-start.ts'
import type { Link } from '../link.ts'
import { movePosition, type Position } from '../position.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult, StepReport } from '../reporter.ts'
import { keyOf } from '../row-key.ts'
import { sampleBound } from '../sample-bound.ts'
import { refuseShift } from '../shift-window.ts'
import { openSource, rowsRead } from '../source-read.ts'
import { appendRows } from './inserter.ts'
import { repull } from './repull.ts'
import { replaceRows } from './updater.ts'

/** inserter and updater: brings the rows that are new by their control column. */
export async function refreshIncremental(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<RefreshResult> {
  const { replication, reporter, signal } = context
  const isWhole = isWholeDue(context, position)
  const step = reporter.step(isWhole ? 'plan' : 'range')
  const [source, standing] = await Promise.all([openSource(link, replication), readStanding(destination, replication)])
  const control = sourceControl(source, replication)
  const begun = {
    ...{ context, link, destination, position, source, control },
    ...{ key: await keyOf(source, replication), notes: [], level: 'OK' as const },
  }
  const pause = await refuseShift(source, control, replication, isWhole)
  if (pause !== undefined) {
    step.done(pause)
    return ended(begun, pause)
  }
  if (!isWhole && isUnadopted(position)) return adoptIncremental(begun, standing, step)
  const { mark = null, memory = {} } = position.state
  const sampledAt = performance.now()
  const last = isWhole ? { mark: null, memory: {} } : { mark, memory }
  const bound = await sampleBound(source, controlOf(replication), last, signal)
  const notes = bound.note === undefined ? [] : [bound.note]
  const work: Increment = { ...begun, bound, sampledAt, notes, level: bound.level }
  if (isWhole) return copyWhole(work, step)
  requireSameTable(standing, position, replication)
  return refreshStanding(work, standing, step)
}

async function refreshStanding(work: Increment, standing: Standing, step: StepReport): Promise<RefreshResult> {
  const { context, destination, position } = work
  if (context.repull) return repull(work, standing, step, context.repull)
  const seen = await findTampering(destination, standing, position.state)
  if (seen.inserted !== undefined) return refuseInserted(work, step, seen.inserted)
  if (!seen.deleted) return pull(work, standing, step, seen)
  const left = `'${position.state.highest}'`
  const now = seen.highest == null ? 'it has none' : `it is '${seen.highest}'`
  const note = `Somebody deleted rows at the destination: its largest ${displayName(work.control.name)} was ${left}, and now ${now}; they do not come again.`
  return pull({ ...work, notes: [...work.notes, note], level: worse(work.level, 'WARNING') }, standing, step, seen)
}

/** Rows from the position up to the bound, as many as the limit allows. */
async function pull(work: Increment, standing: Standing, step: StepReport, seen: Tampering): Promise<RefreshResult> {
  const { context, source, control, bound } = work
  const position = work.position.state.mark ?? null
  // Rows that may have come below the position take the place of those that are there; without a key they would be there twice.
  const overlap = work.key && bound.overlap
  const limit = overlap ? null : (context.limit ?? context.replication.rowLimit)
  const [lower, upper] = overlap ? [overlap, bound.mark ?? position] : [position, bound.mark]
  if (!upper) return nothingNew(work, step, seen, '')
  const whole: Range = { lower, upper }
  const look = await lookAtRange(source, control, whole, limit)
  const unusual = describeUnusual(look, displayName(control.name))
  if (look.isEmpty) return nothingNew(work, step, seen, unusual)
  if (look.crowd !== undefined) return refuseCrowd(work, step, look)
  const range = look.cut === undefined ? whole : { lower, upper: { value: look.cut, inclusive: false } }
  const plan = await planIncrement(work, standing, false)
  step.done([describeRange(plan, range), unusual, ...work.notes].filter((text) => text !== '').join(' '), work.level)
  const loaded = await applyIncrement(work, plan, range.upper, () => bring(work, plan, range))
  const message = `${loaded.rows} rows copied. ${unusual}`.trim()
  if (look.cut === undefined) return ended(work, message, { ...loaded, ...reachOf(work, range.upper) })
  const cut = `The limit of ${limit} rows cut the batch before '${look.cut}', from where the next refresh goes on.`
  context.reporter.step('limit').done(cut, 'WARNING')
  const left = control.isTime ? await secondsBetween(source, control, look.cut, upper.value) : undefined
  return ended(work, `${message} ${cut}`, {
    ...{ ...loaded, level: 'WARNING', reason: 'trimmed' },
    ...(left === undefined ? {} : reachOf(work, range.upper, left)),
  })
}

async function bring(work: Increment, plan: IncrementPlan, range: Range) {
  const step = work.context.reporter.step('load')
  const chunk = rowsRead(work.source, work.control.between(range.lower, range.upper))
  const loaded = work.key
    ? await replaceRows(work, plan, work.key, chunk, step)
    : await appendRows(work, plan, chunk, step)
  step.done(`${loaded.rows} rows, ${loaded.bytes} bytes`)
  return loaded
}

function describeRange(plan: IncrementPlan, { lower, upper }: Range): string {
  const from = lower ? `from ${lower.inclusive ? 'behind ' : ''}'${lower.value}'` : 'from the first row'
  return `${plan.format} copy ${from} to ${upper.inclusive ? '' : 'before '}'${upper.value}'.`
}

/** Nothing is written, but for what the next look has to know. */
async function nothingNew(work: Increment, step: StepReport, seen: Tampering, unusual: string): Promise<RefreshResult> {
  const { position, bound, destination } = work
  step.done(['Nothing new.', unusual, ...work.notes].filter((text) => text !== '').join(' '), work.level)
  if (bound.remember || seen.deleted) {
    const highest = seen.deleted ? { highest: seen.highest ?? null } : {}
    await movePosition(destination, position, { ...position.state, ...highest, memory: bound.memory }, false)
  }
  const reach = reachOf(work, bound.mark ?? position.state.mark ?? null)
  return ended(work, `nothing new. ${unusual}`.trim(), { reason: 'nothing_new', ...reach })
}

function refuseInserted(work: Increment, step: StepReport, value: string): RefreshResult {
  const { mark } = work.position.state
  const label = destinationLabel(work.context.replication)
  const behind = mark ? `goes to '${mark.value}'` : 'is at the beginning'
  const start = mark ? ` --start '${mark.value}'` : ''
  const message = `somebody else inserted rows into the destination: it holds ${displayName(work.control.name)} '${value}', and the position ${behind}. Nothing was copied. yardmaster replication refresh ${label} --repull${start} replaces them by the source's.`
  step.done(message, 'CRITICAL')
  return ended(work, message, { level: 'CRITICAL', tookEffect: false })
}
