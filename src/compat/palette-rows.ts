import type { CsvFault } from '../base/csv.ts'
import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'

/** A row of the predecessor's table, or a line of its file, as it stands there. */
export interface PaletteRow {
  /** Of the row, or of the line in its file; from 1 on. */
  readonly line: number
  readonly site: string | null
  readonly host: string | null
  readonly binding: string | null
}

/** Where rows come from. `prefix` stands before a number: `workers.csv:`, `row `. */
export interface PaletteOrigin {
  readonly name: string
  readonly prefix: string
}

/** What a host of the predecessor is called here, or why it cannot be. */
export type HostNames = ReadonlyMap<string, { readonly host: string; readonly fault: string | null }>

/** One binding as Yardmaster takes it. */
export interface PaletteBinding {
  readonly site: string
  readonly host: string
  readonly binding: 'prefer' | 'allow' | 'forbid'
}

/** What the rows mean: equal ones are taken once, and noted. */
export interface PaletteBindings {
  readonly bindings: readonly PaletteBinding[]
  readonly notes: readonly string[]
}

type Fault = Omit<CsvFault, 'line'>

/** Names that the control database is to be asked about. */
export function hostsOf(rows: readonly PaletteRow[]): string[] {
  return [...new Set(rows.flatMap((row) => (row.host === null ? [] : withoutWholeMask(row.host))))]
}

/**
 * The bindings that the rows mean. Throws `bindings_invalid` with all rows that cannot be a binding or contradict another one, and
 * with the `faults` that were found before.
 */
export function bindingsOf(
  origin: PaletteOrigin,
  rows: readonly PaletteRow[],
  names: HostNames,
  faults: readonly CsvFault[] = [],
): PaletteBindings {
  const all = [...faults]
  const notes: string[] = []
  const first = new Map<string, PaletteRow>()
  const bindings: PaletteBinding[] = []
  for (const row of rows) {
    const read = bindingOf(row, names)
    if ('found' in read) {
      all.push({ line: row.line, ...read })
      continue
    }
    const pair = JSON.stringify([read.site, read.host])
    const before = first.get(pair)
    if (!before) {
      first.set(pair, row)
      bindings.push(read)
    } else if (before.binding === row.binding) {
      notes.push(
        `${origin.prefix}${row.line} says the same as ${origin.prefix}${before.line} (${meaning(before, row, read)}): it is taken once.`,
      )
    } else {
      const found = `${meaning(before, row, read)}, which ${origin.prefix}${before.line} binds as ${before.binding}`
      all.push({ line: row.line, found, expected: 'one binding for each site and host' })
    }
  }
  if (all.length > 0) throw invalid(origin, all)
  return { bindings, notes }
}

function bindingOf({ site, host, binding }: PaletteRow, names: HostNames): PaletteBinding | Fault {
  const matchesNothing = 'palette-director matches NULL with nothing'
  if (site === null)
    return { found: 'a site that is NULL', expected: `a site, "" for the default site: ${matchesNothing}` }
  const bytes = Buffer.byteLength(site)
  if (bytes > 200) return { found: `a site of ${bytes} bytes`, expected: '200 at most' }
  if (host === null) return { found: 'a host that is NULL', expected: `a host: ${matchesNothing}` }
  if (binding !== 'prefer' && binding !== 'allow' && binding !== 'forbid') {
    const found = binding === null ? 'a binding that is NULL' : `the binding '${printable(binding)}'`
    return { found, expected: 'prefer, allow or forbid' }
  }
  const address = withoutWholeMask(host)
  if (/^[0-9a-f.:]+\/\d+$/i.test(address)) {
    const expected = "one host's address: palette-director matches a network with no worker"
    return { found: `the network '${address}'`, expected }
  }
  const known = names.get(address)
  if (!known || known.fault !== null) {
    const why = known?.fault ? `, but ${known.fault}` : ''
    return { found: `the host '${printable(address)}'`, expected: `a host's name or address${why}` }
  }
  return { site, host: known.host, binding }
}

/** `10.0.0.27/32` is one host; `10.0.0.0/24` stays as it is. */
function withoutWholeMask(host: string): string {
  return host.replace(host.includes(':') ? /\/128$/ : /\/32$/, '')
}

/** What two rows say of one pair; with both names where they call one host by two. */
function meaning(before: PaletteRow, row: PaletteRow, { site, host, binding }: PaletteBinding): string {
  const names =
    before.host === row.host ? '' : `, which is ${printable(before.host ?? '')} and ${printable(row.host ?? '')}`
  return `${binding} for ${site === '' ? 'the default site' : `'${printable(site)}'`} on ${printable(host)}${names}`
}

function invalid({ name, prefix }: PaletteOrigin, faults: readonly CsvFault[]): Failure {
  const sorted = faults.toSorted((a, b) => a.line - b.line)
  const lines = new Set(sorted.map((fault) => fault.line)).size
  const shown = sorted.map(({ line, found, expected }) => `${prefix}${line}: found ${found}; expected ${expected}`)
  return new Failure('bindings_invalid', {
    message: `${name}: ${lines === 1 ? 'one row' : `${lines} rows`} cannot be taken over; nothing was imported.\n${shown.join('\n')}`,
    object: name,
    remedy: 'Correct the rows where they are kept, or write all of them to a file and import that: --csv FILE.',
    errors: sorted.map((fault) => ({ file: name, ...fault })),
  })
}
