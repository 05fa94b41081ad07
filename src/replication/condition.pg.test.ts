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
    const columns = names.map((name) => `"${name}" boolean default true`)
    await database.query(`create table public.t (${columns.join(', ')})`)
    await database.query('insert into public.t default values')
    sessions.push(await connect(parseConnectionUrl(database.url), { side: 'source', purpose: 'test' }))
  }
  return () => Promise.all(sessions.map((session) => session.end()))
})

/** Letters as PostgreSQL sees them, and what looks like the begin of a quote. */
const nameParts = ['a', '\u00a0', '$$', '$a$']
const names = ['', ...nameParts, ...nameParts.flatMap((one) => nameParts.map((two) => one + two))].map(
  (end) => `a${end}`,
)
const list = (parts: readonly string[], maxLength: number) =>
  fc.array(fc.constantFrom(...parts), { maxLength }).map((found) => found.join(''))
const prefix = fc.constantFrom('', 'e', 'E', 'n', 'U&')
/** Made so that much of it is valid SQL in one reading or the other: every string is at least '', every name is true. */
const ofStrings = fc
  .tuple(prefix, list(["'", "'", '\\', '\n', ' ', 'x', '$$', ") or ('' <= "], 7))
  .map(([first, rest]) => `'' <= ${first}'${rest}'`)
const ofNames = fc
  .tuple(list(['a', 'a', '\u00a0', '$$', '$a$', ' ', ') or (', '"', "'"], 7))
  .map(([rest]) => `a${rest}`)
const ofClauses = fc.constantFrom(
  ...['true) or (true', 'true)) as x -- ', 'true) union (select 1', 'true union select 1', 'true /*', 'true limit 1'],
)
const conditions = fc.oneof({ weight: 20, arbitrary: ofStrings }, { weight: 20, arbitrary: ofNames }, ofClauses)

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

/** The conditions that get out, of those that `read` lets through. */
async function escapes(read: (text: string) => Condition, runs: number): Promise<string[]> {
  const found: string[] = []
  let judged = 0
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('', ', (select true) as '), conditions, async (from, text) => {
      let condition: Condition
      try {
        condition = read(from === '' ? `WHERE ${text}` : `${from}${text}`)
      } catch (error) {
        if (error instanceof Failure) return
        throw error
      }
      for (const session of sessions) {
        const rows = await escaped(session, condition)
        if (rows !== undefined) judged += 1
        if (rows !== undefined && rows > 0) found.push(text)
      }
    }),
    { numRuns: runs },
  )
  expect(judged).toBeGreaterThan(runs / 20)
  return found
}

test('whatever is let through stays in its parentheses, by the word of PostgreSQL 14 and 18', async () => {
  expect(await escapes(parseCondition, 6000)).toEqual([])
})

test('the search finds what gets out where nothing is refused', async () => {
  const credulous = (text: string): Condition =>
    text.startsWith('WHERE ') ? { from: '', where: text.slice(6) } : { from: text, where: '' }
  expect((await escapes(credulous, 600)).length).toBeGreaterThan(0)
})

test.each([
  ['WHERE a OR 1 = 2', 0],
  [', (values (true), (false)) as v(b) WHERE b = a', 0],
  ['WHERE a IN (SELECT true UNION SELECT false)', 0],
])('%s is understood', async (text, rows) => {
  for (const session of sessions) expect(await escaped(session, parseCondition(text))).toBe(rows)
})

test('what got out once would get out today', async () => {
  for (const session of sessions) {
    for (const where of ["'' <= e'x'\n'\\'' ) or ('' <= ''", 'a\u00a0$$ ) or ( a\u00a0$$', 'true) or (true']) {
      expect(await escaped(session, { from: '', where })).toBe(1)
    }
  }
})
