import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readCsv } from './csv.ts'

const fieldsOf = (text: string) => [...readCsv(text)].map(({ line, fields }) => [line, ...fields])
const faultsOf = (text: string) =>
  [...readCsv(text)].flatMap(({ fault }) => (fault ? [`${fault.line}: ${fault.found}`] : []))

describe('CSV', () => {
  it('reads quoted fields with commas, quotes and line ends, and says on which line each record begins', () => {
    expect(fieldsOf('a,b\r\n"x, ""y""","1\r\n2"\r\n,é\n"",""\n')).toEqual([
      [1, 'a', 'b'],
      [2, 'x, "y"', '1\r\n2'],
      [4, '', 'é'],
      [5, '', ''],
    ])
    expect(fieldsOf('a\n\nb')).toEqual([
      [1, 'a'],
      [2, ''],
      [3, 'b'],
    ])
    expect(fieldsOf('')).toEqual([])
  })

  const inside = 'a quote inside a field that is not in quotes'
  const behind = 'a quoted field with text behind its closing quote'
  it.each([
    ['a,b"c,d\nx"\n1,2', [`1: ${inside}`, `2: ${inside}`]],
    ['"a"b,c\n1,2\nx"y\n', [`1: ${behind}`, `3: ${inside}`]],
    ['1,"a\n2,b\n3,c"d', [`1: ${behind}, 2 lines below`, `3: ${inside}`]],
    ['1,"a\n2,b\n3,c\n', ['1: a quote that is never closed']],
    ['"1\n2","x\n', ['2: a quote that is never closed']],
    ['"1\r\n2","x\r\ny"\r\nz"', [`4: ${inside}`]],
    ['a\rb\n', ['1: a carriage return without a line feed']],
    ['a\r', ['1: a carriage return without a line feed']],
    ['"a\n\nb"c\nok"\n', [`1: ${behind}, 2 lines below`, `3: ${inside}`, `4: ${inside}`]],
  ])('of %j names each fault by its line, and goes on with the next', (text, faults) => {
    expect(faultsOf(text)).toEqual(faults)
  })

  it('goes on behind a fault with the very next line', () => {
    expect(fieldsOf('x,"y\n1,2\n3,4\n')).toEqual([
      [1, 'x'],
      [2, '1', '2'],
      [3, '3', '4'],
    ])
  })

  it('reads what was written, however it was quoted', () => {
    const field = fc.tuple(fc.oneof(fc.string(), fc.constantFrom('', '"', ',', '\n', '\r\n', 'a"b')), fc.boolean())
    const record = fc.tuple(fc.array(field, { minLength: 1, maxLength: 4 }), fc.constantFrom('\n', '\r\n'))
    fc.assert(
      fc.property(fc.array(record, { maxLength: 8 }), (records) => {
        const quote = (text: string) => `"${text.replaceAll('"', '""')}"`
        const text = records
          .map(([fields, end]) => fields.map(([f, q]) => (q || /[",\r\n]/.test(f) ? quote(f) : f)).join(',') + end)
          .join('')
        const read = [...readCsv(text)]
        expect(read.map(({ fields, fault }) => fault ?? fields)).toEqual(
          records.map(([fields]) => fields.map(([f]) => f)),
        )
        let line = 1
        for (const [index, { line: found }] of read.entries()) {
          expect(found).toBe(line)
          line += 1 + (records[index]?.[0] ?? []).join('').replaceAll(/[^\n]/g, '').length
        }
      }),
    )
  })
})
