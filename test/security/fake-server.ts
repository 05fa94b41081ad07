import { createServer, type Socket } from 'node:net'
import { afterAll } from 'vitest'

const servers: FakeServer[] = []

afterAll(() => {
  for (const server of servers) server.stop()
})

/** One connection to a fake server: what the client says, message by message, and a way to answer anything. */
export interface FakeConnection {
  /** Parameters of the start-up message. */
  readonly startup: ReadonlyMap<string, string>
  /** The next message's letter and body. Rejects when the client has gone. */
  read(): Promise<{ tag: string; body: Buffer }>
  send(...messages: Buffer[]): void
  readonly socket: Socket
}

export interface FakeServer {
  readonly port: number
  /** Letters of all messages that clients sent after start-up, in order. */
  readonly received: string[]
  /** Start-up messages so far. */
  readonly accepted: number
  url(host?: string): string
  stop(): void
}

/**
 * A server on 127.0.0.1 that speaks as much of the protocol as `behave` says. TLS requests are answered with `sslAnswer`
 * (default: none is offered).
 */
export async function startFakeServer(
  behave: (connection: FakeConnection) => Promise<void> | void,
  sslAnswer: string = 'N',
): Promise<FakeServer> {
  const received: string[] = []
  let accepted = 0
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    const counted = (connection: FakeConnection) => {
      accepted++
      return behave(connection)
    }
    void serve(socket, received, counted, sslAnswer).catch(() => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve))
  const { port } = server.address() as { port: number }
  const fake = {
    port,
    received,
    get accepted() {
      return accepted
    },
    url: (host = '127.0.0.1') => `postgresql://ym:hunter2Canary@${host}:${port}/d?sslmode=disable`,
    stop: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
  servers.push(fake)
  return fake
}

async function serve(
  socket: Socket,
  received: string[],
  behave: (connection: FakeConnection) => Promise<void> | void,
  sslAnswer: string,
): Promise<void> {
  const reader = new Reader(socket)
  let body = await reader.sized()
  if (body.readInt32BE(0) === 80877103) {
    socket.write(sslAnswer)
    body = await reader.sized()
  }
  const words = body.subarray(4).toString().split('\0')
  const startup = new Map(
    Array.from({ length: words.length >> 1 }, (_, index) => [words[2 * index] ?? '', words[2 * index + 1] ?? '']),
  )
  const read = async () => {
    const tag = (await reader.bytes(1)).toString('latin1')
    const message = { tag, body: await reader.sized() }
    received.push(tag)
    return message
  }
  await behave({ startup, socket, read, send: (...messages) => void socket.write(Buffer.concat(messages)) })
  while ((await read()).tag !== 'X');
  socket.end()
}

class Reader {
  readonly #chunks: AsyncIterator<Buffer>
  #held = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.#chunks = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  }

  async bytes(count: number): Promise<Buffer> {
    while (this.#held.length < count) {
      const next = await this.#chunks.next()
      if (next.done) throw new Error('the client has gone')
      this.#held = Buffer.concat([this.#held, next.value])
    }
    const taken = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    return taken
  }

  async sized(): Promise<Buffer> {
    return this.bytes((await this.bytes(4)).readInt32BE(0) - 4)
  }
}

/** A message: its letter, its length (the true one, unless another is given), its body. */
export function message(tag: string, body: Buffer | string = '', length?: number): Buffer {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(5)
  head.write(tag, 'latin1')
  head.writeUInt32BE(length ?? bytes.length + 4, 1)
  return Buffer.concat([head, bytes])
}

const int16 = (value: number) => Buffer.from([(value >> 8) & 255, value & 255])

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export const authentication = (kind: number, more: Buffer | string = ''): Buffer =>
  message('R', Buffer.concat([int32(kind), Buffer.from(more)]))

export const ready = message('Z', 'I')
export const keyData = (pid: number): Buffer => message('K', Buffer.concat([int32(pid), int32(1)]))
export const notice = (text: string, tag = 'N'): Buffer => message(tag, `SNOTICE\0C00000\0M${text}\0\0`)
export const error = (sqlstate: string, text: string): Buffer => message('E', `SFATAL\0C${sqlstate}\0M${text}\0\0`)

/** The answer to one statement of the extended protocol: a row of texts under these names. */
export function answer(row: Readonly<Record<string, string>>, types: Readonly<Record<string, number>> = {}): Buffer {
  const names = Object.keys(row)
  const fields = names.map((name) =>
    Buffer.concat([
      Buffer.from(`${name}\0`),
      int32(0),
      int16(0),
      int32(types[name] ?? 25),
      int16(-1),
      int32(-1),
      int16(0),
    ]),
  )
  const values = names.map((name) => {
    const value = Buffer.from(row[name] ?? '')
    return Buffer.concat([int32(value.length), value])
  })
  return Buffer.concat([
    message('1'),
    message('2'),
    message('T', Buffer.concat([int16(names.length), ...fields])),
    message('D', Buffer.concat([int16(names.length), ...values])),
    message('C', 'SELECT 1\0'),
    ready,
  ])
}

/** Reads until the client waits for an answer. */
export async function untilSync(connection: FakeConnection): Promise<void> {
  while ((await connection.read()).tag !== 'S');
}

/** Lets the client in and answers the statements that open a session, as a server of this version would. */
export async function letIn(connection: FakeConnection, version = '180000', announced = 42, real = 42): Promise<void> {
  connection.send(authentication(0), keyData(announced), ready)
  await untilSync(connection)
  connection.send(answer({ set_config: '' }))
  await untilSync(connection)
  connection.send(answer({ version, pid: String(real), settings: '25' }, { pid: 23 }))
}
