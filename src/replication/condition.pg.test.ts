import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { createDatabase, postgres14 } from '../../test/support/databases.ts'
import { Failure } from '../base/failure.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { relation, sql } from '../postgres/sql.ts'
import { type Condition, fromClause, parseCondition } from './condition.ts'

const sessions: Session[] = []

beforeAll(async () => {
  const old = await (await postgres14()).createDatabase('condition old')
  for (const database of [await createDatabase('condition'), old]) {
    const names = ['a', '\u00a0'].flatMap((begin) => sequences(letters, 2).map((end) => begin + end))
    await database.query(`create table public.t ("${names.join('" boolean default true, "')}" boolean default true)`)
    await database.query('insert into public.t default values')
    sessions.push(await connect(parseConnectionUrl(database.url), { side: 'source', purpose: 'test' }))
  }
  return () => Promise.all(sessions.map((session) => session.end()))
})

/** Everything that up to `longest` of these pieces make. */
function sequences(pieces: readonly string[], longest: number): string[] {
  if (longest === 0) return ['']
  const shorter = sequences(pieces, longest - 1)
  return [...new Set(shorter.flatMap((one) => [one, ...pieces.map((piece) => one + piece)]))]
}

/** What goes on with a name, to PostgreSQL. */
const letters = ['\u00a0', '$$', '$a$', 'a', '1']
const inStrings = ["'\n'", "' '", "\\'", "'", '\\', '$$']
const inNames = [...letters, ' ', '"', "'", '\v', '\n']
/** Made so that much of it is valid SQL in one reading or the other: every string is at least '', every name is true. */
const tidy = [
  ...['', 'e', 'E', 'n', 'U&'].flatMap((prefix) =>
    sequences(inStrings, 3).flatMap((left) =>
      [`'' <= '${left}'`, "$$'$$ >= ''", "'' <= e'\\''"].map((right) => `'' <= ${prefix}'${left} ) or (${right}`),
    ),
  ),
  ...sequences(inNames, 2).flatMap((left) =>
    ['a', `a${left}`, `\u00a0${left}`].map((right) => `a is not null and \u00a0${left} ) or ( ${right}`),
  ),
  ...['true) or (true', 'true)) as x -- ', 'true) union (select 1', 'true union select 1', 'true /*', 'true limit 1'],
]
const random = fc
  .array(fc.constantFrom(...inStrings, ...inNames, 'e', "''", ') or (', " <= '", ' or true', '--', '/*', ';'), {
    maxLength: 9,
  })
  .map((parts) => `a${parts.join('')}`)

/** Rows that come through though `false` stands beside the condition; undefined where PostgreSQL refuses the whole. */
async function escaped(session: Session, condition: Condition): Promise<number | undefined> {
  const from = fromClause(relation({ schema: 'public', name: 't' }), condition, [sql`false`])
  try {
    const row = await session.one<{ n: number }>(sql`select count(*)::int as n from (select 1 ${from}) as fence`)
    return row.n
  } catch (error) {
    if (error instanceof Failure && error.sqlstate !== undefined) return undefined
    throw error
  }
}

/** What gets out, of the texts that `read` lets through. */
async function escapes(texts: readonly string[], read: (text: string) => Condition): Promise<string[]> {
  const found: string[] = []
  let judged = 0
  for (const text of texts) {
    let condition: Condition
    try {
      condition = read(text)
    } catch (error) {
      if (error instanceof Failure) continue
      throw error
    }
    for (const session of sessions) {
      const rows = await escaped(session, condition)
      if (rows !== undefined) judged += 1
      if (rows !== undefined && rows > 0) found.push(text)
    }
  }
  expect(judged).toBeGreaterThan(100)
  return found
}

test('whatever is let through stays in its parentheses, by the word of PostgreSQL 14 and 18', async () => {
  const texts = [...tidy, ...fc.sample(random, 4000)]
  expect(await escapes(texts, (text) => parseCondition(`WHERE ${text}`))).toEqual([])
  expect(await escapes(texts, (text) => parseCondition(`, (select true) as ${text} WHERE true`))).toEqual([])
})

test('the search finds what gets out where nothing is refused', async () => {
  expect(await escapes(tidy, (where) => ({ from: '', where }))).toEqual(
    expect.arrayContaining([
      "'' <= e''\n'\\'' ) or ($$'$$ >= ''",
      'a is not null and \u00a0$$ ) or ( \u00a0$$',
      'true) or (true',
    ]),
  )
})

test.each([
  'WHERE a OR 1 = 2',
  ', (values (true), (false)) as v(b) WHERE b = a',
  'WHERE a IN (SELECT true UNION SELECT false)',
  "left join pg_catalog.pg_class c on c.relname = e'it\\'s' WHERE a IS NOT NULL OR c.oid IS NULL",
])('%s is understood', async (text) => {
  for (const session of sessions) expect(await escaped(session, parseCondition(text))).toBe(0)
})
