import { expect, it } from 'vitest'
import { makeWebhookSecret, messageHeaders, requireWebhookSecret } from './webhook-message.ts'

it('signs as the specification’s own example', () => {
  const headers = messageHeaders(
    'msg_p5jXN8AQM9LWM0D4loKWxJek',
    1614265330,
    '{"test": 2432232314}',
    'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  )
  expect(headers).toMatchObject({
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  })
})

it('signs id, time and body: another one of any of them has another signature', () => {
  const secret = makeWebhookSecret()
  const sign = (id: string, at: number, body: string, by = secret) =>
    messageHeaders(id, at, body, by)['webhook-signature']
  const all = [
    sign('a', 1, 'b'),
    sign('c', 1, 'b'),
    sign('a', 2, 'b'),
    sign('a', 1, 'd'),
    sign('a', 1, 'b', makeWebhookSecret()),
  ]
  expect(new Set(all).size).toBe(5)
})

it('makes secrets that it takes, each another one', () => {
  const [one, other] = [makeWebhookSecret(), makeWebhookSecret()]
  expect(requireWebhookSecret(one)).toBe(one)
  expect(one).not.toBe(other)
  expect(Buffer.from(one.slice(6), 'base64')).toHaveLength(32)
})

it.each([
  '',
  'secret',
  'whsec_',
  'whsec_short',
  `whsec_${'*'.repeat(44)}`,
  `whsec_${Buffer.alloc(23).toString('base64')}`,
])('takes no secret %j', (text) => {
  expect(() => requireWebhookSecret(text)).toThrow(expect.objectContaining({ code: 'webhook_refused' }))
})
