import { action, type Group } from './action.ts'
import { addCommand } from './job-add.ts'
import { alterCommand } from './job-alter.ts'
import { backfill } from './job-backfill.ts'
import { remove } from './job-delete.ts'
import { errors, history } from './job-history.ts'
import { list } from './job-list.ts'
import { pause, resume } from './job-pause.ts'
import { cancel, run } from './job-run.ts'
import { show } from './job-show.ts'

const jobArgument = ['<job>', 'number or name of the job, or what it calls'] as const
const limitOption = ['--limit <n>', 'at most so many', '50'] as const
const example = (text: string) => `\nExample:\n  yardmaster job ${text}`

/** `yardmaster job …` */
export const jobGroup: Group = (program) => {
  const group = program.command('job').description('what is run on a schedule, after other jobs, or when asked for')
  addCommand(group)
  group
    .command('list')
    .description('all jobs, replications too, worst first')
    .addHelpText('after', example('list --json'))
    .action(action(list))
  group
    .command('show')
    .argument(...jobArgument)
    .description('one job: schedule, next starts, how it stands in each database, what it waits for')
    .addHelpText('after', example('show nightly'))
    .action(action(show))
  alterCommand(group, jobArgument)
  group
    .command('pause')
    .argument(...jobArgument)
    .option('--kill', 'break off what of it is under way; else that goes on')
    .option('--note <text>', 'why, for whoever finds it paused')
    .description('let nothing of it start by itself until it is resumed')
    .addHelpText('after', example("pause nightly --note 'until the new disk is there'"))
    .action(action(pause))
  group
    .command('resume')
    .argument(...jobArgument)
    .description('go on after a pause; failures in a row count from none again')
    .addHelpText('after', example('resume nightly'))
    .action(action(resume))
  group
    .command('delete')
    .argument(...jobArgument)
    .description('delete a job, behind a question; its history stays')
    .addHelpText('after', example('delete nightly'))
    .action(action(remove))
  group
    .command('run')
    .argument(...jobArgument)
    .option('--wait', 'follow it to its end; exit 1 when that is CRITICAL')
    .option('--params <json>', 'parameters of this run: laid over the config, key by key')
    .option('--database <name>', 'in this one of its databases only')
    .description('hand a run to the workers now')
    .addHelpText('after', example('run nightly --params \'{"days": 30}\' --wait'))
    .action(action(run))
  group
    .command('backfill')
    .argument(...jobArgument)
    .requiredOption('--start <time>', 'from this slot on: 2026-03-29, 2026-03-29 02:30, 2026-03-29T02:30Z')
    .requiredOption('--end <time>', 'up to before this one; without an offset, by the clock of the schedule')
    .description('run the slots of the past that had no run, behind a question that shows them')
    .addHelpText('after', example('backfill nightly --start 2026-03-01 --end 2026-03-08'))
    .action(action(backfill))
  group
    .command('cancel')
    .argument(...jobArgument)
    .description('call off every run of it that waits or is under way')
    .addHelpText('after', example('cancel nightly'))
    .action(action(cancel))
  group
    .command('history')
    .argument(...jobArgument)
    .option(...limitOption)
    .description('its runs that have begun, newest first')
    .addHelpText('after', example('history nightly --limit 10'))
    .action(action(history))
  group
    .command('errors')
    .option(...limitOption)
    .description('runs of any job that failed, newest first')
    .addHelpText('after', example('errors'))
    .action(action(errors))
}
