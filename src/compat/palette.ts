import { Failure } from '../base/failure.ts'
import { findRelation, type Relation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, printable, quoteIdentifier } from '../postgres/identifier.ts'
import { relation, sql, trusted } from '../postgres/sql.ts'
import type { PaletteOrigin, PaletteRow } from './palette-rows.ts'

/** What palette-director keeps its bindings in, and what it tells sites by. */
const bindingTable = { schema: 'palette', name: 'worker_binding' }
const siteTable = { schema: 'public', name: '_sites' }

/** Rows above which a table is something else than a list of bindings. */
const mostRows = 100_000

/** An installation of palette-director, as one look found it. */
export interface PaletteInstallation {
  readonly origin: PaletteOrigin
  /** In the order of the file. */
  readonly rows: readonly PaletteRow[]
  /** What is not taken over, and what is odd: a sentence each. */
  readonly notes: readonly string[]
}

/** What options a foreign table has; null for one of another kind. */
interface Surroundings {
  readonly options: string[] | null
  /** Relations of its schema beside the bindings. */
  readonly others: string[]
  /** Roles whose search_path begins there. */
  readonly roles: string[]
}

/**
 * Reads the bindings of palette-director, whatever kind of relation they are kept in, and changes nothing. The session is
 * one of a source: read only. Throws `table_unknown`, `column_unknown`, `permission_denied`, `bindings_invalid`, and what the
 * server says of a file that it cannot read, with its line.
 */
export async function readPalette(session: Session): Promise<PaletteInstallation> {
  const table = await findRelation(session, bindingTable)
  if (!table) throw await missing(session)
  requireColumns(session, table)
  const around = await lookAround(session, table)
  const name = describeOrigin(table, around.options)
  const rows = await readRows(session, name)
  return {
    origin: { name, prefix: 'row ' },
    rows,
    notes: [...notTakenOver(around), ...(await unknownSites(session, rows))],
  }
}

async function missing(session: Session): Promise<Failure> {
  const label = displayQualified(bindingTable)
  const schema = await session.first(sql`select from pg_namespace where nspname = ${bindingTable.schema}`)
  const found = schema
    ? `its schema ${bindingTable.schema} has no such table`
    : `there is no schema ${bindingTable.schema}`
  return new Failure('table_unknown', {
    message: `The database ${displayName(session.parts.database)} has no ${label}: ${found}.`,
    object: `${session.object}:${label}`,
    remedy:
      'palette-director keeps its bindings there, in the database of the queue (for Tableau: workgroup); register that one, or give its file: --csv FILE.',
  })
}

function requireColumns(session: Session, table: Relation): void {
  const names = table.columns.map((column) => column.name)
  const lacking = ['site', 'host', 'binding'].filter((name) => !names.includes(name))
  if (lacking.length === 0) return
  throw new Failure('column_unknown', {
    message: `${displayQualified(bindingTable)} has no column ${lacking.join(', ')}; its columns are ${names.map(displayName).join(', ')}.`,
    object: `${session.object}:${displayQualified(bindingTable)}`,
    remedy: 'Write its rows to a file with the header site,host,binding and import that: --csv FILE.',
  })
}

async function lookAround(session: Session, table: Relation): Promise<Surroundings> {
  return session.one<Surroundings>(sql`
    select (select f.ftoptions from pg_foreign_table f where f.ftrelid = ${table.oid}::oid) as options,
      array(select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = ${bindingTable.schema} and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid <> ${table.oid}::oid
        order by c.relname) as others,
      array(select distinct r.rolname::text from pg_db_role_setting s join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) o
        where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
          and o ~ ('^search_path="?' || ${bindingTable.schema} || '"?(,|$)') order by 1) as roles`)
}

function describeOrigin(table: Relation, options: readonly string[] | null): string {
  const label = displayQualified(bindingTable)
  const file = options?.find((option) => option.startsWith('filename='))?.slice('filename='.length)
  if (file !== undefined) return `${label} (the server's file ${printable(file)})`
  return table.kind === 'foreign'
    ? label
    : `${label} (a ${table.kind === 'matview' ? 'materialized view' : table.kind})`
}

/** Every value as its type's own output has it: an address without its mask where that is a whole one. */
async function readRows(session: Session, origin: string): Promise<PaletteRow[]> {
  const text = (name: string) => trusted(`case when ${name} is not null then format('%s', ${name}) end as ${name}`)
  let rows: Omit<PaletteRow, 'line'>[]
  try {
    rows = await session.query(sql`
      select ${text('site')}, ${text('host')}, ${text('binding')} from ${relation(bindingTable)} limit ${mostRows + 1}`)
  } catch (error) {
    throw whyUnreadable(session, session.failure(error), origin)
  }
  if (rows.length > mostRows) {
    throw new Failure('bindings_invalid', {
      message: `${origin} has more than ${mostRows} rows; nothing was imported.`,
      object: `${session.object}:${displayQualified(bindingTable)}`,
      remedy: 'That is no list of bindings; look what the table shows.',
    })
  }
  return rows.map((row, index) => ({ line: index + 1, ...row }))
}

function whyUnreadable(session: Session, failure: Failure, origin: string): Failure {
  const label = displayQualified(bindingTable)
  const detail = { object: `${session.object}:${label}`, cause: failure.cause, sqlstate: failure.sqlstate }
  if (failure.code === 'permission_denied') {
    const role = quoteIdentifier(session.parts.user)
    const remedy = `As its owner: GRANT USAGE ON SCHEMA ${bindingTable.schema} TO ${role}; GRANT SELECT ON ${label} TO ${role};`
    return new Failure('permission_denied', { ...detail, message: failure.message, remedy })
  }
  if (failure.code !== 'sql_failed') return failure
  return new Failure('sql_failed', {
    ...detail,
    message: `${origin} cannot be read, so nothing was imported: ${failure.message}`,
    remedy: 'Correct what is named, or put the file back, where the database server reads it; then import again.',
  })
}

function notTakenOver({ options, others, roles }: Surroundings): string[] {
  const names = others.map((name) => displayQualified({ schema: bindingTable.schema, name }))
  const pieces = [...names, ...roles.map((role) => `the search_path of role ${displayName(role)}`)]
  return [
    ...(pieces.length > 0
      ? [
          `Not taken over, and left as it is: ${pieces.join(', ')}. Workers of other programs go on by ${displayQualified(bindingTable)}, whatever is changed here.`,
        ]
      : []),
    ...(options?.includes('on_error=ignore')
      ? ['The foreign table leaves out lines that it cannot read (on_error); those were not imported.']
      : []),
  ]
}

/** Bindings of sites that the queue's product does not know did nothing there. */
async function unknownSites(session: Session, rows: readonly PaletteRow[]): Promise<string[]> {
  const table = await findRelation(session, siteTable)
  if (!table?.columns.some((column) => column.name === 'name' && column.readable)) return []
  const sites = [...new Set(rows.flatMap((row) => row.site ?? []))]
  const unknown = await session
    .query<{ site: string }>(sql`
      select w.site from unnest(${sites}::text[]) as w(site)
      where not exists (select from ${relation(siteTable)} s where s.name::text = w.site) order by w.site collate "C"`)
    // A hint is not worth a failed import: whoever may read the bindings need not be able to read the sites.
    .catch(() => [])
  if (unknown.length === 0) return []
  const names = unknown.map(({ site }) => `'${printable(site)}'`).join(', ')
  return [`${displayQualified(siteTable)} has no site ${names}: there these bindings did nothing.`]
}
