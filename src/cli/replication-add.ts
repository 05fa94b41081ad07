import type { Command } from 'commander'
import { formatBytes, formatCount } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import {
  defaultSwapWait,
  type ReplicationOption,
  type ReplicationOptionKey,
  readReplicationOption,
  replicationOptions,
} from '../config/replication-options.ts'
import { getDatabase } from '../control/databases.ts'
import { displayQualified, parseQualifiedName, printable } from '../postgres/identifier.ts'
import { destinationLabel, type ReplicationType, sourceLabel } from '../replication/definition.ts'
import type { NewReplication } from '../replication/store.ts'
import { addReplicationRun, planNewReplication } from '../worker/replication-run.ts'
import { action } from './action.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { reportRun } from './run-result.ts'

const types: readonly ReplicationType[] = ['snapshot', 'table']

/** `yardmaster replication add` */
export function addCommand(group: Command): void {
  const command = group
    .command('add')
    .argument('<type>', types.join(' or '))
    .argument('<source>', 'schema.table')
    .requiredOption('--from <database>', 'registered database to copy from')
    .requiredOption('--to <database>', 'registered database to copy to')
    .option('--dest <table>', "destination table, schema.table (default: the source's name)")
    .description('set up a copy and pull its data')
  for (const option of Object.values<ReplicationOption>(replicationOptions)) {
    const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]
    if (option.many) command.option(option.flag, option.help, collect)
    else command.option(option.flag, option.help)
  }
  command
    .option('--dry-run', 'check both sides, show what would be made, and change nothing')
    .addHelpText('after', '\nExample:\n  yardmaster replication add snapshot public.orders --from crm --to dwh')
    .action(action(add))
}

function readType(text: string): ReplicationType {
  const found = types.find((type) => type === text)
  if (found) return found
  const near = nearest(text, types)
  throw new Failure('wrong_usage', {
    message: `'${printable(text)}' is not a type of replication${near ? `; did you mean '${near}'?` : '.'}`,
    object: printable(text),
    remedy: `The types are ${types.join(' and ')}.`,
  })
}

function wantedReplication(type: ReplicationType, source: string, flags: Record<string, unknown>): NewReplication {
  const sourceName = parseQualifiedName(source)
  const value = <Value>(key: ReplicationOptionKey, fallback: Value): Value => {
    const given = flags[key]
    const isDefault = given === undefined || (given === true && (key === 'index' || key === 'data'))
    return isDefault ? fallback : (readReplicationOption(key, given, type) as Value)
  }
  return {
    type,
    sourceDatabase: String(flags.from),
    source: sourceName,
    destinationDatabase: String(flags.to),
    destination: flags.dest === undefined ? sourceName : parseQualifiedName(String(flags.dest)),
    columns: value<string[] | null>('columns', null),
    condition: value<string | null>('where', null),
    buildIndexes: value('index', true),
    loadData: value('data', true),
    postScript: value<string[]>('postScript', []),
    sequences: value<string[]>('sequence', []),
    truncateCascade: value('truncateCascade', false),
    swapWait: value('swapWait', defaultSwapWait),
    site: value<string | null>('site', null),
  }
}

async function add(
  context: CommandContext,
  flags: Record<string, unknown>,
  type: string,
  source: string,
): Promise<number> {
  const wanted = wantedReplication(readType(type), source, flags)
  return withWorkplace(context, async (place) => {
    await getDatabase(place.control, wanted.sourceDatabase)
    await getDatabase(place.control, wanted.destinationDatabase)
    if (flags.dryRun === true) return showPlan(context, wanted, await planNewReplication(place, wanted))
    const { replication, result } = await addReplicationRun(place, wanted)
    return reportRun(
      context,
      result,
      replication && { job_id: replication.jobId, destination: destinationLabel(replication) },
    )
  })
}

function showPlan(
  context: CommandContext,
  wanted: NewReplication,
  plan: Awaited<ReturnType<typeof planNewReplication>>,
): number {
  const changes = plan.makes.map((object) =>
    object.kind === 'schema' ? `schema ${object.name}` : `${object.kind} ${displayQualified(object)}`,
  )
  if (context.terminal.json) {
    context.terminal.document({
      existed: plan.existed,
      creates: changes,
      columns: plan.columns,
      source_rows: plan.rows,
      source_bytes: plan.bytes,
    })
    return 0
  }
  const { terminal } = context
  for (const change of changes) terminal.line(`+ ${wanted.destinationDatabase}: ${change}`)
  if (plan.existed)
    terminal.line(`~ ${destinationLabel(wanted)} exists: no data would be pulled now; each refresh replaces its rows`)
  terminal.line(`  columns: ${plan.columns.map((column) => `${column.name} ${column.type}`).join(', ')}`)
  terminal.line(
    `  reads ${sourceLabel(wanted)}: about ${formatCount(plan.rows)} rows, ${formatBytes(plan.bytes)}; source objects made: none`,
  )
  terminal.line(`Plan: ${changes.length} to create.`)
  return 0
}
