import { formatCount } from '../base/duration.ts'
import { destinationLabel } from '../replication/definition.ts'
import { planRemoval } from '../replication/removal.ts'
import { refuseRemoval } from '../replication/removal-refusals.ts'
import { getReplication } from '../replication/store.ts'
import { validateReplication } from '../replication/validation.ts'
import { connectorOf, findPositionOf, removeReplicationRun } from '../worker/replication-run.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { confirmByName } from './confirmation.ts'
import { addCommand } from './replication-add.ts'
import { lag, list, show } from './replication-list.ts'
import { pause, resume } from './replication-pause.ts'
import { refresh, resync } from './replication-refresh.ts'
import { set } from './replication-set.ts'
import { reportRun } from './run-result.ts'

const destinationArgument = [
  '<destination>',
  'schema.table, or database:schema.table where several databases have it',
] as const
const queueOption = ['--queue', 'leave it to the workers, and print the id of the run'] as const

/** `yardmaster replication …` */
export const replicationGroup: Group = (program) => {
  const group = program.command('replication').description('copies of tables that stay current')
  addCommand(group)
  group
    .command('refresh')
    .argument(...destinationArgument)
    .description('refresh one copy now, in this process')
    .option('--limit <n>', 'most rows of this refresh (inserter, updater)')
    .option('--repull', 'copy rows again that are there already: all, or those of a range (inserter, updater)')
    .option('--start <value>', 'with --repull: from this value of the control column on')
    .option('--end <value>', 'with --repull: up to before this value of the control column')
    .option('--wait <time>', 'wait so long for another refresh of it: seconds, an interval, or forever')
    .option('--force', 'copy even if the source shows no change (snapshot, table)')
    .option(...queueOption)
    .addHelpText('after', example('replication refresh public.orders'))
    .action(action(refresh))
  group
    .command('list')
    .description('all replications, worst first')
    .addHelpText('after', example('replication list --json'))
    .action(action(list))
  group
    .command('lag')
    .description('how far each copy is behind its source, worst first')
    .addHelpText('after', example('replication lag'))
    .action(action(lag))
  group
    .command('show')
    .argument(...destinationArgument)
    .description('one replication: its schedule, its next starts, how current it is, its options')
    .addHelpText('after', example('replication show public.orders'))
    .action(action(show))
  group
    .command('set')
    .argument(...destinationArgument)
    .argument(
      '<key=value...>',
      'for example swap-wait=5min; an empty value clears an option; site= is the default site, no-site none',
    )
    .description('change options: keys are the options of add')
    .addHelpText('after', example("replication set public.orders columns=id,total every='5 minutes'"))
    .action(action(set))
  group
    .command('pause')
    .argument(...destinationArgument)
    .description('start nothing of it by itself until it is resumed; what runs goes on')
    .option('--note <text>', 'why, for everybody who looks')
    .addHelpText('after', example("replication pause public.orders --note 'the source moves'"))
    .action(action(pause))
  group
    .command('resume')
    .argument(...destinationArgument)
    .description('go on after a pause; what was missed is made up for once')
    .addHelpText('after', example('replication resume public.orders'))
    .action(action(resume))
  group
    .command('resync')
    .argument(...destinationArgument)
    .description('copy everything anew')
    .option('--take-over', 'drive a destination that another control database drove')
    .option(...queueOption)
    .addHelpText('after', example('replication resync public.orders'))
    .action(action(resync))
  group
    .command('remove')
    .argument(...destinationArgument)
    .description('stop copying; the destination table stays')
    .option('--drop-table', 'drop the destination table too')
    .option('--dry-run', 'show what would go, and change nothing')
    .addHelpText('after', example('replication remove public.orders'))
    .action(action(remove))
  group
    .command('validate')
    .argument(...destinationArgument)
    .description('count rows on both sides; exit 1 when they differ')
    .option('--lower <value>', 'count from this value of the control column on (inserter, updater)')
    .option('--upper <value>', 'count up to before this value of the control column (inserter, updater)')
    .addHelpText('after', example('replication validate public.orders --json'))
    .action(action(validate))
}

function example(text: string): string {
  return `\nExample:\n  yardmaster ${text}`
}

async function remove(context: CommandContext, flags: Record<string, unknown>, destination: string): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    const mode = flags.dropTable === true ? 'drop' : 'keep'
    const label = destinationLabel(replication)
    if (flags.dryRun === true) {
      await refuseRemoval(replication, mode, connectorOf(place, replication))
      const plan = planRemoval(replication, await findPositionOf(place, replication), mode)
      if (context.terminal.json) context.terminal.document(plan)
      else {
        for (const drop of plan.drops) context.terminal.line(`- ${replication.destinationDatabase}: ${drop}`)
        for (const keep of plan.keeps) context.terminal.line(`  keeps ${keep}`)
        context.terminal.line(`Plan: ${plan.drops.length} to delete; source objects left: none.`)
      }
      return 0
    }
    if (mode === 'drop') await confirmByName(context, `This drops ${label} and its rows.`, label)
    return reportRun(context, await removeReplicationRun(place, replication, mode))
  })
}

async function validate(
  context: CommandContext,
  { lower, upper }: { lower?: string; upper?: string },
  destination: string,
): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    const found = await validateReplication(replication, connectorOf(place, replication), place.signal, {
      lower: lower ?? null,
      upper: upper ?? null,
    })
    if (context.terminal.json) context.terminal.document(found)
    else {
      const verdict = found.match
        ? 'the counts match'
        : `the counts differ by ${formatCount(Math.abs(found.source_count - found.dest_count))}`
      context.terminal.line(
        `${destinationLabel(replication)}: ${verdict}: ${formatCount(found.source_count)} rows at the source, ${formatCount(found.dest_count)} at the destination.`,
      )
    }
    return found.match ? 0 : 1
  })
}
