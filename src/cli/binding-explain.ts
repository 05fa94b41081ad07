import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { loadFile } from '../placement/binding-file.ts'
import { atOneMoment, type BindingPlan, planBindings, readBindings, unknownHosts } from '../placement/bindings.ts'
import {
  type Explanation,
  explainSite,
  type HostVerdict,
  type Matrix,
  type PlacementShift,
  simulate,
} from '../placement/matrix.ts'
import { printable } from '../postgres/identifier.ts'
import { planJson, printPlan, shiftInWords, shiftJson, siteInWords, siteLabel, unknownInWords } from './binding-plan.ts'
import { type CommandContext, withControl } from './command-context.ts'
import type { TableColumn, Terminal } from './terminal.ts'

/** `yardmaster binding explain` */
export async function explain(context: CommandContext, flags: { site: boolean }, name?: string): Promise<number> {
  if ((name === undefined) === flags.site) {
    throw new Failure('wrong_usage', {
      message: flags.site
        ? 'No site was named.'
        : `A site was named, '${printable(name ?? '')}', and --no-site says there is none.`,
      object: flags.site ? 'SITE' : '--no-site',
      remedy: "Name one: yardmaster binding explain CEO; '' is the default site, --no-site is work of none.",
    })
  }
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const found = await explainSite(control, name ?? null)
    const { terminal } = context
    if (terminal.json) terminal.document(found)
    else describe(terminal, name ?? null, found)
    return 0
  })
}

const verdictColumns: readonly TableColumn<HostVerdict>[] = [
  { head: 'HOST', value: ({ host }) => host },
  { head: 'BINDING', kind: 'level', value: ({ binding }) => binding },
  { head: 'MAY RUN', value: ({ may_run }) => (may_run ? 'yes' : 'no') },
  { head: 'WHY', value: ({ why }) => why },
]

const noHost = 'No host is known yet. Start a worker: yardmaster worker --host NAME'

function describe(terminal: Terminal, site: string | null, found: Explanation): void {
  if (!found.known) {
    const near = found.nearest === null ? '' : `; did you mean ${siteLabel(found.nearest)}?`
    terminal.line(`Nothing is known of ${siteInWords(site)}: no binding, no job, no run${near}`)
  }
  const [verdict] = found.sites
  const hosts = verdict?.hosts ?? []
  const able = hosts.filter(({ may_run }) => may_run).map(({ host }) => printable(host))
  const what = siteInWords(site)
  const sentence = what.charAt(0).toUpperCase() + what.slice(1)
  if (able.length > 0) terminal.line(`${sentence} may run now on ${able.join(', ')}.`)
  else if (verdict?.stranded) terminal.line(`No active host may run ${what}.`)
  else terminal.line(`Every host that may run ${what} is full.`)
  terminal.table(hosts, verdictColumns, noHost)
  for (const { run_id: id, checks } of found.waiting) {
    const failed = checks.find(({ ok }) => !ok)
    terminal.line()
    terminal.line(`Run ${id} waits${failed ? `: ${printable(failed.why)}` : '.'}`)
    for (const { check, ok, why } of checks) terminal.line(`  ${terminal.mark(ok)} ${check}: ${printable(why)}`)
  }
}

/** `yardmaster binding simulate` */
export async function simulateFile(context: CommandContext, flags: { up?: string }, file: string): Promise<number> {
  const up = flags.up === undefined ? undefined : readHosts(flags.up)
  const bytes = await loadFile(file)
  return withControl(context, async ({ session }) => {
    const bindings = await readBindings(session, file, bytes)
    const found = await atOneMoment(session, async () => ({
      plan: await planBindings(session, bindings),
      unknown: await unknownHosts(session, [...bindings.map(({ host }) => host), ...(up ?? [])]),
      ...(await simulate(session, bindings, up)),
    }))
    const { terminal } = context
    if (terminal.json) terminal.document(simulationJson(found))
    else printSimulation(terminal, found)
    return 0
  })
}

/** `h1,h2`; nothing: every host is down. */
function readHosts(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}

interface Simulation {
  readonly plan: BindingPlan
  readonly matrix: Matrix
  readonly shifts: readonly PlacementShift[]
  readonly unknown: BindingPlan['unknownHosts']
}

function simulationJson({ plan, matrix, shifts, unknown }: Simulation) {
  const { changes: bindings, refusals } = planJson(plan)
  return { ...matrix, changes: shifts.map(shiftJson), bindings, unknown_hosts: unknown, refusals }
}

function printSimulation(terminal: Terminal, { plan, matrix, shifts, unknown }: Simulation): void {
  const active = matrix.hosts.filter((host) => host.active).map(({ host }) => printable(host))
  terminal.line(`Active then: ${active.join(', ') || 'no host'}.`)
  for (const host of unknown) terminal.line(`Note: ${unknownInWords(host)}`)
  // What stays as it is would hide what changes: a thousand sites on twenty hosts are twenty thousand lines.
  const touched = new Set<string | null>([...plan.changes, ...shifts].map(({ site }) => site))
  // A script reads them all the same: what it is given must not hang on what is so now.
  const shown = terminal.isTerminal
    ? matrix.sites.filter(({ site, stranded }) => touched.has(site) || stranded)
    : matrix.sites
  const rows = shown.flatMap(({ site, hosts }) => hosts.map((verdict) => ({ ...verdict, site })))
  if (rows.length > 0)
    terminal.table(rows, [{ head: 'SITE', value: ({ site }) => siteLabel(site) }, ...verdictColumns], noHost)
  const left = matrix.sites.length - shown.length
  if (left > 0)
    terminal.say(
      `${left === 1 ? 'One site stays as it is' : `${left} sites stay as they are`}; a pipe and --json show all.`,
    )
  for (const shift of shifts) terminal.line(`Then ${shiftInWords(shift)}.`)
  if (shifts.length === 0) terminal.line('Every site may run where it may run now.')
  const stranded = shown.filter((verdict) => verdict.stranded).map(({ site }) => siteInWords(site))
  if (stranded.length > 0) terminal.line(`No active host may run then: ${stranded.join(', ')}.`)
  printPlan(terminal, { ...plan, shifts: [], unknownHosts: [] })
}
