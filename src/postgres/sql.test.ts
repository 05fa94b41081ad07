import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { identifier, join, literal, relation, Sql, sql, trusted } from './sql.ts'

describe('the sql tag', () => {
  test('binds every value; none gets into the text', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.object()), { maxLength: 4 }),
        (values) => {
          const [a, b, c, d] = values
          const statement = sql`select ${a}, ${b} where ${sql`x = ${c} and ${d}`}`
          expect(statement.text).toBe('select $1, $2 where x = $3 and $4')
          expect(statement.values).toEqual([a, b, c, d])
        },
      ),
    )
  })

  test('takes an object that looks like a statement as a value', () => {
    const forged = { text: 'drop table a', strings: ['drop table a'], values: [] }
    expect(sql`select ${forged}`.text).toBe('select $1')
  })

  test('numbers the values of nested statements in order', () => {
    const inner = sql`(${1}, ${2})`
    const statement = sql`a ${0} b ${inner} c ${join([sql`${3}`, inner, trusted('now()')])} d ${4}`
    expect(statement.text).toBe('a $1 b ($2, $3) c $4, ($5, $6), now() d $7')
    expect(statement.values).toEqual([0, 1, 2, 3, 1, 2, 4])
  })

  test('puts names and literals in quoted', () => {
    const statement = sql`copy ${relation({ schema: 's"', name: 'T' })} (${identifier('a b')}) from ${literal("x'")}`
    expect(statement.text).toBe(`copy "s"""."T" ("a b") from 'x'''`)
    expect(statement.values).toEqual([])
  })

  test('joins nothing to nothing', () => {
    expect(join([]).text).toBe('')
    expect(join([])).toBeInstanceOf(Sql)
  })
})
