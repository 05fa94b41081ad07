import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { getLimit, type Limit, limitsAnything, listLimits, removeLimit, setLimit } from '../placement/limits.ts'
import { nearestSite } from '../placement/sites.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'

/** Most runs at once that a limit may allow, as the SQL function `set_limit` has it. */
const mostSlots = 999_999
const keyArgument = ['<key>', 'site:NAME, database:NAME (read or written), or the name of a pool'] as const
const example = (text: string) => `\nExample:\n  yardmaster ${text}`

/** `yardmaster limit …` */
export const limitGroup: Group = (program) => {
  const group = program.command('limit').description('how much runs at once')
  group
    .command('set')
    .argument(...keyArgument)
    .argument('<n>', 'most runs at once, over all hosts; 0: nothing starts')
    .description('limit how many runs of a site, a database or a pool go on at once')
    .addHelpText('after', example('limit set database:crm 2'))
    .action(action(set))
  group
    .command('list')
    .description('limits, and what runs and waits under each')
    .addHelpText('after', example('limit list'))
    .action(action(list))
  group
    .command('remove')
    .argument(...keyArgument)
    .description('take a limit away')
    .addHelpText('after', example('limit remove database:crm'))
    .action(action(remove))
}

async function set(context: CommandContext, _flags: object, key: string, count: string): Promise<number> {
  const slots = readSlots(count)
  return withControl(context, async (control) => {
    const limit = await setLimit(control, key, slots)
    const { terminal } = context
    if (terminal.json) {
      terminal.document(limit)
      return 0
    }
    terminal.line(
      limit.limit === 0
        ? `Nothing of ${limit.key} starts from now on.`
        : `At most ${limit.limit} of ${limit.key} run at once.`,
    )
    if (limit.running > limit.limit)
      terminal.say(
        `${limit.running} run now; they finish, and nothing starts until fewer than ${Math.max(1, limit.limit)} run.`,
      )
    if (!(await limitsAnything(control, key))) {
      const near = await nearestKey(control, key)
      terminal.say(`No job counts for ${limit.key} yet${near === undefined ? '' : `; there is ${printable(near)}`}.`)
    }
    return 0
  })
}

/** The key that may be meant where nothing counts for one: of a site with a name like it, or with the kind that was left out. */
async function nearestKey(control: Control, key: string): Promise<string | undefined> {
  const site = /^site:(.*)$/s.exec(key)?.[1]
  if (site !== undefined) {
    const near = await nearestSite(control, site)
    return near === undefined ? undefined : `site:${near}`
  }
  for (const whole of [`site:${key}`, `database:${key}`]) if (await limitsAnything(control, whole)) return whole
  return undefined
}

function readSlots(text: string): number {
  const slots = Number(text)
  if (/^\d+$/.test(text) && slots <= mostSlots) return slots
  throw new Failure('wrong_usage', {
    message: `A limit is a whole number from 0 to ${mostSlots}, not '${printable(text)}'.`,
    object: printable(text),
    remedy:
      text === 'none'
        ? 'Take it away: yardmaster limit remove KEY'
        : 'For example: yardmaster limit set database:crm 2',
  })
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const limits = await listLimits(control)
    const { terminal } = context
    if (terminal.json) terminal.document(limits)
    else
      terminal.table(
        limits,
        [
          { head: 'KEY', value: ({ key }) => key },
          { head: 'LIMIT', kind: 'number', value: ({ limit }) => limit },
          { head: 'RUNNING', kind: 'number', value: ({ running }) => running },
          { head: 'WAITING', kind: 'number', value: waitingInWords },
        ],
        'No limit yet. Set one: yardmaster limit set database:NAME 2',
      )
    return 0
  })
}

/** Counted no further than 10,000. */
function waitingInWords({ waiting }: Limit): string {
  return waiting > 10_000 ? '10,000+' : String(waiting)
}

async function remove(context: CommandContext, _flags: object, key: string): Promise<number> {
  return withControl(context, async (control) => {
    const { limit } = await getLimit(control, key)
    await removeLimit(control, key)
    if (context.terminal.json) context.terminal.document({ removed: key, limit })
    else context.terminal.line(`The limit ${printable(key)} (${limit} at once) is gone.`)
    return 0
  })
}
