import type { BindingChange, BindingPlan, UnknownHost } from '../placement/bindings.ts'
import type { PlacementShift } from '../placement/matrix.ts'
import { printable } from '../postgres/identifier.ts'
import type { PlanSign, Terminal } from './terminal.ts'

/** How a change of bindings is shown: as a plan with its effects, and as JSON. */

/** In tables and in front of a colon. */
export function siteLabel(site: string | null): string {
  if (site === null) return 'no site'
  return site === '' ? 'default site' : printable(site)
}

/** In a sentence. */
export function siteInWords(site: string | null): string {
  if (site === null) return 'work of no site'
  return site === '' ? 'the default site' : `site ${printable(site)}`
}

export function shiftInWords({ site, before, after, inactive }: PlacementShift): string {
  const what = siteInWords(site)
  const names = (hosts: readonly string[]) => hosts.map(printable).join(', ')
  if (after.length > 0)
    return before.length > 0 ? `${what} moves ${names(before)} → ${names(after)}` : `${what} may run on ${names(after)}`
  const waits = inactive.length > 0 ? `it waits for ${names(inactive)}` : 'every host forbids it'
  return `${what} leaves ${names(before)}, and no host is active that may run it: ${waits}`
}

export function unknownInWords({ host, nearest }: UnknownHost): string {
  const meant = nearest === null ? '' : `; did you mean ${printable(nearest)}?`
  return `no worker was ever seen on ${printable(host)}${meant}`
}

const operations = { '+': 'create', '~': 'update', '-': 'delete' } as const

function signOf({ before, after }: BindingChange): keyof typeof operations {
  if (before === null) return '+'
  return after === null ? '-' : '~'
}

/** What follows from a change, where it is told: the last one of its site tells where the site goes. */
function effectsOf(plan: BindingPlan, change: BindingChange, index: number): string[] {
  // A host that nobody knows is told of where the plan first names it, not on each of a thousand lines.
  const isFirst = plan.changes.findIndex(({ host, after }) => host === change.host && after !== null) === index
  const unknown = isFirst ? plan.unknownHosts.filter(({ host }) => host === change.host) : []
  const isLast = plan.changes[index + 1]?.site !== change.site
  const shifts = isLast ? plan.shifts.filter(({ site }) => site === change.site) : []
  return [...unknown.map(unknownInWords), ...shifts.map(shiftInWords)]
}

/** The changes with their effects, legend and count; `No changes.` where there are none. `forced`: what is against it is overridden. */
export function printPlan(terminal: Terminal, plan: BindingPlan, forced = false): void {
  if (plan.changes.length === 0) {
    terminal.line('No changes.')
    return
  }
  const signs = new Set<PlanSign>(plan.changes.map(signOf))
  if (plan.refusal !== null) signs.add('!')
  const legend = { '+': 'create', '~': 'change', '-': 'delete', '!': forced ? 'forced' : 'refused' } as const
  const shown = (Object.keys(legend) as PlanSign[]).filter((sign) => signs.has(sign))
  terminal.line(shown.map((sign) => `${terminal.sign(sign)} ${legend[sign]}`).join('   '))
  plan.changes.forEach((change, index) => {
    terminal.line(`${terminal.sign(signOf(change))} ${changeInWords(change)}`)
    for (const effect of effectsOf(plan, change, index)) terminal.line(`    ${effect}`)
  })
  if (plan.refusal !== null) terminal.line(`${terminal.sign('!')} ${printable(plan.refusal)}`)
  const count = (sign: PlanSign) => plan.changes.filter((change) => signOf(change) === sign).length
  terminal.line(`Plan: ${count('+')} to create, ${count('~')} to change, 0 to replace, ${count('-')} to delete.`)
}

function changeInWords({ site, host, before, after }: BindingChange): string {
  const pair = `${siteLabel(site)} on ${printable(host)}`
  if (before !== null && after !== null) return `${pair}: ${before} → ${after}`
  return `${pair}: ${after ?? before}`
}

export function planJson(plan: BindingPlan) {
  return {
    changes: plan.changes.map((change, index) => ({
      op: operations[signOf(change)],
      ...change,
      effects: effectsOf(plan, change, index).map((what) => ({ what })),
    })),
    shifts: plan.shifts.map(shiftJson),
    unknown_hosts: plan.unknownHosts,
    refusals: plan.refusal === null ? [] : [{ code: 'site_stranded', sites: plan.stranded, message: plan.refusal }],
  }
}

export function shiftJson({ site, before, after }: PlacementShift) {
  return { site, before, after }
}
