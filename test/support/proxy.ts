import { createConnection, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll } from 'vitest'

/** What one direction does with its bytes, in every connection, from the moment it is set. */
export type Fault =
  | { kind: 'pass' }
  /** Reads nothing (beyond what buffers take), sends nothing, closes nothing, also when the other side is gone. */
  | { kind: 'half-open' }
  /** The receiving end of this direction gets an RST, now and as soon as it connects again. */
  | { kind: 'reset' }
  /** Passes as many bytes more, then closes both ends, once; after that it passes. */
  | { kind: 'cut'; afterBytes: number }
  /** Bytes arrive as many milliseconds later. */
  | { kind: 'delay'; ms: number }
  | { kind: 'rate'; bytesPerSecond: number }

export type Direction = 'toServer' | 'toClient'

/** A TCP proxy whose two directions can be broken at run time. */
export interface FaultProxy {
  port: number
  /** The URL that it was made for, by way of the proxy. */
  url: string
  set(direction: Direction | 'both', fault: Fault): void
  /** Calls once, before bytes that end `text` are forwarded; what it sets holds for these bytes already. */
  when(direction: Direction, text: string, call: () => void): void
  /** Bytes forwarded so far, over all connections. */
  bytes(direction: Direction): number
  /** Connections that clients have made so far. */
  readonly accepted: number
  /** Closes everything. Twice is fine; the end of the test file does it too. */
  stop(): Promise<void>
}

/** Bytes that may be under way in one connection of a delayed direction. */
const underWayBytes = 1024 * 1024
const stepsPerSecond = 20
const proxies: FaultProxy[] = []

afterAll(async () => {
  for (const proxy of proxies) await proxy.stop()
})

/** Starts a proxy on a free port of 127.0.0.1 before the server of a `postgresql://` URL. */
export async function startProxy(serverUrl: string): Promise<FaultProxy> {
  const target = new URL(serverUrl)
  const lanes = { toServer: new Lane(), toClient: new Lane() }
  const sockets = new Set<Socket>()
  let accepted = 0
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted++
    const host = target.hostname.replace(/^\[(.*)\]$/, '$1')
    const upstream = createConnection({ host, port: Number(target.port || 5432), allowHalfOpen: true, noDelay: true })
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      // Errors reach whoever reads or writes; without a listener they would end the process.
      socket.on('error', () => {})
      socket.once('close', () => sockets.delete(socket))
    }
    void lanes.toServer.run(client, upstream)
    void lanes.toClient.run(upstream, client)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const url = Object.assign(new URL(serverUrl), { host: `127.0.0.1:${port}` }).href
  const stop = async () => {
    server.close()
    for (const lane of Object.values(lanes)) lane.set({ kind: 'pass' })
    for (const socket of sockets) socket.destroy()
  }
  const proxy: FaultProxy = {
    port,
    url,
    set: (direction, fault) => {
      if (direction !== 'toClient') lanes.toServer.set(fault)
      if (direction !== 'toServer') lanes.toClient.set(fault)
    },
    when: (direction, text, call) => lanes[direction].watch(text, call),
    bytes: (direction) => lanes[direction].bytes,
    get accepted() {
      return accepted
    },
    stop,
  }
  proxies.push(proxy)
  return proxy
}

/** One direction, of all connections. */
class Lane {
  bytes = 0
  #fault: Fault = { kind: 'pass' }
  #changed = Promise.withResolvers<void>()
  #watches: { text: Buffer; call: () => void }[] = []
  readonly #sinks = new Set<Socket>()

  set(fault: Fault): void {
    this.#fault = { ...fault }
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
    if (fault.kind === 'reset') for (const sink of this.#sinks) sink.resetAndDestroy()
  }

  watch(text: string, call: () => void): void {
    this.#watches.push({ text: Buffer.from(text), call })
  }

  /** Forwards from one socket to the other until the source ends or breaks, and tells the other how it ended. */
  async run(source: Socket, sink: Socket): Promise<void> {
    this.#sinks.add(sink)
    sink.once('close', () => this.#sinks.delete(sink))
    try {
      await this.#forward(source, sink)
      await this.#passable()
      sink.end()
    } catch {
      await this.#passable()
      sink.resetAndDestroy()
    }
  }

  async #forward(source: Socket, sink: Socket): Promise<void> {
    let last = Promise.resolve()
    let underWay = 0
    let seen = Buffer.alloc(0)
    for await (const chunk of source.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      seen = this.#look(Buffer.concat([seen, chunk]))
      const arrived = performance.now()
      underWay += chunk.length
      last = last.then(() => this.#deliver(chunk, arrived, source, sink))
      last = last.then(() => {
        underWay -= chunk.length
      })
      // A failure reaches us through the next await; until then it must not count as unhandled.
      last.catch(() => {})
      if (this.#fault.kind !== 'delay' || underWay > underWayBytes) await last
    }
    await last
  }

  /** Calls the watches that these bytes fulfil; returns the end that the next bytes may continue. */
  #look(seen: Buffer): Buffer<ArrayBuffer> {
    const fulfilled = this.#watches.filter(({ text }) => seen.includes(text))
    this.#watches = this.#watches.filter((watch) => !fulfilled.includes(watch))
    for (const { call } of fulfilled) call()
    const longest = Math.max(1, ...this.#watches.map(({ text }) => text.length))
    return Buffer.from(longest === 1 ? [] : seen.subarray(-(longest - 1)))
  }

  async #passable(): Promise<void> {
    while (this.#fault.kind === 'half-open') await this.#changed.promise
  }

  async #deliver(chunk: Buffer, arrived: number, source: Socket, sink: Socket): Promise<void> {
    let rest = chunk
    while (rest.length > 0) {
      await this.#passable()
      const fault = this.#fault
      const wait = fault.kind === 'delay' ? arrived + fault.ms - performance.now() : 0
      if (fault.kind === 'reset') sink.resetAndDestroy()
      if (wait > 0) await Promise.race([delay(wait), this.#changed.promise])
      else if (fault.kind === 'cut' && rest.length >= fault.afterBytes)
        return await this.#cut(rest, fault, source, sink)
      else rest = rest.subarray(await this.#write(rest, fault, sink))
    }
  }

  /** Writes what the fault lets through at once; resolves to the number of bytes. */
  async #write(bytes: Buffer, fault: Fault, sink: Socket): Promise<number> {
    const rate = fault.kind === 'rate' ? Math.max(1, Math.round(fault.bytesPerSecond / stepsPerSecond)) : bytes.length
    const part = bytes.subarray(0, rate)
    await write(sink, part)
    this.bytes += part.length
    if (fault.kind === 'cut') fault.afterBytes -= part.length
    const seconds = fault.kind === 'rate' ? part.length / fault.bytesPerSecond : 0
    if (seconds > 0) await Promise.race([delay(seconds * 1000), this.#changed.promise])
    return part.length
  }

  async #cut(bytes: Buffer, fault: { afterBytes: number }, source: Socket, sink: Socket): Promise<void> {
    const part = bytes.subarray(0, fault.afterBytes)
    if (part.length > 0) await write(sink, part)
    this.bytes += part.length
    this.set({ kind: 'pass' })
    sink.end()
    source.resetAndDestroy()
    throw new Error('cut')
  }
}

function write(sink: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    sink.write(bytes, (error) => (error ? reject(error) : resolve()))
  })
}
