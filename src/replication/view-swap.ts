import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { type QualifiedName, quoteLiteral, quoteQualified } from '../postgres/identifier.ts'
import { trusted } from '../postgres/sql.ts'
import type { PlannedColumn } from './column-plan.ts'
import { dependentViews, replaceStatements, runStatements } from './dependents.ts'
import { dressingOf, viewOptions } from './dressing.ts'
import { viewChange, viewQuery } from './snapshot-sides.ts'
import { runWithinOneWait } from './swap-lock.ts'

/**
 * In the caller's transaction: points the view at another table. Where its columns only grew, in place; else the view and
 * those above it are made again with their owners, grants, options, defaults and comments.
 */
export async function replaceView(
  session: Session,
  name: QualifiedName,
  table: QualifiedName,
  columns: readonly PlannedColumn[],
): Promise<void> {
  const view = await findRelation(session, name)
  const query = viewQuery(table, columns)
  if (!view) {
    await runStatements(session, [
      `CREATE VIEW ${quoteQualified(name)} AS ${query}`,
      `COMMENT ON VIEW ${quoteQualified(name)} IS ${quoteLiteral('Copy kept by yardmaster; read this view.')}`,
    ])
    return
  }
  const options = await viewOptions(session, view.oid)
  if (viewChange(view, columns).replaceable) {
    await session.query(trusted(`CREATE OR REPLACE VIEW ${quoteQualified(name)}${options} AS ${query}`))
    return
  }
  const above = await replaceStatements(session, await dependentViews(session, view.oid))
  const names = new Set(columns.map((column) => column.name))
  const dressing = await dressingOf(session, view.oid, name, 'VIEW', names)
  // Farthest first is the order in which readers take their locks too, so nobody deadlocks with us.
  await runWithinOneWait(session, [...above.drop, `DROP VIEW ${quoteQualified(name)}`])
  await runStatements(session, [
    `CREATE VIEW ${quoteQualified(name)}${options} AS ${query}`,
    ...dressing,
    ...above.create,
  ])
}
