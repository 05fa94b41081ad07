import { beforeAll, describe, expect, test } from 'vitest'
import type { Failure } from '../../src/base/failure.ts'
import { createDatabase } from '../support/databases.ts'
import { CopyPair } from './copy-pair.ts'
import { conformingTypes, controlColumns } from './replication-types.ts'

let pair: CopyPair

beforeAll(async () => {
  pair = await CopyPair.between(await createDatabase('existing from'), await createDatabase('existing to'))
  const shared = ['create domain public.word as varchar(5)', 'create type public.same as (a int, b text)']
  for (const statement of shared) {
    await pair.source.query(statement)
    await pair.destination.query(statement)
  }
  await pair.source.query(`create type public.mood as enum ('a', 'b')`)
  await pair.destination.query(`create type public.mood as enum ('c', 'b', 'a')`)
  await pair.source.query(`create type public.size as enum ('s', 'm', 'l''l')`)
  await pair.source.query('create type public.pair as (a int, b text)')
  await pair.destination.query('create type public.pair as (a bigint, b text)')
  // What a value looks like as text is ours to say, not the database's.
  for (const setting of [`timezone = 'Asia/Kolkata'`, `intervalstyle = 'iso_8601'`, `bytea_output = 'escape'`]) {
    await pair.source.query(`alter database ${pair.source.name} set ${setting}`)
  }
})

let tables = 0

/** A source with these values in `v`, and a destination whose `v` has another type and which holds a row already. */
async function tablesOf(from: string, values: readonly string[], to: string, already = 'null') {
  const table = { schema: 'public', name: `existing_${++tables}` }
  await pair.source.query(`create table public.${table.name} (n int, v ${from}, ${controlColumns})`)
  await pair.source.query(
    `insert into public.${table.name} values ${values.map((value, n) => `(${n}, ${value})`).join(', ')}`,
  )
  await pair.destination.query(
    `create table public.${table.name} (extra text default 'kept', v ${to}, n int, "row number" bigint, "came at" timestamptz default '2000-01-01')`,
  )
  await pair.destination.query(`insert into public.${table.name} (n, v) values (-1, ${already})`)
  return table
}

async function valuesAt(name: string): Promise<unknown[]> {
  const rows = await pair.destination.query(`select n, format('%L', v) as v, extra from public.${name} order by n`)
  return rows.map((row) => `${row.n} ${row.v} ${row.extra}`)
}

