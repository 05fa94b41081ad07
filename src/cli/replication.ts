import { formatCount, formatDuration, parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import {
  type ReplicationOption,
  readReplicationOption,
  replicationOptions,
  settableKey,
} from '../config/replication-options.ts'
import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { lastRuns, lastSuccess } from '../monitoring/run-history.ts'
import { displayQualified, printable } from '../postgres/identifier.ts'
import { destinationLabel, type Replication, sourceLabel } from '../replication/definition.ts'
import { planRemoval } from '../replication/removal.ts'
import { checkSource } from '../replication/setup.ts'
import { alterReplication, getReplication, listReplications } from '../replication/store.ts'
import { validateReplication } from '../replication/validation.ts'
import { connectorOf, findPositionOf, refreshRun, removeReplicationRun } from '../worker/replication-run.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl, withWorkplace } from './command-context.ts'
import { confirmByName } from './confirmation.ts'
import { addCommand } from './replication-add.ts'
import { reportRun } from './run-result.ts'

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
  await releaseLostWorkers(control)
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
  return withWorkplace(context, async (place) => {
    const { control } = place
    const replication = await getReplication(control, destination)
    const draft = { columns: replication.columns, condition: replication.condition }
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
      if (key === 'columns') draft.columns = value as string[] | null
      if (key === 'where') draft.condition = value as string | null
    }
    if ('columns' in changes || 'condition' in changes) {
      await checkSource({ ...replication, ...draft }, connectorOf(place, replication), place.signal)
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
