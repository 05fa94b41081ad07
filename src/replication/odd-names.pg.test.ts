import { beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { Refresher } from '../../test/support/refresher.ts'
import { quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { sideTable } from './snapshot-sides.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('names source')
  destination = await createDatabase('names dest')
})

/** 63 bytes of two-byte letters, but for the last. */
const longest = (last: string) => `${'é'.repeat(31)}${last}`

const names: readonly (readonly [string, string, string])[] = [
  ['dots', 'a.b', 'c.d.e'],
  ['quotes', 'a"b', `c'"d`],
  ['sql', '"; drop schema public; --', '$$ /* \\'],
  ['spaces', ' ', '\tx\n'],
  ['keywords', 'select', 'where'],
  ['upper', 'Public', 'PUBLIC'],
  ['longest', longest('1'), longest('a')],
  ['as long, but for its last letter', longest('1'), longest('b')],
  ['other letters', '表', 'جدول\u202e'],
]

test.each(names)('schema, table, columns, indexes, sequence: %s (B22)', async (_what, schema, name) => {
  const at = (table: string) => quoteQualified({ schema, name: table })
  const column = quoteIdentifier(name)
  await source.query(`create schema if not exists ${quoteIdentifier(schema)}`)
  await source.query(`create table ${at(name)} (${column} bigserial primary key, "other ""col" text)`)
  await source.query(`comment on column ${at(name)}.${column} is 'it''s \\ here'`)
  await source.query(`create index ${quoteIdentifier(longest('i'))} on ${at(name)} ("other ""col", ${column})`)
  await source.query(`insert into ${at(name)} select n, n::text from generate_series(1, 3) n`)
  const definition = { source: { schema, name }, condition: `WHERE ${column} > 1 OR ${column} = 1` }
  const snapshot = new Refresher({ source, destination }, 'snapshot', 'public.x', {
    ...definition,
    destination: { schema, name },
  })
  await snapshot.refresh()
  await source.query(`alter table ${at(name)} add column ${quoteIdentifier(`${name.slice(0, 20)}2`)} int default 5`)
  expect(await snapshot.refresh()).toMatchObject({ level: 'OK', rows: 3 })
  await source.query(`alter table ${at(name)} drop column "other ""col"`)
  expect(await snapshot.refresh()).toMatchObject({ level: 'OK', rows: 3 })
  const all = (table: string) => `select * from ${table} order by 1`
  expect(await destination.query(all(at(name)))).toEqual(await source.query(all(at(name))))
  for (const side of [1, 2] as const) {
    const table = sideTable({ schema, name }, side)
    expect(Buffer.byteLength(table.name)).toBeLessThanOrEqual(63)
    await destination.query(`select 1 from ${quoteQualified(table)}`)
  }
  const table = new Refresher({ source, destination }, 'table', 'public.x', {
    ...definition,
    destination: { schema, name: 'plain' },
  })
  await table.refresh()
  await table.refresh()
  expect(await destination.query(all(at('plain')))).toEqual(await source.query(all(at(name))))
  await snapshot.remove('keep')
  expect(await destination.query(all(at(name)))).toEqual(await source.query(all(at(name))))
  await table.remove('drop')
  await destination.query(`drop table ${at(name)}`)
  await destination.query(`drop schema ${quoteIdentifier(schema)}`)
})

test('a name of 64 bytes is refused, not cut', async () => {
  const name = `${longest('a')}b`
  const refresher = new Refresher({ source, destination }, 'table', 'public.x', {
    destination: { schema: 'public', name },
  })
  await source.query('create table public.x (id int)')
  await expect(refresher.refresh()).rejects.toMatchObject({ code: 'name_invalid' })
})
