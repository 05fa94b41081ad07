import type { Command } from 'commander'
import { formatBytes, formatCount, formatDuration, parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import {
  defaultSwapWait,
  type ReplicationOption,
  type ReplicationOptionKey,
  readReplicationOption,
  replicationOptions,
  settableKey,
} from '../config/replication-options.ts'
import type { Control } from '../control/control.ts'
import { getDatabase } from '../control/databases.ts'
import { lastRuns, lastSuccess, markLostAttempts } from '../monitoring/run-log.ts'
import { displayQualified, parseQualifiedName, printable } from '../postgres/identifier.ts'
import { destinationLabel, type Replication, type ReplicationType, sourceLabel } from '../replication/definition.ts'
import { planRemoval } from '../replication/removal.ts'
import { alterReplication, getReplication, listReplications, type NewReplication } from '../replication/store.ts'
import { validateReplication } from '../replication/validation.ts'
import {
  addReplicationRun,
  connectorOf,
  findPositionOf,
  planNewReplication,
  type RunResult,
  refreshRun,
  removeReplicationRun,
} from '../worker/replication-run.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl, withWorkplace } from './command-context.ts'
import { confirmByName } from './confirmation.ts'

const types: readonly ReplicationType[] = ['snapshot', 'table']

/** `yardmaster replication …` */
export const replicationGroup: Group = (program) => {
  const group = program.command('replication').description('copies of tables that stay current')
  addCommand(group)
  group
    .command('refresh')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .description('refresh one copy now, in this process')
    .option('--wait <time>', 'wait so long for another refresh of it: seconds, an interval, or forever')
    .option('--force', 'copy even if the source shows no change')
    .addHelpText('after', example('replication refresh public.orders'))
    .action(action(refresh))
  group
    .command('list')
    .description('all replications')
    .addHelpText('after', example('replication list --json'))
    .action(action(list))
  group
    .command('show')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .description('one replication')
    .addHelpText('after', example('replication show public.orders'))
    .action(action(show))
  group
    .command('set')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .argument('<key=value...>', 'for example swap-wait=5min; an empty value clears columns, where and site')
    .description('change options: keys are the options of add')
    .addHelpText('after', example("replication set public.orders columns=id,total swap-wait='5 minutes'"))
    .action(action(set))
  group
    .command('resync')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .description('copy everything anew')
    .option('--take-over', 'drive a destination that another control database drove')
    .addHelpText('after', example('replication resync public.orders'))
    .action(action(resync))
  group
    .command('remove')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .description('stop copying; the destination table stays')
    .option('--drop-table', 'drop the destination table too')
    .option('--dry-run', 'show what would go, and change nothing')
    .addHelpText('after', example('replication remove public.orders'))
    .action(action(remove))
  group
    .command('validate')
    .argument('<destination>', 'schema.table, or database:schema.table where several databases have it')
    .description('count rows on both sides; exit 1 when they differ')
    .addHelpText('after', example('replication validate public.orders --json'))
    .action(action(validate))
}

function example(text: string): string {
  return `\nExample:\n  yardmaster ${text}`
}

function addCommand(group: Command): void {
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
    .addHelpText('after', example('replication add snapshot public.orders --from crm --to dwh'))
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

/** The run's result as JSON or as one sentence; exit 1 when it is CRITICAL. */
function reportRun(context: CommandContext, result: RunResult, more: object = {}): number {
  const { failure, ...figures } = result
  if (context.terminal.json) context.terminal.document({ ...figures, ...more, ...(failure ? { error: failure } : {}) })
  else if (failure) throw failure
  else {
    const size = result.bytes > 0 ? `${formatBytes(result.bytes)} in ` : ''
    context.terminal.line(
      `${context.terminal.level(result.status)} ${result.message} (${size}${formatDuration(result.seconds)}, run ${result.run_id})`,
    )
  }
  return result.status === 'CRITICAL' ? 1 : 0
}

function readWait(text: unknown): number {
  if (text === undefined) return 0
  return text === 'forever' ? Number.POSITIVE_INFINITY : parseDuration(String(text))
}

async function refresh(context: CommandContext, flags: Record<string, unknown>, destination: string): Promise<number> {
  const wait = readWait(flags.wait)
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    return reportRun(
      context,
      await refreshRun(place, replication, { force: flags.force === true, wait, takeOver: false }),
    )
  })
}

async function resync(context: CommandContext, flags: Record<string, unknown>, destination: string): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    return reportRun(
      context,
      await refreshRun(place, replication, { force: true, wait: 0, takeOver: flags.takeOver === true }),
    )
  })
}

