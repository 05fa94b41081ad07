import { Failure } from '../base/failure.ts'
import { withoutPasswords } from '../postgres/connection-url.ts'
import { printable } from '../postgres/identifier.ts'
import { formatInterval, nominalLength, parseInterval } from './interval.ts'

/** Levels of a step or a run, mildest first. */
export type Level = 'OK' | 'WARNING' | 'CRITICAL'

/** When a job wants to be started next: at a moment (ISO 8601, UTC, or `infinity`), or so long after its end. */
export type NextStart = { readonly at: string } | { readonly after: string }

/** What a procedure says by `RAISE NOTICE 'yardmaster: …'`; every other notice is `text`. */
export type Notice =
  | { readonly kind: 'step'; readonly action: string }
  | { readonly kind: 'end'; readonly level: Level; readonly message: string | undefined }
  | { readonly kind: 'progress'; readonly rows?: number; readonly bytes?: number; readonly message?: string }
  | { readonly kind: 'level'; readonly level: Level; readonly message: string | undefined }
  | { readonly kind: 'next_start'; readonly start: NextStart }
  | { readonly kind: 'text'; readonly text: string }
  /** Meant for us, and not understood. */
  | { readonly kind: 'unread'; readonly complaint: string }

/** Characters of one notice that are kept: it may have a gigabyte. */
export const noticeLength = 1000
/** Years that a next start may be away. */
const farthestYears = 100

const prefix = /^yardmaster:\s*/
const words = ['step', 'end', 'progress', 'level', 'next_start']

/**
 * Reads one notice. The forms:
 * `yardmaster: step ACTION` · `yardmaster: end [OK|WARNING|CRITICAL] [MESSAGE]` ·
 * `yardmaster: progress N rows [M bytes] [MESSAGE]`, or `progress MESSAGE` · `yardmaster: level WARNING|CRITICAL [MESSAGE]` ·
 * `yardmaster: next_start TIMESTAMPTZ|infinity|in INTERVAL`. Never throws. Texts are cut, but not yet fit to be shown (`shownText`).
 */
export function readNotice(raw: string): Notice {
  const text = oneLine(raw)
  const match = prefix.exec(text)
  if (!match) return { kind: 'text', text }
  const [, word = '', rest = ''] = /^(\S*)\s*(.*)$/s.exec(text.slice(match[0].length)) ?? []
  switch (word.toLowerCase()) {
    case 'step':
      return rest === '' ? unread(text, 'a step has a name') : { kind: 'step', action: rest }
    case 'end':
      return { kind: 'end', ...leveled(rest) }
    case 'progress':
      return readProgress(text, rest)
    case 'level': {
      const { level, message, named } = leveled(rest)
      return named ? { kind: 'level', level, message } : unread(text, 'a level is OK, WARNING or CRITICAL')
    }
    case 'next_start':
      return readNextStart(text, rest)
    default:
      return unread(text, `the words are ${words.join(', ')}`)
  }
}

/** Cuts first, and takes time that grows with the length only: a hostile procedure raises a million of them. */
function oneLine(raw: string): string {
  const said = raw.slice(0, noticeLength * 2).trim()
  const lines = said.split('\n').map((line) => line.trim())
  const text = lines.filter((line) => line !== '').join(' ')
  return text.length > noticeLength ? `${text.slice(0, noticeLength - 1).toWellFormed()}…` : text
}

/** What a procedure said, fit to be shown: no control characters, no passwords of URLs. */
export function shownText(text: string): string {
  return printable(withoutPasswords(text))
}

function unread(text: string, why: string): Notice {
  return { kind: 'unread', complaint: `'${text}' was not understood: ${why}.` }
}

function leveled(rest: string): { level: Level; message: string | undefined; named: boolean } {
  const [, word, message = ''] = /^(ok|warning|critical)\b[:,]?\s*(.*)$/is.exec(rest) ?? []
  const said = word === undefined ? rest : message
  return {
    level: (word?.toUpperCase() as Level | undefined) ?? 'OK',
    message: said === '' ? undefined : said,
    named: word !== undefined,
  }
}

function readProgress(text: string, rest: string): Notice {
  if (rest === '') return unread(text, 'progress is a number of rows, or a message')
  const match = /^(\d{1,15}) rows?\b(?:,?\s*(\d{1,15}) bytes?\b)?[:,]?\s*(.*)$/is.exec(rest)
  if (!match) return { kind: 'progress', message: rest }
  const [, rows, bytes, message] = match
  return {
    kind: 'progress',
    rows: Number(rows),
    ...(bytes === undefined ? {} : { bytes: Number(bytes) }),
    ...(message ? { message } : {}),
  }
}

function readNextStart(text: string, rest: string): Notice {
  if (/^\+?infinity$/i.test(rest)) return { kind: 'next_start', start: { at: 'infinity' } }
  const [, span] = /^in\s+(.+)$/is.exec(rest) ?? []
  const start = span === undefined ? moment(rest) : after(span)
  if (start) return { kind: 'next_start', start }
  return unread(text, "write a time with its offset, such as 2030-01-31 02:30:00+01, or infinity, or 'in 5 minutes'")
}

function after(span: string): NextStart | undefined {
  try {
    const interval = parseInterval(span)
    const far = nominalLength(interval) > farthestYears * 366 * 86_400_000
    return far ? undefined : { after: formatInterval(interval) }
  } catch (error) {
    if (error instanceof Failure) return undefined
    throw error
  }
}

/** As PostgreSQL prints a `timestamptz` in ISO style, whatever the time zone. */
function moment(text: string): NextStart | undefined {
  const match =
    /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(\.\d{1,6})?)? ?(?:z|([+-])(\d\d):?(\d\d)?(?::?(\d\d))?)$/i.exec(
      text,
    )
  if (!match) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map((part) => Number(part ?? 0))
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(9, 12).map((part) => Number(part ?? 0))
  const local = new Date(Date.UTC(year, month - 1, day, hour, minute, second, Math.round(Number(match[7] ?? 0) * 1000)))
  const isDate = local.getUTCMonth() === month - 1 && local.getUTCDate() === day && local.getUTCFullYear() === year
  if (!isDate || hour > 23 || minute > 59 || second > 59 || hours > 15 || minutes > 59 || seconds > 59) return undefined
  const offset = (hours * 3600 + minutes * 60 + seconds) * 1000 * (match[8] === '-' ? -1 : 1)
  return { at: new Date(local.getTime() - offset).toISOString() }
}
