import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { asRefusal } from './refusal.ts'

/** Where workers run, and what was said about it. */
export interface Host {
  readonly host: string
  readonly addresses: string[]
  /** Most runs at once; null: as many as its workers have slots. */
  readonly slots: number | null
  /** Most runs of a site at once, by site. */
  readonly site_slots: Readonly<Record<string, number>>
  /** Workers that are alive, and the slots that they have together. */
  readonly workers: number
  readonly worker_slots: number
  readonly running: number
  /** Takes work now: a worker is alive, and it is not drained. */
  readonly active: boolean
  readonly drained: boolean
  readonly drained_by: string | null
  readonly drained_at: Date | null
  /** Now, where a worker is alive; null where none was seen in the last week. */
  readonly last_seen: Date | null
}

/** What may be said about a host; absent keys stay as they are. */
export interface HostChanges {
  /** Instead of those that it had. */
  readonly addresses?: readonly string[]
  readonly slots?: number | null
  readonly site_slots?: Readonly<Record<string, number | null>>
}

const columns = sql`h.name as host, h.addresses, h.slots,
  (select coalesce(jsonb_object_agg(s.site, s.slots order by s.site), '{}') from yardmaster.host_site s where s.host = h.name) as site_slots,
  h.workers, h.worker_slots, h.running, h.active, h.drained, h.drained_by, h.drained_at, h.seen_at as last_seen`

/** All that are known: by their workers, by bindings, by what was said about them. */
export async function listHosts(control: Control): Promise<Host[]> {
  return control.session.query<Host>(sql`select ${columns} from yardmaster.hosts h order by h.name`)
}

/** By its name or one of its addresses. Throws `host_unknown`, with the nearest name. */
export async function getHost(control: Control, name: string): Promise<Host> {
  const found = await findHost(control, name)
  if (found) return found
  throw await unknownHost(control, name)
}

/** As `getHost`, undefined when nothing is known of it. */
export async function findHost(control: Control, name: string): Promise<Host | undefined> {
  return control.session.first<Host>(
    sql`select ${columns} from yardmaster.hosts h where h.name = yardmaster.host_of(${name})`,
  )
}

async function unknownHost(control: Control, name: string): Promise<Failure> {
  const rows = await control.session.query<{ name: string }>(sql`select h.name from yardmaster.hosts h order by h.name`)
  const known = rows.map((row) => row.name)
  const near = nearest(name, known)
  const shown = printable(name)
  return new Failure('host_unknown', {
    message: `There is no host '${shown}'${near ? `; there is ${printable(near)}` : ''}.`,
    object: shown,
    ...(known.length === 0 ? { remedy: `Start a worker there: yardmaster worker --host ${shown}` } : {}),
  })
}

/** Says something about a host, which need not have been seen yet. Throws `wrong_usage`, `host_refused`. */
export async function setHost(control: Control, name: string, changes: HostChanges): Promise<Host> {
  try {
    await control.session.query(sql`select yardmaster.set_host(${name}, ${JSON.stringify(changes)}::jsonb)`)
  } catch (error) {
    const remedy = 'For example: yardmaster host set h2 --address 10.0.0.7 --slots 8'
    throw asRefusal(error, { YM002: 'host_refused', YM003: 'wrong_usage' }, { object: printable(name), remedy })
  }
  return getHost(control, name)
}

/** What a drain does to a site: other hosts take over, or none is left. */
export interface DrainEffect {
  readonly site: string
  readonly change: 'moves' | 'stranded'
  readonly hosts: string[]
}

/** What draining a host would change for sites. Those that are stranded come first. */
export async function planDrain(control: Control, host: string): Promise<DrainEffect[]> {
  return control.session.query<DrainEffect>(sql`select site, change, hosts from yardmaster.drain_plan(${host})`)
}

/** From now on the host takes nothing new. */
export async function drainHost(control: Control, host: string): Promise<void> {
  await control.session.query(sql`select yardmaster.drain_host(${host})`)
}

export async function undrainHost(control: Control, host: string): Promise<void> {
  await control.session.query(sql`select yardmaster.undrain_host(${host})`)
}

/** Forgets what was said about a host; its bindings and its workers stay. Returns how many bindings name it. Throws `host_unknown`. */
export async function removeHost(control: Control, host: string): Promise<number> {
  try {
    await control.session.query(sql`select yardmaster.remove_host(${host})`)
  } catch (error) {
    throw asRefusal(error, { YM001: 'host_unknown' }, { object: printable(host) })
  }
  const row = await control.session.one<{ bindings: number }>(
    sql`select count(*)::int as bindings from yardmaster.bindings b where b.host = ${host}`,
  )
  return row.bindings
}

/** The host that this process works on by `name`, which may be an address of it. Throws `wrong_usage` for what is no name. */
export async function ownHost(control: Control, name: string, flag: string): Promise<Host | { readonly host: string }> {
  await requireHostName(control, name, flag)
  const row = await control.session.one<{ host: string }>(sql`select yardmaster.host_of(${name}) as host`)
  return (await findHost(control, row.host)) ?? row
}

/** As placement has it. */
async function requireHostName(control: Control, name: string, flag: string): Promise<void> {
  const row = await control.session.one<{ fault: string | null }>(
    sql`select yardmaster.host_name_fault(${name}) as fault`,
  )
  if (row.fault === null) return
  throw new Failure('wrong_usage', {
    message: `A host cannot be called '${printable(name)}': ${row.fault}.`,
    object: flag,
    remedy: `For example: ${flag} h2`,
  })
}

/** Hosts that were drained so many days ago or earlier, by the control server's clock. */
export async function longDrained(control: Control, days: number): Promise<Host[]> {
  return control.session.query<Host>(sql`
    select ${columns} from yardmaster.hosts h
    where h.drained_at < clock_timestamp() - make_interval(days => ${days}) order by h.drained_at`)
}

/** Hosts that bindings name, but that nobody has said anything about and no worker was seen on. */
export async function unseenHosts(
  control: Control,
): Promise<{ host: string; bindings: number; near: string | null }[]> {
  const rows = await control.session.query<{ host: string; bindings: number }>(sql`
    select b.host, count(*)::int as bindings from yardmaster.bindings b
    where not exists (select from yardmaster.seen_hosts s where s.name = b.host) group by b.host order by b.host`)
  if (rows.length === 0) return []
  const seen = await control.session.query<{ name: string }>(
    sql`select s.name from yardmaster.seen_hosts s order by s.name`,
  )
  const known = seen.map(({ name }) => name)
  return rows.map((row) => ({ ...row, near: nearest(row.host, known) ?? null }))
}
