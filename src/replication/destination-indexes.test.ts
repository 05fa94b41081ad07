import { expect, test } from 'vitest'
import type { Column, Relation } from '../postgres/catalog.ts'
import type { Index } from '../postgres/index-catalog.ts'
import { planIndexes } from './destination-indexes.ts'

const column = (name: string): Column => ({
  name,
  number: 1,
  typeOid: 23,
  typmod: -1,
  type: 'integer',
  notNull: true,
  collation: null,
  generated: false,
  comment: null,
  readable: true,
})

const relation: Relation = {
  schema: 'public',
  name: 't',
  oid: 1,
  kind: 'table',
  persistence: 'p',
  comment: null,
  columns: [column('id')],
  leaves: [],
}

const plain: Index = {
  oid: 2,
  name: 'i',
  method: 'btree',
  unique: false,
  primary: false,
  nullsNotDistinct: false,
  immediate: true,
  exclusion: false,
  parts: [
    {
      column: 'id',
      expression: '"id"',
      opclass: null,
      collation: null,
      descending: false,
      nullsFirst: false,
      ordered: true,
    },
  ],
  include: [],
  predicate: null,
  options: [],
  constraint: null,
}

const plan = (changes: Partial<Index>) =>
  planIndexes(
    { columns: relation.columns, indexes: [{ ...plain, ...changes }], relation },
    { schema: 'public', name: 'copy' },
    { filtered: false, major: 18 },
  ).map((index) => index.statement.replace(/"i_\w+"/, '"i"'))

const expression = (text: string): Partial<Index> => ({
  parts: plain.parts.map((part) => ({ ...part, column: null, expression: text })),
})

test('an expression of the source goes into parentheses', () => {
  expect(plan(expression('lower(name)'))).toEqual([
    'CREATE INDEX "i" ON "public"."copy" USING "btree" ((lower(name)) ASC NULLS LAST)',
  ])
  expect(plan({ predicate: `id > 3 AND x = ')'` })).toEqual([
    `CREATE INDEX "i" ON "public"."copy" USING "btree" ("id" ASC NULLS LAST) WHERE (id > 3 AND x = ')')`,
  ])
})

test.each([
  expression('id)) WHERE ((pg_catalog.pg_sleep(9) IS NULL'),
  expression('id --'),
  { predicate: 'true); DROP TABLE public.copy; --' },
  { predicate: `true) WITH (fillfactor = 10` },
])('a server that prints something else than an expression is refused: %j', (changes) => {
  expect(() => plan(changes)).toThrow(/index i of public.t is printed by its server as something else/)
})

test('options that are more than a word are left out', () => {
  expect(plan({ options: ['fillfactor=70', 'x=1) TABLESPACE (y'] })[0]).toMatch(/WITH \(fillfactor=70\)$/)
})
