import { expect, test } from 'vitest'
import { Failure } from '../base/failure.ts'
import { relation } from '../postgres/sql.ts'
import { fromClause, parseCondition, staysInParentheses } from './condition.ts'

const written = (text: string | null) => {
  const source = relation({ schema: 's', name: 't' })
  return fromClause(source, parseCondition(text)).text.replaceAll(/ +/g, ' ').trim()
}

const refusal = (text: string): string => {
  try {
    parseCondition(text, 'crm:s.t')
  } catch (error) {
    if (error instanceof Failure && error.code === 'condition_invalid') return error.message
    throw error
  }
  return `accepted: ${text}`
}

test.each([
  [null, 'from "s"."t"'],
  ['  \n', 'from "s"."t"'],
  ['WHERE a = 1', 'from "s"."t" where (a = 1)'],
  ['where a = 1 or b = 2', 'from "s"."t" where (a = 1 or b = 2)'],
  [', u WHERE u.id = t.id', 'from "s"."t" , u where (u.id = t.id)'],
  [', u', 'from "s"."t" , u'],
  ['left join u on u.id = t.id', 'from "s"."t" left join u on u.id = t.id'],
  ['JOIN(select 1 as id) u USING (id) WHERE true', 'from "s"."t" JOIN(select 1 as id) u USING (id) where (true)'],
  [
    'WHERE id IN (select id from s.u where x order by 1 limit 3 for share)',
    'from "s"."t" where (id IN (select id from s.u where x order by 1 limit 3 for share))',
  ],
  [
    "WHERE a = ');--/*' AND \"odd;)\" = $q$ '); -- $q$",
    'from "s"."t" where (a = \');--/*\' AND "odd;)" = $q$ \'); -- $q$)',
  ],
  ["WHERE a = e'it\\'s ) or (' AND b", 'from "s"."t" where (a = e\'it\\\'s ) or (\' AND b)'],
  ["WHERE a = 'x\\' AND b = ')'", 'from "s"."t" where (a = \'x\\\' AND b = \')\')'],
  ["WHERE type'x' AND a[1] = any('{1,2}')", 'from "s"."t" where (type\'x\' AND a[1] = any(\'{1,2}\'))'],
  ["WHERE a = U&'!0061' UESCAPE '!'", 'from "s"."t" where (a = U&\'!0061\' UESCAPE \'!\')'],
  [', "where" w WHERE w."limit" = 1', 'from "s"."t" , "where" w where (w."limit" = 1)'],
])('%j is put where it belongs', (text, expected) => {
  expect(written(text)).toBe(expected)
})

test.each([
  ['true', /begins neither with WHERE nor with a further table/],
  ['joined.x', /begins neither/],
  ['id = 1 WHERE true', /before WHERE/],
  ['WHERE', /nothing behind WHERE/],
  ['WHERE a WHERE b', /WHERE twice/],
  ['WHERE true) OR (true', /closes a parenthesis/],
  ['WHERE (true', /opens a parenthesis/],
  ['WHERE a[1)', /closes a parenthesis/],
  ['WHERE true; DROP TABLE t', /semicolon/],
  ['WHERE true -- and false', /comment/],
  ['WHERE true /* and false', /comment/],
  ['WHERE a +--1\n 1', /comment/],
  ["WHERE a = 'x", /quote that is not closed/],
  ["WHERE a = e'x\\'", /quote that is not closed/],
  ['WHERE "a = 1', /quote that is not closed/],
  ['WHERE "" = 1', /empty name/],
  ['WHERE a = $q$ x $r$', /\$ that begins no closed quote/],
  ['WHERE a = $1', /\$ that begins no closed quote/],
  ['WHERE a = \\x', /backslash/],
  ["WHERE a = 'x\0y'", /NUL/],
  ['WHERE true LIMIT 1', /LIMIT, which would begin another clause/],
  [', u ORDER BY 1', /ORDER/],
  ['WHERE true UNION SELECT 1', /UNION/],
  // PostgreSQL goes on with the string behind the line's end, backslashes and all.
  ["WHERE a = e'x'\n'\\'' ) or ('", /two strings/],
  // To PostgreSQL U+00A0 is a letter, so that this $$ is part of a name.
  ['WHERE a\u00a0$$ ) or ( b\u00a0$$', /closes a parenthesis/],
])('%j is refused', (text, why) => {
  expect(refusal(text)).toMatch(why)
})

test('a message shows no control characters', () => {
  expect(refusal('WHERE \u001b[31m;')).toMatch(/'WHERE \\u\{1b\}\[31m;' holds a semicolon/)
})

test.each([
  ['lower(name)', true],
  ['__proto__ is not null and constructor > 1', true],
  ["date_part('year', x) > 3", true],
  ['a) where (b', false],
  ['a; drop table x', false],
  ['a --', false],
])('what another server printed: %j', (text, stays) => {
  expect(staysInParentheses(text)).toBe(stays)
})
