import { findRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { type QualifiedName, quoteLiteral, quoteQualified } from '../postgres/identifier.ts'
import { trusted } from '../postgres/sql.ts'
import type { PlannedColumn } from './column-plan.ts'
import { dependentViews, dressingOf, replaceStatements, runStatements, viewOptions } from './dependents.ts'
import { viewChange, viewQuery } from './snapshot-sides.ts'

/**
 * In the caller's transaction: points the view at another table. Where its columns only grew, in place; else the view and
 * those above it are made again with their owners, grants, options and comments.
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
    await session.query(trusted(`CREATE VIEW ${quoteQualified(name)} AS ${query}`))
    await session.query(
      trusted(`COMMENT ON VIEW ${quoteQualified(name)} IS ${quoteLiteral('Copy kept by yardmaster; read this view.')}`),
    )
    return
  }
  const options = await viewOptions(session, view.oid)
  if (viewChange(view, columns).replaceable) {
    await session.query(trusted(`CREATE OR REPLACE VIEW ${quoteQualified(name)}${options} AS ${query}`))
    return
  }
  const above = await replaceStatements(session, await dependentViews(session, view.oid))
  const dressing = await dressingOf(session, view.oid, name, 'VIEW')
  const names = new Set(columns.map((column) => column.name))
  await runStatements(session, [
    ...above.drop,
    `DROP VIEW ${quoteQualified(name)}`,
    `CREATE VIEW ${quoteQualified(name)}${options} AS ${query}`,
    ...dressing.filter((statement) => !isCommentOnGoneColumn(statement, name, names)),
    ...above.create,
  ])
}

function isCommentOnGoneColumn(statement: string, view: QualifiedName, names: ReadonlySet<string>): boolean {
  const prefix = `COMMENT ON COLUMN ${quoteQualified(view)}.`
  if (!statement.startsWith(prefix)) return false
  const column = /^"((?:[^"]|"")*)"/.exec(statement.slice(prefix.length))?.[1]?.replaceAll('""', '"')
  return column !== undefined && !names.has(column)
}
