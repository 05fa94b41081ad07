import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type FaultProxy, startProxy } from './proxy.ts'

// A server that answers every byte with the same byte, and tells how its connections end.
let serverEnd: PromiseWithResolvers<string>
const server = createServer((socket) => {
  socket.on('data', (data) => socket.write(data))
  socket.on('end', () => serverEnd.resolve('end'))
  socket.on('error', (error: NodeJS.ErrnoException) => serverEnd.resolve(error.code ?? 'error'))
})
let proxy: FaultProxy
let client: Socket
let received: Buffer
let clientEnd: PromiseWithResolvers<string>

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})

afterAll(() => server.close())

beforeEach(async () => {
  const { port } = server.address() as { port: number }
  serverEnd = Promise.withResolvers()
  proxy = await startProxy(`postgresql://someone@127.0.0.1:${port}/some`)
  client = await connect()
})

async function connect(): Promise<Socket> {
  const socket = createConnection({ port: proxy.port, host: '127.0.0.1' })
  received = Buffer.alloc(0)
  clientEnd = Promise.withResolvers()
  socket.on('data', (data) => {
    received = Buffer.concat([received, data])
  })
  socket.on('end', () => clientEnd.resolve('end'))
  socket.on('error', (error: NodeJS.ErrnoException) => clientEnd.resolve(error.code ?? 'error'))
  await once(socket, 'connect')
  return socket
}

const receives = (text: string) => expect.poll(() => received.toString(), { interval: 5 }).toBe(text)
const quiet = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('passes and counts', async () => {
  expect(proxy.url).toBe(`postgresql://someone@127.0.0.1:${proxy.port}/some`)
  client.write('hello')
  await receives('hello')
  expect([proxy.bytes('toServer'), proxy.bytes('toClient'), proxy.accepted]).toEqual([5, 5, 1])
  client.end()
  expect(await serverEnd.promise).toBe('end')
  expect(await clientEnd.promise).toBe('end')
})

test('half-open: nothing comes, nothing ends, until it passes again', async () => {
  proxy.set('toClient', { kind: 'half-open' })
  client.write('a')
  await quiet(50)
  expect(received.length).toBe(0)
  proxy.set('both', { kind: 'half-open' })
  client.write('b')
  await quiet(50)
  expect(proxy.bytes('toServer')).toBe(1)
  proxy.set('both', { kind: 'pass' })
  await receives('ab')
})

test('half-open takes no more than buffers hold, and hides that the client is gone', async () => {
  proxy.set('toServer', { kind: 'half-open' })
  const written = client.write(Buffer.alloc(64 * 1024 * 1024))
  expect(written).toBe(false)
  await quiet(100)
  expect(client.writableLength).toBeGreaterThan(32 * 1024 * 1024)
  client.destroy()
  await quiet(50)
  expect(await Promise.race([serverEnd.promise, 'open'])).toBe('open')
})

test('reset reaches the end that it is set for', async () => {
  client.write('a')
  await receives('a')
  proxy.set('toServer', { kind: 'half-open' })
  proxy.set('toClient', { kind: 'reset' })
  expect(await clientEnd.promise).toBe('ECONNRESET')
  expect(await Promise.race([serverEnd.promise, 'open'])).toBe('open')
  proxy.set('toServer', { kind: 'reset' })
  expect(await serverEnd.promise).toBe('ECONNRESET')
})

test('cut after a number of bytes, then passes for the next connection', async () => {
  client.write('a')
  await receives('a')
  proxy.set('toClient', { kind: 'cut', afterBytes: 3 })
  client.write('bc')
  await receives('abc')
  client.write('defg')
  expect(await clientEnd.promise).toBe('end')
  expect(received.toString()).toBe('abcd')
  expect(await serverEnd.promise).toBe('ECONNRESET')
  client = await connect()
  client.write('again')
  await receives('again')
})

test('a text triggers a fault before it is forwarded, also when it comes in two pieces', async () => {
  proxy.when('toServer', 'COMMIT', () => proxy.set('toClient', { kind: 'cut', afterBytes: 0 }))
  client.write('BEGIN COM')
  await receives('BEGIN COM')
  client.write('MIT')
  expect(await clientEnd.promise).toBe('end')
  expect(proxy.bytes('toServer')).toBe(12)
  expect(received.toString()).toBe('BEGIN COM')
})

test('delay keeps the order and the throughput', async () => {
  proxy.set('toServer', { kind: 'delay', ms: 200 })
  const begin = performance.now()
  for (let i = 0; i < 10; i++) {
    client.write(String(i))
    await quiet(10)
  }
  await receives('0123456789')
  const took = performance.now() - begin
  expect(took).toBeGreaterThan(290)
  expect(took).toBeLessThan(900)
})

test('rate', async () => {
  proxy.set('toClient', { kind: 'rate', bytesPerSecond: 10_000 })
  const begin = performance.now()
  client.write(Buffer.alloc(4000, 'x'))
  await receives('x'.repeat(4000))
  expect(performance.now() - begin).toBeGreaterThan(300)
})
