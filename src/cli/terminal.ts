import { stripVTControlCharacters } from 'node:util'
import type { ProgramOptions } from '../config/program-options.ts'
import { printable, printableJson, printableLines } from '../postgres/identifier.ts'

/** A column of a table: its head, its value, and whether that is a number or a level (shown with its glyph and colour). */
export interface TableColumn<Row> {
  readonly head: string
  readonly value: (row: Row) => string | number | null
  readonly kind?: 'number' | 'level'
}

const glyphs: Readonly<Record<string, readonly [unicode: string, ascii: string, color: number]>> = {
  OK: ['✓', '+', 32],
  WARNING: ['▲', '!', 33],
  CRITICAL: ['✕', 'x', 31],
  RUNNING: ['◐', '*', 34],
  WAITING: ['◷', '.', 90],
  // Bindings are wishes, not levels: no colour but the terminal's own, and grey for what never runs.
  prefer: ['●', '*', 39],
  allow: ['○', 'o', 39],
  none: ['·', '.', 39],
  forbid: ['✕', 'x', 90],
}

/** What a line of a plan does. */
export type PlanSign = '+' | '~' | '-' | '!'
const signColors: Readonly<Record<PlanSign, number>> = { '+': 32, '~': 33, '-': 31, '!': 31 }

/** What `level` puts around a word. */
const ownColor = new RegExp(`(${String.fromCharCode(0x1b)}\\[\\d+m)`)

/** What a command prints on: results to stdout, talk to stderr. */
export class Terminal {
  readonly json: boolean
  readonly interactive: boolean
  readonly #color: boolean
  readonly #unicode: boolean
  readonly #out: NodeJS.WriteStream
  readonly #err: NodeJS.WriteStream

  constructor(
    options: Pick<ProgramOptions, 'json' | 'color'>,
    streams: { out: NodeJS.WriteStream; err: NodeJS.WriteStream; in: NodeJS.ReadStream },
    environment: (name: string) => string | undefined,
  ) {
    this.json = options.json
    this.#out = streams.out
    this.#err = streams.err
    this.interactive = streams.in.isTTY === true && streams.err.isTTY === true
    const quiet = (environment('NO_COLOR') ?? '') !== '' || environment('TERM') === 'dumb'
    this.#color = options.color === 'always' || (options.color === 'auto' && streams.out.isTTY === true && !quiet)
    const locale = environment('LC_ALL') || environment('LC_CTYPE') || environment('LANG') || ''
    this.#unicode = /utf-?8/i.test(locale)
  }

  get isTerminal(): boolean {
    return this.#out.isTTY === true
  }

  get showsProgress(): boolean {
    return this.#err.isTTY === true
  }

  /** One JSON document. */
  document(value: unknown): void {
    this.#out.write(`${printableJson(JSON.stringify(value, null, this.#out.isTTY ? 2 : undefined))}\n`)
  }

  /** One of several documents, each on a line of its own. */
  jsonLine(value: unknown): void {
    this.#out.write(`${printableJson(JSON.stringify(value))}\n`)
  }

  /** What servers and people called things never acts on the terminal; only our own colours pass. */
  line(text = ''): void {
    const parts = this.#color ? text.split(ownColor) : [text]
    this.#row(parts.map((part, index) => (index % 2 === 1 ? part : printableLines(part))).join(''))
  }

  /** A line whose cells were made printable one by one. */
  #row(text: string): void {
    this.#out.write(`${text}\n`)
  }

  /** Talk: never part of a result. */
  say(text: string): void {
    this.#err.write(`${printableLines(text)}\n`)
  }

  /** Replaces the current line of a terminal. */
  redraw(text: string): void {
    this.#err.write(`\r\x1b[2K${text.slice(0, Math.max(20, (this.#err.columns || 80) - 1))}`)
  }

  clearLine(): void {
    this.#err.write('\r\x1b[2K')
  }

  /** `✕ CRITICAL` on a terminal, `CRITICAL` in a pipe. */
  level(word: string | null): string {
    if (word === null) return '—'
    const glyph = glyphs[word]
    if (!glyph || !this.isTerminal) return word
    const text = `${glyph[this.#unicode ? 0 : 1]} ${word}`
    return this.#color ? `\x1b[${glyph[2]}m${text}\x1b[0m` : text
  }

  /** The sign before a line of a plan, coloured where colours are. */
  sign(sign: PlanSign): string {
    return this.#color ? `\x1b[${signColors[sign]}m${sign}\x1b[0m` : sign
  }

  /** Whether something is so, where a list says it of each thing. */
  mark(isSo: boolean): string {
    const [unicode, ascii] = isSo ? ['✓', '+'] : ['✕', 'x']
    return this.#unicode ? unicode : ascii
  }

  #cell(kind: 'number' | 'level' | undefined, value: string | number | null): string {
    if (kind === 'level') return this.level(value === null ? null : String(value))
    return value === null ? '' : printable(String(value))
  }

  /** A time for people, or RFC 3339 in a pipe. */
  time(time: Date | null): string {
    if (time === null) return this.isTerminal ? '—' : ''
    return this.isTerminal ? time.toISOString().replace('T', ' ').slice(0, 19) : time.toISOString()
  }

  /** A table: aligned on a terminal, tab-separated with no cuts elsewhere. */
  table<Row>(rows: readonly Row[], columns: readonly TableColumn<Row>[], empty: string): void {
    if (rows.length === 0) {
      this.say(empty)
      return
    }
    const cells = rows.map((row) => columns.map((column) => this.#cell(column.kind, column.value(row))))
    const heads = columns.map((column) => column.head)
    if (!this.isTerminal) {
      for (const row of [heads, ...cells]) this.#row(row.join('\t'))
      return
    }
    const widths = heads.map((head, index) =>
      Math.max(head.length, ...cells.map((row) => visibleLength(row[index] ?? ''))),
    )
    for (const row of [heads, ...cells]) {
      const padded = row.map((cell, index) => pad(cell, widths[index] ?? 0, columns[index]?.kind === 'number'))
      this.#row(cutLast(padded, this.#out.columns || 200).trimEnd())
    }
  }
}

function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length
}

function pad(cell: string, width: number, right: boolean): string {
  const fill = ' '.repeat(Math.max(0, width - visibleLength(cell)))
  return right ? fill + cell : cell + fill
}

/** Only the last column is cut to the terminal's width; one that holds a colour never is. */
function cutLast(cells: readonly string[], width: number): string {
  const head = cells.slice(0, -1).join('  ')
  const last = (cells.at(-1) ?? '').trimEnd()
  const room = Math.max(8, width - visibleLength(head) - 2)
  const cut = visibleLength(last) > room && last === stripVTControlCharacters(last)
  return `${head}${head === '' ? '' : '  '}${cut ? `${last.slice(0, room - 1)}…` : last}`
}
