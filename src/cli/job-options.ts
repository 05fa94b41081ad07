import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { readReplicationOption } from '../config/replication-options.ts'
import { formatInterval, parseInterval } from '../jobs/interval.ts'
import { checkSchedule } from '../jobs/schedule.ts'
import type { Job, JobOptions } from '../jobs/store.ts'
import { checkTimeZone } from '../jobs/time-zone.ts'
import { parseNameParts, printable, quoteIdentifier } from '../postgres/identifier.ts'
import { readInstant } from './instant.ts'

/** What `job add` and `job alter` are told about a job; commander's names of their flags. */
export interface JobFlags {
  readonly sql?: string[]
  readonly task?: string
  readonly proc?: string
  readonly database?: string
  readonly every?: string
  readonly cron?: string
  readonly timezone?: string
  readonly initialStart?: string
  readonly nextStart?: string
  readonly drifting?: boolean
  readonly fixed?: boolean
  readonly config?: string
  readonly name?: string
  readonly after?: string[]
  /** false: of no site. */
  readonly site?: string | false
  readonly check?: string
  readonly maxRuntime?: string
  readonly maxRetries?: string
  readonly retryPeriod?: string
  readonly retryOnCrash?: string
  readonly overlap?: string
  readonly catchUp?: string
  readonly jitter?: string
  readonly priority?: string
  readonly pool?: string
  readonly dryRun?: boolean
}

const overlaps = ['skip', 'buffer', 'allow', 'cancel'] as const
const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]

/** The options that both commands have. */
export function definitionOptions(command: Command): Command {
  return command
    .option('--database <name>', 'registered database that it runs in, or tag:T: in each that has the tag')
    .option('--every <interval>', "how often: '10 minutes', '1 month'; none")
    .option('--cron <expression>', "when: '30 2 * * *', six fields with the second first, @hourly, '@every 90s'; none")
    .option('--timezone <zone>', 'zone of the schedule (default: UTC)')
    .option('--initial-start <time>', 'first slot, from which those of an interval are counted; none')
    .option('--drifting', 'the interval counts from the end of each run, not from slot to slot')
    .option('--config <json>', 'what it is called with; none')
    .option('--name <name>', 'what people call it; none')
    .option(
      '--after <job>',
      'start after a run of this job that ended well, or JOB:done: that ended; may be repeated; none',
      collect,
    )
    .option('--site <name>', "site that the work belongs to (placement); '' is the default site")
    .option('--no-site', 'it belongs to no site: every host may run it (default)')
    .option('--check <function>', 'function (jsonb) that raises an error where it refuses the config; none')
    .option('--max-runtime <interval>', 'a run that takes longer is ended as a failure (default: none)')
    .option('--max-retries <n>', 'failures in a row that pause it; 0: the first one (default: none)')
    .option('--retry-period <interval>', 'pause behind a failure, times the failures in a row (default: 5 minutes)')
    .option(
      '--retry-on-crash <when>',
      'after a lost worker: now, never (at its next slot), or an interval (default: 5 minutes)',
    )
    .option(
      '--overlap <policy>',
      'a slot while a run goes on: skip it, buffer one, allow both, cancel the other (default: skip)',
    )
    .option('--catch-up <interval>', 'make up for each slot missed within it (default, none: for the last one alone)')
    .option('--jitter <interval>', 'start up to so much later, at random (default: none)')
    .option('--priority <n>', 'runs of a higher one are taken first; -1000 to 1000 (default: 0)')
    .option(
      '--pool <name>',
      'pool that it belongs to: `yardmaster limit set NAME n` says how many of one run at once; none',
    )
}

/** A value, or what stands for none. */
const orNone =
  <Value, None>(read: (text: string) => Value, none: None) =>
  (text: string) =>
    text === 'none' ? none : read(text)

/**
 * What the flags say, with keys as the SQL function `job_option_kind` has them; a flag that was not given has none. `job`: as
 * it is, where one is changed; `later`: it is yet to be read, and the schedule looked at then. Throws `wrong_usage`, `interval_invalid`, `cron_invalid`, `timezone_unknown`, `name_invalid`.
 */
export function readJobFlags(flags: JobFlags, job?: Job | 'later'): JobOptions {
  const now = job === 'later' ? undefined : job
  const options: Record<string, unknown> = {}
  const put = (key: string, given: string | undefined, read: (text: string) => unknown) => {
    if (given !== undefined) options[key] = read(given)
  }
  const timezone = flags.timezone ?? now?.timezone ?? 'UTC'
  checkTimeZone(timezone)
  put('proc', flags.proc, readRoutine)
  if (flags.sql) options.statements = flags.sql.map(readStatements)
  put('task', flags.task, readName('--task'))
  put('database', flags.database, readName('--database'))
  put('schedule_interval', flags.every, orNone(readInterval, null))
  put(
    'cron',
    flags.cron,
    orNone((text) => text, null),
  )
  put('timezone', flags.timezone, (text) => text)
  put(
    'initial_start',
    flags.initialStart,
    orNone((text) => readInstant(text, '--initial-start', timezone).toISOString(), null),
  )
  put('next_start', flags.nextStart, (text) =>
    text === 'infinity' ? text : readInstant(text, '--next-start', timezone).toISOString(),
  )
  if (flags.drifting || flags.fixed) options.fixed_schedule = flags.fixed === true
  put('name', flags.name, orNone(readJobName, null))
  if (flags.site === false) options.site = null
  else put('site', flags.site, (text) => readReplicationOption('site', text, 'table'))
  put('check_config', flags.check, orNone(readRoutine, null))
  put('max_runtime', flags.maxRuntime, orNone(readInterval, '0'))
  put(
    'max_retries',
    flags.maxRetries,
    orNone((text) => readWhole(text, '--max-retries', -1, 999_999_999), -1),
  )
  put('retry_period', flags.retryPeriod, readInterval)
  put(
    'retry_on_crash',
    flags.retryOnCrash,
    orNone((text) => (text === 'now' || text === 'never' ? text : readInterval(text)), null),
  )
  put('overlap', flags.overlap, readOverlap)
  put('catch_up', flags.catchUp, orNone(readInterval, null))
  put('jitter', flags.jitter, orNone(readInterval, '0'))
  put('priority', flags.priority, (text) => readWhole(text, '--priority', -1000, 1000))
  put(
    'pool',
    flags.pool,
    orNone((text) => readReplicationOption('pool', text, 'table'), null),
  )
  if (job !== 'later') checkNewSchedule(flags, now, timezone)
  return { options, config: flags.config === undefined ? undefined : orNone(readConfig, null)(flags.config) }
}