/** The rows of `replication list`, the JSON contract. */
async function replicationRows(control: Control) {
  await markLostAttempts(control)
  const replications = await listReplications(control)
  const jobs = replications.map((replication) => replication.jobId)
  const [runs, ages] = [await lastRuns(control, jobs), await lastSuccess(control, jobs)]
  return replications.map((replication) => {
    const run = runs.get(replication.jobId)
    return {
      job_id: replication.jobId,
      type: replication.type,
      source: { database: replication.sourceDatabase, table: displayQualified(replication.source) },
      destination: { database: replication.destinationDatabase, table: displayQualified(replication.destination) },
      status: replication.status,
      last_run: run ? { id: run.id, status: run.status, finished_at: run.finished_at } : null,
      next_start: null,
      lag_seconds: ages.get(replication.jobId) ?? null,
      position: null,
      site: replication.site,
    }
  })
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const rows = await replicationRows(control)
    if (context.terminal.json) context.terminal.document(rows)
    else {
      context.terminal.table(
        rows,
        [
          { head: 'LEVEL', kind: 'level', value: (row) => row.last_run?.status ?? null },
          { head: 'STATUS', value: (row) => row.status },
          { head: 'TYPE', value: (row) => row.type },
          { head: 'SOURCE', value: (row) => `${row.source.database}:${row.source.table}` },
          { head: 'DESTINATION', value: (row) => `${row.destination.database}:${row.destination.table}` },
          { head: 'LAST RUN', value: (row) => context.terminal.time(row.last_run?.finished_at ?? null) },
          {
            head: 'COPY IS OLD',
            kind: 'number',
            value: (row) => (row.lag_seconds === null ? null : formatDuration(row.lag_seconds)),
          },
        ],
        'No replication yet. Add one: yardmaster replication add snapshot SOURCE --from DATABASE --to DATABASE',
      )
    }
    return 0
  })
}

async function show(context: CommandContext, _flags: Record<string, unknown>, destination: string): Promise<number> {
  return withControl(context, async (control) => {
    const replication = await getReplication(control, destination)
    const row = (await replicationRows(control)).find((one) => one.job_id === replication.jobId)
    const details = { ...row, ...optionsOf(replication), version: replication.version }
    if (context.terminal.json) context.terminal.document(details)
    else {
      const { terminal } = context
      terminal.line(
        `${sourceLabel(replication)} → ${destinationLabel(replication)} (${replication.type}, job ${replication.jobId}) is ${replication.status}.`,
      )
      if (replication.status === 'setting_up')
        terminal.line('Its set-up was broken off: replication refresh goes on with it, replication remove undoes it.')
      if (row?.last_run)
        terminal.line(
          `Last run ${row.last_run.id}: ${terminal.level(row.last_run.status)} ${terminal.time(row.last_run.finished_at)}`,
        )
      for (const [key, value] of Object.entries(optionsOf(replication))) {
        terminal.line(
          `  ${key}: ${value === null ? '—' : printable(Array.isArray(value) ? value.join(', ') || '—' : String(value))}`,
        )
      }
    }
    return 0
  })
}

function optionsOf(replication: Replication) {
  return {
    columns: replication.columns,
    where: replication.condition,
    index: replication.buildIndexes,
    post_script: replication.postScript,
    sequences: replication.sequences,
    truncate_cascade: replication.truncateCascade,
    swap_wait_seconds: replication.swapWait / 1000,
    site: replication.site,
  }
}

async function set(
  context: CommandContext,
  _flags: Record<string, unknown>,
  destination: string,
  pairs: string[],
): Promise<number> {
  return withControl(context, async (control) => {
    const replication = await getReplication(control, destination)
    const changes: Record<string, unknown> = {}
    for (const pair of pairs) {
      const [, name = '', text = ''] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
      if (name === '')
        throw new Failure('wrong_usage', {
          message: `'${printable(pair)}' is not key=value.`,
          object: printable(pair),
          remedy: 'Write for example: swap-wait=5min',
        })
      const key = settableKey(name)
      const clears = text === '' && (key === 'columns' || key === 'where' || key === 'site')
      const value = clears ? null : readReplicationOption(key, text, replication.type)
      const option: ReplicationOption = replicationOptions[key]
      changes[option.column ?? key] = key === 'swapWait' ? `${Number(value)} milliseconds` : value
    }
    const changed = await alterReplication(control, replication, changes)
    if (context.terminal.json)
      context.terminal.document({ job_id: changed.jobId, version: changed.version, ...optionsOf(changed) })
    else
      context.terminal.line(
        `${destinationLabel(changed)} is changed (version ${changed.version}); the next refresh goes by it.`,
      )
    return 0
  })
}

async function remove(context: CommandContext, flags: Record<string, unknown>, destination: string): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    const mode = flags.dropTable === true ? 'drop' : 'keep'
    const label = destinationLabel(replication)
    if (flags.dryRun === true) {
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
  _flags: Record<string, unknown>,
  destination: string,
): Promise<number> {
  return withWorkplace(context, async (place) => {
    const replication = await getReplication(place.control, destination)
    const found = await validateReplication(replication, connectorOf(place, replication), place.signal)
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
