import { beforeAll, describe, expect, test } from 'vitest'
import { openTestControl } from '../security/control-database.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { answer, bindings, combinations, isActive, type Question, states, yes } from './rule-in-words.ts'

const letters: Record<string, string> = {
  f: 'forbidden',
  e: 'preferred_elsewhere',
  i: 'inactive',
  d: 'draining',
  h: 'host_full',
  p: 'pair_full',
  P: 'prefers',
  A: 'allowed',
  F: 'fallback_elapsed',
  N: 'no_site',
}

/** Every combination of the rule's inputs for three hosts: a row for each site, delay, wait and fullness, a letter for each answer. */
const everyAnswer = `
  with state(n, has_worker, drained) as (values (0, false, false), (1, true, false), (2, true, true), (3, false, true)),
  bound as materialized (
    select b, array[b / 16, b / 4 % 4, b % 4] as choice from generate_series(0, 63) b),
  alive as materialized (
    select s, array[s / 16, s / 4 % 4, s % 4] as choice from generate_series(0, 63) s),
  world as materialized (
    select b, s, bound.choice as bindings, alive.choice as states, array(
      select 'h' || i from generate_series(1, 3) i where bound.choice[i] = 2 and alive.choice[i] = 1) as preferring
    from bound, alive)
  select k.site, extract(epoch from k.fallback)::int / 60 as fallback, extract(epoch from k.waited)::int / 60 as waited, f.host_full, f.pair_full, a.letters, a.odd
  from (select site, fallback, waited from unnest(array[null, '', 'A', 'B']) site, unnest(array[null, '0', '10 minutes']::interval[]) fallback,
    unnest(array[null, '0', '5 minutes', '10 minutes', '15 minutes']::interval[]) waited) k
  cross join (values (false, false), (true, false), (false, true), (true, true)) f(host_full, pair_full)
  cross join lateral (
    select string_agg(coalesce($1::jsonb ->> c.code, '?'), '' order by w.b, w.s, i) as letters,
      count(*) filter (where yardmaster.placement_allows(c.code) <> (c.code = any ($2::text[])))::int as odd
    from world w cross join generate_series(1, 3) i join state on state.n = w.states[i]
    cross join lateral (select yardmaster.placement_code(k.site, 'h' || i, (array[null, 'allow', 'prefer', 'forbid'])[w.bindings[i] + 1],
      w.preferring, k.fallback, k.waited, state.has_worker, state.drained, f.host_full, f.pair_full) as code offset 0) c) a`

interface Row {
  site: string | null
  fallback: number | null
  waited: number | null
  host_full: boolean
  pair_full: boolean
  letters: string
  odd: number
}

interface Case {
  readonly question: Question
  readonly code: string
}

const worlds = combinations(bindings, 3).flatMap((bound) =>
  combinations(states, 3).map((alive) => ({ bindings: bound, states: alive })),
)

function fullness({ host_full, pair_full }: Row): Pick<Question, 'full'> {
  if (host_full && pair_full) return { full: 'both' }
  return host_full ? { full: 'host' } : pair_full ? { full: 'pair' } : {}
}

function* casesOf(row: Row): Generator<Case> {
  const { site, fallback, waited } = row
  let place = 0
  for (const world of worlds)
    for (let host = 0; host < 3; host++) {
      const question = { ...world, site, fallback, waited, host, ...fullness(row) }
      yield { question, code: letters[row.letters[place++] ?? ''] ?? '?' }
    }
}

/** Everything but the named inputs, as text: cases that differ in nothing else share it. */
function without(question: Question, ...names: (keyof Question)[]): string {
  return JSON.stringify({ ...question, ...Object.fromEntries(names.map((name) => [name, 0])) })
}

