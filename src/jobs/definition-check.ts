import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, type QualifiedName } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { type Checked, checkAction } from './action.ts'

/**
 * Looks up what a job calls in each of its databases, and asks its check about the configuration there; nothing is changed.
 * `open` connects to a registered database. Returns the schema of the action. Throws `action_missing` (with the nearest name),
 * `config_refused`, and what opening a session throws.
 */
export async function checkDefinition(
  open: (database: string) => Promise<Session>,
  databases: readonly string[],
  wanted: Checked,
): Promise<QualifiedName> {
  let found: { action: QualifiedName; database: string } | undefined
  for (const database of databases) {
    const session = await open(database)
    const { schema, name } = await checkIn(session, wanted).finally(() => session.end())
    if (found && found.action.schema !== schema) {
      throw new Failure('action_missing', {
        message: `${displayName(name)} is ${displayQualified(found.action)} in ${found.database}, but ${displayQualified({ schema, name })} in ${database}.`,
        object: database,
        remedy: 'Name its schema, and one that it has in all of its databases.',
      })
    }
    found ??= { action: { schema, name }, database }
  }
  if (!found) throw new Error('There is no database to look in.')
  return found.action
}

async function checkIn(session: Session, wanted: Checked): Promise<QualifiedName> {
  try {
    return await checkAction(session, wanted)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'action_missing') throw error
    const near = await nearestRoutine(session, [wanted.action.name, wanted.check?.name ?? ''])
    if (near === undefined) throw error
    const { object, remedy, sqlstate, cause } = error
    const message = `${error.message}; did you mean ${near}?`
    throw new Failure('action_missing', { message, object: object ?? session.object, remedy, sqlstate, cause })
  }
}

/** The routine with an argument of jsonb whose name is nearest to one that is not there. */
async function nearestRoutine(session: Session, names: readonly string[]): Promise<string | undefined> {
  const rows = await session.query<QualifiedName>(sql`
    select n.nspname as schema, p.proname as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^(pg_|information_schema$)' and p.prokind in ('f', 'p') and 'jsonb'::regtype = any (p.proargtypes::oid[])
    group by 1, 2 order by 1, 2 limit 5000`)
  const known = [...new Set(rows.map(({ name }) => name))]
  // The first name that is nobody's is the one that was not found.
  const absent = names.find((name) => name !== '' && !known.includes(name)) ?? names[0] ?? ''
  const near = known.includes(absent) ? absent : nearest(absent, known)
  const found = rows.find(({ name }) => name === near)
  return found && displayQualified(found)
}