/** Everything about the schedule that can be said without asking anybody. */
function checkNewSchedule(flags: JobFlags, now: Job | undefined, timezone: string): void {
  const given = (text: string | undefined) => text !== undefined && text !== 'none'
  if (given(flags.every) && given(flags.cron))
    throw clash('--cron', `A schedule is --every or --cron, not both; these are '${flags.every}' and '${flags.cron}'.`)
  if (flags.drifting && flags.fixed) throw clash('--fixed', 'A schedule is --drifting or --fixed, not both.')
  const cron = given(flags.cron) ? flags.cron : given(flags.every) || flags.cron === 'none' ? null : now?.cron
  if (cron && flags.drifting)
    throw clash('--drifting', `A cron expression ('${cron}') names its times; only an interval can drift.`)
  if (cron) checkSchedule({ kind: 'cron', expression: cron, timezone }, new Date())
  const every = given(flags.every) ? flags.every : flags.every === 'none' ? null : now?.schedule_interval
  if (cron || !every) return
  const fixed = flags.drifting ? false : flags.fixed === true || (now?.fixed_schedule ?? true)
  checkSchedule({ kind: 'interval', interval: parseInterval(every), fixed, origin: new Date(), timezone }, new Date())
}

function clash(flag: string, message: string): Failure {
  return new Failure('wrong_usage', { message, object: flag, remedy: 'Leave one of them out.' })
}

const readInterval = (text: string) => formatInterval(parseInterval(text))

/** As `parse_ident` reads it again. */
function readRoutine(text: string): string {
  const parts = parseNameParts(text)
  if (parts.length <= 2) return parts.map(quoteIdentifier).join('.')
  throw new Failure('name_invalid', {
    message: `'${printable(text)}' is not the name of a function or procedure.`,
    object: printable(text),
    remedy: 'Write schema.name, without arguments: public.refresh_marts; quote odd names as in SQL.',
  })
}

function readStatements(file: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new Failure('wrong_usage', {
      message: `The file ${printable(file)} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}.`,
      object: '--sql',
      remedy: 'Name a file with SQL; its text is kept in the control database, the file is not needed again.',
    })
  }
  if (text.trim() !== '') return text
  throw new Failure('wrong_usage', {
    message: `The file ${printable(file)} is empty.`,
    object: '--sql',
    remedy: 'Name a file with one statement or more; those of one file are one transaction.',
  })
}

const readName = (flag: string) => (text: string) => {
  if (text.trim() !== '' && text !== 'tag:') return text
  throw new Failure('wrong_usage', {
    message: `${flag} is '${printable(text)}'; it names nothing.`,
    object: flag,
    remedy: `Write a name behind ${flag}.`,
  })
}

function readJobName(text: string): string {
  if (text.trim() !== '' && !/^\d+$/.test(text)) return text
  throw new Failure('wrong_usage', {
    message: `--name is '${printable(text)}'; ${text.trim() === '' ? 'it is empty' : 'digits alone would be taken for the number of a job'}.`,
    object: '--name',
    remedy: 'For example: --name nightly',
  })
}

function readWhole(text: string, flag: string, least: number, most: number): number {
  if (/^-?\d{1,9}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
  const range = flag === '--max-retries' ? 'of 0 or more, or none' : `from ${least} to ${most}`
  throw new Failure('wrong_usage', {
    message: `${flag} is '${printable(text)}'; it must be a whole number ${range}.`,
    object: flag,
    remedy: `For example: ${flag} 3`,
  })
}

function readOverlap(text: string): string {
  if ((overlaps as readonly string[]).includes(text)) return text
  const near = nearest(text, overlaps)
  throw new Failure('wrong_usage', {
    message: `--overlap is '${printable(text)}'${near ? `; did you mean '${near}'?` : '; it must be one of skip, buffer, allow and cancel.'}`,
    object: '--overlap',
    remedy: 'skip the slot, buffer one of them, allow both runs, or cancel the one that goes on.',
  })
}

function readConfig(text: string): string {
  return readJson(text, '--config')
}

/** The same text, if it is JSON. */
export function readJson(text: string, flag: string): string {
  try {
    JSON.parse(text)
    return text
  } catch (error) {
    throw new Failure('wrong_usage', {
      message: `${flag} is not JSON: ${printable((error as Error).message)}`,
      object: flag,
      remedy: `For example: ${flag} '{"days": 30}'`,
    })
  }
}
