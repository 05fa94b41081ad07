import { expect, test } from 'vitest'
import { type Index, indexStatement } from '../../src/postgres/index-catalog.ts'

const evil = `x") ; DROP TABLE victim; --\n\u001b[2J`
const inQuotes = 'U&"x"") ; DROP TABLE victim; --\\000a\\001b[2J"'

/** An index as a source server could make it up: nothing in it is true. */
const made: Index = {
  oid: 1,
  name: evil,
  method: evil,
  unique: true,
  primary: false,
  nullsNotDistinct: true,
  immediate: true,
  exclusion: false,
  parts: [
    {
      column: evil,
      expression: evil,
      opclass: {
        schema: evil,
        name: evil,
        isDefault: false,
        options: ['siglen=32', `siglen=1); ${evil}`, 'a=b c', "a='b'"],
      },
      collation: { schema: evil, name: evil },
      descending: true,
      nullsFirst: false,
      ordered: true,
    },
  ],
  include: [evil],
  predicate: null,
  options: ['fillfactor=70', `fillfactor=70); ${evil}`, 'x=(1)', 'X=1', `a=1\n`],
  constraint: evil,
}

test('an index statement has every name of the source in quotes, and only plain options', () => {
  const name = `${inQuotes}.${inQuotes}`
  expect(indexStatement(made, 'own', { schema: 's', name: 't' }, 18)).toBe(
    `CREATE UNIQUE INDEX "own" ON "s"."t" USING ${inQuotes} (${inQuotes} COLLATE ${name} ${name} (siglen=32) DESC NULLS LAST)` +
      ` INCLUDE (${inQuotes}) NULLS NOT DISTINCT WITH (fillfactor=70)`,
  )
})
