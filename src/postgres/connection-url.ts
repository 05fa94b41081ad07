import { isIPv4, isIPv6 } from 'node:net'
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

const shape =
  /^postgres(?:ql)?:\/\/(?:(?<user>[^:@/?#]*)(?::(?<password>[^@/?#]*))?@)?(?<host>\[[0-9a-fA-F:.]+\]|[^:/?#@]*)(?::(?<port>\d+))?\/(?<database>[^?#@/]*)(?:\?(?<query>[^#@]*))?$/

/** Reads `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`. Throws `url_invalid`, without the URL. */
export function parseConnectionUrl(text: string): ConnectionParts {
  const found = shape.exec(text)?.groups
  if (!found) {
    throw invalid(
      'The connection URL cannot be read.',
      'Write postgresql://user@host:port/database; a password may hold @ / : # ? only as %40 %2F %3A %23 %3F.',
    )
  }
  const parameters = readParameters(found.query ?? '')
  const host = readHost(found.host ?? '', parameters.get('host'))
  const password = decode(found.password ?? '', 'password')
  const parts = {
    host,
    port: Number(found.port ?? 5432),
    user: decode(found.user ?? '', 'user'),
    // An empty one is none: nobody has an empty password.
    password: password === '' ? undefined : password,
    database: decode(found.database ?? '', 'database'),
    sslRootCert: parameters.get('sslrootcert'),
  }
  if (parts.user === '')
    throw invalid('The connection URL names no user.', 'Write postgresql://USER@host:port/database.')
  if (parts.database === '')
    throw invalid('The connection URL names no database.', 'Write postgresql://user@host:port/DATABASE.')
  if (parts.port < 1 || parts.port > 65535) throw invalid(`Port ${parts.port} is not between 1 and 65535.`)
  return { ...parts, sslMode: readSslMode(parameters.get('sslmode'), host) }
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
  return host.startsWith('/') || host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Masks the passwords of all URLs in a text that is shown: somebody put one where a name was expected. */
export function withoutPasswords(text: string): string {
  return text
    .replaceAll(/([a-z][a-z0-9+.-]{0,30}:\/\/[^\s:@/'"]*):[^\s'"]*@/gi, '$1:…@')
    .replaceAll(/([?&](?:ssl)?password=)[^\s&'"]*/gi, '$1…')
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

function readHost(inUrl: string, socket: string | undefined): string {
  if (socket !== undefined) {
    if (inUrl === '' && socket.startsWith('/')) return socket
    throw invalid('The parameter host is not the absolute path of a socket folder, or the URL names a host besides.')
  }
  if (inUrl === '') return 'localhost'
  if (inUrl.startsWith('[')) {
    const address = inUrl.slice(1, -1).toLowerCase()
    if (isIPv6(address)) return address
    throw invalid(`'${printable(inUrl)}' is not an IPv6 address.`)
  }
  const host = decode(inUrl, 'host')
  if (host.startsWith('/')) return host
  if (/^[a-z0-9_]([a-z0-9._-]*[a-z0-9_.])?$/i.test(host)) return host.toLowerCase()
  throw invalid(
    'The connection URL does not name exactly one host.',
    'Write one host name (letters, digits, dot, dash; others as xn--…) or address: postgresql://user@HOST:port/database.',
  )
}

function readParameters(query: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const pair of query.split('&').filter((part) => part !== '')) {
    const [rawKey = '', rawValue = ''] = pair.split(/=(.*)/s, 2)
    const key = decode(rawKey, 'query')
    if (!['host', 'sslmode', 'sslrootcert'].includes(key)) {
      throw invalid(
        `The connection URL has the parameter '${printable(key)}'.`,
        'Only host (a socket folder), sslmode and sslrootcert may follow the question mark.',
      )
    }
    if (found.has(key)) throw invalid(`The connection URL has the parameter ${key} twice.`)
    const value = decode(rawValue, key)
    if (value === '') throw invalid(`The connection URL's parameter ${key} is empty.`)
    found.set(key, value)
  }
  return found
}

/** A NUL would end the value in the protocol's start-up message, and what follows it would be read as further settings. */
function decode(text: string, part: string): string {
  let decoded: string
  try {
    decoded = decodeURIComponent(text)
  } catch {
    throw invalid(
      'The connection URL has a % that is not followed by two hexadecimal digits of UTF-8.',
      'Write a literal % as %25.',
    )
  }
  if (/\p{Cc}/u.test(decoded)) throw invalid(`The connection URL's ${part} holds a control character.`)
  return decoded
}

function invalid(message: string, remedy?: string): Failure {
  return new Failure('url_invalid', { message, remedy })
}
