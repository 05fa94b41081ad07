import { Failure } from '../base/failure.ts'
import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified } from '../postgres/identifier.ts'
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
    if (mode === 'drop') await refuseDrop(destination, about)
    else if (replication.type === 'snapshot' && found.kind === 'view')
      await refuseBlockedChange(destination, about, [], `${about.label} is to become a table`)
  } finally {
    await destination.end()
  }
}

async function refuseDrop(destination: Session, about: { oid: number; label: string }): Promise<void> {
  const views = await dependentViews(destination, about.oid)
  if (views.length === 0) {
    await refuseBlockedChange(destination, about, [], `${about.label} is to be dropped`)
    return
  }
  const names = views.map(displayQualified).join(', ')
  throw new Failure('dependent_objects', {
    message: `${about.label} cannot be dropped: ${names} read${views.length === 1 ? 's' : ''} it. Nothing was changed.`,
    object: about.label,
    remedy: `Change or drop ${names}, then run the command again.`,
  })
}
