import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../base/failure.ts'
import {
  derivedName,
  displayName,
  displayQualified,
  maxNameBytes,
  parseNameParts,
  parseQualifiedName,
  printable,
  quoteIdentifier,
  quoteLiteral,
} from './identifier.ts'

/** Any name that PostgreSQL takes: no NUL, 1 to 63 bytes, no lone surrogate; often of the characters that make trouble. */
const anyName = fc
  .string({
    unit: fc.oneof(
      fc.constantFrom(
        '"',
        "'",
        '\\',
        '.',
        ' ',
        '\n',
        '\r',
        '\t',
        '\u001b',
        '\u007f',
        '\u009b',
        '\u202e',
        '\u2066',
        '$',
        'U',
        '&',
        ';',
        '-',
        'é',
        '😀',
      ),
      fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    ),
    minLength: 1,
    maxLength: 40,
  })
  .map((name) => name.replaceAll('\0', '0'))
  .filter((name) => name.isWellFormed() && Buffer.byteLength(name) <= maxNameBytes)

function codeOf(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    if (error instanceof Failure) return error.code
    throw error
  }
  return 'none'
}

describe('a name', () => {
  test('is shown and read back as it was, whatever it holds', () => {
    fc.assert(
      fc.property(anyName, anyName, (schema, name) => {
        expect(parseQualifiedName(displayQualified({ schema, name }))).toEqual({ schema, name })
      }),
    )
  })

  test('leaves no control or direction character in what is shown or quoted', () => {
    fc.assert(
      fc.property(anyName, (name) => {
        for (const text of [displayName(name), quoteIdentifier(name), quoteLiteral(name), printable(name)])
          expect(text).not.toMatch(/[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/u)
      }),
    )
  })

  test('stays inside its quotes', () => {
    fc.assert(
      fc.property(anyName, (name) => {
        expect(quoteIdentifier(name)).toMatch(/^(?:U&)?"(?:[^"]|"")+"$/)
      }),
    )
  })

  test.each([
    ['orders', 'orders'],
    ['Orders', '"Orders"'],
    ['odd"name', '"odd""name"'],
    ['1st', '"1st"'],
    ['a.b', '"a.b"'],
    ['back\\slash', '"back\\slash"'],
    ['line\nbreak\\', 'U&"line\\000abreak\\\\"'],
    ['evil\u202etxt', 'U&"evil\\202etxt"'],
  ])('%j is shown as %s', (name, shown) => {
    expect(displayName(name)).toBe(shown)
  })

  test.each([
    ['public.orders', 'public', 'orders'],
    ['PUBLIC.Orders', 'public', 'orders'],
    ['public."Odd.Name"', 'public', 'Odd.Name'],
    [' "a""b" . C ', 'a"b', 'c'],
    ['Ärzte.ÄRZTE', 'Ärzte', 'Ärzte'],
    ['u&"d\\0061t\\+000061".t', 'data', 't'],
  ])('%s is read as PostgreSQL reads it', (text, schema, name) => {
    expect(parseQualifiedName(text)).toEqual({ schema, name })
  })

  test.each([
    'orders',
    'a.b.c',
    '',
    '.',
    'a.',
    '.b',
    'a..b',
    '"".b',
    'a."',
    'a."b"c',
    'a.b;drop table c',
    "a.'b'",
    'a.b()',
    `a.${'x'.repeat(64)}`,
    `a."${'é'.repeat(32)}"`,
    'a.U&"\\000"',
    'a.U&"\\d800"',
    'a.U&"\\0000"',
    'a."x\0y"',
  ])('%j is refused', (text) => {
    expect(codeOf(() => parseQualifiedName(text))).toBe('name_invalid')
  })

  test('is refused beyond 63 bytes, not beyond 63 characters', () => {
    expect(quoteIdentifier('é'.repeat(31))).toHaveLength(33)
    expect(codeOf(() => quoteIdentifier('é'.repeat(32)))).toBe('name_invalid')
    expect(() => parseNameParts('é'.repeat(32))).toThrow('is 64 bytes long; PostgreSQL takes at most 63')
  })

  test('with a long or odd form is refused in linear time', () => {
    const started = performance.now()
    for (const text of ['"'.repeat(50_001), 'a.'.repeat(50_000), ' '.repeat(50_000), `U&"${'\\'.repeat(50_001)}"`])
      expect(codeOf(() => parseQualifiedName(text))).toBe('name_invalid')
    expect(performance.now() - started).toBeLessThan(2000)
  })
})

describe('a derived name', () => {
  const inputs = fc.record({
    stem: anyName,
    suffix: fc.constantFrom('', '_snap1', '_snap2', '_pkey'),
    distinct: fc.array(anyName, { maxLength: 2 }),
  })

  test('fits, and is a name', () => {
    fc.assert(
      fc.property(inputs, ({ stem, suffix, distinct }) => {
        const name = derivedName(stem, suffix, distinct)
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(maxNameBytes)
        expect(name.isWellFormed()).toBe(true)
        expect(name.endsWith(suffix)).toBe(true)
      }),
    )
  })

  test('of different inputs is different, also when they only differ in what is cut off', () => {
    const long = 'x'.repeat(60)
    const names = [
      ...Array.from({ length: 500 }, (_, index) => derivedName(`${long}${index}`, '_snap1')),
      ...Array.from({ length: 500 }, (_, index) => derivedName(long, '', [`t${index}`])),
      derivedName('a', '', ['b', 'c']),
      derivedName('a', '', ['b_c']),
      derivedName('a', '_b', ['c']),
    ]
    expect(new Set(names).size).toBe(names.length)
  })

  test('is cut between characters', () => {
    expect(derivedName('😀'.repeat(20), '_snap1')).toMatch(/^(😀)+_[0-9a-f]{12}_snap1$/u)
  })
})

describe('a literal', () => {
  test.each([
    ['plain', "'plain'"],
    ["it's", "'it''s'"],
    ["\\'; drop", "E'\\\\''; drop'"],
    ['a\nb', "E'a\\u000ab'"],
  ])('%j is written %s', (value, text) => {
    expect(quoteLiteral(value)).toBe(text)
  })

  test('with a NUL is refused', () => {
    expect(codeOf(() => quoteLiteral('a\0b'))).toBe('name_invalid')
  })
})
