import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Below what Linux (32768) and the others take for outgoing connections: from there, any client could be given the port
 * of a server that is being restarted.
 */
const range = { from: 20_000, to: 32_768 }
const attempts = 50

/** Whether a server could listen on this port of 127.0.0.1 now. */
export async function isFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== undefined
}

/** A port of 127.0.0.1 on which nobody listens. It is not held: who uses it must be ready to find it taken. */
export async function findFreePort(): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = randomInt(range.from, range.to)
    if (await isFree(port)) return port
  }
  const any = await listenOnce(0)
  if (any === undefined) throw new Error('127.0.0.1 has no free port')
  return any
}

function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined))
    })
  })
}
