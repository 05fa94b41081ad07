import { Failure } from '../base/failure.ts'
import {
  keyName,
  type ReplicationOption,
  type ReplicationOptionKey,
  readReplicationOption,
  replicationOptions,
  settableKey,
} from '../config/replication-options.ts'
import { decideNextStarts } from '../jobs/next-starts.ts'
import { checkTimeZone } from '../jobs/time-zone.ts'
import { displayName, printable } from '../postgres/identifier.ts'
import { definitionDefaults, destinationLabel, type Replication } from '../replication/definition.ts'
import { checkSource } from '../replication/setup.ts'
import { alterReplication, getReplication } from '../replication/store.ts'
import { connectorOf } from '../worker/replication-run.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { defaultBoundary, lengthInWords, readBoundary, readSchedule } from './schedule-options.ts'

/** `yardmaster replication set` */
export async function set(
  context: CommandContext,
  _flags: object,
  destination: string,
  pairs: string[],
): Promise<number> {
  const given = pairs.map(readPair)
  return withWorkplace(context, async (place) => {
    const { control } = place
    const replication = await getReplication(control, destination)
    const changes = readChanges(replication, given)
    if ('columns' in changes || 'condition' in changes) {
      const draft = {
        columns: 'columns' in changes ? (changes.columns as string[] | null) : replication.columns,
        condition: 'condition' in changes ? (changes.condition as string | null) : replication.condition,
      }
      await checkSource({ ...replication, ...draft }, connectorOf(place, replication), place.signal)
    }
    const changed = await alterReplication(control, replication, changes)
    await decideNextStarts(control)
    if (context.terminal.json)
      context.terminal.document({ job_id: changed.jobId, version: changed.version, ...optionsJson(changed) })
    else
      context.terminal.line(
        `${destinationLabel(changed)} is changed (version ${changed.version}); the next refresh goes by it.`,
      )
    return 0
  })
}

interface Pair {
  readonly key: ReplicationOptionKey
  /** Null: none, where an empty text is a value. */
  readonly text: string | null
}

/** `swap-wait=5min`; `no-index=true` is `index=false`; `no-site` is no site, and `site=` the default site. */
function readPair(pair: string): Pair {
  if (pair === 'no-site' || pair === 'no-site=true') return { key: 'site', text: null }
  const [, name = '', text = ''] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
  if (name === '')
    throw new Failure('wrong_usage', {
      message: `'${printable(pair)}' is not key=value.`,
      object: printable(pair),
      remedy: 'Write for example: swap-wait=5min',
    })
  if (name !== 'no-index') return { key: settableKey(name), text }
  const builds = readReplicationOption('index', text, 'snapshot') === false
  return { key: 'index', text: String(builds) }
}

/** The changes as the SQL function `alter_replication` takes them. */
function readChanges(replication: Replication, given: readonly Pair[]): Record<string, unknown> {
  const changes: Record<string, unknown> = {}
  for (const { key, text } of given) {
    const option: ReplicationOption = replicationOptions[key]
    const isCleared = text === '' && key !== 'site'
    changes[option.column ?? key] =
      text === null ? null : isCleared ? cleared(replication, key) : readValue(replication, key, text)
  }
  checkNewSchedule(replication, changes)
  return changes
}

function readValue(replication: Replication, key: ReplicationOptionKey, text: string): unknown {
  const value = readReplicationOption(key, text, replication.type)
  if (key === 'swapWait' || key === 'lagTarget') return `${Number(value)} milliseconds`
  if (key === 'boundary' && replication.control) return readBoundary(replication.control.by, text)
  if (key === 'controlTimezone') checkTimeZone(text)
  return value
}

/** What an option is again when it is given no value. Throws where it must have one. */
function cleared(replication: Replication, key: ReplicationOptionKey): unknown {
  const { types }: ReplicationOption = replicationOptions[key]
  if (types && !types.includes(replication.type)) return readReplicationOption(key, '', replication.type)
  if (key === 'timezone') return definitionDefaults.schedule.timezone
  if (key === 'swapWait') return `${definitionDefaults.swapWait} milliseconds`
  if (key === 'boundary' && replication.control) return defaultBoundary[replication.control.by]
  if (key === 'postScript' || key === 'sequence') return []
  if (key === 'index' || key === 'truncateCascade') return readReplicationOption(key, '', replication.type)
  return null
}

/** An interval replaces a cron expression, and the other way round. */
function checkNewSchedule({ schedule }: Replication, changes: Record<string, unknown>): void {
  const { schedule_interval: every, cron, timezone } = changes as Record<string, string | null | undefined>
  if (every === undefined && cron === undefined && timezone === undefined) return
  const kept = every == null && cron == null
  const read = readSchedule({
    every: every === undefined ? (kept && cron === undefined ? schedule.every : null) : every,
    cron: cron === undefined ? (kept && every === undefined ? schedule.cron : null) : cron,
    timezone: timezone ?? schedule.timezone,
  })
  if (every != null) changes.schedule_interval = read.every
}

/** The options of a replication, as JSON has them. */
export function optionsJson(replication: Replication) {
  const { control, schedule } = replication
  return {
    columns: replication.columns,
    where: replication.condition,
    index: replication.buildIndexes,
    post_script: replication.postScript,
    sequences: replication.sequences,
    truncate_cascade: replication.truncateCascade,
    swap_wait_seconds: replication.swapWait / 1000,
    site: replication.site,
    pool: replication.pool,
    column: control?.column ?? null,
    by: control?.by ?? null,
    boundary: control?.boundary ?? null,
    key: replication.key,
    limit: replication.rowLimit,
    control_timezone: control?.timezone ?? null,
    dst_window: control?.dstWindow ?? null,
    every: schedule.every,
    cron: schedule.cron,
    timezone: schedule.timezone,
    lag_target_seconds: replication.lagTarget === null ? null : replication.lagTarget / 1000,
  }
}

/** The options that mean something for the type, by the keys of `set` and as a shell hands them to it; null for none. */
export function settings(replication: Replication): [key: string, value: string | null][] {
  const { control, schedule } = replication
  const list = (names: readonly string[] | null) => names?.map(displayName).join(',') ?? null
  const values: Partial<Record<ReplicationOptionKey, string | null>> = {
    columns: list(replication.columns),
    where: replication.condition,
    index: String(replication.buildIndexes),
    site: replication.site === '' ? "''" : replication.site,
    pool: replication.pool,
    postScript: replication.postScript.join('; ') || null,
    sequence: replication.sequences.join(', ') || null,
    truncateCascade: String(replication.truncateCascade),
    swapWait: lengthInWords(replication.swapWait),
    column: control?.column ?? null,
    by: control?.by ?? null,
    boundary: control?.boundary ?? null,
    key: list(replication.key),
    limit: replication.rowLimit === null ? null : String(replication.rowLimit),
    controlTimezone: control?.timezone ?? null,
    dstWindow: control?.dstWindow ?? null,
    every: schedule.every,
    cron: schedule.cron,
    timezone: schedule.timezone,
    lagTarget: replication.lagTarget === null ? null : lengthInWords(replication.lagTarget),
  }
  return (Object.entries(values) as [ReplicationOptionKey, string | null][])
    .filter(([key]) => {
      const { types }: ReplicationOption = replicationOptions[key]
      return !types || types.includes(replication.type)
    })
    .map(([key, value]) => (key === 'site' && value === null ? ['no-site', 'true'] : [keyName(key), value]))
}
