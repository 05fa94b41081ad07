/**
 * CSV as RFC 4180 has it: commas, `"…"` around fields with commas, quotes or line ends, a quote in them written twice, LF or CR LF.
 * Our own, because every bad line of a file is to be named, by its number (docs/decisions/libraries.md).
 */

/** What keeps a line from being read. `expected` goes on from "expected". */
export interface CsvFault {
  /** From 1 on. */
  readonly line: number
  readonly found: string
  readonly expected: string
}

/** One record: its fields or, where it cannot be read, why. */
export interface CsvRecord {
  /** On which it begins. */
  readonly line: number
  readonly fields: readonly string[]
  readonly fault?: CsvFault
}

interface Field {
  readonly value: string
  /** Of what stands behind it. */
  readonly end: number
  readonly fault?: Omit<CsvFault, 'line'>
}

/** All records of a text, in order. Behind one that cannot be read it goes on with the line after the fault. */
export function* readCsv(text: string): Generator<CsvRecord> {
  let line = 1
  for (let at = 0; at < text.length; ) {
    const { fields, end, fault } = readRecord(text, at)
    const next = endOfLine(text, end)
    const faultLine = line + countLines(text, at, end)
    yield fault ? { line, fields, fault: { ...fault, line: faultLine } } : { line, fields }
    line += countLines(text, at, next)
    at = next
  }
}

/** `end`: of the record, or where the field begins that is at fault. */
function readRecord(text: string, start: number): { fields: string[]; end: number; fault: Field['fault'] } {
  const fields: string[] = []
  for (let at = start; ; ) {
    const { value, end, fault } = text[at] === '"' ? quotedField(text, at) : plainField(text, at)
    if (fault) return { fields, end: at, fault }
    fields.push(value)
    if (text[end] !== ',') return { fields, end, fault: undefined }
    at = end + 1
  }
}

function plainField(text: string, start: number): Field {
  const stop = /[",\r\n]|$/g
  stop.lastIndex = start
  const end = stop.exec(text)?.index ?? text.length
  const value = text.slice(start, end)
  if (text[end] === '"')
    return {
      value,
      end,
      fault: {
        found: 'a quote inside a field that is not in quotes',
        expected: 'quotes around the whole field, and a quote in it written twice',
      },
    }
  if (text[end] === '\r' && text[end + 1] !== '\n')
    return {
      value,
      end,
      fault: { found: 'a carriage return without a line feed', expected: 'LF or CR LF at the end of a line' },
    }
  return { value, end }
}

function quotedField(text: string, start: number): Field {
  let end = text.indexOf('"', start + 1)
  while (end !== -1 && text[end + 1] === '"') end = text.indexOf('"', end + 2)
  if (end === -1)
    return {
      value: '',
      end: text.length,
      fault: { found: 'a quote that is never closed', expected: 'a closing quote behind the field' },
    }
  const value = text.slice(start + 1, end).replaceAll('""', '"')
  const behind = text[end + 1]
  if (behind === undefined || behind === ',' || behind === '\n' || (behind === '\r' && text[end + 2] === '\n'))
    return { value, end: end + 1 }
  const further = countLines(text, start, end)
  const where = further === 0 ? '' : `, ${further === 1 ? 'a line' : `${further} lines`} below`
  return {
    value,
    end,
    fault: {
      found: `a quoted field with text behind its closing quote${where}`,
      expected: 'a comma or the end of the line behind a closing quote, and a quote in a field written twice',
    },
  }
}

/** Behind the line end at or after `from`, or the end of the text. */
function endOfLine(text: string, from: number): number {
  const at = text.indexOf('\n', from)
  return at === -1 ? text.length : at + 1
}

function countLines(text: string, from: number, to: number): number {
  let count = 0
  for (let at = text.indexOf('\n', from); at !== -1 && at < to; at = text.indexOf('\n', at + 1)) count += 1
  return count
}