describe.each(conformingTypes.filter((one) => one.adopts))('$type', ({ type }) => {
  // A remedy adds to it.
  beforeAll(async () => {
    await pair.destination.query('drop type if exists public.size cascade')
    await pair.destination.query(`create type public.size as enum ('s', 'm')`)
  })

  test.each([
    ['int', ['2147483647', '-1'], 'int', 'binary', ["'2147483647'", "'-1'"]],
    ['bigint', ['9223372036854775807', '-1', '0'], 'numeric', 'text', ["'9223372036854775807'", "'-1'", "'0'"]],
    ['smallint', ['-32768'], 'bigint', 'text', ["'-32768'"]],
    ['varchar(5)', ["'a b'", "'\\'"], 'text', 'text', ["'a b'", "E'\\\\'"]],
    ['char(5)', ["'ab'"], 'text', 'text', ["'ab   '"]],
    ['cidr', ["'10.0.0.0/8'"], 'inet', 'text', ["'10.0.0.0/8'"]],
    ['numeric(10,4)', ['1.5'], 'numeric(12,6)', 'text', ["'1.500000'"]],
    ['numeric(10,4)', ['1.5', "'NaN'"], 'numeric', 'text', ["'1.5000'", "'NaN'"]],
    ['timestamptz', ["'2020-01-01 12:00+02'"], 'text', 'text', ["'2020-01-01 10:00:00+00'"]],
    ['interval', ["'1 year -2 days 03:04'"], 'text', 'text', ["'1 year -2 days +03:04:00'"]],
    ['bytea', ["'\\x00ff'"], 'text', 'text', ["E'\\\\x00ff'"]],
    ['timestamp(0)', ["'2020-01-01 12:00'"], 'timestamp(3)', 'text', ["'2020-01-01 12:00:00'"]],
    ['public.word', ["'abc'"], 'varchar(9)', 'text', ["'abc'"]],
    ['varchar(5)', ["'abc'"], 'public.word', 'text', ["'abc'"]],
    ['public.mood', ["'a'", "'b'"], 'public.mood', 'text', ["'a'", "'b'"]],
    ['public.mood[]', ["'{a,b}'"], 'public.mood[]', 'text', ["'{a,b}'"]],
    ['int[]', ["'{{1,2},{3,NULL}}'"], 'bigint[]', 'text', ["'{{1,2},{3,NULL}}'"]],
    ['public.same', ["'(1,x)'"], 'public.same', 'binary', ["'(1,x)'"]],
  ])('%s %j into an existing %s: in %s', async (from, values, to, format, arrive) => {
    const table = await tablesOf(from, values, to)
    const copy = await pair.add(type, table, table)
    expect(copy.first.rows).toBe(0)
    expect(await valuesAt(table.name)).toEqual(['-1 NULL kept'])
    const run = await copy.refresh()
    expect(await copy.formatOf(run)).toBe(format)
    expect(await valuesAt(table.name)).toEqual(arrive.map((value, n) => `${n} ${value} kept`))
  })

  const refused: [from: string, value: string, to: string, remedy: RegExp][] = [
    ['timestamptz', "'2020-01-01 12:00+02'", 'timestamp', /ALTER COLUMN "v" TYPE timestamp with time zone;/],
    ['timestamp', "'2020-01-01'", 'timestamptz', /TYPE timestamp without time zone;/],
    ['float8', '0.1', 'float4', /TYPE double precision;/],
    ['float8', '1', 'bigint', /TYPE double precision;/],
    ['numeric(10,4)', '1.2345', 'numeric(6,2)', /TYPE numeric\(10,4\);/],
    ['numeric', '1.5', 'bigint', /TYPE numeric;/],
    ['timestamp(6)', "'2020-01-01 00:00:00.5'", 'timestamp(0)', /TYPE timestamp\(6\) without time zone;/],
    ['bigint', '1', 'int', /TYPE bigint;/],
    ['bigint', '1', 'timestamptz', /TYPE bigint;/],
    ['text', "'x'", 'bytea', /TYPE text;/],
    ['text', "'x'", 'varchar(5)', /TYPE text;/],
    ['char(5)', "'x'", 'char(3)', /TYPE character\(5\);/],
    ['text', "'1'", 'int', /TYPE text;/],
    ['json', `'{"a": 1}'`, 'jsonb', /TYPE json;/],
    ['box[]', "'{(1,1),(0,0)}'", 'text[]', /TYPE box\[\];/],
    ['public.word', "'abc'", 'varchar(4)', /TYPE public\.word;/],
    ['public.pair', "'(1,x)'", 'public.pair', /Make the type public\.pair there what it is at the source/],
    ['public.pair[]', `'{"(1,x)"}'`, 'public.pair[]', /public\.pair\[\] there what it is at the source/],
    ['public.size', "'s'", 'public.size', /ALTER TYPE public\.size ADD VALUE 'l''l';/],
  ]
  test.each(refused)('%s %s into an existing %s is refused, and nothing changed', async (from, value, to, remedy) => {
    const table = await tablesOf(from, [value], to)
    const failure = (await pair.add(type, table, table).catch((error) => error)) as Failure
    expect(failure).toMatchObject({ code: 'column_type_mismatch', object: `dwh:public.${table.name}` })
    expect(failure.message).toContain('nothing was copied')
    expect(failure.remedy).toMatch(remedy)
    expect(await valuesAt(table.name)).toEqual(['-1 NULL kept'])
  })

  test('a type that is changed after the set-up is refused at the refresh, and the old rows stay', async () => {
    const table = await tablesOf('int', ['1'], 'int')
    const copy = await pair.add(type, table, table)
    await copy.refresh()
    await pair.source.query(`alter table public.${table.name} alter v type bigint`)
    await expect(copy.refresh()).rejects.toMatchObject({ code: 'column_type_mismatch' })
    expect(await valuesAt(table.name)).toEqual(["0 '1' kept"])
  })

  test('the remedy of an enum without a label works, and then the value arrives', async () => {
    const table = await tablesOf('public.size', ["'l''l'"], 'public.size')
    const failure = (await pair.add(type, table, table).catch((error) => error)) as Failure
    await pair.destination.query(failure.remedy)
    const copy = await pair.add(type, table, table)
    expect(await copy.formatOf(await copy.refresh())).toBe('binary')
    expect(await valuesAt(table.name)).toEqual(["0 'l''l' kept"])
  })

  test.each([
    ['generated always as (1) stored', 'column_generated'],
    ['not null check (v > 5)', 'sql_failed'],
  ])('int into an int %s: %s, and the old rows stay', async (more, code) => {
    const already = more.startsWith('generated') ? 'default' : '6'
    const table = await tablesOf('int', ['1'], `int ${more}`, already)
    const failing = pair.add(type, table, table).then((copy) => copy.refresh())
    await expect(failing).rejects.toMatchObject({ code })
    expect(await valuesAt(table.name)).toHaveLength(1)
  })
})
