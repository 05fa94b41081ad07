import type { Command } from 'commander'
import { formatBytes, formatCount } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import {
  type ReplicationOption,
  type ReplicationOptionKey,
  readReplicationOption,
  replicationOptions,
} from '../config/replication-options.ts'
import { getDatabase } from '../control/databases.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { checkTimeZone } from '../jobs/time-zone.ts'
import { displayQualified, parseQualifiedName, printable } from '../postgres/identifier.ts'
import {
  type ControlColumn,
  definitionDefaults,
  destinationLabel,
  type ReplicationType,
  replicationTypes,
  sourceLabel,
} from '../replication/definition.ts'
import type { NewReplication } from '../replication/store.ts'
import { queueSetup } from '../worker/queued-runs.ts'
import { addReplicationRun, planNewReplication } from '../worker/replication-run.ts'
import { action } from './action.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { reportQueued, reportRun } from './run-result.ts'
import { defaultBoundary, readBoundary, readSchedule } from './schedule-options.ts'

/** `yardmaster replication add` */
export function addCommand(group: Command): void {
  const command = group
    .command('add')
    .argument('<type>', replicationTypes.join(', '))
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
    .option('--no-site', 'it belongs to no site: every host may run it (default)')
    .option('--queue', 'check and register it here, and leave the first copy to the workers')
    .option('--dry-run', 'check both sides, show what would be made, and change nothing')
    .addHelpText('after', '\nExample:\n  yardmaster replication add snapshot public.orders --from crm --to dwh')
    .action(action(add))
}

/** Throws `wrong_usage`. */
export function readType(text: string): ReplicationType {
  const found = replicationTypes.find((type) => type === text)
  if (found) return found
  const near = nearest(text, replicationTypes)
  throw new Failure('wrong_usage', {
    message: `'${printable(text)}' is not a type of replication${near ? `; did you mean '${near}'?` : '.'}`,
    object: printable(text),
    remedy: `The types are ${replicationTypes.join(', ')}.`,
  })
}

function wantedReplication(type: ReplicationType, source: string, flags: Record<string, unknown>): NewReplication {
  const sourceName = parseQualifiedName(source)
  const value = <Value>(key: ReplicationOptionKey, fallback: Value): Value => {
    const given = flags[key]
    const isNoSite = key === 'site' && given === false
    const isDefault = isNoSite || given === undefined || (given === true && (key === 'index' || key === 'data'))
    return isDefault ? fallback : (readReplicationOption(key, given, type) as Value)
  }
  const standard = definitionDefaults
  return {
    type,
    sourceDatabase: String(flags.from),
    source: sourceName,
    destinationDatabase: String(flags.to),
    destination: flags.dest === undefined ? sourceName : parseQualifiedName(String(flags.dest)),
    columns: value<string[] | null>('columns', standard.columns),
    condition: value<string | null>('where', standard.condition),
    buildIndexes: value<boolean>('index', standard.buildIndexes),
    loadData: value<boolean>('data', standard.loadData),
    postScript: value<readonly string[]>('postScript', standard.postScript),
    sequences: value<readonly string[]>('sequence', standard.sequences),
    truncateCascade: value<boolean>('truncateCascade', standard.truncateCascade),
    swapWait: value<number>('swapWait', standard.swapWait),
    control: controlColumn(type, value),
    key: value<string[] | null>('key', standard.key),
    rowLimit: value<number | null>('limit', standard.rowLimit),
    schedule: readSchedule({
      every: value<string | null>('every', null),
      cron: value<string | null>('cron', null),
      timezone: value<string>('timezone', standard.schedule.timezone),
    }),
    lagTarget: value<number | null>('lagTarget', standard.lagTarget),
    site: value<string | null>('site', standard.site),
    pool: value<string | null>('pool', standard.pool),
  }
}

type OptionValue = <Value>(key: ReplicationOptionKey, fallback: Value) => Value

/** The control column and what belongs to it; null for the types that have none. */
function controlColumn(type: ReplicationType, value: OptionValue): ControlColumn | null {
  const column = value<string | null>('column', null)
  const by = value<ControlColumn['by'] | null>('by', null)
  const boundary = value<string | null>('boundary', null)
  const timezone = value<string | null>('controlTimezone', null)
  const dstWindow = value<string | null>('dstWindow', null)
  if (type !== 'inserter' && type !== 'updater') return null
  if (column === null || by === null) {
    throw new Failure('wrong_usage', {
      message: `The type ${type} needs ${column === null ? '--column, the column by which new rows are told' : '--by, time or serial'}.`,
      object: column === null ? '--column' : '--by',
      remedy: `For example: --column created_at --by time, or --column id --by serial.`,
    })
  }
  if (timezone !== null) checkTimeZone(timezone)
  return { column, by, boundary: readBoundary(by, boundary ?? defaultBoundary[by]), timezone, dstWindow }
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
    if (flags.dryRun === true && flags.queue !== true)
      await place.recorder.refuseForbidden(
        wanted.site,
        `${wanted.destinationDatabase}:${displayQualified(wanted.destination)}`,
      )
    if (flags.dryRun === true) return showPlan(context, wanted, await planNewReplication(place, wanted))
    if (flags.queue === true) {
      const { runId, replication } = await queueSetup(place, wanted)
      return reportQueued(context, runId, { job_id: replication.jobId, destination: destinationLabel(replication) })
    }
    const { replication, result } = await addReplicationRun(place, wanted)
    await decideNextStarts(place.control)
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
