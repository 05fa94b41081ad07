import { isUtf8 } from 'node:buffer'
import { open } from 'node:fs/promises'
import { type CsvFault, type CsvRecord, readCsv } from '../base/csv.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { printable } from '../postgres/identifier.ts'

/**
 * A file of bindings: UTF-8, header `site,host,binding`, quoting as in RFC 4180. All that is wrong with it is found at once, and
 * then nothing of it is used.
 */

export const bindingWords = ['prefer', 'allow', 'forbid'] as const

export interface Binding {
  /** `''` is the default site. */
  readonly site: string
  readonly host: string
  readonly binding: (typeof bindingWords)[number]
}

/** A binding, and the line on which it stands. */
export interface BindingRow extends Binding {
  readonly line: number
}

/** What the control schema knows about a host's name: the host that goes by it, or why none can. */
export interface HostName {
  readonly host: string
  readonly fault: string | null
}

/** Rows that can be read, and all that is wrong with the others. */
export interface ScannedFile {
  readonly rows: readonly BindingRow[]
  readonly faults: readonly CsvFault[]
}

const header = ['site', 'host', 'binding']
/** A thousand sites on a thousand hosts are 20 MB, and nobody writes them by hand: more than this is the wrong file. */
const mostBytes = 10 * 1024 * 1024
const mostRows = 100_000
const mostSiteBytes = 200
/** Of the faults that a message lists. */
const mostShown = 1000

/** The bytes of a file, or of `/dev/stdin`. Throws `bindings_invalid`. */
export async function loadFile(path: string): Promise<Buffer> {
  try {
    const file = await open(path)
    try {
      const chunks: Buffer[] = []
      let size = 0
      for await (const chunk of file.createReadStream({ autoClose: false }) as AsyncIterable<Buffer>) {
        chunks.push(chunk)
        size += chunk.length
        if (size > mostBytes) throw new Failure('bindings_invalid', tooLarge(path))
      }
      return Buffer.concat(chunks)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof Failure) throw error
    const { code, message } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : message
    throw new Failure('bindings_invalid', {
      message: `${printable(path)} cannot be read: ${printable(why)}. Nothing was applied.`,
      object: printable(path),
      remedy: 'Name a file with the header site,host,binding.',
      cause: error,
    })
  }
}

function tooLarge(path: string) {
  return {
    message: `${printable(path)} has more than ${mostBytes / 1024 / 1024} MiB; nothing was applied.`,
    object: printable(path),
    remedy: 'Name a file with the header site,host,binding, and a row for each pair that is bound.',
  }
}

/** Reads what can be read without knowing the hosts. */
export function scanFile(bytes: Uint8Array): ScannedFile {
  const marks =
    bytes[0] === 0xff && bytes[1] === 0xfe ? 'UTF-16' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'UTF-16' : ''
  if (marks) return { rows: [], faults: [{ line: 1, found: marks, expected: 'UTF-8' }] }
  const records = [...readCsv(new TextDecoder().decode(bytes))]
  // Empty lines at the end are no rows.
  while (isBlank(records.at(-1))) records.pop()
  const [first, ...others] = records
  const faults = [...faultsOfBytes(bytes), ...faultsOfHeader(first)]
  const rows: BindingRow[] = []
  for (const record of others) {
    const found = faultsOfRecord(record)
    if (found.length > 0) for (const fault of found) faults.push(fault)
    else rows.push({ line: record.line, ...asBinding(record.fields) })
  }
  if (others.length > mostRows)
    faults.push({ line: others[mostRows]?.line ?? 1, found: `${others.length} rows`, expected: `${mostRows} at most` })
  return { rows, faults }
}

function isBlank(record: CsvRecord | undefined): boolean {
  return record !== undefined && !record.fault && record.fields.length === 1 && record.fields[0] === ''
}

/** Lines are told apart by their bytes: no byte of a longer character is a line feed. */
function faultsOfBytes(bytes: Uint8Array): CsvFault[] {
  if (isUtf8(bytes)) return []
  const faults: CsvFault[] = []
  for (let line = 1, at = 0; at < bytes.length; line += 1) {
    const feed = bytes.indexOf(0x0a, at)
    const end = feed === -1 ? bytes.length : feed
    if (!isUtf8(bytes.subarray(at, end))) faults.push({ line, found: 'bytes that are not UTF-8', expected: 'UTF-8' })
    at = end + 1
  }
  return faults
}

