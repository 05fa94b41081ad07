import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { Terminal } from '../../src/cli/terminal.ts'

interface Screen {
  tty?: boolean
  columns?: number
  color?: 'auto' | 'always' | 'never'
  environment?: Record<string, string>
}

function open({ tty = true, columns = 60, color = 'auto', environment = { LANG: 'C.UTF-8' } }: Screen = {}) {
  const printed = { out: '', err: '' }
  const stream = (name: 'out' | 'err') =>
    Object.assign(
      new PassThrough().on('data', (chunk: Buffer) => {
        printed[name] += chunk.toString()
      }),
      { isTTY: tty, columns },
    ) as unknown as NodeJS.WriteStream
  const streams = { out: stream('out'), err: stream('err'), in: new PassThrough() as unknown as NodeJS.ReadStream }
  return { printed, terminal: new Terminal({ json: false, color }, streams, (name) => environment[name]) }
}

const rows = [
  { level: 'CRITICAL', name: 'orders', count: 5, at: new Date('2026-03-01T12:00:00.5Z'), note: 'short' },
  { level: 'OK', name: 'a\nb', count: 12_345, at: null, note: `${'long '.repeat(20)}end` },
]

function table(screen: Screen) {
  const { printed, terminal } = open(screen)
  terminal.table(
    rows,
    [
      { head: 'LEVEL', kind: 'level', value: (row) => row.level },
      { head: 'NAME', value: (row) => row.name },
      { head: 'COUNT', kind: 'number', value: (row) => row.count },
      { head: 'AT', value: (row) => terminal.time(row.at) },
      { head: 'NOTE', value: (row) => row.note },
    ],
    'Nothing.',
  )
  return printed.out
}

describe('a table', () => {
  it('on a terminal is aligned, numbers right, and only its last column is cut', () => {
    expect(table({ environment: { LANG: 'C.UTF-8', NO_COLOR: '1' } })).toBe(
      [
        'LEVEL       NAME     COUNT  AT                   NOTE',
        '✕ CRITICAL  orders       5  2026-03-01 12:00:00  short',
        '✓ OK        a\\u{a}b  12345  —                    long long …',
        '',
      ].join('\n'),
    )
  })

  it('keeps its columns below each other with colours too', () => {
    const plain = table({ environment: { LANG: 'C.UTF-8', NO_COLOR: '1' } })
    const colored = table({})
    expect(colored).toContain('\x1b[31m✕ CRITICAL\x1b[0m')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the colours
    expect(colored.replaceAll(/\x1b\[\d+m/g, '')).toBe(plain)
  })

  it('of a terminal that tells no width is not cut to nothing', () => {
    expect(table({ columns: 0 })).toContain('long long long long long long long long long long')
  })

  it('in a pipe is tab-separated, whole, with RFC 3339 times and neither glyphs nor colour', () => {
    expect(table({ tty: false })).toBe(
      `LEVEL\tNAME\tCOUNT\tAT\tNOTE\nCRITICAL\torders\t5\t2026-03-01T12:00:00.500Z\tshort\nOK\ta\\u{a}b\t12345\t\t${rows[1]?.note}\n`,
    )
  })

  it('that is empty says so on stderr', () => {
    const { printed, terminal } = open()
    terminal.table([], [{ head: 'NAME', value: () => '' }], 'No replication yet.')
    expect(printed).toEqual({ out: '', err: 'No replication yet.\n' })
  })
})

describe('levels', () => {
  it.each([
    [{}, '\x1b[33m▲ WARNING\x1b[0m'],
    [{ environment: { LANG: 'C.UTF-8', NO_COLOR: '1' } }, '▲ WARNING'],
    [{ environment: { LANG: 'C.UTF-8', NO_COLOR: '' } }, '\x1b[33m▲ WARNING\x1b[0m'],
    [{ environment: { LANG: 'C.UTF-8', TERM: 'dumb' } }, '▲ WARNING'],
    [{ color: 'never' as const }, '▲ WARNING'],
    [{ environment: { LANG: 'C', NO_COLOR: '1' } }, '! WARNING'],
    [{ environment: { LANG: 'C.UTF-8', LC_ALL: 'C', NO_COLOR: '1' } }, '! WARNING'],
    [{ tty: false }, 'WARNING'],
  ])('with %j are %j', (screen, text) => {
    expect(open(screen).terminal.level('WARNING')).toBe(text)
  })
})
