import { getRelation } from '../postgres/catalog.ts'
import { displayQualified } from '../postgres/identifier.ts'
import { relation, sql } from '../postgres/sql.ts'
import { fromClause } from './condition.ts'
import type { Replication } from './definition.ts'
import { type Connector, Link } from './link.ts'
import { openSource } from './source-read.ts'

export interface Validation {
  readonly match: boolean
  /** Rows of the source that the condition lets through. */
  readonly source_count: number
  readonly dest_count: number
  /** Bounds of the control column; null for types without one. */
  readonly min: string | null
  readonly max: string | null
}

/** Counts the rows on both sides, the source's as the condition lets them through. */
export async function validateReplication(
  replication: Replication,
  connector: Connector,
  signal: AbortSignal,
): Promise<Validation> {
  const link = new Link(connector, displayQualified(replication.destination), signal)
  try {
    const { session: source, condition } = await openSource(link, replication)
    const destination = await link.destination()
    await getRelation(destination, replication.destination)
    const [theirs, ours] = await Promise.all([
      source.one<{ count: string }>(
        sql`select count(*) as count ${fromClause(relation(replication.source), condition)}`,
      ),
      destination.one<{ count: string }>(sql`select count(*) as count from ${relation(replication.destination)}`),
    ])
    const [sourceCount, destCount] = [Number(theirs.count), Number(ours.count)]
    return { match: sourceCount === destCount, source_count: sourceCount, dest_count: destCount, min: null, max: null }
  } catch (error) {
    throw link.failure(error)
  } finally {
    await link.close()
  }
}
