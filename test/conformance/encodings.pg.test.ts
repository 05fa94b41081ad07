import pg from 'pg'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import type { Failure } from '../../src/base/failure.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { CopyPair } from './copy-pair.ts'
import { conformingTypes, controlColumns } from './replication-types.ts'
import { expectEqualRows } from './row-comparison.ts'

/** A database in another encoding, as a template that the support's own databases are cloned from. */
async function databaseIn(encoding: string): Promise<TestDatabase> {
  const template = `template_${encoding.toLowerCase()}_${process.pid}`
  const client = new pg.Client({ connectionString: inject('postgresUrl') })
  await client.connect()
  const made = `create database ${template} template template0 encoding '${encoding}' locale_provider libc lc_collate 'C' lc_ctype 'C'`
  await client.query(made).finally(() => client.end())
  const database = await createDatabase(encoding, { template })
  await database.query(`set client_encoding = 'UTF8'`)
  return database
}

let unicode: TestDatabase
let latin: TestDatabase
let bytes: TestDatabase

beforeAll(async () => {
  ;[unicode, latin, bytes] = [
    await createDatabase('unicode'),
    await databaseIn('LATIN1'),
    await databaseIn('SQL_ASCII'),
  ]
})

let tables = 0

function nextTable() {
  return { schema: 'public', name: `encoded_${++tables}` }
}

describe.each(conformingTypes)('$type', ({ type }) => {
  test.each([
    ['binary', ''],
    ['text', `, x xml default '<a>é</a>'`],
  ])('LATIN1 to UTF8 and back, in %s: text, names, labels, JSON and elements', async (format, more) => {
    const there = nextTable()
    for (const database of [latin, unicode]) {
      await database.query(`create type public."gr\u00f6\u00dfe_${there.name}" as enum ('kl\u00e9in', 'gro\u00df')`)
    }
    await latin.query(
      `create table public.${there.name} ("m\u00fc" text, n name, c char(3), j jsonb, l text[], g public."gr\u00f6\u00dfe_${there.name}"${more}, ${controlColumns})`,
    )
    await latin.query(
      `insert into public.${there.name} values ('caf\u00e9 \\', 'n\u00e4me', '\u00fc', '{"\u00e4": "\u00f6"}', '{\u00e4,"\\\\"}', 'kl\u00e9in'), (null, null, null, null, null, 'gro\u00df')`,
    )
    const pair = await CopyPair.between(latin, unicode)
    const copy = await pair.add(type, there, there)
    expect(await copy.formatOf(copy.first)).toBe(format)
    await expectEqualRows(latin, there, unicode)

    const back = { schema: 'back', name: there.name }
    const return_ = await CopyPair.between(unicode, latin)
    await return_.add(type, there, back)
    await expectEqualRows(unicode, there, latin, back)
  })

  test.each([
    ['binary', ''],
    ['text', `, x xml default ''`],
  ])('what LATIN1 has no character for names row and value, in %s', async (_format, more) => {
    const table = nextTable()
    await unicode.query(`create table public.${table.name} (n int, t text${more}, ${controlColumns})`)
    await unicode.query(`insert into public.${table.name} values (1, 'fine'), (2, 'also'), (3, '\u20ac')`)
    const pair = await CopyPair.between(unicode, latin)
    const failure = (await pair.add(type, table, table).catch((error) => error)) as Failure
    expect(failure).toMatchObject({ code: 'sql_failed', sqlstate: '22P05' })
    expect(failure.message).toMatch(/line 3/)
  })

  test.each([
    ['binary', ''],
    ['text', `, x xml default ''`],
  ])('bytes of an SQL_ASCII source that are no UTF8 name the row and show it, in %s', async (format, more) => {
    const table = nextTable()
    await bytes.query(`create table public.${table.name} (n int, t text${more}, ${controlColumns})`)
    await bytes.query(`insert into public.${table.name} values (1, 'plain'), (2, 'caf\u00e9')`)
    const pair = await CopyPair.between(bytes, unicode)
    const copy = await pair.add(type, table, table)
    expect(await copy.formatOf(copy.first)).toBe(format)
    const before = await unicode.query(`select n, t from public.${table.name} order by n`)
    expect(before).toEqual([
      { n: 1, t: 'plain' },
      { n: 2, t: 'caf\u00e9' },
    ])

    await bytes.query(`insert into public.${table.name} values (3, e'bad \\xe9 byte'), (4, 'after')`)
    const failure = (await copy.refresh().catch((error) => error)) as Failure
    expect(failure).toMatchObject({ code: 'sql_failed', sqlstate: '22021' })
    expect(failure.message).toContain('in row 3 of')
    const shown = /: (SET client_encoding = SQL_ASCII;) (.*;)$/.exec(failure.remedy) ?? []
    await bytes.query(shown[1] ?? '')
    const [row] = await bytes.query(shown[2] ?? '')
    await bytes.query(`set client_encoding = 'UTF8'`)
    expect(row).toMatchObject({ n: 3 })
    expect(await unicode.query(`select n, t from public.${table.name} order by n`)).toEqual(before)
  })
})
