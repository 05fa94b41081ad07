import { expect, test } from 'vitest'
import { TypeCatalog, type TypeRow } from '../postgres/type-catalog.ts'
import { type Conversion, conversionOf } from './conversion.ts'

type Shape = Partial<Omit<TypeRow, 'oid'>> & { readonly name: string }

const builtIns = [
  ...[
    'bool',
    'int2',
    'int4',
    'int8',
    'numeric',
    'float4',
    'float8',
    'text',
    'varchar',
    'bpchar',
    'char',
    'name',
    'oid',
  ],
  ...[
    'date',
    'time',
    'timetz',
    'timestamp',
    'timestamptz',
    'interval',
    'bytea',
    'json',
    'jsonb',
    'xml',
    'uuid',
    'money',
  ],
  ...['inet', 'cidr', 'bit', 'varbit', 'regclass', 'regrole', 'aclitem', 'tsquery', 'oidvector', 'box', 'point'],
] as const

/** One server's catalog: the built-in types and their arrays under ids that every server has, and others by `add`. */
class Server {
  readonly #rows: TypeRow[] = []
  #next: number

  constructor(firstOid: number) {
    this.#next = firstOid
    for (const [index, name] of builtIns.entries()) {
      const delimiter = name === 'box' ? ';' : ','
      this.#put(100 + index, { name, delimiter, schema: 'pg_catalog' })
      this.#put(1100 + index, { name: `_${name}`, element: 100 + index, delimiter, schema: 'pg_catalog' })
    }
    this.#put(90, { name: 'int4range', kind: 'r', subtype: this.oid('int4'), schema: 'pg_catalog' })
  }

