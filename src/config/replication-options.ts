import { z } from 'zod'
import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { valueRefused } from './program-options.ts'

/** An option of a replication: the same flag in `add`, the same key in `set`, the same column in SQL. */
export interface ReplicationOption {
  readonly flag: string
  /** Column of the view `replications` and key of `alter_replication`; undefined where only `add` has it. */
  readonly column?: string
  readonly schema: z.ZodType
  readonly help: string
  /** Types that it has a meaning for. Default: all. */
  readonly types?: readonly string[]
  /** May be given several times. */
  readonly many?: boolean
}

const list = z.string().transform(splitList)
const yesNo = z
  .union([z.boolean(), z.enum(['true', 'false', 'yes', 'no', 'on', 'off'])])
  .transform((value) => value === true || ['true', 'yes', 'on'].includes(String(value)))
const interval = (flag: string) => z.string().transform((text) => parseDuration(text, flag))
const text = z.string().trim().min(1, 'it is empty')
const name = z.string().transform((given) => splitList(given)[0] ?? '')
const wholeNumber = 'it must be a whole number above 0'
/** Most rows of one refresh. */
const rowLimit = z
  .string(wholeNumber)
  .regex(/^\d{1,15}$/, wholeNumber)
  .transform(Number)
  .refine((count) => count > 0, wholeNumber)
const statements = z.union([z.array(z.string()), z.string().transform((text) => (text === '' ? [] : [text]))])

export const replicationOptions = {
  columns: {
    flag: '--columns <a,b>',
    column: 'columns',
    schema: list,
    help: 'copy only these columns, named as in SQL',
  },
  where: {
    flag: '--where <sql>',
    column: 'condition',
    schema: z.string().refine((text) => text.trim() !== '', 'it is empty; leave it out to copy all rows'),
    help: "SQL that follows the source's FROM: 'WHERE …', or ', other WHERE …'",
  },
  index: { flag: '--no-index', column: 'build_indexes', schema: yesNo, help: 'build no indexes at the destination' },
  data: { flag: '--no-data', schema: yesNo, help: 'make the destination without pulling data' },
  site: {
    flag: '--site <name>',
    column: 'site',
    schema: z.string().refine((given) => Buffer.byteLength(given) <= 200, 'it is longer than 200 bytes'),
    help: "site that the work belongs to (placement); '' is the default site",
  },
  pool: {
    flag: '--pool <name>',
    column: 'pool',
    schema: z.string().regex(/^[^:]{1,200}$/, 'it must be a name without a colon'),
    help: 'pool that it belongs to: `yardmaster limit set NAME n` says how many of one run at once',
  },
  postScript: {
    flag: '--post-script <sql>',
    column: 'post_script',
    schema: statements,
    help: 'statement to run in the destination after its structure was made or changed; may be repeated',
    types: ['snapshot'],
    many: true,
  },
  sequence: {
    flag: '--sequence <name>',
    column: 'sequences',
    schema: statements,
    help: 'destination sequence to set to the maximum of the columns that use it; may be repeated',
    types: ['table'],
    many: true,
  },
  truncateCascade: {
    flag: '--truncate-cascade',
    column: 'truncate_cascade',
    schema: yesNo,
    help: 'also empty the tables that refer to the destination',
    types: ['table'],
  },
  swapWait: {
    flag: '--swap-wait <interval>',
    column: 'swap_wait',
    schema: interval('--swap-wait'),
    help: 'how long to wait for readers before new rows are shown (default: 1 minute)',
  },
  column: {
    flag: '--column <name>',
    schema: name,
    help: 'control column: the one by which new rows are told',
    types: ['inserter', 'updater'],
  },
  by: {
    flag: '--by <kind>',
    schema: z.enum(['time', 'serial']),
    help: 'what fills the control column: time (a clock) or serial (a sequence)',
    types: ['inserter', 'updater'],
  },
  boundary: {
    flag: '--boundary <x>',
    column: 'boundary',
    schema: z.string().min(1, 'it is empty'),
    help: 'how far behind the newest to stop: auto, an interval (time; default: 10 minutes) or a number (serial; default: 10)',
    types: ['inserter', 'updater'],
  },
  key: {
    flag: '--key <a,b>',
    schema: list,
    help: 'columns that identify a row, where the source has no primary key (a view)',
    types: ['inserter', 'updater'],
  },
  limit: {
    flag: '--limit <n>',
    column: 'row_limit',
    schema: rowLimit,
    help: 'most rows of one refresh',
    types: ['inserter', 'updater'],
  },
  controlTimezone: {
    flag: '--control-timezone <tz>',
    column: 'control_timezone',
    schema: z.string().min(1, 'it is empty'),
    help: "zone of a control column without one (default: the source database's)",
    types: ['inserter', 'updater'],
  },
  dstWindow: {
    flag: '--dst-window <from-to>',
    column: 'dst_window',
    schema: z
      .string()
      .regex(/^off$|^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/, 'write two times, such as 00:30-02:30, or off'),
    help: 'no refresh at these times of a day on which that zone shifts (default: 00:30-02:30); off',
    types: ['inserter', 'updater'],
  },
  every: {
    flag: '--every <interval>',
    column: 'schedule_interval',
    schema: text,
    help: 'refresh again and again, so far apart',
  },
  cron: {
    flag: '--cron <expression>',
    column: 'cron',
    schema: text,
    help: 'refresh at these times; with six fields the first is seconds',
  },
  timezone: {
    flag: '--timezone <tz>',
    column: 'timezone',
    schema: text,
    help: 'zone of --cron, and of the days of --every (default: UTC)',
  },
  lagTarget: {
    flag: '--lag-target <interval>',
    column: 'lag_target',
    schema: interval('--lag-target').refine((milliseconds) => milliseconds > 0, 'it must be longer than nothing'),
    help: 'the copy is late when it is further behind (default: twice the period, at least 5 minutes)',
  },
} as const satisfies Record<string, ReplicationOption>

