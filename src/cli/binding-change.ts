import { isDeepStrictEqual } from 'node:util'
import { Failure } from '../base/failure.ts'
import type { BindingPlan, ChangeOutcome } from '../placement/bindings.ts'
import { printable } from '../postgres/identifier.ts'
import { planJson, printPlan, siteInWords, siteLabel } from './binding-plan.ts'
import type { CommandContext } from './command-context.ts'
import { confirmByName } from './confirmation.ts'
import type { Terminal } from './terminal.ts'

/** A change, and whether its plan was shown before it was done. */
interface AskedOutcome extends ChangeOutcome {
  readonly isShown?: boolean
}

/**
 * Does a change that must not leave a site without a host, unless --force says so. Where somebody sits there, --force is asked
 * to be meant: under the plan, by the site's name, as for all that is hard to see the end of; a script that says --force means it.
 */
export async function changeUnlessRefused(
  context: CommandContext,
  force: boolean,
  perform: (mayStrand: 'all' | readonly string[]) => Promise<ChangeOutcome>,
): Promise<AskedOutcome> {
  if (!force) return perform([])
  if (!context.terminal.interactive || context.options.yes) return perform('all')
  const first = await perform([])
  if (first.applied || first.plan.refusal === null) return first
  const [site = '', ...others] = first.plan.stranded
  const name = others.length === 0 ? siteLabel(site) : `${others.length + 1} sites`
  if (!context.terminal.json) printPlan(context.terminal, first.plan, true)
  await confirmByName(context, printable(first.plan.refusal), name)
  const second = await perform(first.plan.stranded)
  if (second.applied) return { ...second, isShown: isDeepStrictEqual(second.plan, first.plan) }
  throw new Failure('cancelled', { message: 'Bindings or hosts changed meanwhile; nothing was done.', object: name })
}

/** As a failure: what a change ends with that is refused. To allow a host would not help a file, which says all that there is. */
export function strandedBy(plan: BindingPlan): Failure {
  const [site = ''] = plan.stranded
  return new Failure('site_stranded', {
    message: `${plan.refusal ?? ''} Nothing was changed.`,
    object: siteLabel(site),
    remedy: `${wayOut(plan, site)} Or add --force to let its work wait.`,
  })
}

function wayOut(plan: BindingPlan, site: string): string {
  const last = plan.changes.find((change) => change.site === site && change.after === 'forbid')
  if (last === undefined) return `Make a host known that may run ${siteInWords(site)}: yardmaster host set HOST.`
  return `Leave out what forbids ${siteInWords(site)} on ${printable(last.host)}, or make a host known that may run it: yardmaster host set HOST.`
}

/** Prints what a change did, or would do. Throws the refusal; with --json it is part of the document, and the result is 1. */
export function reportChange(terminal: Terminal, outcome: AskedOutcome, dryRun: boolean, forced: boolean): number {
  const { plan, applied } = outcome
  const refused = !applied && plan.refusal !== null && !forced
  if (terminal.json) {
    terminal.document({ ...outcomeJson(outcome), ...(refused ? { error: strandedBy(plan) } : {}) })
    return refused ? 1 : 0
  }
  if (outcome.isShown) terminal.say('Done as shown above.')
  else printPlan(terminal, plan, forced)
  if (refused) throw strandedBy(plan)
  if (dryRun) terminal.say('A dry run: nothing was written.')
  return 0
}

export function outcomeJson({ plan, applied, undoes }: ChangeOutcome) {
  return { applied, ...(undoes === null ? {} : { undoes }), ...planJson(plan) }
}
