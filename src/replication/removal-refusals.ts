import { Failure } from '../base/failure.ts'
import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel, type Replication } from './definition.ts'
import { dependentViews, refuseBlockedChange } from './dependents.ts'
import type { Connector } from './link.ts'
import type { RemovalMode } from './removal.ts'

/** Refuses what stands in the way of a removal, as the removal itself does. Changes nothing. Throws `dependent_objects`. */
export async function refuseRemoval(replication: Replication, mode: RemovalMode, connector: Connector): Promise<void> {
  const destination = await connector('destination', 'look at dependents')
  try {
    const found = await findRelation(destination, replication.destination)
    if (!found) return
    const about = { oid: found.oid, label: destinationLabel(replication) }
    if (mode === 'drop') await refuseDrop(destination, about, found.kind)
    else if (replication.type === 'snapshot' && found.kind === 'view')
      await refuseBlockedChange(destination, about, [], `${about.label} is to become a table`)
  } finally {
    await destination.end()
  }
}

async function refuseDrop(destination: Session, about: { oid: number; label: string }, kind: string): Promise<void> {
  const views = (await dependentViews(destination, about.oid)).map(displayQualified)
  const names = [...views, ...(await tablesBehind(destination, about.oid))].join(', ')
  if (names === '' && kind === 'view') {
    await refuseBlockedChange(destination, about, [], `${about.label} is to be dropped`)
    return
  }
  if (names === '') return
  throw new Failure('dependent_objects', {
    message: `${about.label} cannot be dropped: ${names} depend on it. Nothing was changed.`,
    object: about.label,
    remedy: `Change or drop ${names}, then run the command again.`,
  })
}

/** Tables that refer to a table by a foreign key, or inherit from it. */
async function tablesBehind(destination: Session, oid: number): Promise<string[]> {
  const rows = await destination.query<{ schema: string; name: string }>(sql`
    select distinct n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid <> ${oid} and (exists (select from pg_constraint f where f.confrelid = ${oid} and f.conrelid = c.oid)
      or exists (select from pg_inherits i where i.inhparent = ${oid} and i.inhrelid = c.oid and not c.relispartition))
    order by 1, 2`)
  return rows.map(displayQualified)
}