function faultsOfHeader(record: CsvRecord | undefined): CsvFault[] {
  const expected = `the header ${header.join(',')}`
  if (!record) return [{ line: 1, found: 'an empty file', expected }]
  if (record.fault) return [record.fault]
  if (record.fields.length === header.length && header.every((name, index) => record.fields[index] === name)) return []
  return [{ line: 1, found: quoted(record.fields.join(',')), expected }]
}

function faultsOfRecord(record: CsvRecord): CsvFault[] {
  const { line, fields } = record
  if (record.fault) return [record.fault]
  if (isBlank(record)) return [{ line, found: 'an empty line', expected: `three fields: ${header.join(',')}` }]
  if (fields.length !== header.length)
    return [
      {
        line,
        found: `${fields.length === 1 ? 'one field' : `${fields.length} fields`} (${quoted(fields.join(','))})`,
        expected: `three: ${header.join(',')}`,
      },
    ]
  if (fields.some((field) => field.includes('\0'))) return [{ line, found: 'a NUL character', expected: 'text' }]
  const [site = '', , binding = ''] = fields
  const faults: CsvFault[] = []
  const bytes = Buffer.byteLength(site)
  if (bytes > mostSiteBytes)
    faults.push({ line, found: `a site of ${bytes} bytes`, expected: `${mostSiteBytes} at most` })
  if (!isWord(binding)) {
    const near = nearest(binding.trim(), bindingWords)
    faults.push({
      line,
      found: `the binding ${quoted(binding)}`,
      expected: `prefer, allow or forbid${near ? `: did you mean ${near}?` : ''}`,
    })
  }
  return faults
}

function isWord(text: string): text is Binding['binding'] {
  return (bindingWords as readonly string[]).includes(text)
}

function asBinding([site = '', host = '', binding = '']: readonly string[]): Binding {
  return { site, host, binding: binding as Binding['binding'] }
}

/** As people read it in a message: at most 60 characters. */
function quoted(text: string): string {
  const shown = printable(text)
  return `'${shown.length > 60 ? `${shown.slice(0, 59)}…` : shown}'`
}

/** The bindings of a file whose hosts are known by name. Throws `bindings_invalid`, with all that is wrong. */
export function settleFile(
  file: string,
  { rows, faults }: ScannedFile,
  hosts: ReadonlyMap<string, HostName>,
): BindingRow[] {
  const all = [...faults]
  const seen = new Map<string, BindingRow>()
  const settled = rows.map((row) => {
    const { host, fault } = hosts.get(row.host) ?? { host: row.host, fault: null }
    if (fault !== null) {
      const found = `the host ${quoted(row.host)}`
      all.push({ line: row.line, found, expected: `a host's name or address, but ${fault}` })
    }
    const pair = JSON.stringify([row.site, host])
    const earlier = seen.get(pair)
    if (earlier) all.push(secondRow(row, earlier, host))
    else seen.set(pair, row)
    return { ...row, host }
  })
  if (all.length > 0) throw invalid(file, all)
  return settled
}

function secondRow(row: BindingRow, earlier: BindingRow, host: string): CsvFault {
  const names =
    row.host === earlier.host
      ? ''
      : `, one host that is named ${quoted(earlier.host)} there and ${quoted(row.host)} here`
  const site = row.site === '' ? 'the default site' : quoted(row.site)
  return {
    line: row.line,
    found: `a second row for ${site} on ${printable(host)}; the first stands on line ${earlier.line}${names}`,
    expected: 'one row for each site and host',
  }
}

function invalid(file: string, faults: readonly CsvFault[]): Failure {
  const name = printable(file)
  const sorted = faults.toSorted((a, b) => a.line - b.line)
  const lines = new Set(sorted.map((fault) => fault.line)).size
  const shown = sorted
    .slice(0, mostShown)
    .map(({ line, found, expected }) => `${name}:${line}: found ${found}; expected ${expected}`)
  if (sorted.length > mostShown) shown.push(`and ${sorted.length - mostShown} more`)
  return new Failure('bindings_invalid', {
    message: `${name}: ${lines === 1 ? 'one line' : `${lines} lines`} cannot be used; nothing was applied.\n${shown.join('\n')}`,
    object: name,
    errors: sorted.map((fault) => ({ file, ...fault })),
  })
}
