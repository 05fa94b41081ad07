import { quoteIdentifier, quoteLiteral } from '../../src/postgres/identifier.ts'
import type { TestDatabase } from '../support/databases.ts'
import { controlColumns } from './replication-types.ts'
import type { FamilyColumn } from './type-families.ts'

/** A column's name says its type, so that a difference does too. */
function columnName(column: FamilyColumn, index: number): string {
  return `${index} ${column.type}`
}

/** Makes a table of these columns with each of their values, and a row of NULLs. Values go round in shorter columns. */
export async function makeFamilyTable(
  database: TestDatabase,
  name: string,
  columns: readonly FamilyColumn[],
): Promise<void> {
  const named = columns.map((column, index) => `${quoteIdentifier(columnName(column, index))} ${column.type}`)
  await database.query(`create table public.${name} (${[...named, controlColumns].join(', ')})`)
  await database.query(`insert into public.${name} default values`)
  const longest = Math.max(...columns.map((column) => column.values.length))
  for (let row = 0; row < longest; row++) {
    // A large value is stored once.
    const values = columns.map((column) => {
      const value = column.values[row % column.values.length] ?? ''
      if (typeof value === 'string') return `${quoteLiteral(value)}::${column.type}`
      return row < column.values.length ? `(${value.sql})::${column.type}` : 'null'
    })
    await database.query(`insert into public.${name} values (${values.join(', ')})`)
  }
}
