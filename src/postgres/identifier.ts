import { createHash } from 'node:crypto'
import { Failure } from '../base/failure.ts'

/** PostgreSQL cuts longer names silently; we refuse them. Bytes of UTF-8. */
export const maxNameBytes = 63

/** A table, view or other relation by its two real names (as in the catalog, unquoted). */
export interface QualifiedName {
  readonly schema: string
  readonly name: string
}

/** Quotes one name for SQL, always: `Odd"Name` → `"Odd""Name"`. Throws `name_invalid` for a NUL or more than 63 bytes. */
export function quoteIdentifier(name: string): string {
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > maxNameBytes) throw invalidName(name)
  return `"${name.replaceAll('"', '""')}"`
}

/** Quotes a text value for the few statements that take no parameters (COPY, SET, CREATE TYPE). */
export function quoteLiteral(value: string): string {
  if (value.includes('\0')) throw new Failure('name_invalid', { message: 'A text value holds a NUL character.' })
  const body = value.replaceAll("'", "''")
  return body.includes('\\') ? `E'${body.replaceAll('\\', '\\\\')}'` : `'${body}'`
}

/** `"schema"."name"`, for SQL. */
export function quoteQualified(relation: QualifiedName): string {
  return `${quoteIdentifier(relation.schema)}.${quoteIdentifier(relation.name)}`
}

/** For people: quoted only where SQL needs it, control characters made visible. The inverse of `parseQualifiedName`. */
export function displayQualified(relation: QualifiedName): string {
  return `${displayName(relation.schema)}.${displayName(relation.name)}`
}

/** One name for people: quoted only where SQL needs it. */
export function displayName(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/.test(name) ? name : `"${printable(name).replaceAll('"', '""')}"`
}

/** Control and direction characters never reach a terminal: they are written as `\u{…}`. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  )
}

/** Splits `schema.table` as SQL does: unquoted parts fold to lower case, quoted ones are taken as they are. */
export function parseQualifiedName(text: string): QualifiedName {
  const parts = parseNameParts(text)
  const [schema, name] = parts
  if (parts.length !== 2 || schema === undefined || name === undefined) {
    throw new Failure('name_invalid', {
      message: `'${printable(text)}' is not a schema-qualified name.`,
      object: printable(text),
      remedy: `Write schema.table, for example public.${displayName(parts.at(-1) ?? 'orders')}; quote odd names as in SQL: 'public."Odd.Name"'.`,
    })
  }
  return { schema, name }
}

/** Splits a dotted name into its parts. Throws `name_invalid`. */
export function parseNameParts(text: string): string[] {
  const parts: string[] = []
  const part = /\s*(?:"((?:[^"]|"")+)"|([^\s".,;()']+))\s*(\.|$)/y
  let at = 0
  for (;;) {
    part.lastIndex = at
    const match = part.exec(text)
    if (!match) throw invalidName(text)
    const name = match[1] !== undefined ? match[1].replaceAll('""', '"') : (match[2] ?? '').toLowerCase()
    quoteIdentifier(name)
    parts.push(name)
    at = part.lastIndex
    if (match[3] !== '.') break
  }
  if (at !== text.length) throw invalidName(text)
  return parts
}

/**
 * A name for an object of ours, derived from others: `parts` joined by `_` when it fits in 63 bytes and `exact` is set,
 * else cut at a character border and ended by a hash over all parts, so that two different inputs never collide.
 */
export function derivedName(stem: string, suffix: string, distinct: readonly string[] = []): string {
  const plain = `${stem}${suffix}`
  if (distinct.length === 0 && Buffer.byteLength(plain) <= maxNameBytes) return plain
  const hash = createHash('sha256')
    .update(JSON.stringify([stem, suffix, ...distinct]))
    .digest('hex')
    .slice(0, 8)
  const tail = `_${hash}${suffix}`
  let head = ''
  for (const character of stem) {
    if (Buffer.byteLength(head + character + tail) > maxNameBytes) break
    head += character
  }
  return head + tail
}

function invalidName(name: string): Failure {
  const bytes = Buffer.byteLength(name)
  return new Failure('name_invalid', {
    message:
      bytes > maxNameBytes && !name.includes('.')
        ? `The name '${printable(name)}' is ${bytes} bytes long; PostgreSQL takes at most ${maxNameBytes}.`
        : `'${printable(name)}' cannot be read as a PostgreSQL name.`,
    object: printable(name),
  })
}
