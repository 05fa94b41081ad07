import { quoteIdentifier, quoteLiteral, quoteQualified } from './identifier.ts'
import type { TypeCatalog, TypeRow } from './type-catalog.ts'

/** What a server has of another's types: by the other's id, its own name for the type, or null where it lacks it. */
export type KnownTypes = ReadonlyMap<number, string | null>

/**
 * The statements that make a type, and what it is made of, on a server that lacks it: for people to read and run, in this
 * order. Constraints that were never validated are left out: values that break them would not get in.
 */
export function typeStatements(types: TypeCatalog, oid: number, known: KnownTypes): string[] {
  if (known.get(oid) !== null) return []
  const row = types.row(oid)
  const schema = `CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(row.schema)};`
  const first = row.schema === 'public' ? [] : [schema]
  if (row.extension) {
    return [
      ...first,
      `CREATE EXTENSION IF NOT EXISTS ${quoteIdentifier(row.extension)} SCHEMA ${quoteIdentifier(row.schema)};`,
    ]
  }
  const needs = types.parts(oid).flatMap((part) => typeStatements(types, part, known))
  const own = row.element === 0 ? ownStatement(types, row, known) : undefined
  return own === undefined ? needs : [...needs, ...first, own]
}

/** Types that no statement of ours can make: base types, which come with a program of their own. */
export function unmakeableTypes(types: TypeCatalog, oid: number, known: KnownTypes): TypeRow[] {
  const row = types.row(oid)
  if (known.get(oid) !== null || row.extension) return []
  const parts = types.parts(oid).flatMap((part) => unmakeableTypes(types, part, known))
  return row.element === 0 && (row.kind === 'b' || row.kind === 'p') ? [row] : parts
}

function ownStatement(types: TypeCatalog, row: TypeRow, known: KnownTypes): string | undefined {
  const name = quoteQualified(row)
  switch (row.kind) {
    case 'e':
      return `CREATE TYPE ${name} AS ENUM (${(row.labels ?? []).map(quoteLiteral).join(', ')});`
    case 'd':
      return `CREATE DOMAIN ${name} AS ${nameThere(types, row.base, row.base_type, known)}${row.definition ?? ''};`
    case 'c': {
      const parts = (row.attributes ?? []).map(
        (part) => `${quoteIdentifier(part.name)} ${nameThere(types, part.oid, part.type, known)}`,
      )
      return `CREATE TYPE ${name} AS (${parts.join(', ')});`
    }
    case 'r':
      return `CREATE TYPE ${name} AS RANGE (subtype = ${nameThere(types, row.subtype, row.base_type, known)}${row.definition ?? ''});`
    default:
      return undefined
  }
}

/** A type that stands there may have another name (an extension in another schema); one that is made gets ours. */
function nameThere(types: TypeCatalog, oid: number, here: string | null, known: KnownTypes): string {
  const there = known.get(oid)
  return types.isBuiltIn(oid) || typeof there !== 'string' ? (here ?? '') : there
}
