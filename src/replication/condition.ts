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

export const noCondition: Condition = { from: '', where: '' }

/** Words that would end the search condition and begin another clause. */
const clauseWords = new Set(
  'group having window order limit offset fetch for union intersect except into returning'.split(' '),
)

/**
 * Splits a condition at its WHERE and proves, by PostgreSQL's lexical rules, that it stays inside the place we give it:
 * balanced parentheses, no statement end, no comment, no open quote, no further clause. Whether it is valid SQL is for
 * the source to say. Throws `condition_invalid`.
 */
export function parseCondition(text: string | null, object?: string): Condition {
  if (text === null || text.trim() === '') return noCondition
  const refuse = (why: string): never => {
    throw new Failure('condition_invalid', { message: `The condition '${printable(text)}' ${why}.`, object })
  }
  const where = scan(text, refuse)
  if (where === undefined) {
    if (!/^\s*(,|(inner|left|right|full|cross|natural)\b|join\b)/i.test(text))
      refuse('begins neither with WHERE nor with a further table')
    return { from: text.trim(), where: '' }
  }
  const from = text.slice(0, where).trim()
  const rest = text.slice(where + 'where'.length).trim()
  if (rest === '') refuse('has nothing behind WHERE')
  if (from !== '' && !/^(,|(inner|left|right|full|cross|natural)\b|join\b)/i.test(from))
    refuse('has something before WHERE that is no further table')
  return { from, where: rest }
}

/** Walks over the text once. Returns where the top-level WHERE stands. */
function scan(text: string, refuse: (why: string) => never): number | undefined {
  const token =
    /\s+|--|\/\*|;|\\|(?<quote>[eE]'(?:[^'\\]|''|\\[\s\S])*'|(?:[uU]&|[bBxXnN])?'(?:[^']|'')*'|(?:[uU]&)?"(?:[^"]|"")*"|(?<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)[\s\S]*?\k<dollar>)|(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|[('")$]|[^\s]/gy
  const open: string[] = []
  let where: number | undefined
  for (const match of text.matchAll(token)) {
    const found = match[0]
    if (found === '--' || found === '/*') refuse('holds a comment')
    if (found === ';') refuse('holds a semicolon')
    if (found === "'" || found === '"') refuse('has a quote that is not closed')
    if (found === '\\' || found === '\0') refuse('holds a character that SQL does not know')
    if (found === '(' || found === '[') open.push(found)
    if (found === ')' || found === ']') {
      if (open.pop() !== (found === ')' ? '(' : '[')) refuse(`closes a parenthesis that it did not open`)
    }
    const word = match.groups?.word?.toLowerCase()
    if (open.length > 0 || word === undefined) continue
    if (clauseWords.has(word)) refuse(`holds ${word.toUpperCase()}, which would begin another clause`)
    if (word === 'where') {
      if (where !== undefined) refuse('has WHERE twice')
      where = match.index
    }
  }
  if (open.length > 0) refuse('opens a parenthesis that it does not close')
  return where
}

/** `FROM source [, other] [WHERE (condition) AND (extra)]`. The condition's text was proven to stay in its place. */
export function fromClause(source: Sql, condition: Condition, extra: readonly Sql[] = []): Sql {
  const tests = [...(condition.where === '' ? [] : [sql`(${trusted(`${condition.where}\n`)})`]), ...extra]
  const from = sql`from ${source} ${trusted(condition.from)}`
  return tests.reduce((all, test, index) => sql`${all} ${trusted(index === 0 ? 'where' : 'and')} ${test}`, from)
}
