import type { Command } from 'commander'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { connectDatabase, getDatabase, listDatabases } from '../control/databases.ts'
import { checkDefinition } from '../jobs/definition-check.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import {
  actionLabel,
  addJob,
  databasesOf,
  findJob,
  type Job,
  type JobOptions,
  jobLabel,
  readJob,
} from '../jobs/store.ts'
import { parseNameParts, printable, quoteQualified } from '../postgres/identifier.ts'
import { action } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { clockTime } from './instant.ts'
import { definitionOptions, type JobFlags, readJobFlags } from './job-options.ts'
import { scheduleText, settings } from './job-settings.ts'

/** `yardmaster job add` */
export function addCommand(group: Command): void {
  definitionOptions(
    group
      .command('add')
      .argument(
        '[procedure]',
        'schema.name of a procedure or function (integer, jsonb): the number of the job, and its config',
      )
      .option('--sql <file...>', 'run the statements of these files instead; those of one file are one transaction')
      .option('--task <name>', 'run a task that workers know by this name instead'),
  )
    .option('--dry-run', 'look it up and ask its check, show what would be added, and change nothing')
    .description(
      'a job: looked up and checked in its databases first; without schedule it runs when asked for, or after others',
    )
    .addHelpText(
      'after',
      "\nExample:\n  yardmaster job add public.refresh_marts --database dwh --cron '30 2 * * *' --timezone Europe/London",
    )
    .action(action(add))
}

async function add(context: CommandContext, flags: JobFlags, procedure?: string): Promise<number> {
  requireOneAction(procedure, flags)
  const wanted = readJobFlags(procedure === undefined ? flags : { ...flags, proc: procedure })
  return withControl(context, async (control) => {
    const database = await placeOf(control, wanted, flags)
    const after = flags.after === undefined ? undefined : await predecessors(control, flags.after)
    const hasSchedule = (wanted.options.schedule_interval ?? wanted.options.cron ?? null) !== null
    const options: Record<string, unknown> = {
      ...wanted.options,
      ...(database === undefined ? {} : { database }),
      ...(after === undefined ? {} : { after }),
      // Without it, a job that nothing starts would be taken for a slip.
      ...(hasSchedule || (after?.length ?? 0) > 0 ? {} : { schedule_interval: null }),
    }
    if (procedure !== undefined && database !== undefined)
      Object.assign(
        options,
        await verified(context, control, await databasesOf(control, database), { ...wanted, options }),
      )
    const job = await define(control, { ...wanted, options }, flags.dryRun === true)
    report(context, job, flags.dryRun === true)
    return 0
  })
}

function requireOneAction(procedure: string | undefined, { sql, task }: JobFlags): void {
  const given = [procedure, sql?.[0], task].filter((one) => one !== undefined)
  if (given.length === 1) return
  throw new Failure('wrong_usage', {
    message:
      given.length === 0
        ? 'Nothing to run was named.'
        : `A job is a procedure, --sql or --task, and one of them only; these are ${given.map((one) => `'${printable(one)}'`).join(' and ')}.`,
    object: 'yardmaster job add',
    remedy: 'Name a procedure (public.refresh_marts), or files with --sql, or a task with --task.',
  })
}

/** Where it runs: named, or the only database there is; a task may have none. */
async function placeOf(control: Control, wanted: JobOptions, flags: JobFlags): Promise<string | undefined> {
  const { database } = flags
  if (database !== undefined) {
    if (database.startsWith('tag:')) await databasesOf(control, database)
    else await getDatabase(control, database)
    return database
  }
  if (wanted.options.task !== undefined) return undefined
  const all = (await listDatabases(control)).map(({ name }) => name)
  const [only] = all
  if (only !== undefined && all.length === 1) return only
  throw new Failure('wrong_usage', {
    message:
      only === undefined
        ? 'A job runs in a registered database, and none is registered.'
        : `A job needs --database, where it runs; registered are ${all.join(', ')}.`,
    object: '--database',
    remedy:
      only === undefined
        ? 'Register it: yardmaster database add NAME postgresql://user@host:5432/database'
        : `For example: --database ${only}, or --database tag:T for each with a tag.`,
  })
}

/** `nightly`, `1001:done` as the numbers that SQL takes. Throws `job_unknown`, `job_ambiguous`. */
export async function predecessors(control: Control, named: readonly string[]): Promise<string[]> {
  if (named.length === 1 && named[0] === 'none') return []
  const found: string[] = []
  for (const text of named) {
    const [, name = text, need = ''] = /^(.*?)(:done|:succeeded)?$/s.exec(text) ?? []
    found.push(`${(await findJob(control, name)).job_id}${need}`)
  }
  return found
}

/**
 * Looks up what a job calls, and asks its check, in each of these databases; returns what the definition then says of it. Throws
 * `action_missing`, `config_refused`, and what connecting throws.
 */
export async function verified(
  context: CommandContext,
  control: Control,
  databases: readonly string[],
  { options, config }: JobOptions,
): Promise<object> {
  const routine = (text: string) => {
    const parts = parseNameParts(text)
    return { schema: parts.length === 2 ? (parts[0] ?? null) : null, name: parts.at(-1) ?? '' }
  }
  const { proc, check_config: check } = options as { proc: string; check_config?: string | null }
  const { environment, signal } = context
  const open = async (name: string) => {
    const session = await connectDatabase(control, name, environment, {
      side: 'database',
      purpose: 'check a job',
      signal,
    })
    // A check may take long, or for ever.
    signal.addEventListener('abort', () => void (session.isEnded || session.cancel()), { once: true })
    return session
  }
  const wanted = { action: routine(proc), check: check == null ? null : routine(check), config: config ?? null }
  const found = await checkDefinition(open, databases, wanted).catch((error: unknown) => {
    if (!signal.aborted) throw error
    throw new Failure('cancelled', {
      message: 'Cancelled while its databases were asked; nothing was changed.',
      cause: error,
    })
  })
  return { proc: quoteQualified(found), verified: true }
}

/** In a transaction of its own, which a dry run takes back. */
async function define(control: Control, definition: JobOptions, isDry: boolean): Promise<Job> {
  const session = await control.open('add a job')
  try {
    await session.script('begin')
    const id = await addJob(session, definition)
    if (isDry) return await readJob(session, id).finally(() => session.script('rollback'))
    await session.script('commit')
    await decideNextStarts(control)
    return await readJob(control.session, id)
  } finally {
    await session.end()
  }
}

function report({ terminal }: CommandContext, job: Job, isDry: boolean): void {
  const { job_id: id, timezone, next_start: start } = job
  const shown = settings(job).filter(([, value]) => value !== null)
  const first = start instanceof Date ? ` First start: ${clockTime(start, timezone, terminal.isTerminal)}.` : ''
  if (terminal.json)
    terminal.document(isDry ? { dry_run: true, definition: Object.fromEntries(shown) } : { job_id: id })
  else if (!isDry) terminal.line(`Added ${jobLabel(job)}: ${scheduleText(job)}.${first}`)
  else {
    terminal.line(`${terminal.sign('+')} create`)
    terminal.line(`${terminal.sign('+')} job: ${actionLabel(job)}, ${scheduleText(job)}`)
    for (const [key, value] of shown) terminal.line(`    ${key}: ${value}`)
    terminal.line('Plan: 1 to create, 0 to change, 0 to replace, 0 to delete.')
  }
}
