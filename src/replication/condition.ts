import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'
import { type Sql, sql, trusted } from '../postgres/sql.ts'

/** A condition taken apart: `, t2` and `t2.id = t.id`, so that further restrictions can be put beside it. */
export interface Condition {
  /** What follows the source in FROM: empty, or `, other …` or `JOIN …`. */
  readonly from: string
  /** The search condition, without WHERE; empty when there is none. */
  readonly where: string
}

const noCondition: Condition = { from: '', where: '' }

/** Words that would end the search condition and begin another clause. */
const clauseWords = new Set(
  'group having window order limit offset fetch for union intersect except into returning'.split(' '),
)

/** What may stand between the source and WHERE. */
const furtherTable = /^(,|(inner|left|right|full|cross|natural|join)(?![\w$\u0080-\uffff]))/i

/**
 * Splits a condition at its WHERE and proves, by PostgreSQL's lexical rules, that it stays inside the place we give it:
 * balanced parentheses, no statement end, no comment, no open quote, no further clause. Whether it is valid SQL is for
 * the source to say. Throws `condition_invalid`.
 */
export function parseCondition(text: string | null, object?: string): Condition {
  if (text === null || trim(text) === '') return noCondition
  const refuse = (why: string): never => {
    throw new Failure('condition_invalid', { message: `The condition '${printable(text)}' ${why}.`, object })
  }
  const where = scan(text, clauseWords, refuse)
  const from = trim(where === undefined ? text : text.slice(0, where))
  if (from !== '' && !furtherTable.test(from)) {
    refuse(
      where === undefined
        ? 'begins neither with WHERE nor with a further table'
        : 'has something before WHERE that is no further table',
    )
  }
  const rest = where === undefined ? '' : trim(text.slice(where + 'where'.length))
  if (where !== undefined && rest === '') refuse('has nothing behind WHERE')
  return { from, where: rest }
}

/** Whether an expression that somebody else's server printed stays inside the parentheses that we put it in. */
export function staysInParentheses(text: string): boolean {
  try {
    scan(text, new Set(), () => {
      throw new RangeError()
    })
    return true
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}

/**
 * PostgreSQL's tokens, as far as they decide where something ends (`scan.l` of 14 to 18, standard_conforming_strings on).
 * White space is what it takes for white space: to JavaScript U+00A0 is a space too, to PostgreSQL a letter, before which
 * `$$` begins no quote.
 */
const token = new RegExp(
  [
    '(?<space>[ \\t\\n\\r\\f\\v]+)',
    '--|/\\*',
    "(?<string>[eE]'(?:[^'\\\\]|''|\\\\[\\s\\S])*'|(?:[uU]&|[bBxXnN])?'(?:[^']|'')*')",
    '(?:[uU]&)?"(?:[^"]|"")+"',
    '(?<dollar>\\$(?:[A-Za-z_\\u0080-\\uffff][\\w\\u0080-\\uffff]*)?\\$)[\\s\\S]*?\\k<dollar>',
    '(?<word>[A-Za-z_\\u0080-\\uffff][\\w$\\u0080-\\uffff]*)',
    '[\\s\\S]',
  ].join('|'),
  'gy',
)

/** Characters that stand alone only where something is wrong. */
const forbidden = new Map(
  Object.entries({
    '--': 'holds a comment',
    '/*': 'holds a comment',
    ';': 'holds a semicolon',
    "'": 'has a quote that is not closed',
    '"': 'has a quote that is not closed, or an empty name',
    $: 'holds a $ that begins no closed quote',
    '\\': 'holds a backslash outside of a quote',
  }),
)

const closes = new Map([
  [')', '('],
  [']', '['],
])

/** Walks over the text once. Returns where the WHERE outside of all parentheses stands. */
function scan(text: string, endWords: ReadonlySet<string>, refuse: (why: string) => never): number | undefined {
  if (text.includes('\0')) refuse('holds a NUL character')
  const open: string[] = []
  let where: number | undefined
  let afterString = false
  for (const match of text.matchAll(token)) {
    const [found] = match
    const { space, string, word } = match.groups ?? {}
    const why = forbidden.get(found)
    if (why !== undefined) refuse(why)
    // `e'a'` ⏎ `'b\'` is one string to PostgreSQL, and its second part knows backslashes.
    if (string !== undefined && afterString) refuse('has two strings with nothing between them')
    if (string !== undefined || space === undefined) afterString = string !== undefined
    // An e before a quote that is not closed: PostgreSQL would not see the word that is left of it.
    if (word !== undefined && text[match.index + found.length] === "'" && /^[eE]$/.test(found)) {
      refuse('has a quote that is not closed')
    }
    if (found === '(' || found === '[') open.push(found)
    if (closes.has(found) && open.pop() !== closes.get(found)) refuse('closes a parenthesis that it did not open')
    if (open.length > 0 || word === undefined) continue
    const plain = word.toLowerCase()
    if (endWords.has(plain)) refuse(`holds ${plain.toUpperCase()}, which would begin another clause`)
    if (plain === 'where' && where !== undefined) refuse('has WHERE twice')
    if (plain === 'where') where = match.index
  }
  if (open.length > 0) refuse('opens a parenthesis that it does not close')
  return where
}

function trim(text: string): string {
  return text.replace(/^[ \t\n\r\f\v]+/, '').replace(/[ \t\n\r\f\v]+$/, '')
}

/** `FROM source [, other] [WHERE (condition) AND (extra)]`. The condition's text was proven to stay in its place. */
export function fromClause(source: Sql, condition: Condition, extra: readonly Sql[] = []): Sql {
  const tests = [...(condition.where === '' ? [] : [sql`(${trusted(condition.where)})`]), ...extra]
  const from = sql`from ${source} ${trusted(condition.from)}`
  return tests.reduce((all, test, index) => sql`${all} ${trusted(index === 0 ? 'where' : 'and')} ${test}`, from)
}
