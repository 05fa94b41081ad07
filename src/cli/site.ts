import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { defaultFallback, isInUse, listSites, nearestSite, setFallback, siteLabel } from '../placement/sites.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'

const example = (text: string) => `\nExample:\n  yardmaster ${text}`

/** `yardmaster site …` */
export const siteGroup: Group = (program) => {
  const group = program.command('site').description('whom work belongs to')
  group
    .command('list')
    .description('sites that are bound or worked for, and the active hosts that may run each')
    .addHelpText('after', example('site list'))
    .action(action(list))
  group
    .command('set')
    .argument('[site]', "name of the site; '' is the default site")
    .option('--default', 'the delay of all bindings, for sites that have none of their own')
    .option(
      '--fallback-after <delay>',
      'work that has been due for so long may run on hosts that are not preferred: an interval, never, or default (that of all bindings)',
    )
    .description('change how long work waits for a preferred host that lives but is busy')
    .addHelpText('after', example("site set CEO --fallback-after '10 minutes'"))
    .action(action(set))
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const sites = await listSites(control)
    const { terminal } = context
    if (terminal.json) {
      terminal.document(sites)
      return 0
    }
    terminal.table(
      sites,
      [
        { head: 'SITE', value: ({ label }) => label },
        {
          head: 'FALLBACK AFTER',
          value: (site) => `${delayInWords(site.fallback_after_seconds)}${site.fallback_inherited ? '' : ' (its own)'}`,
        },
        { head: 'JOBS', kind: 'number', value: ({ jobs }) => jobs },
        { head: 'BINDINGS', kind: 'number', value: ({ bindings }) => bindings },
        { head: 'WAITING SINCE', value: ({ waiting_since: since }) => terminal.time(since) },
        { head: 'MAY RUN ON', value: ({ may_run_on: hosts }) => hosts.join(', ') || 'no active host' },
      ],
      'No site yet. One comes with a replication (--site) or a binding: yardmaster binding set SITE HOST prefer',
    )
    terminal.say(
      `Fallback after, for sites that have none of their own: ${delayInWords(await defaultFallback(control))}.`,
    )
    return 0
  })
}

function delayInWords(seconds: number | null): string {
  return seconds === null ? 'never' : formatDuration(seconds)
}

interface SetFlags {
  readonly default?: boolean
  readonly fallbackAfter?: string
}

async function set(context: CommandContext, flags: SetFlags, name: string | undefined): Promise<number> {
  const { site, delay } = readTarget(flags, name)
  return withControl(context, async (control) => {
    await setFallback(control, site, delay)
    const { terminal } = context
    const seconds =
      site === null || delay === 'default'
        ? await defaultFallback(control)
        : ((await listSites(control)).find((one) => one.site === site)?.fallback_after_seconds ?? null)
    if (terminal.json) {
      terminal.document({
        site,
        fallback_after_seconds: seconds,
        fallback_inherited: site !== null && delay === 'default',
      })
      return 0
    }
    const whose = site === null ? 'any site that has no delay of its own' : siteLabel(site)
    terminal.line(
      seconds === null
        ? `Work of ${whose} runs nowhere else while a host that is preferred lives.`
        : `Work of ${whose} may run on hosts that are not preferred once it has been due for ${formatDuration(seconds)}.`,
    )
    if (site !== null && !(await isInUse(control, site))) {
      const near = await nearestSite(control, site)
      terminal.say(
        `Nothing is bound to ${siteLabel(site)} yet, and no work belongs to it${near === undefined ? '' : `; there is ${printable(near)}`}.`,
      )
    }
    return 0
  })
}

/** Site null: all bindings. Throws `wrong_usage`. */
function readTarget(flags: SetFlags, name: string | undefined): { site: string | null; delay: string } {
  const refuse = (message: string, object: string, remedy: string) =>
    new Failure('wrong_usage', { message, object, remedy })
  const said = name === undefined ? 'SITE' : `'${printable(name)}'`
  if (flags.fallbackAfter === undefined)
    throw refuse('Nothing to change was named.', said, "Give --fallback-after '10 minutes', never or default.")
  if (flags.default && name !== undefined)
    throw refuse(
      `--default is the delay of all bindings; ${said} is one site.`,
      '--default',
      `Leave one of them out. To give ${said} the delay of all bindings: yardmaster site set ${said} --fallback-after default`,
    )
  if (!flags.default && name === undefined)
    throw refuse('No site was named.', 'SITE', "Name one ('' is the default site), or give --default for all bindings.")
  if (flags.default && flags.fallbackAfter === 'default')
    throw refuse(
      'The delay of all bindings cannot be that of all bindings.',
      '--fallback-after',
      "Give an interval, or never: --fallback-after '10 minutes'",
    )
  return { site: flags.default ? null : (name ?? ''), delay: flags.fallbackAfter }
}
