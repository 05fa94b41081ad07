import type pg from 'pg'
import { expect } from 'vitest'
import { type QualifiedName, quoteIdentifier, quoteQualified } from '../../src/postgres/identifier.ts'
import type { TestDatabase } from '../support/databases.ts'

/** Settings of its own, so that both servers print a value in the same way whatever the code under test does. */
const settings = `set search_path = ''; set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres';
  set extra_float_digits = 3; set bytea_output = 'hex'; set lc_monetary = 'C'; set xmloption = 'content'; set client_encoding = 'UTF8'`

interface ComparedColumn {
  readonly name: string
  /** Whether the binary form holds no object ids and no encoding, so that it is the same on every server. */
  readonly comparable: boolean
}

type Row = Record<string, string | null>

/** Every row of the source is at the destination, once and in each byte, and nothing else is. */
export async function expectEqualRows(
  source: TestDatabase,
  from: QualifiedName,
  destination: TestDatabase,
  to: QualifiedName = from,
): Promise<void> {
  const columns = await columnsOf(source, from)
  const [sent, arrived] = await Promise.all([rowsOf(source, from, columns), rowsOf(destination, to, columns)])
  expect(arrived.length, 'number of rows').toBe(sent.length)
  const wrong = sent.findIndex((row, index) => JSON.stringify(row) !== JSON.stringify(arrived[index]))
  if (wrong >= 0) expect(arrived[wrong], `row ${wrong} of ${quoteQualified(from)}`).toEqual(sent[wrong])
}

async function columnsOf(database: TestDatabase, table: QualifiedName): Promise<ComparedColumn[]> {
  return database.query<ComparedColumn>(
    `with recursive plain as (
       select a.attname, a.attnum, a.atttypid as type from pg_attribute a
       join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped
       union all
       select p.attname, p.attnum, t.typbasetype from plain p join pg_type t on t.oid = p.type where t.typtype = 'd')
     select p.attname as name, t.typsend <> 0 and t.typname !~ '^_?(reg|xml)'
       and (t.typtype = 'e' or (t.typelem < 16384 and t.typtype <> 'c' and (t.typtype = 'b' or t.oid < 16384))) as comparable
     from plain p join pg_type t on t.oid = p.type where t.typtype <> 'd' order by p.attnum`,
    [table.schema, table.name],
  )
}

/** The output form of each value (`NULL` apart from `'NULL'`), and its binary form; long ones as a hash. In one order. */
async function rowsOf(
  database: TestDatabase,
  table: QualifiedName,
  columns: readonly ComparedColumn[],
): Promise<Row[]> {
  const forms = columns.flatMap(({ name, comparable }) => {
    const column = `t.${quoteIdentifier(name)}`
    const text = `pg_catalog.format('%L', ${column})`
    // Number of columns and the type's id come first; the length and the bytes are the value's.
    const binary = `pg_catalog.encode(pg_catalog.substr(pg_catalog.record_send(row(${column})), 9), 'hex')`
    return [
      { key: name, value: short(text) },
      ...(comparable ? [{ key: `${name} in binary`, value: short(binary) }] : []),
    ]
  })
  const client = await database.client()
  try {
    await client.query(settings)
    const { rows }: pg.QueryResult<{ forms: (string | null)[] }> = await client.query(
      `select array[${forms.map((form) => form.value).join(', ')}]::text[] as forms from ${quoteQualified(table)} t`,
    )
    return rows
      .map((row) => Object.fromEntries(forms.map((form, index) => [form.key, row.forms[index] ?? null])))
      .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  } finally {
    await client.end()
  }
}

/** The offset keeps the planner from writing the form, and so computing it, several times. */
function short(form: string): string {
  return `(select case when pg_catalog.length(f) > 300 then 'md5 ' || pg_catalog.md5(f) else f end
    from (select ${form} as f offset 0) as form)`
}