export type ReplicationOptionKey = keyof typeof replicationOptions

/** Reads one option's value. Throws `wrong_usage`, `option_not_for_type`. */
export function readReplicationOption(key: ReplicationOptionKey, value: unknown, type: string): unknown {
  const option: ReplicationOption = replicationOptions[key]
  if (option.types && !option.types.includes(type)) {
    throw new Failure('option_not_for_type', {
      message: `${option.flag.split(' ')[0]} has no meaning for the type ${type}; it is for ${option.types.join(', ')}.`,
      object: option.flag.split(' ')[0],
    })
  }
  const parsed = option.schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw valueRefused(option.flag.split(' ')[0] ?? '', value, parsed.error, option.help)
}

/** The key by which `set` knows an option: `swap-wait`; `index` for `--no-index`. */
export function keyName(key: ReplicationOptionKey): string {
  return (replicationOptions[key].flag.split(' ')[0] ?? '').replace(/^--(no-)?/, '')
}

/** `swap-wait` → `swapWait`. Unknown keys are errors that name the nearest. */
export function settableKey(name: string): ReplicationOptionKey {
  const settable = Object.entries<ReplicationOption>(replicationOptions).filter(
    ([, option]) => option.column !== undefined,
  )
  const spelled = new Map(settable.map(([key]) => [keyName(key as ReplicationOptionKey), key]))
  const found = spelled.get(name)
  if (found) return found as ReplicationOptionKey
  const options = Object.keys(replicationOptions) as ReplicationOptionKey[]
  if (['type', 'source', 'from', 'to', 'dest', ...options.map(keyName)].includes(name)) {
    throw new Failure('wrong_usage', {
      message: `'${name}' is decided when a replication is added, and cannot be changed.`,
      object: name,
      remedy: 'Remove the replication and add it anew; its rows may stay, or be dropped with --drop-table.',
    })
  }
  const near = nearest(name, [...spelled.keys()])
  throw new Failure('wrong_usage', {
    message: `A replication has no option '${name}'${near ? `; did you mean '${near}'?` : '.'}`,
    object: name,
    remedy: `Options that can be set: ${[...spelled.keys()].join(', ')}.`,
  })
}

/** Splits `a,"B,c"` at its commas, quoted as in SQL; unquoted names fold to lower case. */
function splitList(text: string): string[] {
  if (text.trim() === '') return []
  const part = /\s*(?:"((?:[^"]|"")+)"|([^",]+?))\s*(,|$)/y
  const names: string[] = []
  for (let at = 0; ; at = part.lastIndex) {
    part.lastIndex = at
    const match = part.exec(text)
    if (!match)
      throw new Failure('name_invalid', {
        message: `'${text}' is not a list of column names.`,
        object: text,
        remedy: 'Write --columns id,name; quote odd names as in SQL: --columns \'id,"Odd,Name"\'.',
      })
    names.push(match[1] === undefined ? (match[2] ?? '').toLowerCase() : match[1].replaceAll('""', '"'))
    if (match[3] === '') return names
  }
}
