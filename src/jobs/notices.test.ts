import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { noticeLength, readNotice, shownText } from './notices.ts'

describe('a notice', () => {
  it.each([
    ['yardmaster: step load orders', { kind: 'step', action: 'load orders' }],
    ['yardmaster:step x', { kind: 'step', action: 'x' }],
    ['yardmaster: STEP x', { kind: 'step', action: 'x' }],
    ['yardmaster: end', { kind: 'end', level: 'OK' }],
    ['yardmaster: end 12 rows', { kind: 'end', level: 'OK', message: '12 rows' }],
    ['yardmaster: end WARNING late', { kind: 'end', level: 'WARNING', message: 'late' }],
    ['yardmaster: end critical', { kind: 'end', level: 'CRITICAL' }],
    ['yardmaster: end OKAY', { kind: 'end', level: 'OK', message: 'OKAY' }],
    ['yardmaster: progress 10 rows', { kind: 'progress', rows: 10 }],
    ['yardmaster: progress 1 row, 20 bytes of it', { kind: 'progress', rows: 1, bytes: 20, message: 'of it' }],
    ['yardmaster: progress 10 rowsome', { kind: 'progress', message: '10 rowsome' }],
    ['yardmaster: progress half', { kind: 'progress', message: 'half' }],
    ['yardmaster: level CRITICAL no space', { kind: 'level', level: 'CRITICAL', message: 'no space' }],
    ['yardmaster: next_start infinity', { kind: 'next_start', start: { at: 'infinity' } }],
    ['yardmaster: next_start in 5 minutes', { kind: 'next_start', start: { after: '00:05:00' } }],
    ['yardmaster: next_start in 1 month', { kind: 'next_start', start: { after: '1 mon' } }],
    [
      'yardmaster: next_start 2030-01-31 02:30:00.5+01',
      { kind: 'next_start', start: { at: '2030-01-31T01:30:00.500Z' } },
    ],
    ['yardmaster: next_start 2030-01-31T02:30:00Z', { kind: 'next_start', start: { at: '2030-01-31T02:30:00.000Z' } }],
    [
      'yardmaster: next_start 2030-01-31 02:30-05:30',
      { kind: 'next_start', start: { at: '2030-01-31T08:00:00.000Z' } },
    ],
    ['something else', { kind: 'text', text: 'something else' }],
    [' two\n  lines ', { kind: 'text', text: 'two lines' }],
    ['say yardmaster: step x', { kind: 'text', text: 'say yardmaster: step x' }],
  ])('%j', (text, expected) => {
    expect(readNotice(text)).toMatchObject(expected)
  })

  it.each([
    'yardmaster:',
    'yardmaster: stop',
    'yardmaster: step',
    'yardmaster: progress',
    'yardmaster: level',
    'yardmaster: level 3',
    'yardmaster: next_start',
    'yardmaster: next_start tomorrow',
    'yardmaster: next_start -infinity',
    'yardmaster: next_start in -5 minutes',
    'yardmaster: next_start in 1000 years',
    'yardmaster: next_start 2030-02-30 02:30:00+01',
    'yardmaster: next_start 2030-01-31 02:30:00',
    'yardmaster: next_start 2030-01-31 25:30:00Z',
    'yardmaster: next_start 31.01.2030 02:30:00 CET',
  ])('%j is not understood, and what was said stands in the complaint', (text) => {
    expect(readNotice(text)).toMatchObject({ kind: 'unread', complaint: expect.stringContaining(`'${text}'`) })
  })

  it('never throws, and is never long', () => {
    const part = fc.constantFrom(
      'yardmaster: ',
      'next_start ',
      'in ',
      'end ',
      'progress ',
      '1 ',
      '9'.repeat(30),
      'rows',
      '\n',
      '\u{1f600}',
      '-',
      '2030-01-31',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(part, fc.string()), { maxLength: 200 }), (parts) => {
        const notice = readNotice(parts.join(''))
        expect(JSON.stringify(notice).length).toBeLessThan(noticeLength * 8)
      }),
    )
    expect(readNotice('x'.repeat(1e7))).toMatchObject({ kind: 'text' })
  })

  it('shows neither control characters nor passwords', () => {
    expect(shownText('\u{1b}[31m postgresql://a:geheim@b/c \u{202e}')).toBe(
      '\\u{1b}[31m postgresql://a:…@b/c \\u{202e}',
    )
  })

  it('has its forms on the page for authors', () => {
    const page = readFileSync(new URL('../../docs/decisions/job-call.md', import.meta.url), 'utf8')
    for (const word of ['step', 'end', 'progress', 'level', 'next_start'])
      expect(page).toContain(`yardmaster: ${word} `)
  })
})