describe.each(['18', '14'])('the rule on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let rows: Row[]

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    database = await server.createDatabase(`rule ${version}`)
    await openTestControl(database.url)
    const codes = Object.fromEntries(Object.entries(letters).map(([letter, code]) => [code, letter]))
    rows = await database.query<Row>(everyAnswer, [JSON.stringify(codes), yes])
  })

  test('every answer is that of the table', () => {
    expect(rows).toHaveLength(4 * 3 * 5 * 4)
    const wrong: string[] = []
    let count = 0
    for (const row of rows) {
      expect(row.letters).toHaveLength(64 * 64 * 3)
      expect(row.odd).toBe(0)
      for (const { question, code } of casesOf(row)) {
        count++
        const wanted = answer(question)
        if (code !== wanted) wrong.push(`${JSON.stringify(question)}: ${code}, not ${wanted}`)
      }
    }
    expect(wrong.slice(0, 5)).toEqual([])
    expect(count).toBe(2_949_120)
  })

  test('nobody who is forbidden, down or drained ever may, and a site with somebody to run it always has one who may', () => {
    const wrong: Question[] = []
    for (const row of rows) {
      if (row.site === null || row.host_full || row.pair_full) continue
      let [able, may] = [0, 0]
      for (const { question, code } of casesOf(row)) {
        const { host } = question
        const isAble = question.bindings[host] !== 'forbid' && isActive(question.states[host])
        able += Number(isAble)
        may += Number(yes.includes(code))
        if (yes.includes(code) && !isAble) wrong.push(question)
        if (host < 2) continue
        if (able > 0 && may === 0) wrong.push(question)
        able = 0
        may = 0
      }
    }
    expect(wrong.slice(0, 3)).toEqual([])
  })

  test('a shorter delay and a longer wait never take a host away; fullness never gives one', () => {
    const orders: [keyof Question, (question: Question) => number][] = [
      ['fallback', ({ fallback }) => -(fallback ?? Number.POSITIVE_INFINITY)],
      ['waited', ({ waited }) => waited ?? 0],
      ['full', ({ full }) => (full === undefined ? 1 : 0)],
    ]
    // Letters stand at the same places in every row: two rows that differ in one input are compared place by place.
    const comparable = (a: Row, b: Row, name: keyof Question) => {
      const [first] = casesOf(a)
      const [second] = casesOf(b)
      return first && second && without(first.question, name) === without(second.question, name)
        ? ([first.question, second.question] as const)
        : undefined
    }
    let compared = 0
    for (const [name, rank] of orders)
      for (const a of rows)
        for (const b of rows) {
          const pair = comparable(a, b, name)
          if (pair === undefined || rank(pair[0]) > rank(pair[1])) continue
          compared++
          const worse = [...a.letters].findIndex((letter, place) => {
            const better = b.letters[place] ?? ''
            return yes.includes(letters[letter] ?? '') && !yes.includes(letters[better] ?? '')
          })
          expect(worse, `${name}: ${JSON.stringify(pair)}`).toBe(-1)
        }
    expect(compared).toBeGreaterThan(500)
  })

  test('work of no site runs on every active host; of several that prefer a site, each may', () => {
    const wrong: Question[] = []
    for (const row of rows)
      for (const { question, code } of casesOf(row)) {
        if (question.full !== undefined || !isActive(question.states[question.host])) continue
        const free = question.site === null || question.bindings[question.host] === 'prefer'
        if (free && !['no_site', 'prefers'].includes(code)) wrong.push(question)
      }
    expect(wrong.slice(0, 3)).toEqual([])
  })

  test('the wait that a claim asks for is the one after which the code says yes', async () => {
    const odd = await database.query(`
      select * from unnest(array[null, '', 'A']) site, unnest(array[null, 'allow', 'prefer', 'forbid']) binding,
        unnest(array[null, '{}', '{h1}', '{h2}', '{h1,h2}', '{h2,h3}']) preferring, unnest(array[null, '0', '10 minutes']::interval[]) fallback,
        unnest(array['0', '9 minutes 59.999 seconds', '10 minutes', '11 minutes']::interval[]) waited,
        lateral (select yardmaster.placement_wait(site, 'h1', binding, preferring::text[], fallback) as wait,
          yardmaster.placement_allows(yardmaster.placement_code(site, 'h1', binding, preferring::text[], fallback, waited, true, false, false, false)) as may) x
      where may is distinct from coalesce(waited >= wait, false)`)
    expect(odd).toEqual([])
  })
})
