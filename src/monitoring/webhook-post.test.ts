import { expect, it } from 'vitest'
import { type Reaction, startReceiver } from '../../test/support/receiver.ts'
import { post, type Resolve } from './webhook-post.ts'

const message = (url: string, allowPrivate = true) => ({
  url,
  headers: { 'webhook-id': 'm' },
  body: '{"ü":1}',
  allowPrivate,
})

it('sends body and headers, and says what the receiver answers', async () => {
  const receiver = await startReceiver(204, 500)
  expect(await post(message(`${receiver.url}?a=b`))).toBe(204)
  expect(await post(message(receiver.url))).toBe(500)
  expect(receiver.received[0]).toMatchObject({
    ...{ path: '/hook?a=b', body: '{"ü":1}' },
    headers: { 'webhook-id': 'm', 'content-length': '8', host: `127.0.0.1:${receiver.port}` },
  })
})

it('follows no redirect', async () => {
  const other = await startReceiver()
  const receiver = await startReceiver((answer) => answer.writeHead(307, { location: other.url }).end())
  expect(await post(message(receiver.url))).toBe(307)
  expect(other.received).toEqual([])
})

const slowly: Reaction = (answer) => {
  // A byte now and then is no answer.
  const timer = setInterval(() => answer.writeProcessing(), 200)
  answer.once('close', () => clearInterval(timer))
}
it.each([
  ['that hangs', () => undefined],
  ['that is slow', slowly],
] as const)(
  'gives a receiver %s five seconds',
  async (_what, reaction) => {
    const receiver = await startReceiver(reaction)
    const started = performance.now()
    await expect(post(message(receiver.url))).rejects.toMatchObject({
      code: 'webhook_failed',
      message: 'no answer within 5 s',
    })
    expect(performance.now() - started).toBeGreaterThan(4900)
    expect(performance.now() - started).toBeLessThan(8000)
  },
  15_000,
)

it('waits for a name no longer than for an answer', async () => {
  const never: Resolve = () => new Promise(() => undefined)
  await expect(post(message('http://receiver.test/'), never)).rejects.toThrow('no answer within 5 s')
}, 15_000)

it('reads no more than the head of an answer that never ends', async () => {
  const receiver = await startReceiver((answer) => {
    const write = () => answer.write('x'.repeat(65_536), () => setImmediate(write))
    answer.writeHead(200)
    write()
  })
  expect(await post(message(receiver.url))).toBe(200)
})

it.each([
  [
    'closes without an answer',
    (_: unknown, socket: { destroy(): void }) => void socket.destroy(),
    /closed the connection/,
  ],
  [
    'closes in the middle of its head',
    (_: unknown, socket: { end(text: string): void }) => void socket.end('HTTP/1.1 20'),
    /./,
  ],
  ['speaks no HTTP', (_: unknown, socket: { end(text: string): void }) => void socket.end('220 mail\r\n'), /./],
] as const)('fails where the receiver %s', async (_what, reaction, said) => {
  const receiver = await startReceiver(reaction as Reaction)
  await expect(post(message(receiver.url))).rejects.toMatchObject({
    code: 'webhook_failed',
    message: expect.stringMatching(said),
  })
})

it('fails where nothing listens', async () => {
  const receiver = await startReceiver()
  await receiver.stop()
  await expect(post(message(receiver.url))).rejects.toThrow('nothing listens there')
})

it('looks its host’s name up once, and goes to that very address', async () => {
  const receiver = await startReceiver()
  let asked = 0
  // A name that is rebound: the second answer is what the first one was not.
  const rebound: Resolve = async () => {
    asked += 1
    return [{ address: asked === 1 ? '127.0.0.1' : '169.254.169.254', family: 4 }]
  }
  expect(await post(message(`http://rebound.test:${receiver.port}/hook`), rebound)).toBe(204)
  expect(asked).toBe(1)
  expect(receiver.received[0]?.headers.host).toBe(`rebound.test:${receiver.port}`)
})

it('goes nowhere where one address of a name is not allowed', async () => {
  const receiver = await startReceiver()
  const named =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: 4 }))
  const url = `http://mixed.test:${receiver.port}/`
  await expect(post(message(url), named('127.0.0.1', '169.254.169.254'))).rejects.toMatchObject({
    code: 'webhook_refused',
    message: expect.stringContaining('mixed.test (169.254.169.254)'),
  })
  const secure = `https://mixed.test:${receiver.port}/`
  await expect(post(message(secure, false), named('127.0.0.1'))).rejects.toMatchObject({
    code: 'webhook_refused',
    message: 'mixed.test (127.0.0.1) is on this host, or in a private network.',
  })
  await expect(post(message(url), named())).rejects.toThrow('has no address')
  expect(receiver.received).toEqual([])
})
