import { lookup as resolveName } from 'node:dns/promises'
import { type ClientRequest, request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { Failure } from '../base/failure.ts'
import { hostOf, parseWebhookUrl, requireReach } from './webhook-address.ts'

/** Milliseconds that a receiver gets to answer, its name's look-up included. */
const answerWithin = 5000

/** All addresses of a name. */
export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

export interface Post {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly allowPrivate: boolean
}

/**
 * Sends a message and resolves to the status of the answer, whose body nobody reads; a redirect is an answer like others. The host's
 * name is resolved once, and the connection goes to the address that was found allowed, whatever the name says a moment later.
 * Throws `webhook_refused`, and `webhook_failed` where no answer came within five seconds.
 */
export async function post(
  message: Post,
  resolve: Resolve = (host) => resolveName(host, { all: true }),
): Promise<number> {
  const late = Promise.withResolvers<never>()
  let sent: ClientRequest | undefined
  const timer = setTimeout(() => {
    sent?.destroy()
    late.reject(failed(`no answer within ${answerWithin / 1000} s`))
  }, answerWithin)
  const exchange = async (): Promise<number> => {
    const url = parseWebhookUrl(message.url, message.allowPrivate)
    const address = await allowedAddress(hostOf(url), message.allowPrivate, resolve)
    return new Promise((answered, broken) => {
      sent = open(url, address, message)
      sent.once('response', (answer) => {
        answered(answer.statusCode ?? 0)
        answer.destroy()
      })
      // Also behind the answer, when it is cut.
      sent.on('error', (error: NodeJS.ErrnoException) => broken(failed(error.code ?? error.message, error)))
      sent.end(message.body)
    })
  }
  const exchanged = exchange()
  // What comes of it behind the deadline is nobody's news any more.
  exchanged.catch(() => undefined)
  return Promise.race([exchanged, late.promise]).finally(() => clearTimeout(timer))
}

function open(url: URL, address: string, { headers, body }: Post): ClientRequest {
  const host = hostOf(url)
  const family = isIP(address)
  return (url.protocol === 'https:' ? httpsRequest : httpRequest)({
    method: 'POST',
    host: address,
    family,
    port: url.port === '' ? undefined : Number(url.port),
    path: `${url.pathname}${url.search}`,
    headers: { ...headers, host: url.host, 'content-length': Buffer.byteLength(body) },
    agent: false,
    // The certificate is that of the name; an address has none to tell.
    ...(isIP(host) === 0 ? { servername: host } : {}),
    maxHeaderSize: 16_384,
  })
}

/** The first address of a host, all of which must be allowed. */
async function allowedAddress(host: string, allowPrivate: boolean, resolve: Resolve): Promise<string> {
  if (isIP(host) !== 0) return host
  const found = await resolve(host).catch((error: NodeJS.ErrnoException) => {
    throw failed(`the name ${host} is not found (${error.code ?? error.message})`, error)
  })
  for (const { address } of found) requireReach(address, host, allowPrivate)
  const [first] = found
  if (first === undefined) throw failed(`the name ${host} has no address`)
  return first.address
}

function failed(why: string, cause?: unknown): Failure {
  const known: Record<string, string> = {
    ECONNREFUSED: 'nothing listens there',
    ECONNRESET: 'the receiver closed the connection without an answer',
    EHOSTUNREACH: 'the receiver cannot be reached',
    ENETUNREACH: 'the receiver cannot be reached',
    ETIMEDOUT: 'the receiver cannot be reached',
  }
  return new Failure('webhook_failed', { message: known[why] ?? why, retryable: true, cause })
}
