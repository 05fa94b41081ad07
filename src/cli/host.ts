import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import {
  type DrainEffect,
  drainHost,
  findHost,
  getHost,
  type Host,
  type HostChanges,
  listHosts,
  planDrain,
  removeHost,
  setHost,
  undrainHost,
} from '../placement/hosts.ts'
import { siteLabel } from '../placement/sites.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import type { Terminal } from './terminal.ts'

/** Most runs at once that may be said of a host, as the SQL function `set_host` has it. */
const mostSlots = 999_999
const hostArgument = ['<host>', 'name of the host, or an address of it'] as const
const example = (text: string) => `\nExample:\n  yardmaster ${text}`
const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]

/** `yardmaster host …` */
export const hostGroup: Group = (program) => {
  const group = program.command('host').description('where workers run')
  group
    .command('list')
    .description('hosts that are known: by a worker in the last week, a binding, or what was said about them')
    .addHelpText('after', example('host list'))
    .action(action(list))
  group
    .command('set')
    .argument(...hostArgument)
    .option('--address <address>', 'address it may come from, instead of those it had; may be repeated; none', collect)
    .option('--slots <n>', 'most runs at once; none: as many as its workers have slots')
    .option('--site <name>', "with --slots: most runs of this site at once ('' is the default site)")
    .description('say something about a host; its workers need not have been seen yet')
    .addHelpText('after', example('host set h2 --address 10.0.0.7 --slots 8'))
    .action(action(set))
  group
    .command('drain')
    .argument(...hostArgument)
    .description('let a host finish what it runs and take nothing new; its sites move as if it were down')
    .addHelpText('after', example('host drain h2'))
    .action(action(drain))
  group
    .command('undrain')
    .argument(...hostArgument)
    .description('let a drained host take work again')
    .addHelpText('after', example('host undrain h2'))
    .action(action(undrain))
  group
    .command('remove')
    .argument(...hostArgument)
    .description('forget what was said about a host; its bindings and its workers stay')
    .addHelpText('after', example('host remove h2'))
    .action(action(remove))
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const hosts = await listHosts(control)
    const { terminal } = context
    if (terminal.json) terminal.document(hosts)
    else
      terminal.table(
        hosts,
        [
          { head: 'STATE', value: stateOf },
          { head: 'HOST', value: ({ host }) => host },
          { head: 'RUNNING', kind: 'number', value: ({ running }) => running },
          { head: 'SLOTS', kind: 'number', value: ({ slots, worker_slots: most }) => Math.min(slots ?? most, most) },
          { head: 'WORKERS', kind: 'number', value: ({ workers }) => workers },
          { head: 'LAST SEEN', value: ({ last_seen: seen }) => terminal.time(seen) },
          { head: 'ADDRESSES', value: ({ addresses }) => addresses.join(',') },
          { head: 'NOTE', value: (host) => noteOf(host, terminal) },
        ],
        'No host yet. Start a worker on one: yardmaster worker',
      )
    return 0
  })
}

/** `draining` while something still runs on a drained host. */
function stateOf({ active, drained, running }: Host): string {
  if (drained) return running > 0 ? 'draining' : 'drained'
  return active ? 'active' : 'inactive'
}

function noteOf(host: Host, terminal: Terminal): string {
  const capacities = Object.entries(host.site_slots).map(([site, slots]) => `${siteLabel(site)}: ${slots} at once`)
  return [
    ...(host.drained ? [`drained since ${terminal.time(host.drained_at)} by ${host.drained_by}`] : []),
    ...(host.slots === null ? [] : [`${host.slots} at once`]),
    ...capacities,
  ].join('; ')
}

interface SetFlags {
  readonly address?: string[]
  readonly slots?: string
  readonly site?: string
}

async function set(context: CommandContext, flags: SetFlags, name: string): Promise<number> {
  const changes = readChanges(flags)
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const before = await findHost(control, name)
    const host = await setHost(control, name, changes)
    const { terminal } = context
    if (terminal.json) {
      terminal.document(host)
      return 0
    }
    terminal.line(inWords(host))
    if (!before) terminal.say(`${printable(host.host)} is new: no worker was seen on it, and no binding names it.`)
    if (host.slots !== null && host.running > host.slots)
      terminal.say(`${host.running} run there now; they finish, and nothing starts until fewer than ${host.slots} run.`)
    return 0
  })
}

/** Throws `wrong_usage`. */
function readChanges({ address, slots, site }: SetFlags): HostChanges {
  if (site !== undefined && slots === undefined) {
    throw new Failure('wrong_usage', {
      message: '--site says of which site --slots are the most runs at once; --slots is missing.',
      object: '--site',
      remedy: `Write: --site '${printable(site)}' --slots 2, or --slots none`,
    })
  }
  if (address !== undefined && address.length > 1 && address.includes('none')) {
    throw new Failure('wrong_usage', {
      message: "--address is 'none', and an address too.",
      object: '--address',
      remedy: 'Give the addresses, or none alone to take all away.',
    })
  }
  const most = slots === undefined ? undefined : readSlots(slots)
  return {
    ...(address === undefined ? {} : { addresses: address.filter((one) => one !== 'none') }),
    ...(most === undefined ? {} : site === undefined ? { slots: most } : { site_slots: { [site]: most } }),
  }
}

