import { isIP } from 'node:net'
import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'

/** Where to listen. */
export interface ListenAddress {
  /** An address without brackets, or `localhost`. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** Take the next free port when this one is taken. */
  readonly orNext: boolean
}

/** Where the status page is when nobody says otherwise. */
export const defaultListenAddress: ListenAddress = { host: '127.0.0.1', port: 7878, orNext: true }

/** Reads `ADDR:PORT`, `[::1]:PORT`, `localhost:PORT` or `:PORT`. Throws `wrong_usage`. */
export function parseListenAddress(text: string): ListenAddress {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([^[\]:]*)):(\d{1,5})$/i.exec(text) ?? []
  const host = (bracketed ?? (plain === '' ? defaultListenAddress.host : plain))?.toLowerCase()
  const port = Number(digits)
  if (host !== undefined && port <= 65535 && (host === 'localhost' || isIP(host) !== 0)) {
    return { host, port, orNext: false }
  }
  throw new Failure('wrong_usage', {
    message: `--listen is '${printable(text)}', which is not an address and a port.`,
    object: '--listen',
    remedy: 'Write for example --listen 127.0.0.1:8080, or --listen [::1]:8080; port 0 takes any that is free.',
  })
}

/** `http://127.0.0.1:7878/` */
export function urlOf(host: string, port: number): string {
  return `http://${isIP(host) === 6 ? `[${host}]` : host}:${port}/`
}

/**
 * Whether a request's Host header is one that a browser sends when its user meant us. A foreign name that was made to
 * resolve to this machine (DNS rebinding) would let any page in the browser read ours; an address cannot be rebound.
 * The port is not looked at: a forwarded one differs.
 */
export function isOwnHost(header: string | undefined): boolean {
  const [, bracketed, plain] = /^(?:\[([0-9a-f:.]+)\]|([^[\]:]+))(?::\d+)?$/i.exec(header ?? '') ?? []
  if (bracketed !== undefined) return isIP(bracketed) === 6
  return plain?.toLowerCase() === 'localhost' || isIP(plain ?? '') === 4
}
