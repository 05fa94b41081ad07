import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

/** A row of the predecessor's table, or a line of its file, as it stands there. */
export interface PaletteRow {
  /** `row 3`, `line 4`. */
  readonly place: string
  readonly site: string | null
  readonly host: string | null
  readonly binding: string | null
}

/** One binding as Yardmaster takes it. */
export interface PaletteBinding {
  readonly site: string
  readonly host: string
  readonly binding: string
}

/** What a host of the predecessor is called here, and what is wrong with that. */
export type HostNames = ReadonlyMap<string, { readonly name: string; readonly fault: string | null }>

/** By the control database: an address is the host that has it, or a host of its own. */
export async function hostNames(control: Control, rows: readonly PaletteRow[]): Promise<HostNames> {
  const hosts = [...new Set(rows.flatMap((row) => (row.host === null ? [] : withoutWholeMask(row.host))))]
  const found = await control.session.query<{ host: string; name: string; fault: string | null }>(sql`
    select h.host, yardmaster.host_of(h.host) as name, yardmaster.host_name_fault(h.host) as fault from unnest(${hosts}::text[]) as h(host)`)
  return new Map(found.map(({ host, name, fault }) => [host, { name, fault }]))
}

/**
 * The bindings that the rows mean, equal ones once. Throws `bindings_invalid` with all rows that cannot be a binding or
 * contradict another one.
 */
export function bindingsOf(
  rows: readonly PaletteRow[],
  names: HostNames,
  origin: string,
): { bindings: PaletteBinding[]; notes: string[] } {
  const faults: string[] = []
  const repeated: string[] = []
  const first = new Map<string, PaletteRow>()
  const bindings: PaletteBinding[] = []
  for (const row of rows) {
    const read = bindingOf(row, names)
    if (typeof read === 'string') {
      faults.push(`${row.place} (${shown(row)}): ${read}`)
      continue
    }
    const pair = JSON.stringify([read.site, read.host])
    const before = first.get(pair)
    if (!before) {
      first.set(pair, row)
      bindings.push(read)
    } else if (before.binding === row.binding) {
      repeated.push(`${row.place} (${shown(row)}) says the same as ${before.place}${otherName(before, row, read)}`)
    } else {
      faults.push(
        `${row.place} (${shown(row)}): ${before.place} binds the same pair as ${before.binding}${otherName(before, row, read)}`,
      )
    }
  }
  if (faults.length > 0) {
    throw new Failure('bindings_invalid', {
      message: `${origin}: ${faults.length === 1 ? 'one row' : `${faults.length} rows`} cannot be taken over; nothing was imported.\n${faults.map((fault) => `  ${fault}`).join('\n')}`,
      object: origin,
      remedy: 'Correct the rows that are named where they are kept, or write them to a file of their own (--csv FILE).',
    })
  }
  return { bindings, notes: repeated.map((note) => `${note}: it is taken once.`) }
}

/** The binding, or what is wrong with the row in words. */
function bindingOf(row: PaletteRow, names: HostNames): PaletteBinding | string {
  const { site, host, binding } = row
  if (site === null)
    return `its site is NULL, which palette-director matches with nothing; write "" for the default site, or take it away`
  if (Buffer.byteLength(site) > 200) return 'its site has more than 200 bytes'
  if (host === null)
    return 'its host is NULL, which palette-director matches with nothing; name the host, or take it away'
  if (binding === null) return 'its binding is NULL; expected prefer, allow or forbid'
  if (!['prefer', 'allow', 'forbid'].includes(binding)) return 'expected prefer, allow or forbid as its binding'
  const address = withoutWholeMask(host)
  if (/^[0-9a-f.:]+\/\d+$/i.test(address))
    return 'its host is a network, which palette-director matches with no worker; write a row for each address'
  const known = names.get(address)
  if (!known || known.fault !== null) return `a host cannot be called so: ${known?.fault ?? 'it is unknown'}`
  return { site, host: known.name, binding }
}

/** `10.0.0.27/32` is one host; `10.0.0.0/24` stays as it is. */
function withoutWholeMask(host: string): string {
  return host.replace(host.includes(':') ? /\/128$/ : /\/32$/, '')
}

const shown = ({ site, host, binding }: PaletteRow) =>
  [site, host, binding].map((value) => (value === null ? 'NULL' : value === '' ? '""' : printable(value))).join(', ')

/** Said where two rows name one host by two of its names. */
const otherName = (before: PaletteRow, row: PaletteRow, { host }: PaletteBinding) =>
  before.host === row.host
    ? ''
    : ` (${printable(before.host ?? '')} and ${printable(row.host ?? '')} are the host ${printable(host)})`
