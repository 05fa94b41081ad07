import { Failure } from '../base/failure.ts'
import { getRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified } from '../postgres/identifier.ts'
import { relation, type Sql, sql } from '../postgres/sql.ts'
import { fromClause } from './condition.ts'
import { type Control, sourceControl } from './control-column.ts'
import { destinationLabel, type Replication } from './definition.ts'
import { readStanding } from './increment-destination.ts'
import { readValue } from './increment-range.ts'
import { type Connector, Link } from './link.ts'
import type { Mark } from './mark.ts'
import { findPosition } from './position.ts'
import { openReader, openSource, type SourceRead } from './source-read.ts'

export interface Validation {
  readonly match: boolean
  /** Rows of the source that the condition lets through. */
  readonly source_count: number
  readonly dest_count: number
  /** Smallest and largest control value of the destination's rows that were counted; null for types without one. */
  readonly min: string | null
  readonly max: string | null
}

/** From which control value on, and up to before which one, rows are counted; null for the destination's own bounds. */
export interface CountedRange {
  readonly lower: string | null
  readonly upper: string | null
}

/**
 * Counts the rows on both sides, the source's as the condition lets them through. Incremental types are counted between
 * the destination's smallest and largest control value, where nothing else is asked for. Throws `option_not_for_type`,
 * `range_invalid`.
 */
export async function validateReplication(
  replication: Replication,
  connector: Connector,
  signal: AbortSignal,
  range: CountedRange = { lower: null, upper: null },
): Promise<Validation> {
  const link = new Link(connector, displayQualified(replication.destination), signal)
  try {
    const source = await openSource(link, replication)
    const destination = await link.destination()
    await getRelation(destination, replication.destination)
    if (replication.control) return await countRange(source, destination, replication, range)
    if (range.lower !== null || range.upper !== null) {
      throw new Failure('option_not_for_type', {
        message: `A ${replication.type} has no control column, so --lower and --upper say nothing of it.`,
        object: destinationLabel(replication),
      })
    }
    const counts = await countBoth(source, destination, replication, [], [])
    return { ...counts, min: null, max: null }
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}

async function countBoth(
  source: SourceRead,
  destination: Session,
  replication: Replication,
  there: readonly Sql[],
  here: readonly Sql[],
) {
  const where = fromClause(relation(replication.destination), { from: '', where: '' }, here)
  const [theirs, ours] = await Promise.all([
    source.session.one<{ count: string }>(
      sql`select count(*) as count ${fromClause(relation(replication.source), source.condition, there)}`,
    ),
    destination.one<{ count: string }>(sql`select count(*) as count ${where}`),
  ])
  const [sourceCount, destCount] = [Number(theirs.count), Number(ours.count)]
  return { match: sourceCount === destCount, source_count: sourceCount, dest_count: destCount }
}

async function countRange(
  source: SourceRead,
  destination: Session,
  replication: Replication,
  range: CountedRange,
): Promise<Validation> {
  const control = sourceControl(source, replication)
  const theirs = (await readStanding(destination, replication))?.control
  if (!theirs) {
    throw new Failure('destination_unsuitable', {
      message: `The column ${displayName(control.name)} of ${destinationLabel(replication)} has another order than the source's, so that its rows cannot be counted by it.`,
      object: destinationLabel(replication),
    })
  }
  const lower = await readValue(source, control, range.lower, replication)
  const upper = await readValue(source, control, range.upper, replication)
  const asked = testsOf(theirs, lower, upper)
  const from = fromClause(relation(replication.destination), { from: '', where: '' }, asked)
  const found = await destination.one<{ min: string | null; max: string | null }>(
    sql`select min(${theirs.ref})::text as min, max(${theirs.ref})::text as max ${from}`,
  )
  const [first, last] = await countedMarks(destination, replication, found, lower, upper)
  await openReader(source)
  const counts = await countBoth(source, destination, replication, testsOf(control, first, last), asked)
  return { ...counts, ...found }
}

/** A destination that lost all of its rows must not match a source that has some: there the position says how far to count. */
async function countedMarks(
  destination: Session,
  replication: Replication,
  found: { min: string | null; max: string | null },
  lower: Mark | null,
  upper: Mark | null,
): Promise<readonly [Mark | null, Mark | null]> {
  if (found.min !== null && found.max !== null) {
    return [lower ?? { value: found.min, inclusive: false }, upper ?? { value: found.max, inclusive: true }]
  }
  const position = await findPosition(destination, replication.id)
  return [lower, upper ?? position?.state.mark ?? null]
}

/** Rows from `lower` on, and up to what `upper` takes in. */
function testsOf(control: Control, lower: Mark | null, upper: Mark | null): Sql[] {
  return [control.finite, ...(lower ? [control.after(lower)] : []), ...(upper ? [control.upTo(upper)] : [])]
}
