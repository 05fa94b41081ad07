import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Failure } from '../base/failure.ts'
import { type Binding, bindingWords, type HostName, scanFile, settleFile } from './binding-file.ts'

/** Hosts as they are named, but for one that has two names and those that begin with =. */
function hostsOf(names: readonly string[]): Map<string, HostName> {
  return new Map(
    names.map((name) => [
      name,
      { host: name === '10.0.0.7' ? 'h7' : name, fault: name.startsWith('=') ? 'it begins with = + - or @' : null },
    ]),
  )
}

function read(bytes: Uint8Array | string): Binding[] {
  const scanned = scanFile(typeof bytes === 'string' ? Buffer.from(bytes) : bytes)
  const rows = settleFile('hosts.csv', scanned, hostsOf(scanned.rows.map(({ host }) => host)))
  return rows.map(({ site, host, binding }) => ({ site, host, binding }))
}

function failureOf(bytes: Uint8Array | string): Failure {
  try {
    read(bytes)
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
  throw new Error('nothing was wrong with it')
}

const faultsOf = (bytes: Uint8Array | string) =>
  (failureOf(bytes).errors as { line: number; found: string; expected: string }[]).map(
    ({ line, found, expected }) => `${line}: ${found} | ${expected}`,
  )

describe('a file of bindings', () => {
  it('is read with LF or CR LF, a byte-order mark, quotes, the default site, and no rows at all', () => {
    const rows = [
      { site: 'a, "b"\nc', host: 'h1', binding: 'prefer' },
      { site: '', host: 'h2', binding: 'forbid' },
    ]
    expect(read('site,host,binding\n"a, ""b""\nc",h1,prefer\n,h2,forbid\n')).toEqual(rows)
    expect(read('\ufeffsite,host,binding\r\n"a, ""b""\nc","h1",prefer\r\n"",h2,"forbid"')).toEqual(rows)
    expect(read('"site","host","binding"\nx,10.0.0.7,allow\n\n\r\n')).toEqual([
      { site: 'x', host: 'h7', binding: 'allow' },
    ])
    expect(read('site,host,binding')).toEqual([])
  })

  it('that is bad tells all of its bad lines at once, in their order', () => {
    const lines = [
      'site,host,binding',
      'CEO,h1,perfer',
      'CEO,h1',
      '',
      'CEO,=h1,prefer',
      `${'s'.repeat(201)},h1,allow`,
      'QA,h7,prefer',
      'QA,10.0.0.7,forbid',
      'QA,h7,prefer',
      'x"y,h1,prefer',
      '"x"y,h1,prefer',
      'n\0,h1,prefer',
      'CEO,h9,',
      'z,"h1,prefer',
      'CEO,h8,allow',
    ]
    expect(faultsOf(lines.join('\n'))).toEqual([
      "2: the binding 'perfer' | prefer, allow or forbid: did you mean prefer?",
      "3: 2 fields ('CEO,h1') | three: site,host,binding",
      '4: an empty line | three fields: site,host,binding',
      "5: the host '=h1' | a host's name or address, but it begins with = + - or @",
      '6: a site of 201 bytes | 200 at most',
      "8: a second row for 'QA' on h7; the first stands on line 7, one host that is named 'h7' there and '10.0.0.7' here | one row for each site and host",
      "9: a second row for 'QA' on h7; the first stands on line 7 | one row for each site and host",
      '10: a quote inside a field that is not in quotes | quotes around the whole field, and a quote in it written twice',
      '11: a quoted field with text behind its closing quote | a comma or the end of the line behind a closing quote, and a quote in a field written twice',
      '12: a NUL character | text',
      "13: the binding '' | prefer, allow or forbid",
      '14: a quote that is never closed | a closing quote behind the field',
    ])
    const { message, code, object } = failureOf(lines.join('\n'))
    expect([code, object]).toEqual(['bindings_invalid', 'hosts.csv'])
    expect(message).toContain(
      'hosts.csv: 12 lines cannot be used; nothing was applied.\nhosts.csv:2: found the binding',
    )
    expect(message.split('\n')).toHaveLength(13)
  })

  it.each([
    ['', ['1: an empty file | the header site,host,binding']],
    ['host,site,binding\n', ["1: 'host,site,binding' | the header site,host,binding"]],
    ['CEO,h1,prefer\n', ["1: 'CEO,h1,prefer' | the header site,host,binding"]],
    ['Site,Host,Binding\nCEO,h1,prefer\n', ["1: 'Site,Host,Binding' | the header site,host,binding"]],
    ['site;host;binding\n', ["1: 'site;host;binding' | the header site,host,binding"]],
    [
      'site,host,binding\rCEO,h1,prefer\r',
      ['1: a carriage return without a line feed | LF or CR LF at the end of a line'],
    ],
  ])('without its header, %j, says so', (text, faults) => {
    expect(faultsOf(text)).toEqual(faults)
  })

  it('must be UTF-8: each line with other bytes is named', () => {
    const latin = Buffer.from('site,host,binding\nZ\xfcrich,h1,prefer\nok,h2,allow\nGen\xe8ve,h1,prefer\n', 'latin1')
    expect(faultsOf(latin)).toEqual(['2: bytes that are not UTF-8 | UTF-8', '4: bytes that are not UTF-8 | UTF-8'])
    const wide = Buffer.from('\ufeffsite,host,binding\n', 'utf16le')
    expect(faultsOf(wide)).toEqual(['1: UTF-16 | UTF-8'])
  })

  it('has its limits', () => {
    const rows = Array.from({ length: 100_001 }, (_, index) => `s${index},h,allow`)
    expect(faultsOf(['site,host,binding', ...rows].join('\n'))).toEqual(['100002: 100001 rows | 100000 at most'])
    const bad = Array.from({ length: 1500 }, () => 'x')
    const failure = failureOf(['site,host,binding', ...bad].join('\n'))
    expect(failure.message.split('\n').at(-1)).toBe('and 500 more')
    expect(failure.errors).toHaveLength(1500)
  })
})

const name = fc.string({ unit: fc.constantFrom(...'abcdefgh0123456789.-é'), minLength: 1, maxLength: 6 })
const binding = fc.record({
  site: fc.oneof(name, fc.string({ maxLength: 20 }), fc.constantFrom('', '"', ',\n', '\r\n', '=1', '🦌')),
  host: name,
  binding: fc.constantFrom(...bindingWords),
})
const bindings = fc.uniqueArray(binding, {
  selector: ({ site, host }) => JSON.stringify([site, host === '10.0.0.7' ? 'h7' : host]),
  maxLength: 12,
})
/** How one row is written: which fields are quoted though they need not be, and how it ends. */
const style = fc.record({
  quotes: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
  end: fc.constantFrom('\n', '\r\n'),
})
const written = fc
  .record({
    rows: bindings.filter((all) => all.every(({ site }) => !site.includes('\0'))),
    styles: fc.array(style, { minLength: 13, maxLength: 13 }),
    mark: fc.boolean(),
  })
  .map(({ rows, styles, mark }) => {
    const quote = (text: string, always: boolean) =>
      always || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
    const lines = [['site', 'host', 'binding'], ...rows.map((row) => [row.site, row.host, row.binding])]
    const text = lines
      .map((fields, index) => {
        const { quotes, end } = styles[index] ?? { quotes: [], end: '\n' }
        return fields.map((field, at) => quote(field, quotes[at] ?? false)).join(',') + end
      })
      .join('')
    return { rows, text: (mark ? '\ufeff' : '') + text }
  })

describe('any set of bindings', () => {
  it('is read back as it was written, whatever was quoted, whatever ends its lines', () => {
    fc.assert(
      fc.property(written, ({ rows, text }) => {
        expect(read(text)).toEqual(rows.map(settled))
      }),
    )
  })

  it('damaged in any byte is read whole or refused with lines: nothing else is thrown', () => {
    fc.assert(
      fc.property(written, fc.nat(), fc.integer({ min: 0, max: 255 }), ({ text }, place, byte) => {
        const bytes = Buffer.from(text)
        bytes[place % bytes.length] = byte
        const lines = bytes.filter((one) => one === 0x0a).length + 1
        try {
          const found = read(bytes)
          for (const { site } of found) expect(site).not.toContain('\0')
          const pairs = new Set(found.map(({ site, host }) => JSON.stringify([site, host])))
          expect(pairs.size).toBe(found.length)
        } catch (error) {
          if (!(error instanceof Failure)) throw error
          expect(error.code).toBe('bindings_invalid')
          expect(error.errors?.length).toBeGreaterThan(0)
          for (const { line } of error.errors as { line: number }[]) {
            expect(line).toBeGreaterThan(0)
            expect(line).toBeLessThanOrEqual(lines)
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})

function settled({ site, host, binding: word }: Binding): Binding {
  return { site, host: host === '10.0.0.7' ? 'h7' : host, binding: word }
}