  #put(oid: number, shape: Shape): number {
    const empty = { kind: 'b', element: 0, delimiter: ',', base: 0, base_typmod: -1, subtype: 0, range: 0 } as const
    const facts = { extension: null, extension_version: null, labels: null, attributes: null, definition: null }
    this.#rows.push({ oid, schema: 'public', binary: true, base_type: null, ...empty, ...facts, ...shape })
    return oid
  }

  add(shape: Shape): number {
    return this.#put(this.#next++, shape)
  }

  oid(name: string): number {
    return this.#rows.find((row) => row.name === name)?.oid ?? -1
  }

  column(type: number | string, typmod = -1) {
    const typeOid = typeof type === 'number' ? type : this.oid(type)
    return { column: { typeOid, typmod }, types: new TypeCatalog(this.#rows) }
  }

  enumOf(...labels: string[]): number {
    return this.add({ name: 'mood', kind: 'e', labels })
  }

  domainOver(base: number, base_typmod = -1): number {
    return this.add({ name: 'domain', kind: 'd', base, base_typmod })
  }

  arrayOf(element: number): number {
    return this.add({ name: '_of', element })
  }

  compositeOf(...attributes: [name: string, type: number, typmod?: number][]): number {
    const parts = attributes.map(([name, oid, typmod = -1]) => ({ name, oid, typmod, type: '' }))
    return this.add({ name: 'composite', kind: 'c', attributes: parts })
  }

  rangeOf(subtype: number, kind: 'r' | 'm' = 'r'): number {
    return this.add({ name: 'range', kind, subtype })
  }

  extensionType(extension_version: string, name = 'citext', extension = 'citext'): number {
    return this.add({ name, extension, extension_version })
  }
}

const here = () => new Server(20_000)
const there = () => new Server(30_000)

/** Between the built-in types: for each the others that take it, in text. The rest is refused. */
const widened: Readonly<Record<string, readonly string[]>> = {
  int2: ['int4', 'int8', 'numeric'],
  int4: ['int8', 'numeric'],
  int8: ['numeric'],
  oid: ['int8', 'numeric'],
  cidr: ['inet'],
}
const onlyText = ['xml', 'regclass', 'regrole', 'aclitem', 'tsquery', 'oidvector']

function expected(from: string, to: string): Conversion {
  if (from === to) return onlyText.includes(from) ? 'text' : 'binary'
  return ['text', 'varchar'].includes(to) || widened[from]?.includes(to) ? 'text' : 'refused'
}

test('every built-in type to every other, and their arrays', () => {
  const [source, destination] = [here(), there()]
  for (const from of builtIns) {
    for (const to of builtIns) {
      const plain = conversionOf(source.column(from), destination.column(to))
      expect(plain, `${from} to ${to}`).toBe(expected(from, to))
      const arrays = conversionOf(source.column(`_${from}`), destination.column(`_${to}`))
      const apart = from !== to && (from === 'box') !== (to === 'box')
      expect(arrays, `${from}[] to ${to}[]`).toBe(apart ? 'refused' : expected(from, to))
      const mixed = conversionOf(source.column(`_${from}`), destination.column(to))
      expect(mixed, `${from}[] to ${to}`).toBe(['text', 'varchar'].includes(to) ? 'text' : 'refused')
      expect(conversionOf(source.column(from), destination.column(`_${to}`)), `${from} to ${to}[]`).toBe('refused')
    }
  }
})

const numeric = (precision: number, scale: number) => ((precision << 16) | (scale & 0x7ff)) + 4
const length = (characters: number) => characters + 4

const modifiers: readonly (readonly [string, number, number, Conversion])[] = [
  ['varchar', length(5), length(5), 'binary'],
  ['varchar', length(5), length(6), 'text'],
  ['varchar', length(5), -1, 'text'],
  ['varchar', length(6), length(5), 'refused'],
  ['varchar', -1, length(5), 'refused'],
  ['bpchar', length(5), length(6), 'refused'],
  ['bpchar', length(6), length(5), 'refused'],
  ['bpchar', length(5), -1, 'text'],
  ['bpchar', -1, length(5), 'refused'],
  ['varbit', 5, 6, 'text'],
  ['varbit', 6, 5, 'refused'],
  ['bit', 5, 6, 'refused'],
  ['numeric', numeric(10, 4), numeric(10, 4), 'binary'],
  ['numeric', numeric(10, 4), -1, 'text'],
  ['numeric', -1, numeric(10, 4), 'refused'],
  ['numeric', numeric(10, 4), numeric(6, 2), 'refused'],
  ['numeric', numeric(10, 4), numeric(12, 4), 'text'],
  ['numeric', numeric(10, 4), numeric(11, 5), 'text'],
  ['numeric', numeric(10, 4), numeric(10, 5), 'refused'],
  ['numeric', numeric(10, 4), numeric(12, 3), 'refused'],
  ['numeric', numeric(5, -2), numeric(7, 0), 'text'],
  ['numeric', numeric(5, -2), numeric(6, 0), 'refused'],
  ['numeric', numeric(5, 0), numeric(9, -2), 'refused'],
  ['interval', 0x7fff_0003, -1, 'text'],
  ['interval', -1, 0x7fff_0003, 'refused'],
  ['interval', 0x7fff_0003, 0x7fff_0004, 'refused'],
  ...['timestamp', 'timestamptz', 'time', 'timetz'].flatMap(
    (type) =>
      [
        [type, 6, 0, 'refused'],
        [type, -1, 3, 'refused'],
        [type, -1, 6, 'text'],
        [type, 0, 3, 'text'],
        [type, 3, -1, 'text'],
        [type, 3, 3, 'binary'],
      ] as const,
  ),
]

test.each(modifiers)('%s with the modifier %i into one with %i: %s', (type, from, to, result) => {
  const [source, destination] = [here(), there()]
  expect(conversionOf(source.column(type, from), destination.column(type, to))).toBe(result)
  expect(conversionOf(source.column(`_${type}`, from), destination.column(`_${type}`, to))).toBe(result)
})

test.each([
  ['int4', -1, 'numeric', numeric(12, 0), 'refused'],
  ['varchar', length(5), 'text', -1, 'text'],
  ['text', -1, 'varchar', length(5), 'refused'],
  ['text', -1, 'varchar', -1, 'text'],
  ['numeric', numeric(4, 0), 'int8', -1, 'refused'],
] as const)('%s (%i) into %s (%i): %s', (from, fromTypmod, to, toTypmod, result) => {
  expect(conversionOf(here().column(from, fromTypmod), there().column(to, toTypmod))).toBe(result)
})

type Case = readonly [name: string, from: (server: Server) => number, to: (server: Server) => number, Conversion]

const cases: readonly Case[] = [
  ['enum, same labels', (s) => s.enumOf('a', 'b'), (s) => s.enumOf('a', 'b'), 'binary'],
  ['enum, other order', (s) => s.enumOf('a', 'b'), (s) => s.enumOf('b', 'a'), 'text'],
  ['enum, more labels there', (s) => s.enumOf('a', 'b'), (s) => s.enumOf('a', 'b', 'c'), 'text'],
  ['enum, a label is missing', (s) => s.enumOf('a', 'b'), (s) => s.enumOf('a'), 'refused'],
  ['enum, other labels', (s) => s.enumOf('a', 'b'), (s) => s.enumOf('x', 'y'), 'refused'],
  ['enum to text', (s) => s.enumOf('a'), (s) => s.oid('text'), 'text'],
  ['text to enum', (s) => s.oid('text'), (s) => s.enumOf('a'), 'refused'],
  ['enum[]', (s) => s.arrayOf(s.enumOf('a')), (s) => s.arrayOf(s.enumOf('a')), 'binary'],
  ['enum[], a label more', (s) => s.arrayOf(s.enumOf('a')), (s) => s.arrayOf(s.enumOf('a', 'b')), 'text'],
  ['enum[], a label less', (s) => s.arrayOf(s.enumOf('a', 'b')), (s) => s.arrayOf(s.enumOf('a')), 'refused'],
  ['domain', (s) => s.domainOver(s.oid('int4')), (s) => s.domainOver(s.oid('int4')), 'binary'],
  ['domain to its base', (s) => s.domainOver(s.oid('int4')), (s) => s.oid('int4'), 'text'],
  ['base to a domain', (s) => s.oid('int4'), (s) => s.domainOver(s.oid('int4')), 'text'],
  ['domain to a wider base', (s) => s.domainOver(s.oid('int4')), (s) => s.oid('int8'), 'text'],
  ['domain to a narrower base', (s) => s.domainOver(s.oid('int8')), (s) => s.oid('int4'), 'refused'],
  ['domains apart', (s) => s.domainOver(s.oid('timestamptz')), (s) => s.domainOver(s.oid('timestamp')), 'refused'],
  ['domain with length', (s) => s.domainOver(s.oid('varchar'), 9), (s) => s.domainOver(s.oid('varchar'), 9), 'binary'],
  ['domain, longer', (s) => s.domainOver(s.oid('varchar'), 9), (s) => s.domainOver(s.oid('varchar'), 10), 'text'],
  ['domain, shorter', (s) => s.domainOver(s.oid('varchar'), 9), (s) => s.domainOver(s.oid('varchar'), 8), 'refused'],
  [
    'domain over a domain',
    (s) => s.domainOver(s.domainOver(s.oid('varchar'), 9)),
    (s) => s.domainOver(s.oid('varchar'), 8),
    'refused',
  ],
  ['domain over regclass', (s) => s.domainOver(s.oid('regclass')), (s) => s.domainOver(s.oid('regclass')), 'text'],
  ['domain over an array', (s) => s.domainOver(s.oid('_int4')), (s) => s.domainOver(s.oid('_int4')), 'binary'],
  ['array of a domain to the base’s', (s) => s.arrayOf(s.domainOver(s.oid('int4'))), (s) => s.oid('_int4'), 'text'],
  ['composite', (s) => s.compositeOf(['a', s.oid('int4')]), (s) => s.compositeOf(['a', s.oid('int4')]), 'binary'],
  [
    'composite, another type',
    (s) => s.compositeOf(['a', s.oid('int4')]),
    (s) => s.compositeOf(['a', s.oid('int8')]),
    'refused',
  ],
  [
    'composite, another name',
    (s) => s.compositeOf(['a', s.oid('int4')]),
    (s) => s.compositeOf(['b', s.oid('int4')]),
    'refused',
  ],
  [
    'composite, another modifier',
    (s) => s.compositeOf(['a', s.oid('numeric'), numeric(10, 4)]),
    (s) => s.compositeOf(['a', s.oid('numeric'), numeric(6, 2)]),
    'refused',
  ],
  [
    'composite, one attribute more',
    (s) => s.compositeOf(['a', s.oid('int4')]),
    (s) => s.compositeOf(['a', s.oid('int4')], ['b', s.oid('int4')]),
    'refused',
  ],
  [
    'composite, attributes in another order',
    (s) => s.compositeOf(['a', s.oid('int4')], ['b', s.oid('int4')]),
    (s) => s.compositeOf(['b', s.oid('int4')], ['a', s.oid('int4')]),
    'refused',
  ],
  [
    'composite with an enum whose labels differ',
    (s) => s.compositeOf(['a', s.enumOf('x')]),
    (s) => s.compositeOf(['a', s.enumOf('y')]),
    'refused',
  ],
  [
    'composite with a reg* deep inside',
    (s) => s.compositeOf(['a', s.arrayOf(s.compositeOf(['b', s.domainOver(s.oid('regclass'))]))]),
    (s) => s.compositeOf(['a', s.arrayOf(s.compositeOf(['b', s.domainOver(s.oid('regclass'))]))]),
    'text',
  ],
  ['range of one’s own', (s) => s.rangeOf(s.oid('float8')), (s) => s.rangeOf(s.oid('float8')), 'binary'],
  ['range of another subtype', (s) => s.rangeOf(s.oid('float8')), (s) => s.rangeOf(s.oid('float4')), 'refused'],
  ['range over regclass', (s) => s.rangeOf(s.oid('regclass')), (s) => s.rangeOf(s.oid('regclass')), 'text'],
  ['range to multirange', (s) => s.rangeOf(s.oid('float8')), (s) => s.rangeOf(s.oid('float8'), 'm'), 'refused'],
  ['int4range', (s) => s.oid('int4range'), (s) => s.oid('int4range'), 'binary'],
  ['int4range to one’s own', (s) => s.oid('int4range'), (s) => s.rangeOf(s.oid('int4')), 'refused'],
  ['extension', (s) => s.extensionType('1.6'), (s) => s.extensionType('1.6'), 'binary'],
  ['extension of another version', (s) => s.extensionType('1.6'), (s) => s.extensionType('1.8'), 'text'],
  [
    'array of an extension’s of another version',
    (s) => s.arrayOf(s.extensionType('1.6')),
    (s) => s.arrayOf(s.extensionType('1.8')),
    'text',
  ],
  [
    'composite with an extension’s of another version',
    (s) => s.compositeOf(['a', s.extensionType('1.6')]),
    (s) => s.compositeOf(['a', s.extensionType('1.8')]),
    'text',
  ],
  ['another extension', (s) => s.extensionType('1.6'), (s) => s.extensionType('1.6', 'citext', 'other'), 'refused'],
  ['citext to text', (s) => s.extensionType('1.6'), (s) => s.oid('text'), 'text'],
  ['text to citext', (s) => s.oid('text'), (s) => s.extensionType('1.6'), 'refused'],
  ['a base type of one’s own', (s) => s.add({ name: 'mine' }), (s) => s.add({ name: 'mine' }), 'text'],
  ['of another schema', (s) => s.add({ name: 'mine' }), (s) => s.add({ name: 'mine', schema: 'x' }), 'refused'],
  ['called as a built-in one', (s) => s.add({ name: 'int4' }), (s) => s.oid('int8'), 'refused'],
  ['into one that is called text', (s) => s.oid('int4'), (s) => s.add({ name: 'text' }), 'refused'],
  [
    'without a binary form',
    (s) => s.add({ name: 'h', extension: 'e', extension_version: '1', binary: false }),
    (s) => s.add({ name: 'h', extension: 'e', extension_version: '1', binary: false }),
    'text',
  ],
]

test.each(cases)('%s', (_name, from, to, result) => {
  const [source, destination] = [here(), there()]
  expect(conversionOf(source.column(from(source)), destination.column(to(destination)))).toBe(result)
})
