import type { ErrorCode } from '../base/error-registry.ts'
import { Failure } from '../base/failure.ts'
import { withoutPasswords } from './connection-url.ts'
import { printable, shortened } from './identifier.ts'

/** Which of our connections an error came from; names the code for a server that is away. */
export type Side = 'source' | 'destination' | 'control' | 'database'

interface Verdict {
  code: ErrorCode
  retryable: boolean
}

const lost = (side: Side): Verdict => ({ code: `${side}_unreachable`, retryable: true })

/** By SQLSTATE, longest match first: five characters, then the class of two. Never by message text. */
const bySqlstate = new Map<string, (side: Side) => Verdict>(
  Object.entries({
    '08': lost,
    '08P01': () => ({ code: 'protocol_violated', retryable: false }),
    '28': () => ({ code: 'authentication_failed', retryable: false }),
    '3D000': () => ({ code: 'database_missing', retryable: false }),
    '40001': () => ({ code: 'sql_failed', retryable: true }),
    '40P01': () => ({ code: 'sql_failed', retryable: true }),
    '42501': () => ({ code: 'permission_denied', retryable: false }),
    '53100': () => ({ code: 'disk_full', retryable: true }),
    '53300': () => ({ code: 'too_many_connections', retryable: true }),
    '55P03': () => ({ code: 'lock_timeout', retryable: true }),
    '57014': () => ({ code: 'cancelled', retryable: false }),
    '57P01': lost,
    '57P02': lost,
    '57P03': lost,
    '57P05': lost,
    '25P03': lost,
    // Our own: what functions of the control schema refuse.
    YM005: () => ({ code: 'site_stranded', retryable: false }),
    YM006: () => ({ code: 'host_forbidden', retryable: false }),
    YM007: () => ({ code: 'dependency_cycle', retryable: false }),
    YM008: () => ({ code: 'job_failed', retryable: false }),
  }),
)

/** Errors of the socket, by Node's code. */
const bySocket = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
])

/** The server sent what no PostgreSQL server sends, or more of it than anything of ours asks for. */
export class ProtocolViolation extends Error {}

interface RawError {
  code?: string
  severity?: string
  message?: string
  detail?: string
  hint?: string
  where?: string
  /** Of a host name with several addresses, one each. */
  errors?: readonly Error[]
}

/** Where the general remedy is about databases that are registered. */
const controlRemedies: Partial<Record<ErrorCode, string>> = {
  permission_denied:
    'Name in --control (YARDMASTER_CONTROL_URL) the role that owns the schema yardmaster. Others use it in SQL, once it has let them in: select yardmaster.grant_use(ROLE, DATABASE).',
  authentication_failed: 'Check user and password in --control (YARDMASTER_CONTROL_URL), and the server’s pg_hba.conf.',
}

/**
 * Turns whatever a driver threw into a `Failure` with a code, whether it may be tried again, and the object it hit. A
 * server's words are shown on one line, without control characters and without the passwords of URLs.
 */
export function toFailure(error: unknown, context: { side: Side; object?: string | undefined }): Failure {
  if (error instanceof Failure) return error
  const raw = (error ?? {}) as RawError
  const fromServer = raw.severity !== undefined && raw.code !== undefined
  const verdict = fromServer ? verdictOf(raw.code ?? '', context.side) : driverVerdict(error, raw, context.side)
  // Before anything looks through it: a server may say a gigabyte.
  const said = shortened(raw.message || raw.errors?.map((one) => one.message).join('; ') || raw.code || String(error))
  // What we raise ourselves is said as it is.
  const isOurs = fromServer && /^YM\d/.test(raw.code ?? '')
  const parts = isOurs
    ? [said, raw.detail]
    : [fromServer ? `${said.trim()} (SQLSTATE ${raw.code})` : said, raw.detail, raw.where?.split('\n')[0]]
  const hint = raw.hint && (isOurs || verdict.code === 'sql_failed') ? forPeople(shortened(raw.hint)) : undefined
  const remedy = hint ?? (context.side === 'control' ? controlRemedies[verdict.code] : undefined)
  return new Failure(verdict.code, {
    message: forPeople(parts.flatMap((part) => (part ? [shortened(part)] : [])).join('; ')),
    object: context.object,
    retryable: verdict.retryable,
    sqlstate: fromServer ? raw.code : undefined,
    cause: error,
    ...(remedy === undefined ? {} : { remedy }),
  })
}

/** A server's words on one line, without control characters and the passwords of URLs. */
export function forPeople(text: string): string {
  return printable(withoutPasswords(text.trim().replaceAll(/\s*\n\s*/g, ' ')))
}

/** True when the connection is gone, so that whether a COMMIT took effect has to be looked up. */
export function isConnectionLoss(failure: Failure): boolean {
  return /^((source|destination|control|database)_unreachable|protocol_violated)$/.test(failure.code)
}

function verdictOf(sqlstate: string, side: Side): Verdict {
  const rule = bySqlstate.get(sqlstate) ?? bySqlstate.get(sqlstate.slice(0, 2))
  return rule ? rule(side) : { code: 'sql_failed', retryable: false }
}

/** The driver's own words, where it has no code for them (pg 8.23). */
const byDriver: readonly (readonly [RegExp, (side: Side) => Verdict])[] = [
  [/^Connection terminated|^timeout expired|not queryable|Client was closed/, lost],
  [/^Received unexpected|^received invalid response/, () => ({ code: 'protocol_violated', retryable: false })],
  [/SSL|TLS|certificate|self[- ]signed/i, () => ({ code: 'tls_failed', retryable: false })],
  [/SASL|SCRAM|password|^Unknown authenticationOk/i, () => ({ code: 'authentication_failed', retryable: false })],
]

function driverVerdict(error: unknown, raw: RawError, side: Side): Verdict {
  if (error instanceof ProtocolViolation) return { code: 'protocol_violated', retryable: false }
  if (bySocket.has(raw.code ?? '')) return lost(side)
  const said = raw.message || raw.code || ''
  const rule = byDriver.find(([pattern]) => pattern.test(said) || pattern.test(raw.code ?? ''))
  return rule ? rule[1](side) : { code: 'internal_error', retryable: false }
}
