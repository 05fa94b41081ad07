import { afterAll, beforeAll, expect, it } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { compareRows } from './comparison.ts'

let [from, to]: TestDatabase[] = []
let [source, destination]: Session[] = []
const table = { schema: 'public', name: 'a "b".c' }
const everything = { source: table, destination: table, columns: null, condition: null }

beforeAll(async () => {
  from = await createDatabase('comparison source')
  to = await createDatabase('comparison destination')
  source = await connect(parseConnectionUrl(from.url), { side: 'source', purpose: 'test' })
  destination = await connect(parseConnectionUrl(to.url), { side: 'destination', purpose: 'test' })
})

afterAll(async () => {
  await source?.end()
  await destination?.end()
})

async function given(theirs: string, ours: string) {
  const make = (rows: string) => `
    drop table if exists "a ""b"".c";
    create table "a ""b"".c" (id int, "x.y" text, z float8);
    ${rows === '' ? '' : `insert into "a ""b"".c" values ${rows}`}`
  await from?.query(make(theirs))
  await to?.query(make(ours))
}

async function compare(what: Parameters<typeof compareRows>[2] = everything) {
  if (!source || !destination) throw new Error('not connected')
  return compareRows(source, destination, what)
}

it.each([
  [
    'equal rows in another order, twice the same among them',
    `(1,'a',1),(2,null,'nan'),(2,null,'nan')`,
    `(2,null,'nan'),(1,'a',1),(2,null,'nan')`,
    undefined,
  ],
  ['nothing', '', '', undefined],
  [
    'a changed value',
    `(1,'a',1)`,
    `(1,'b',1)`,
    '1 rows of the source are not in the copy, such as {1,a,1}; 1 rows of the copy are not in the source, such as {1,b,1}',
  ],
  ['a missing row', `(1,'a',1),(2,'a',1)`, `(1,'a',1)`, '1 rows of the source are not in the copy, such as {2,a,1}'],
  ['a row too often', `(1,'a',1)`, `(1,'a',1),(1,'a',1)`, '1 rows of the copy are not in the source, such as {1,a,1}'],
  [
    'a row too seldom',
    `(1,'a',1),(1,'a',1),(1,'a',1)`,
    `(1,'a',1)`,
    '2 rows of the source are not in the copy, such as {1,a,1}',
  ],
  [
    'NULL for an empty text',
    `(1,'',1)`,
    `(1,null,1)`,
    '1 rows of the source are not in the copy, such as {1,"",1}; 1 rows of the copy are not in the source, such as {1,NULL,1}',
  ],
  [
    'the text NULL for NULL',
    `(1,'NULL',1)`,
    `(1,null,1)`,
    '1 rows of the source are not in the copy, such as {1,"NULL",1}; 1 rows of the copy are not in the source, such as {1,NULL,1}',
  ],
  [
    'a last digit',
    `(1,'',0.1)`,
    `(1,'',0.10000000000000002)`,
    '1 rows of the source are not in the copy, such as {1,"",0.1}; 1 rows of the copy are not in the source, such as {1,"",0.10000000000000002}',
  ],
])('%s', async (_, theirs, ours, difference) => {
  await given(theirs, ours)
  expect((await compare()).difference).toBe(difference)
})

it('honours filter and condition', async () => {
  await given(`(1,'a',1),(2,'b',2)`, `(2,'b',2)`)
  await to?.query('alter table "a ""b"".c" drop column z')
  const wanted = { ...everything, columns: ['id', 'x.y'], condition: `WHERE z > 1` }
  expect(await compare(wanted)).toEqual({ rows: 1, difference: undefined })
  expect((await compare({ ...wanted, condition: null })).difference).toBe(
    '1 rows of the source are not in the copy, such as {1,a}',
  )
})

it('sees a column that is not there, or too much', async () => {
  await given('', '')
  await to?.query('alter table "a ""b"".c" rename column z to q')
  expect((await compare()).difference).toBe('the copy lacks the column z; the copy has a column q more')
})
