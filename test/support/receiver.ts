import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'

/** A message that a receiver got. */
export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** What a receiver does with a message: a status, or whatever it likes with the connection. */
export type Reaction = number | ((answer: ServerResponse, socket: Socket) => void)

/** A receiver of webhooks on this host, which does what the test says, message by message, and 204 from then on. */
export interface Receiver {
  readonly url: string
  readonly port: number
  readonly received: readonly Received[]
  /** Resolves when so many messages came. */
  got(count: number): Promise<void>
  next(...reactions: Reaction[]): void
  stop(): Promise<void>
}

/** Stopped at the end of the test. */
export async function startReceiver(...first: Reaction[]): Promise<Receiver> {
  const received: Received[] = []
  const reactions = [...first]
  const looks = new Set<() => void>()
  const server = createServer((request, answer) => {
    void text(request).then(
      (body) => {
        received.push({ path: request.url ?? '', headers: request.headers, body })
        for (const look of looks) look()
        const reaction = reactions.shift() ?? 204
        if (typeof reaction === 'number') answer.writeHead(reaction).end()
        else reaction(answer, request.socket)
      },
      () => undefined,
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    if (!server.listening) return
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  onTestFinished(stop)
  const got = async (count: number) => {
    const enough = Promise.withResolvers<void>()
    const look = () => received.length >= count && enough.resolve()
    looks.add(look)
    look()
    await enough.promise.finally(() => looks.delete(look))
  }
  const next = (...more: Reaction[]) => void reactions.push(...more)
  return { url: `http://127.0.0.1:${port}/hook`, port, received, got, next, stop }
}
