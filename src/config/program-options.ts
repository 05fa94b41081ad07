import { z } from 'zod'
import { Failure } from '../base/failure.ts'

/** One declaration of an option: flag, environment variable, type, default and help text. */
export interface OptionDeclaration {
  /** As commander reads it: `--control <url>`. */
  readonly flag: string
  readonly environment?: string
  readonly schema: z.ZodType
  readonly help: string
  /** A secret is never shown, also not in help or logs. */
  readonly secret?: boolean
}

const streamsRange = 'it must be a whole number from 1 to 32'

/** Options that every command takes. */
export const programOptions = {
  control: {
    flag: '--control <url>',
    environment: 'YARDMASTER_CONTROL_URL',
    schema: z.string().optional(),
    help: 'control database; without it, the embedded one',
    secret: true,
  },
  dataDir: {
    flag: '--data-dir <path>',
    environment: 'YARDMASTER_DATA_DIR',
    schema: z.string().optional(),
    help: 'folder of the embedded control database and the key (default: /var/lib/yardmaster as root, else the XDG data folder)',
  },
  logLevel: {
    flag: '--log-level <level>',
    environment: 'YARDMASTER_LOG_LEVEL',
    schema: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
    help: 'debug, info, warn, error or silent; debug also prints stacks',
  },
  json: { flag: '--json', schema: z.boolean().default(false), help: 'print one JSON document on stdout' },
  yes: {
    flag: '--yes',
    schema: z.boolean().default(false),
    help: 'answer yes to the confirmation of a destructive command',
  },
  color: {
    flag: '--color <when>',
    schema: z.enum(['auto', 'always', 'never']).default('auto'),
    help: 'colour levels: auto, always or never',
  },
  streams: {
    flag: '--streams <n>',
    environment: 'YARDMASTER_STREAMS',
    schema: z.coerce.number(streamsRange).int(streamsRange).min(1, streamsRange).max(32, streamsRange).default(2),
    help: 'streams that read a large source side by side',
  },
} as const satisfies Record<string, OptionDeclaration>

/** Settings that have no flag, only an environment variable. */
export const environmentSettings = {
  key: {
    environment: 'YARDMASTER_KEY',
    help: 'key of the stored passwords: 32 bytes as 64 hexadecimal digits or base64',
    secret: true,
  },
  crashAt: { environment: 'YARDMASTER_CRASH_AT', help: 'for tests: end the process with SIGKILL at this crash point' },
  passwordFile: { environment: 'PGPASSFILE', help: 'file with passwords, read as psql does (default: ~/.pgpass)' },
  screenReader: { environment: 'YARDMASTER_SCREEN_READER', help: '1: progress as sentences, without redrawing' },
  syslogSocket: {
    environment: 'YARDMASTER_SYSLOG_SOCKET',
    help: 'socket that `postprocess --syslog` logs to (default: /dev/log)',
  },
  noColor: { environment: 'NO_COLOR', help: 'anything but empty: no colour' },
  terminal: { environment: 'TERM', help: 'dumb: no colour' },
  allLocale: { environment: 'LC_ALL', help: 'locale: signs beyond ASCII are printed where it is a UTF-8 one' },
  characterLocale: { environment: 'LC_CTYPE', help: 'the same, where LC_ALL is not set' },
  locale: { environment: 'LANG', help: 'the same, where neither LC_ALL nor LC_CTYPE is set' },
  dataHome: {
    environment: 'XDG_DATA_HOME',
    help: 'folder for the data of users other than root (default: ~/.local/share)',
  },
  cacheHome: { environment: 'XDG_CACHE_HOME', help: 'folder for compiled code (default: ~/.cache)' },
} as const

/** Help text of an option with its default and its environment variable. */
export function describeOption(option: OptionDeclaration): string {
  const standard = option.schema.safeParse(undefined).data
  const shown = typeof standard === 'string' || typeof standard === 'number' ? ` (default: ${standard})` : ''
  return `${option.help}${shown}${option.environment === undefined ? '' : ` [${option.environment}]`}`
}

/** `--streams is 'x'; it must be …`. */
export function valueRefused(name: string, given: unknown, error: z.ZodError, help: string): Failure {
  const wanted = error.issues.map((issue) => {
    if (issue.code === 'invalid_value') return `it must be one of ${issue.values.join(', ')}`
    return issue.message.charAt(0).toLowerCase() + issue.message.slice(1)
  })
  return new Failure('wrong_usage', {
    message: `${name} is '${String(given)}'; ${[...new Set(wanted)].join('; ')}.`,
    object: name,
    remedy: `Correct it, or leave it out; it sets: ${help}.`,
  })
}

export interface ProgramOptions {
  readonly control: string | undefined
  readonly dataDir: string | undefined
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly json: boolean
  readonly yes: boolean
  readonly color: 'auto' | 'always' | 'never'
  readonly streams: number
}

/** Resolves the options once: flag, else environment, else default. Throws `wrong_usage`. The result is frozen. */
export function resolveProgramOptions(
  flags: Readonly<Record<string, unknown>>,
  environment: (name: string) => string | undefined,
): ProgramOptions {
  const resolved: Record<string, unknown> = {}
  for (const [key, option] of Object.entries<OptionDeclaration>(programOptions)) {
    const fromEnvironment = option.environment === undefined ? undefined : environment(option.environment)
    const given = flags[key] ?? (fromEnvironment === '' ? undefined : fromEnvironment)
    const parsed = option.schema.safeParse(given)
    if (!parsed.success) {
      const name = flags[key] === undefined ? (option.environment ?? '') : (option.flag.split(' ')[0] ?? '')
      throw valueRefused(name, given, parsed.error, option.help)
    }
    resolved[key] = parsed.data
  }
  return Object.freeze(resolved) as unknown as ProgramOptions
}
