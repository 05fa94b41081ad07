import { BlockList, isIP } from 'node:net'
import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'

/** Who may be told of alerts: everybody, only where somebody said so, nobody. */
type Reach = 'public' | 'private' | 'forbidden'

/** Addresses that no webhook reaches: of this link, of clouds' metadata services, of groups, of nobody. */
const forbidden = blockList(
  ['0.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4', '192.0.0.192/32', '100.100.100.200/32'],
  ['::/128', 'fe80::/10', 'ff00::/8', 'fd00:ec2::254/128', 'fd20:ce::254/128'],
)
/** Addresses of this host, and of networks behind it. */
const internal = blockList(
  ['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '192.0.0.0/24', '198.18.0.0/15'],
  ['::1/128', 'fc00::/7', 'fec0::/10'],
)
/** IPv6 addresses that stand for an IPv4 one, and where in their 16 bytes that is. */
const carriers = [
  { prefix: blockList([], ['::ffff:0:0/96', '64:ff9b::/96', '::/96']), at: 12 },
  { prefix: blockList([], ['2002::/16']), at: 2 },
] as const

/** An address is judged by what it stands for in the end. */
export function reachOf(address: string): Reach {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  if (isIP(address) === 0 || address.includes('%')) return 'forbidden'
  if (forbidden.check(address, family)) return 'forbidden'
  if (internal.check(address, family)) return 'private'
  for (const { prefix, at } of family === 'ipv6' ? carriers : []) {
    if (prefix.check(address, family))
      return reachOf(
        bytesOf(address)
          .slice(at, at + 4)
          .join('.'),
      )
  }
  return 'public'
}

/**
 * The URL of a webhook as it is kept. Throws `webhook_refused`: what is no URL of one, plain HTTP or an address of this host or its
 * networks without `allowPrivate`, and addresses that none may have.
 */
export function parseWebhookUrl(text: string, allowPrivate: boolean): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.username !== '' ||
    url.password !== '' ||
    url.hash !== ''
  ) {
    throw new Failure('webhook_refused', {
      message: `'${printable(withoutUser(text))}' cannot be the URL of a webhook: it is https://host/path, without user, password and fragment.`,
      object: printable(withoutUser(text)),
    })
  }
  const host = hostOf(url)
  if (isIP(host) !== 0) requireReach(host, host, allowPrivate)
  if (url.protocol === 'http:' && !allowPrivate) {
    throw new Failure('webhook_refused', {
      message: `${url.origin} is not encrypted: everybody on the way could read what it is told.`,
      object: url.origin,
      remedy: 'Use https://; or, for a receiver on this host or in its own network, add --allow-private.',
    })
  }
  return url
}

/** The host to be asked for, an IPv6 address without its brackets. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1')
}

/** Throws `webhook_refused` where a webhook may not reach an address that its host has. */
export function requireReach(address: string, host: string, allowPrivate: boolean): void {
  const reach = reachOf(address)
  if (reach === 'public' || (reach === 'private' && allowPrivate)) return
  const named = host === address ? host : `${host} (${address})`
  throw new Failure('webhook_refused', {
    message:
      reach === 'private'
        ? `${named} is on this host, or in a private network.`
        : `${named} is an address that no webhook may have: of a link, a metadata service, a group, or none at all.`,
    object: host,
    ...(reach === 'private' ? { remedy: 'If that is meant, add the webhook with --allow-private.' } : {}),
  })
}

function withoutUser(text: string): string {
  return text.replace(/\/\/[^/]*@/, '//…@')
}

function blockList(ipv4: readonly string[], ipv6: readonly string[]): BlockList {
  const list = new BlockList()
  for (const [family, ranges] of [
    ['ipv4', ipv4],
    ['ipv6', ipv6],
  ] as const) {
    for (const range of ranges) {
      const [network = '', bits] = range.split('/')
      list.addSubnet(network, Number(bits), family)
    }
  }
  return list
}

/** Sixteen bytes of an IPv6 address, whose last two groups may be written as an IPv4 one. */
function bytesOf(address: string): number[] {
  const plain = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number)
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  })
  const [head = '', tail] = plain.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const [before, after] = [groups(head), groups(tail ?? '')]
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
  return all.flatMap((group) => [group >> 8, group & 255])
}
