import { Failure } from '../base/failure.ts'
import {
  addDatabase,
  alterDatabase,
  connectDatabase,
  getDatabase,
  listDatabases,
  removeDatabase,
} from '../control/databases.ts'
import { inspectDatabase } from '../control/inspection.ts'
import { preparationStatements, runPreparation } from '../control/preparation.ts'
import { jobmonPreparation } from '../jobs/jobmon-wrappers.ts'
import { parseQualifiedName, printable } from '../postgres/identifier.ts'
import { replicationTypes } from '../replication/definition.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { confirmByName } from './confirmation.ts'
import { withPassword } from './password.ts'
import { readType } from './replication-add.ts'

const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]

/** `yardmaster database …` */
export const databaseGroup: Group = (program) => {
  const group = program.command('database').description('databases that Yardmaster looks after')
  const example = (text: string) => `\nExample:\n  yardmaster ${text}`
  group
    .command('add')
    .argument('<name>', 'name to register it under')
    .argument('<url>', 'postgresql://user@host:port/database, or env:NAME or file:PATH that holds one')
    .option('--tag <tag>', 'tag; may be repeated', collect)
    .option('--force', 'register it though it cannot be reached now')
    .description('register a database; its password is stored encrypted, or read from .pgpass')
    .addHelpText('after', example('database add crm postgresql://ym@crm.example.org/crm --tag prod'))
    .action(action(add))
  group
    .command('set')
    .argument('<name>', 'name of the registered database')
    .option('--url <url>', 'new URL, with the password: none is kept from the old one')
    .option('--tag <tag>', 'tags, replacing the old ones; may be repeated', collect)
    .option('--force', 'change it though it cannot be reached now')
    .description('change URL or tags')
    .addHelpText('after', example('database set crm --tag prod --tag eu'))
    .action(action(set))
  group
    .command('list')
    .description('registered databases')
    .addHelpText('after', example('database list --json'))
    .action(action(list))
  group
    .command('test')
    .argument('<name>', 'name of the registered database')
    .description('connect, and say what the role may do')
    .addHelpText('after', example('database test crm'))
    .action(action(test))
  group
    .command('remove')
    .argument('<name>', 'name of the registered database')
    .description('forget a database that nothing uses; the database itself is not touched')
    .addHelpText('after', example('database remove crm'))
    .action(action(remove))
  group
    .command('prepare')
    .argument('<name>', 'name of the registered database')
    .argument('[table...]', 'schema.table; none for jobmon')
    .requiredOption('--for <type>', `type of replication: ${replicationTypes.join(', ')}; or jobmon`)
    .option('--role <role>', 'role that gets the rights (default: the one in the URL)')
    .option('--dry-run', 'print the statements, run nothing')
    .description(
      'the grants that a type of replication needs on its source; for jobmon: functions by which procedures speak to Yardmaster',
    )
    .addHelpText('after', example('database prepare crm public.orders --for snapshot --dry-run'))
    .action(action(prepare))
}

async function add(
  context: CommandContext,
  flags: { tag?: string[]; force?: boolean },
  name: string,
  url: string,
): Promise<number> {
  return withControl(context, async (control) => {
    const tryWith = flags.force ? undefined : context
    const database = await withPassword(context, url, (whole) =>
      addDatabase(control, name, whole, flags.tag ?? [], tryWith),
    )
    if (context.terminal.json) context.terminal.document(database)
    else context.terminal.line(`${name} is registered: ${database.url}`)
    return 0
  })
}

async function set(
  context: CommandContext,
  flags: { url?: string; tag?: string[]; force?: boolean },
  name: string,
): Promise<number> {
  if (flags.url === undefined && flags.tag === undefined) {
    throw new Failure('wrong_usage', {
      message: 'Nothing to change was named.',
      object: name,
      remedy: 'Give --url or --tag.',
    })
  }
  return withControl(context, async (control) => {
    const tryWith = flags.force ? undefined : context
    const change = (url: string | undefined) => alterDatabase(control, name, { url, tags: flags.tag }, tryWith)
    const database = flags.url === undefined ? await change(undefined) : await withPassword(context, flags.url, change)
    if (context.terminal.json) context.terminal.document(database)
    else context.terminal.line(`${name} is changed: ${database.url}`)
    return 0
  })
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const databases = await listDatabases(control)
    if (context.terminal.json) context.terminal.document(databases)
    else {
      context.terminal.table(
        databases,
        [
          { head: 'NAME', value: (row) => row.name },
          { head: 'PASSWORD', value: (row) => (row.has_stored_password ? 'stored' : '') },
          { head: 'TAGS', value: (row) => row.tags.join(',') },
          { head: 'URL', value: (row) => row.url },
        ],
        'No database yet. Register one: yardmaster database add NAME postgresql://user@host:5432/database',
      )
    }
    return 0
  })
}

async function test(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    await getDatabase(control, name)
    const session = await connectDatabase(control, name, context.environment, {
      side: 'database',
      purpose: 'test',
      signal: context.signal,
    })
    const found = await inspectDatabase(session).finally(() => session.end())
    if (context.terminal.json) context.terminal.document({ name, ...found })
    else {
      context.terminal.line(
        `${name} answers in ${found.round_trip_ms} ms: PostgreSQL ${found.version}, as role ${printable(found.role)}.`,
      )
      for (const finding of found.findings)
        context.terminal.line(`${context.terminal.level(finding.level)} ${finding.message} ${finding.remedy}`.trimEnd())
    }
    return 0
  })
}

async function remove(context: CommandContext, _flags: object, name: string): Promise<number> {
  return withControl(context, async (control) => {
    await getDatabase(control, name)
    await confirmByName(context, `This forgets the database ${name} and its stored password.`, name)
    await removeDatabase(control, name)
    if (context.terminal.json) context.terminal.document({ removed: name })
    else context.terminal.line(`${name} is forgotten; the database itself was not touched.`)
    return 0
  })
}

async function prepare(
  context: CommandContext,
  flags: { for: string; role?: string; dryRun?: boolean },
  name: string,
  tables: string[],
): Promise<number> {
  const jobmon = flags.for === 'jobmon'
  if (!jobmon) readType(flags.for)
  if (jobmon !== (tables.length === 0)) {
    const message = jobmon ? '--for jobmon takes no table.' : `--for ${flags.for} needs the tables to be copied.`
    throw new Failure('wrong_usage', { message, object: name })
  }
  return withControl(context, async (control) => {
    await getDatabase(control, name)
    const session = await connectDatabase(control, name, context.environment, { side: 'database', purpose: 'prepare' })
    try {
      const wanted = { role: flags.role, tables: tables.map(parseQualifiedName) }
      const plan = jobmon ? await jobmonPreparation(session, flags.role) : await preparationStatements(session, wanted)
      if (!flags.dryRun) await runPreparation(session, plan)
      if (context.terminal.json) context.terminal.document({ ...plan, ran: !flags.dryRun })
      else {
        for (const statement of plan.statements) context.terminal.line(statement)
        for (const line of plan.by_hand) context.terminal.say(line)
        if (!flags.dryRun) context.terminal.say(`${plan.statements.length} statements ran in ${name}.`)
      }
      return 0
    } finally {
      await session.end()
    }
  })
}
