import { Failure } from '../base/failure.ts'
import { displayName } from '../postgres/identifier.ts'
import { relation, type Sql, sql, trusted } from '../postgres/sql.ts'
import { fromClause } from './condition.ts'
import type { Control } from './control-column.ts'
import { type Replication, sourceLabel } from './definition.ts'
import type { Mark } from './mark.ts'
import type { Repull } from './refresh-context.ts'
import { openReader, type SourceRead } from './source-read.ts'

/** Control values from `lower` on, up to `upper`; what the marks take in is what was copied before, and what is then. */
export interface Range {
  readonly lower: Mark | null
  readonly upper: Mark
}

/** What stands in a range of the source. */
export interface RangeLook {
  readonly isEmpty: boolean
  /** Rows that no copy can go by: NULL, NaN, infinities; counted up to `countedUpTo`. */
  readonly unusual: number
  /** Set where the limit cuts the range: rows below this value are the batch. */
  readonly cut: string | undefined
  /** Set where even the lowest value has more rows than the limit allows: how many. */
  readonly crowd: number | undefined
}

const countedUpTo = 1000

/** Looks at a range, by one scan of an index where there is one on the control column. */
export async function lookAtRange(
  source: SourceRead,
  control: Control,
  range: Range,
  limit: number | null,
): Promise<RangeLook> {
  const session = await openReader(source)
  const within = (tests: readonly Sql[]) => fromClause(relation(source.relation), source.condition, tests)
  const inRange = control.between(range.lower, range.upper)
  const cutAt =
    limit === null
      ? sql`null::text`
      : sql`(select ${control.ref}::text ${within(inRange)} order by ${control.ref} limit 1 offset ${trusted(String(limit))})`
  const unusual = control.unusual
    ? sql`(select count(*)::int from (select 1 ${within([control.unusual])} limit ${trusted(String(countedUpTo))}) as odd)`
    : sql`0`
  const found = await session.one<{ any: boolean; unusual: number; cut: string | null }>(
    sql`select exists (select 1 ${within(inRange)}) as any, ${unusual} as unusual, ${cutAt} as cut`,
  )
  const look = { isEmpty: !found.any, unusual: found.unusual, cut: found.cut ?? undefined, crowd: undefined }
  if (found.cut === null) return look
  const below = within(control.between(range.lower, { value: found.cut, inclusive: false }))
  const { left } = await session.one<{ left: boolean }>(sql`select exists (select 1 ${below}) as left`)
  if (left) return look
  const equal = within([sql`${control.ref} = ${control.value(found.cut)}`])
  const { rows } = await session.one<{ rows: string }>(sql`select count(*) as rows ${equal}`)
  return { ...look, crowd: Number(rows) }
}

/** What people are told of rows that no copy can go by; empty where there are none. */
export function describeUnusual(look: RangeLook, column: string): string {
  if (look.unusual === 0) return ''
  const count = look.unusual >= countedUpTo ? `${countedUpTo} or more` : String(look.unusual)
  return `${count} row${look.unusual === 1 ? ' has' : 's have'} NULL, NaN or infinity in ${column}, and ${look.unusual === 1 ? 'is' : 'are'} not copied.`
}

/** Seconds from one time to a later one; undefined for what is no time. */
export async function secondsBetween(
  source: SourceRead,
  control: Control,
  from: string,
  until: string,
): Promise<number> {
  const row = await source.session.one<{ seconds: number }>(sql`
    select extract(epoch from ${control.value(until)}::timestamptz - ${control.value(from)}::timestamptz)::float8 as seconds`)
  return row.seconds
}

/** Throws `destination_unsuitable` where a destination's largest value is of tomorrow or later: behind it nothing would ever come. */
export async function refuseFuture(
  source: SourceRead,
  control: Control,
  largest: string,
  label: string,
): Promise<void> {
  if (!control.isTime) return
  const row = await source.session.one<{ future: boolean }>(
    sql`select ${control.value(largest)}::timestamptz > clock_timestamp() + interval '1 day' as future`,
  )
  if (!row.future) return
  throw new Failure('destination_unsuitable', {
    message: `The largest ${displayName(control.name)} of ${label} is '${largest}', more than a day ahead of the source's clock: behind it nothing would come. Nothing was changed.`,
    object: label,
    remedy: 'Correct or delete the rows of the future there, then try again.',
  })
}

/** How two marks lie to each other. */
export async function isBehind(source: SourceRead, control: Control, one: Mark, other: Mark): Promise<boolean> {
  const row = await source.session.one<{ more: boolean; equal: boolean }>(sql`
    select ${control.value(one.value)} > ${control.value(other.value)} as more,
      ${control.value(one.value)} = ${control.value(other.value)} as equal`)
  return row.more || (row.equal && one.inclusive && !other.inclusive)
}

/** What a repull copies again. */
export interface RepullRange {
  readonly range: Range
  /** Up to where the destination's rows of the range go: everything behind the start where null. */
  readonly end: Mark | null
}

/**
 * The range of a repull: from the start to before the end, capped by what may be read by now. Throws `range_invalid`.
 * Undefined where nothing was copied and nothing may be.
 */
export async function repullRange(
  source: SourceRead,
  control: Control,
  repull: Repull,
  marks: { position: Mark | null; bound: Mark | null },
  replication: Pick<Replication, 'sourceDatabase' | 'source'>,
): Promise<RepullRange | undefined> {
  const [start, end] = await Promise.all([
    readValue(source, control, repull.start, replication),
    readValue(source, control, repull.end, replication),
  ])
  const { position, bound } = marks
  // Never below the position: what was copied may be copied again, whatever the boundary holds back by now.
  const farthest = bound ?? position
  if (!farthest) return undefined
  if (start && end && !(await isBehind(source, control, end, start))) {
    throw invalid(replication, `The range from '${start.value}' to before '${end.value}' is empty.`)
  }
  if (start && (!position || (await isBehind(source, control, start, position)))) {
    throw invalid(
      replication,
      position
        ? `The start '${start.value}' lies behind everything that was copied, which goes to '${position.value}': rows between the two would never come.`
        : 'Nothing was copied yet: the next refresh begins with the first row.',
    )
  }
  const upper = end && !(await isBehind(source, control, end, farthest)) ? end : farthest
  return { range: { lower: start, upper }, end }
}

/** A control value as somebody wrote it, as the source prints it. Throws `range_invalid`. */
export async function readValue(
  source: SourceRead,
  control: Control,
  text: string | null,
  replication: Pick<Replication, 'sourceDatabase' | 'source'>,
): Promise<Mark | null> {
  if (text === null) return null
  const session = await openReader(source)
  try {
    const row = await session.one<{ value: string }>(sql`select ${control.value(text)}::text as value`)
    return { value: row.value, inclusive: false }
  } catch (error) {
    const failure = session.failure(error)
    if (!failure.sqlstate?.startsWith('22')) throw failure
    throw invalid(replication, `'${text}' is no value of the column ${control.name}: ${failure.message}`)
  }
}

function invalid(replication: Pick<Replication, 'sourceDatabase' | 'source'>, message: string): Failure {
  return new Failure('range_invalid', { message, object: sourceLabel(replication) })
}