function readSlots(text: string): number | null {
  if (text === 'none') return null
  const slots = Number(text)
  if (/^\d+$/.test(text) && slots >= 1 && slots <= mostSlots) return slots
  throw new Failure('wrong_usage', {
    message: `--slots is '${printable(text)}'; it must be a whole number from 1 to ${mostSlots}, or none.`,
    object: '--slots',
    remedy:
      text === '0' ? 'A host that is to take nothing is drained: yardmaster host drain HOST' : 'For example: --slots 8',
  })
}

function inWords({ host, addresses, slots, site_slots: sites }: Host): string {
  const most = slots === null ? 'as much as its workers have slots' : `${slots} at once`
  const pairs = Object.entries(sites).map(([site, count]) => `, ${siteLabel(site)} ${count} at once`)
  const from = addresses.length === 0 ? '' : `; addresses: ${addresses.join(', ')}`
  return `${host} runs ${most}${pairs.join('')}${from}.`
}

async function drain(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const before = await getHost(control, name)
    const effects = before.drained ? [] : await planDrain(control, before.host)
    await drainHost(control, before.host)
    const host = await getHost(control, before.host)
    const others = (await listHosts(control)).some((one) => one.active)
    const { terminal } = context
    const stranded = effects.filter(({ change }) => change === 'stranded').map(({ site }) => site)
    const moves = effects.filter(({ change }) => change === 'moves')
    if (terminal.json)
      terminal.document({ ...host, moves: moves.map(({ site, hosts }) => ({ site, hosts })), stranded })
    else if (before.drained)
      terminal.line(
        `${host.host} is drained already, since ${terminal.time(host.drained_at)} by ${host.drained_by}; ${runsFinish(host)}.`,
      )
    else {
      const parts = [runsFinish(host), ...movesInWords(moves)]
      terminal.line(`${host.host} is drained: ${parts.join('; ')}. Take it back: yardmaster host undrain ${host.host}`)
      for (const line of warnings(before, stranded, others)) terminal.line(`${terminal.level('WARNING')} ${line}`)
    }
    return 0
  })
}

function runsFinish({ running }: Host): string {
  if (running === 0) return 'nothing runs here'
  return running === 1 ? '1 run finishes here' : `${running} runs finish here`
}

/** `2 sites move to h2`, once for each set of hosts. */
function movesInWords(moves: readonly DrainEffect[]): string[] {
  const byHosts = new Map<string, number>()
  for (const { hosts } of moves) {
    const key = namesInWords(hosts)
    byHosts.set(key, (byHosts.get(key) ?? 0) + 1)
  }
  return [...byHosts].map(([hosts, sites]) => `${sites} ${sites === 1 ? 'site moves' : 'sites move'} to ${hosts}`)
}

function warnings(before: Host, stranded: readonly string[], othersAreActive: boolean): string[] {
  if (before.active && !othersAreActive) return ['No other host is active: nothing starts until one is.']
  if (stranded.length === 0) return []
  return [
    `No active host is left that may run ${namesInWords(stranded.map(siteLabel))}: its work waits. Start a worker on another host, or allow one: yardmaster binding set SITE HOST allow`,
  ]
}

function namesInWords(names: readonly string[]): string {
  const shown = names.slice(0, 5).map(printable)
  const more = names.length - shown.length
  if (more > 0) return `${shown.join(', ')} and ${more} more`
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`
}

async function undrain(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const before = await getHost(control, name)
    await undrainHost(control, before.host)
    const host = await getHost(control, before.host)
    const { terminal } = context
    if (terminal.json) terminal.document(host)
    else if (!before.drained) terminal.line(`${host.host} is not drained. Nothing was changed.`)
    else {
      const since = before.drained_at === null ? 0 : (Date.now() - before.drained_at.getTime()) / 1000
      terminal.line(`${host.host} takes work again, after ${formatDuration(Math.max(0, since))}.`)
    }
    if (!terminal.json && !host.active)
      terminal.say(`No worker of it is alive. Start one there: yardmaster worker --host ${host.host}`)
    return 0
  })
}

async function remove(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    const host = await getHost(control, name)
    const bindings = await removeHost(control, host.host)
    const { terminal } = context
    if (terminal.json) terminal.document({ removed: host.host, bindings, was_drained: host.drained })
    else {
      const left = bindings === 0 ? 'no binding names it' : `bindings that name it stay: ${bindings}`
      terminal.line(`What was known of ${host.host} is forgotten; ${left}.`)
      if (host.drained) terminal.say(`It was drained; its workers take work again.`)
    }
    return 0
  })
}
