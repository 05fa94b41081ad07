import { describe, expect, it } from 'vitest'
import { callOf } from './hdbpp-call.ts'

const text = (name: string | null, config: string | null = '{}') =>
  callOf({ job_id: '7', proc_name: name, config }).text

describe('the call of a job', () => {
  it.each([
    ['my_proc', '"my_proc"'],
    ['MyProc', '"myproc"'],
    [' public . my_proc ', '"public"."my_proc"'],
    ['"Odd.Name; drop"', '"Odd.Name; drop"'],
    ['"a""b"."C"', '"a""b"."C"'],
    ['größe$1', '"größe$1"'],
  ])('of %s names %s', (name, quoted) => {
    expect(text(name)).toBe(`call ${quoted}(7, '{}')`)
  })

  it.each([
    null,
    '',
    'p()',
    'p(1); drop table x; call q',
    'p; drop table x',
    'p--',
    'p/**/',
    'a.b.c',
    'a b',
    '1p',
    '$1',
    "p'",
    'p"',
    '"p',
    '""',
    '.p',
    'p.',
    'U&"\\0070"',
    'p\nq',
    'x'.repeat(64),
  ])('of %j is refused, not pasted', (name) => {
    expect(() => text(name)).toThrow(expect.objectContaining({ code: 'name_invalid' }))
  })

  it('has its config as a literal, and NULL for none', () => {
    expect(text('p', null)).toBe('call "p"(7, null)')
    expect(text('p', `{"a": "it's"}`)).toBe(`call "p"(7, '{"a": "it''s"}')`)
    expect(text('p', '{"a": "\\n"}')).toBe(`call "p"(7, E'{"a": "\\\\n"}')`)
  })
})
