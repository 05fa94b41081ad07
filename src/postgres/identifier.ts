import { createHash } from 'node:crypto'
import { Failure } from '../base/failure.ts'

/** PostgreSQL cuts longer names silently; we refuse them. Bytes of UTF-8. */
export const maxNameBytes = 63

/** A table, view or other relation by its two real names (as in the catalog, unquoted). */
export interface QualifiedName {
  readonly schema: string
  readonly name: string
}

/** Characters that do something to a terminal, or turn the direction of what follows. */
const unprintable = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu

const hex4 = (character: string) => (character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')

/**
 * Quotes one name for SQL, always: `Odd"Name` → `"Odd""Name"`. One with control or direction characters becomes
 * `U&"line\000abreak"`, so that SQL which we print holds none of them. Throws `name_invalid` for a NUL or more than 63 bytes.
 */
export function quoteIdentifier(name: string): string {
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > maxNameBytes) throw invalidName(name)
  const body = name.replaceAll('"', '""')
  if (printable(name) === name) return `"${body}"`
  return `U&"${body.replaceAll('\\', '\\\\').replace(unprintable, (character) => `\\${hex4(character)}`)}"`
}

/** Quotes a text value for the few statements that take no parameters (COPY, SET, CREATE TYPE). */
export function quoteLiteral(value: string): string {
  if (value.includes('\0')) throw new Failure('name_invalid', { message: 'A text value holds a NUL character.' })
  const body = value.replaceAll("'", "''")
  if (!body.includes('\\') && printable(body) === body) return `'${body}'`
  return `E'${body.replaceAll('\\', '\\\\').replace(unprintable, (character) => `\\u${hex4(character)}`)}'`
}

/** `"schema"."name"`, for SQL. */
export function quoteQualified(relation: QualifiedName): string {
  return `${quoteIdentifier(relation.schema)}.${quoteIdentifier(relation.name)}`
}

/** For people: quoted only where SQL needs it. The inverse of `parseQualifiedName`. */
export function displayQualified(relation: QualifiedName): string {
  return `${displayName(relation.schema)}.${displayName(relation.name)}`
}

/** One name for people: quoted only where SQL needs it, control characters as SQL writes them: `U&"line\000abreak"`. */
export function displayName(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/.test(name) ? name : quoteIdentifier(name)
}

/** Text for people: control and direction characters never reach a terminal; they are written as `\u{…}`. */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`)
}

/** As `printable`, for text of several lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

/** A JSON text for people: the same value, with no character that a terminal would act on. */
export function printableJson(json: string): string {
  return json.replace(unprintable, (character) => (character === '\n' ? character : `\\u${hex4(character)}`))
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
  const part = /\s*(?:([uU]&)?"((?:[^"]|"")+)"|([^\s".,;()']+))\s*(\.|$)/y
  let at = 0
  for (;;) {
    part.lastIndex = at
    const match = part.exec(text)
    if (!match) throw invalidName(text)
    const [, unicode, quoted, plain = '', separator] = match
    const name = quoted === undefined ? foldName(plain) : readQuoted(quoted.replaceAll('""', '"'), unicode, text)
    quoteIdentifier(name)
    parts.push(name)
    at = part.lastIndex
    if (separator !== '.') break
  }
  if (at !== text.length) throw invalidName(text)
  return parts
}

/** Only A to Z are folded, as PostgreSQL does for multibyte encodings. */
function foldName(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())
}

/** The escapes of `U&"…"`: `\000a`, `\+01f600` and `\\`. */
function readQuoted(body: string, unicode: string | undefined, whole: string): string {
  if (unicode === undefined) return body
  return body.replace(/\\(?:([0-9a-fA-F]{4})|\+([0-9a-fA-F]{6})|(\\)|)/g, (_all, four, six, backslash) => {
    const code = Number.parseInt(four ?? six ?? '', 16)
    if (backslash !== undefined) return backslash
    if (Number.isNaN(code) || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) throw invalidName(whole)
    return String.fromCodePoint(code)
  })
}

/** Hexadecimal digits: of 10,000 names, two have the same hash once in 5 million schemas. */
const hashDigits = 12

/**
 * A name for an object of ours, derived from another: `stem` and `suffix` when that fits in 63 bytes and nothing else is
 * needed to tell it apart, else the stem cut at a character border and a hash over all that went in.
 */
export function derivedName(stem: string, suffix: string, distinct: readonly string[] = []): string {
  const plain = `${stem}${suffix}`
  if (distinct.length === 0 && Buffer.byteLength(plain) <= maxNameBytes) return plain
  const hash = createHash('sha256')
    .update(JSON.stringify([stem, suffix, ...distinct]))
    .digest('hex')
    .slice(0, hashDigits)
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

/** Characters of a text from elsewhere that are kept: a server, a job or a task may say a gigabyte. */
const longestText = 8000

/** The beginning of a text that is too long to be kept; always fit for UTF-8. */
export function shortened(text: string): string {
  return text.length > longestText ? `${text.slice(0, longestText - 1).toWellFormed()}…` : text.toWellFormed()
}
