import { beforeEach, describe, expect, test } from 'vitest'
import type { Failure } from '../../src/base/failure.ts'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { CopyPair } from './copy-pair.ts'
import { makeFamilyTable } from './family-table.ts'
import { conformingTypes } from './replication-types.ts'
import { expectEqualRows } from './row-comparison.ts'
import { extensionFamily, ownFamily, ownTypeStatements } from './type-families.ts'

let pair: CopyPair
const table = { schema: 'public', name: 'typed' }

beforeEach(async () => {
  pair = await CopyPair.between(await createDatabase('types from'), await createDatabase('types to'))
})

/** Runs what the remedy prints, all of it at once, as somebody who pastes it would. */
async function follow(failure: Failure): Promise<string> {
  const statements = /^In dwh run: (.*)$/s.exec(failure.remedy)?.[1] ?? ''
  await pair.destination.query(statements)
  return statements
}

describe.each(conformingTypes)('$type', ({ type }) => {
  const add = () => pair.add(type, table, table)
  const refusal = () => add().catch((error) => error) as Promise<Failure>

  test('every type of one’s own and of extensions is made by the statements that the message prints', async () => {
    await pair.source.query('create schema ext')
    await pair.source.query('create extension hstore schema public')
    await pair.source.query('create extension citext schema public')
    await pair.source.query('create extension intarray schema ext')
    for (const statement of ownTypeStatements) await pair.source.query(statement)
    await pair.source.query(`
      create domain public.code as public.citext check (length(value) < 9);
      create domain public.never_checked as int;
      create domain public.sorted as text collate "C" not null;
      create type public.by_pattern as range (subtype = text, subtype_opclass = text_pattern_ops, collation = "C");
      create table public.row_type (a int, b public.code)`)
    const more = [
      { type: 'public.code', values: ['Ab'] },
      { type: 'public.never_checked', values: ['1'] },
      { type: 'public.by_pattern', values: ['[B,a)'] },
      { type: 'public.row_type[]', values: ['{"(1,x)"}'] },
      { type: 'ext.query_int', values: ['1&2'] },
    ]
    await makeFamilyTable(pair.source, 'typed', [...ownFamily, ...extensionFamily, ...more])
    await pair.source.query('alter domain public.never_checked add check (value > 1000) not valid')
    const failure = await refusal()
    expect(failure).toMatchObject({ code: 'type_missing', object: 'crm:public.typed' })
    expect(await pair.destination.query(`select relname from pg_class where relname ~ '^typed'`)).toEqual([])
    const statements = await follow(failure)
    expect(statements.match(/CREATE TYPE "Odd.Types"."mood" /g)).toHaveLength(1)
    await add()
    await expectEqualRows(pair.source, table, pair.destination)
  })

  test('only a multirange, only an array, only a domain deep inside', async () => {
    await pair.source.query('create type public.floats as range (subtype = float8)')
    await pair.source.query('create domain public.inner_one as int')
    await pair.source.query('create type public.outer_one as (a public.inner_one[])')
    await makeFamilyTable(pair.source, 'typed', [
      { type: 'public.floats_multirange[]', values: ['{"{[1,2)}"}'] },
      { type: 'public.outer_one[]', values: ['{"({1})"}'] },
    ])
    await follow(await refusal())
    await add()
    await expectEqualRows(pair.source, table, pair.destination)
  })

  test('what stands there already is not made again, and is called by the name that it has there', async () => {
    await pair.source.query('create extension hstore schema public')
    await pair.source.query(`create type public.mood as enum ('a')`)
    await pair.source.query('create type public.both as (h public.hstore, m public.mood, hs public.hstore[])')
    await pair.destination.query('create schema elsewhere')
    await pair.destination.query('create extension hstore schema elsewhere')
    await pair.destination.query(`create type public.mood as enum ('a')`)
    await makeFamilyTable(pair.source, 'typed', [{ type: 'public.both', values: ['("a=>1",a,)'] }])
    const statements = await follow(await refusal())
    expect(statements).toBe(
      'CREATE TYPE "public"."both" AS ("h" elsewhere.hstore, "m" public.mood, "hs" elsewhere.hstore[]);',
    )
    await add()
    await expectEqualRows(pair.source, table, pair.destination)
  })

  test('types of the information schema have other ids elsewhere, and are found', async () => {
    pair = await CopyPair.between(await (await postgres14()).createDatabase('types from 14'), pair.destination)
    await pair.source.query(
      `create view public.typed as select table_name, is_insertable_into, row_number() over () as "row number", timestamptz '2020-01-01' as "came at" from information_schema.tables`,
    )
    await add()
    await expectEqualRows(pair.source, table, pair.destination)
  })

  test('labels and names that are SQL themselves stay what they are', async () => {
    const [name, label] = ['x"; drop schema public cascade; --', `'; drop schema public cascade; -- \\`]
    await pair.source.query(
      `create type public."${name.replaceAll('"', '""')}" as enum (e'${label.replaceAll("'", "''").replaceAll('\\', '\\\\')}')`,
    )
    await makeFamilyTable(pair.source, 'typed', [{ type: `public."${name.replaceAll('"', '""')}"`, values: [label] }])
    await follow(await refusal())
    await add()
    await expectEqualRows(pair.source, table, pair.destination)
  })
})
