import { Failure } from '../base/failure.ts'
import { printable } from './identifier.ts'

export type SslMode = 'disable' | 'require' | 'verify-ca' | 'verify-full'

/** A connection's parts. Nothing but these can be said in a URL: no `options`, no key files, no several hosts. */
export interface ConnectionParts {
  readonly host: string
  /** TCP port. Default 5432. */
  readonly port: number
  readonly user: string
  readonly password?: string | undefined
  readonly database: string
  /** Default: `disable` on loopback and sockets, `verify-full` elsewhere. */
  readonly sslMode: SslMode
  /** Path of a CA certificate (PEM); the system's own store without it. */
  readonly sslRootCert?: string | undefined
}

const sslModes: readonly string[] = ['disable', 'require', 'verify-ca', 'verify-full']

/** Reads `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`. Throws `url_invalid`, without the URL. */
export function parseConnectionUrl(text: string): ConnectionParts {
  const match =
    /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?(\[[0-9a-fA-F:.]+\]|[^:/?#,]*)(?::(\d+))?\/([^?#]*)(?:\?([^#]*))?$/.exec(
      text,
    )
  if (!match) {
    throw invalid(
      'The connection URL cannot be read.',
      'Write postgresql://user@host:port/database; a password may hold @ / : # only as %40 %2F %3A %23.',
    )
  }
  const [, user = '', password, rawHost = '', port = '5432', database = '', query = ''] = match
  const parameters = readParameters(query)
  const host = decode(parameters.get('host') ?? rawHost).replace(/^\[|\]$/g, '')
  const parts = {
    host: host === '' ? 'localhost' : host,
    port: Number(port),
    user: decode(user),
    password: password === undefined ? undefined : decode(password),
    database: decode(database),
    sslRootCert: parameters.get('sslrootcert'),
  }
  if (parts.user === '')
    throw invalid('The connection URL names no user.', 'Write postgresql://USER@host:port/database.')
  if (parts.database === '')
    throw invalid('The connection URL names no database.', 'Write postgresql://user@host:port/DATABASE.')
  if (parts.port < 1 || parts.port > 65535) throw invalid(`Port ${parts.port} is not between 1 and 65535.`)
  return { ...parts, sslMode: readSslMode(parameters.get('sslmode'), parts.host) }
}

/** The URL without its password: for people, logs and views. */
export function displayUrl(parts: ConnectionParts): string {
  const host = parts.host.includes(':') ? `[${parts.host}]` : encodeURIComponent(parts.host)
  const parameters = [
    parts.sslMode === defaultSslMode(parts.host) ? '' : `sslmode=${parts.sslMode}`,
    parts.sslRootCert === undefined ? '' : `sslrootcert=${encodeURIComponent(parts.sslRootCert)}`,
  ].filter((parameter) => parameter !== '')
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`
  return `postgresql://${encodeURIComponent(parts.user)}@${host}:${parts.port}/${encodeURIComponent(parts.database)}${query}`
}

/** True for addresses that never leave the machine: nobody can listen in. */
export function isLoopback(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || /^127\./.test(host)
}

function defaultSslMode(host: string): SslMode {
  return isLoopback(host) ? 'disable' : 'verify-full'
}

function readSslMode(text: string | undefined, host: string): SslMode {
  if (text === undefined) return defaultSslMode(host)
  if (sslModes.includes(text)) return text as SslMode
  throw invalid(
    `sslmode is '${printable(text)}'; it must be one of ${sslModes.join(', ')}.`,
    'prefer and allow are not offered: they fall back to no encryption.',
  )
}

function readParameters(query: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const pair of query.split('&').filter((part) => part !== '')) {
    const [key = '', value = ''] = pair.split('=', 2).map(decode)
    if (!['host', 'sslmode', 'sslrootcert'].includes(key)) {
      throw invalid(
        `The connection URL has the parameter '${printable(key)}'.`,
        'Only host (a socket folder), sslmode and sslrootcert may follow the question mark.',
      )
    }
    found.set(key, value)
  }
  return found
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid(
      'The connection URL has a % that is not followed by two hexadecimal digits.',
      'Write a literal % as %25.',
    )
  }
}

function invalid(message: string, remedy?: string): Failure {
  return new Failure('url_invalid', { message, remedy })
}
