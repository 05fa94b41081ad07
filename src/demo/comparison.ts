import type { Session } from '../postgres/connect.ts'
import { printable, type QualifiedName, quoteQualified } from '../postgres/identifier.ts'
import { identifier, join, relation, sql, trusted } from '../postgres/sql.ts'
import type { NewReplication } from '../replication/store.ts'

/** How a copy differs from its source; both lists of columns and every row are looked at. */
export interface Comparison {
  readonly rows: number
  /** What differs, for people; undefined when nothing does. */
  readonly difference: string | undefined
}

/**
 * Compares a copy with its source row by row, as the text of every value, the source as filter and condition let it
 * through. It shares no code with the copying: what that overlooks is not overlooked here too. Both sides are read into
 * memory, so this is for a demo, not for tables of any size. Nobody may write meanwhile.
 */
export async function compareRows(
  source: Session,
  destination: Session,
  wanted: Pick<NewReplication, 'source' | 'destination' | 'columns' | 'condition'>,
): Promise<Comparison> {
  const expected = wanted.columns ?? (await columnsOf(source, wanted.source))
  const found = await columnsOf(destination, wanted.destination)
  const wrong = [
    ...expected.filter((name) => !found.includes(name)).map((name) => `the copy lacks the column ${printable(name)}`),
    ...found.filter((name) => !expected.includes(name)).map((name) => `the copy has a column ${printable(name)} more`),
  ]
  if (wrong.length > 0) return { rows: 0, difference: wrong.join('; ') }
  const [theirs, ours] = [
    // The condition is the demo's own.
    await rowsOf(source, wanted.source, expected, wanted.condition ?? ''),
    await rowsOf(destination, wanted.destination, expected, ''),
  ]
  return { rows: ours.length, difference: differenceOf(theirs, ours) }
}

async function columnsOf(session: Session, table: QualifiedName): Promise<string[]> {
  const rows = await session.query<{ name: string }>(sql`
    select attname as name from pg_attribute
    where attrelid = ${quoteQualified(table)}::regclass and attnum > 0 and not attisdropped order by attnum`)
  return rows.map((row) => row.name)
}

async function rowsOf(
  session: Session,
  table: QualifiedName,
  columns: readonly string[],
  condition: string,
): Promise<string[]> {
  const values = join(columns.map((name) => sql`${identifier(table.name)}.${identifier(name)}::text`))
  const rows = await session.query<{ text: string }>(
    sql`select array[${values}]::text as text from ${relation(table)} ${trusted(condition)}`,
  )
  return rows.map((row) => row.text)
}

/** Rows as often as they come, in any order. */
function differenceOf(theirs: readonly string[], ours: readonly string[]): string | undefined {
  const missing = new Map<string, number>()
  for (const row of theirs) missing.set(row, (missing.get(row) ?? 0) + 1)
  const extra: string[] = []
  for (const row of ours) {
    const left = missing.get(row) ?? 0
    if (left === 0) extra.push(row)
    else if (left === 1) missing.delete(row)
    else missing.set(row, left - 1)
  }
  const lost = [...missing.values()].reduce((sum, count) => sum + count, 0)
  const parts = [
    ...(lost > 0 ? [`${lost} rows of the source are not in the copy, such as ${example([...missing.keys()])}`] : []),
    ...(extra.length > 0 ? [`${extra.length} rows of the copy are not in the source, such as ${example(extra)}`] : []),
  ]
  return parts.length > 0 ? parts.join('; ') : undefined
}

function example(rows: readonly string[]): string {
  const text = printable(rows[0] ?? '')
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
