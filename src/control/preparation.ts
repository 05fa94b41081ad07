import { Failure } from '../base/failure.ts'
import { getRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { isLoopback } from '../postgres/connection-url.ts'
import { type QualifiedName, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { sql, trusted } from '../postgres/sql.ts'

export interface Preparation {
  readonly role: string
  /** In the order in which they run. */
  readonly statements: readonly string[]
  /** What only a person can do: set a password, add a line to pg_hba.conf. */
  readonly by_hand: readonly string[]
}

/** Exactly the statements that a source needs: all types of replication only read. */
export async function preparationStatements(
  session: Session,
  wanted: { role?: string | undefined; tables: readonly QualifiedName[] },
): Promise<Preparation> {
  for (const table of wanted.tables) await getRelation(session, table)
  const role = wanted.role ?? session.parts.user
  const quoted = quoteIdentifier(role)
  const row = await session.one<{ exists: boolean; database: string }>(
    sql`select exists (select from pg_roles where rolname = ${role}) as exists, current_database() as database`,
  )
  const schemas = [...new Set(wanted.tables.map((table) => table.schema))]
  const hba = `pg_hba.conf needs a line such as: hostssl ${quoteIdentifier(row.database)} ${quoted} ADDRESS/32 scram-sha-256`
  return {
    role,
    statements: [
      ...(row.exists ? [] : [`CREATE ROLE ${quoted} LOGIN;`]),
      `GRANT CONNECT ON DATABASE ${quoteIdentifier(row.database)} TO ${quoted};`,
      ...schemas.map((schema) => `GRANT USAGE ON SCHEMA ${quoteIdentifier(schema)} TO ${quoted};`),
      ...wanted.tables.map((table) => `GRANT SELECT ON ${quoteQualified(table)} TO ${quoted};`),
    ],
    by_hand: [
      ...(row.exists ? [] : [`Set the password of the new role: \\password ${quoted} in psql.`]),
      ...(isLoopback(session.parts.host) ? [] : [hba]),
    ],
  }
}

/** Runs them in one transaction. Throws `permission_denied` when our role may not grant. */
export async function runPreparation(session: Session, plan: Preparation): Promise<void> {
  await session.script('begin')
  try {
    for (const statement of plan.statements) await session.query(trusted(statement))
    await session.script('commit')
  } catch (error) {
    await session.script('rollback').catch(() => undefined)
    const failure = session.failure(error)
    if (failure.code !== 'permission_denied') throw failure
    throw new Failure('permission_denied', {
      message: `The role ${session.parts.user} may not grant this: ${failure.message}`,
      object: session.object,
      remedy: `As the owner or an administrator run: ${plan.statements.join(' ')}`,
    })
  }
}
