import type { Command } from 'commander'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { getDatabase } from '../control/databases.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { changeJob, databasesOf, findJob, type Job, type JobOptions, jobLabel, readJob } from '../jobs/store.ts'
import { quoteIdentifier } from '../postgres/identifier.ts'
import { action } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { predecessors, verified } from './job-add.ts'
import { refuseReplication } from './job-kind.ts'
import { definitionOptions, type JobFlags, readJobFlags } from './job-options.ts'
import { changesBetween, startJson } from './job-settings.ts'

/** `yardmaster job alter` */
export function alterCommand(group: Command, job: readonly [string, string]): void {
  definitionOptions(
    group
      .command('alter')
      .argument(...job)
      .option('--proc <procedure>', 'call this one from now on')
      .option('--sql <file...>', 'run the statements of these files from now on'),
  )
    .option('--fixed', 'the interval counts from slot to slot again')
    .option('--next-start <time>', 'the next start, whatever the schedule says; now, or infinity for none')
    .option('--dry-run', 'show what would change, and change nothing')
    .description('change a job; what is not named stays as it is, and none takes away what can be without')
    .addHelpText('after', "\nExample:\n  yardmaster job alter nightly --every '6 hours' --after none")
    .action(action(alter))
}

async function alter(context: CommandContext, flags: JobFlags, name: string): Promise<number> {
  const { dryRun, ...given } = flags
  if (Object.keys(given).length === 0) {
    throw new Failure('wrong_usage', {
      message: 'Nothing to change was named.',
      object: name,
      remedy: "For example: --every '10 minutes'; `yardmaster job alter --help` lists the options.",
    })
  }
  readJobFlags(flags, 'later')
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    refuseReplication(job, 'yardmaster replication set DEST key=value changes it')
    const read = readJobFlags(flags, job)
    const changes = { ...read, options: { ...read.options, ...(await placement(control, flags)) } }
    const looked = await lookAgain(context, control, job, changes)
    const all = { ...changes, options: { ...changes.options, ...looked } }
    const after = await apply(control, job, all, dryRun === true)
    return report(context, job, after, dryRun === true)
  })
}

/** What takes a look into the control database to be read. */
async function placement(control: Control, { database, after }: JobFlags): Promise<object> {
  if (database !== undefined && !database.startsWith('tag:')) await getDatabase(control, database)
  return after === undefined ? {} : { after: await predecessors(control, after) }
}

/** What a job calls is looked up where it will run, when that or what its check looks at changes. */
async function lookAgain(
  context: CommandContext,
  control: Control,
  job: Job,
  { options, config }: JobOptions,
): Promise<object> {
  const place = (options.database as string | undefined) ?? job.database
  const databases = place === null ? [] : await databasesOf(control, place)
  const touched = ['proc', 'check_config', 'database'].some((key) => key in options) || config !== undefined
  if (job.kind !== 'procedure' || !touched) return {}
  const named = (schema: string | null, name: string | null) =>
    name === null ? null : [schema, name].flatMap((part) => (part === null ? [] : [quoteIdentifier(part)])).join('.')
  const found = await verified(context, control, databases, {
    options: {
      proc: options.proc ?? named(job.proc_schema, job.proc_name),
      check_config: 'check_config' in options ? options.check_config : named(job.check_schema, job.check_name),
    },
    config: config === undefined ? job.config_text : config,
  })
  return found
}

/** In a transaction of its own, which a dry run takes back; returns the job as it is then. */
async function apply(control: Control, job: Job, changes: JobOptions, isDry: boolean): Promise<Job> {
  const session = await control.open('alter a job')
  try {
    await session.script('begin')
    await changeJob(session, job, changes)
    if (isDry) return await readJob(session, job.job_id).finally(() => session.script('rollback'))
    await session.script('commit')
    await decideNextStarts(control)
    return await readJob(control.session, job.job_id)
  } finally {
    await session.end()
  }
}

function report({ terminal }: CommandContext, before: Job, after: Job, isDry: boolean): number {
  const changes = changesBetween(before, after)
  if (terminal.json) {
    const next_start = startJson(after.next_start)
    terminal.document({ job_id: after.job_id, version: after.version, next_start, changes, dry_run: isDry })
    return 0
  }
  if (changes.length > 0) terminal.line(`${terminal.sign('~')} change`)
  for (const { key, before: was, after: is } of changes)
    terminal.line(`${terminal.sign('~')} ${key}: ${was ?? 'none'} → ${is ?? 'none'}`)
  if (changes.length === 0) terminal.line('No changes.')
  const start = after.next_start instanceof Date ? ` Next start: ${terminal.time(after.next_start)}.` : ''
  terminal.line(
    isDry
      ? `Plan: 0 to create, ${changes.length > 0 ? 1 : 0} to change, 0 to replace, 0 to delete.`
      : `Changed ${jobLabel(after)}.${start}`,
  )
  return 0
}
