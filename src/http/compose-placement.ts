import { printable } from '../postgres/identifier.ts'
import type { HostRow, PlacementFacts, SiteAlertRow } from './placement-store.ts'
import type { StatusHost, StatusPlacement, StatusSite } from './status-document.ts'

/** Alerts of which the page has the sentence. */
const alertsShown = 10

export function composePlacement(facts: PlacementFacts): StatusPlacement {
  const stranded = facts.alerts.filter((one) => one.alert_code === 3)
  const atRisk = facts.alerts.filter((one) => one.alert_code === 2)
  return {
    level: levelOf(facts, stranded, atRisk),
    answer: answerOf(facts, stranded, atRisk),
    alerts: facts.alerts.slice(0, alertsShown).map((alert) => ({
      level: alert.alert_code === 3 ? 'CRITICAL' : 'WARNING',
      site: printable(alert.site),
      text: printable(alert.alert_text),
    })),
    alert_count: facts.alerts.length,
    hosts: facts.hosts.map(statusHost),
    host_count: facts.hosts[0]?.count ?? 0,
    sites: statusSites(facts, stranded, atRisk),
    site_count: facts.site_count,
  }
}

function levelOf(
  { active_count: active }: PlacementFacts,
  stranded: readonly SiteAlertRow[],
  atRisk: readonly SiteAlertRow[],
): StatusPlacement['level'] {
  if (stranded.length > 0) return 'CRITICAL'
  if (atRisk.length > 0) return 'WARNING'
  return active > 0 ? 'OK' : 'UNKNOWN'
}

function answerOf(
  { active_count: active, binding_count: bindings, site_count: all }: PlacementFacts,
  stranded: readonly SiteAlertRow[],
  atRisk: readonly SiteAlertRow[],
): string {
  const [none, one] = [stranded.length, atRisk.length]
  const parts = [
    ...(none > 0 ? [`No active host may run ${none} of ${all} sites: ${named(stranded)}.`] : []),
    ...(one > 0
      ? [`${one} of ${all} sites ${one === 1 ? 'has' : 'have'} one active host left: ${named(atRisk)}.`]
      : []),
  ]
  if (parts.length > 0) return parts.join(' ')
  if (active === 0) return 'No host is active.'
  if (bindings === 0) return 'Nothing is bound: every host may run the work of every site.'
  return `Each of ${all} sites has an active host that may run its work.`
}

function named(alerts: readonly SiteAlertRow[]): string {
  const names = alerts.slice(0, 3).map(({ site }) => (site === '' ? 'default site' : printable(site)))
  return `${names.join(', ')}${alerts.length > 3 ? ` and ${alerts.length - 3} more` : ''}`
}

function statusHost(host: HostRow): StatusHost {
  return {
    host: printable(host.name),
    active: host.active,
    drained: host.drained,
    drained_at: host.drained_at?.toISOString() ?? null,
    drained_by: host.drained_by === null ? null : printable(host.drained_by),
    workers: host.workers,
    running: host.running,
    slots: host.room,
    last_seen: host.seen_at?.toISOString() ?? null,
  }
}

/** Each site's hosts in the order of all hosts. */
function statusSites(
  { sites, hosts, pairs }: PlacementFacts,
  stranded: readonly SiteAlertRow[],
  atRisk: readonly SiteAlertRow[],
): StatusSite[] {
  const has = (alerts: readonly SiteAlertRow[], site: string | null) => alerts.some((alert) => alert.site === site)
  const bySite = Map.groupBy(pairs, (pair) => pair.site)
  return sites.map((site) => {
    const byHost = new Map((bySite.get(site) ?? []).map((pair) => [pair.host, pair]))
    return {
      site: site === null ? null : printable(site),
      stranded: has(stranded, site),
      at_risk: has(atRisk, site),
      hosts: hosts.flatMap(({ name }) => {
        const pair = byHost.get(name)
        if (pair === undefined) return []
        const { binding, may_run, code, running } = pair
        return [{ host: printable(name), binding, may_run, code, running }]
      }),
    }
  })
}
