import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** Most columns and rows of the matrix, and most fields together: it is read and sent each second. */
const mostHosts = 40
const mostSites = 200
const mostPairs = 2000

/** A host, and how many there are. */
export interface HostRow {
  readonly name: string
  readonly active: boolean
  readonly has_worker: boolean
  readonly drained: boolean
  readonly drained_at: Date | null
  readonly drained_by: string | null
  /** Workers that are alive. */
  readonly workers: number
  readonly running: number
  /** Most runs at once; null where no worker is alive and nothing was said. */
  readonly room: number | null
  /** Null: not in the last week. */
  readonly seen_at: Date | null
  readonly count: number
}

/** A site that no active host may run, or that has one left. */
export interface SiteAlertRow {
  readonly site: string
  readonly alert_code: 2 | 3
  readonly alert_text: string
}

/** A site whose work one host may take, or not. */
export interface PairRow {
  readonly site: string | null
  readonly host: string
  readonly binding: 'prefer' | 'allow' | 'forbid' | 'none'
  readonly may_run: boolean
  readonly code: string
  readonly running: number
}

/** What the page shows of placement. */
export interface PlacementFacts {
  /** By name; where there are too many, active ones before others. */
  readonly hosts: readonly HostRow[]
  readonly active_count: number
  /** Worst first, then by name. */
  readonly alerts: readonly SiteAlertRow[]
  /** Those of alerts first, then by name; null, work of no site, comes last. */
  readonly sites: readonly (string | null)[]
  /** Of sites that have a name. */
  readonly site_count: number
  readonly binding_count: number
  readonly pairs: readonly PairRow[]
}

export async function readPlacement(control: Control): Promise<PlacementFacts> {
  const { session } = control
  const hosts = await session.query<HostRow>(sql`
    select * from (
      select name, active, has_worker, drained, drained_at, drained_by, workers, running, room, seen_at, count(*) over ()::int as count
      from yardmaster.hosts order by active desc, name limit ${mostHosts}::int) h
    order by name`)
  const alerts = await session.query<SiteAlertRow>(sql`
    select site, alert_code, alert_text from yardmaster.site_alerts() order by alert_code desc, site`)
  const totals = await session.one<Totals>(sql`
    select (select count(*)::int from yardmaster.active_hosts) as active_count,
      (select count(*)::int from yardmaster.bindings) as binding_count, (select count(*)::int from yardmaster.sites) as site_count,
      exists (select from yardmaster.replications where site is null) as has_work_of_none`)
  const names = await session.query<{ name: string }>(sql`
    select name from yardmaster.sites order by name = any(${alerts.map(({ site }) => site)}::text[]) desc, name
    limit ${Math.min(mostSites, Math.floor(mostPairs / Math.max(1, hosts.length)))}::int`)
  const worst = new Map(alerts.map(({ site, alert_code: code }) => [site, code]))
  const named = names.map(({ name }) => name).sort((one, other) => (worst.get(other) ?? 0) - (worst.get(one) ?? 0))
  const sites = totals.has_work_of_none ? [...named, null] : named
  const pairs = await readPairs(control, sites, hosts)
  return { ...totals, hosts, alerts, sites, pairs }
}

interface Totals {
  readonly active_count: number
  readonly binding_count: number
  readonly site_count: number
  readonly has_work_of_none: boolean
}

/** Without the sentences, which take ten times as long. */
async function readPairs(
  control: Control,
  sites: readonly (string | null)[],
  hosts: readonly HostRow[],
): Promise<PairRow[]> {
  return control.session.query<PairRow>(sql`
    select m.site, m.host, m.binding, m.may_run, m.code, coalesce(r.running, 0) as running
    from yardmaster.placement_matrix(${[...sites]}::text[], in_words => false) m
    left join (select site, host, count(*)::int as running from yardmaster.runs where status = 'RUNNING' group by site, host) r
      on r.host = m.host and array[r.site] = array[m.site]
    where m.host = any(${hosts.map(({ name }) => name)}::text[])`)
}
