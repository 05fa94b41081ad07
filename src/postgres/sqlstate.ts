import type { ErrorCode } from '../base/error-registry.ts'
import { Failure } from '../base/failure.ts'

/** Which of our connections an error came from; names the code for a server that is away. */
export type Side = 'source' | 'destination' | 'control' | 'database'

interface Verdict {
  code: ErrorCode
  retryable: boolean
}

const lost = (side: Side): Verdict => ({ code: `${side}_unreachable`, retryable: true })

/** By SQLSTATE, longest match first: five characters, then the class of two. Never by message text. */
const bySqlstate: Readonly<Record<string, (side: Side) => Verdict>> = {
  '08': lost,
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
}

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

interface RawError {
  code?: string
  severity?: string
  message?: string
  detail?: string
  hint?: string
  where?: string
}

/** Turns whatever a driver threw into a `Failure` with a code, whether it may be tried again, and the object it hit. */
export function toFailure(error: unknown, context: { side: Side; object?: string | undefined }): Failure {
  if (error instanceof Failure) return error
  const raw = (error ?? {}) as RawError
  const fromServer = raw.severity !== undefined && raw.code !== undefined
  const verdict = fromServer ? verdictOf(raw.code ?? '', context.side) : socketVerdict(raw, context.side)
  const said = (raw.message || raw.code || String(error)).trim()
  const parts = [fromServer ? `${said} (SQLSTATE ${raw.code})` : said, raw.detail, raw.where?.split('\n')[0]]
  return new Failure(verdict.code, {
    message: parts.filter((part) => part).join('; '),
    object: context.object,
    retryable: verdict.retryable,
    sqlstate: fromServer ? raw.code : undefined,
    cause: error,
    ...(raw.hint && verdict.code === 'sql_failed' ? { remedy: raw.hint } : {}),
  })
}

/** True when the connection is gone, so that whether a COMMIT took effect has to be looked up. */
export function isConnectionLoss(failure: Failure): boolean {
  return /^(source|destination|control|database)_unreachable$/.test(failure.code)
}

function verdictOf(sqlstate: string, side: Side): Verdict {
  const rule = bySqlstate[sqlstate] ?? bySqlstate[sqlstate.slice(0, 2)]
  return rule ? rule(side) : { code: 'sql_failed', retryable: false }
}

function socketVerdict(raw: RawError, side: Side): Verdict {
  const message = raw.message ?? ''
  // The driver has no code for these two: they are its own words for a socket that closed or never opened.
  if (
    bySocket.has(raw.code ?? '') ||
    /^Connection terminated|timeout expired|not queryable|Client was closed/.test(message)
  ) {
    return lost(side)
  }
  if (/SSL|TLS|certificate|self[- ]signed/i.test(`${raw.code} ${message}`))
    return { code: 'tls_failed', retryable: false }
  if (/SASL|SCRAM|password/i.test(message)) return { code: 'authentication_failed', retryable: false }
  return { code: 'internal_error', retryable: false }
}
