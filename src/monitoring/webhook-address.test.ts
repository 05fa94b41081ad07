import { describe, expect, it } from 'vitest'
import { Failure } from '../base/failure.ts'
import { parseWebhookUrl, reachOf, requireReach } from './webhook-address.ts'

describe('an address', () => {
  it.each([
    ['93.184.216.34', 'public'],
    ['2606:2800:220:1:248:1893:25c8:1946', 'public'],
    ['172.15.255.255', 'public'],
    ['172.32.0.0', 'public'],
    // This host and private networks.
    ...[
      '127.0.0.1',
      '127.255.0.9',
      '10.1.2.3',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '100.64.0.1',
      '::1',
      'fd12::1',
    ].map((address) => [address, 'private'] as const),
    // Link-local, metadata, groups, nobody.
    ...['169.254.169.254', '169.254.0.1', 'fe80::1', 'febf::1', 'fd00:ec2::254', '100.100.100.200', '192.0.0.192'].map(
      (address) => [address, 'forbidden'] as const,
    ),
    ...['224.0.0.1', '239.255.255.255', 'ff02::1', '0.0.0.0', '0.1.2.3', '::', '255.255.255.255', '240.0.0.1'].map(
      (address) => [address, 'forbidden'] as const,
    ),
    // An IPv4 address inside an IPv6 one: mapped, translated, tunnelled, compatible.
    ['::ffff:169.254.169.254', 'forbidden'],
    ['::ffff:a9fe:a9fe', 'forbidden'],
    ['::ffff:127.0.0.1', 'private'],
    ['::ffff:93.184.216.34', 'public'],
    ['64:ff9b::a9fe:a9fe', 'forbidden'],
    ['64:ff9b::169.254.169.254', 'forbidden'],
    ['64:ff9b::5db8:d822', 'public'],
    ['2002:a9fe:a9fe::1', 'forbidden'],
    ['2002:7f00:1::', 'private'],
    ['::169.254.169.254', 'forbidden'],
    // No address, or one of a link.
    ['fe80::1%eth0', 'forbidden'],
    ['example.org', 'forbidden'],
    ['', 'forbidden'],
  ] as [string, string][])('%s is %s', (address, reach) => {
    expect(reachOf(address)).toBe(reach)
  })
})

const refusal = (text: string, allowPrivate = false): Failure => {
  try {
    parseWebhookUrl(text, allowPrivate)
  } catch (error) {
    if (error instanceof Failure) return error
  }
  throw new Error(`${text} was accepted`)
}

describe('the URL of a webhook', () => {
  it.each([
    ['https://example.org/hook?token=a', false],
    ['https://93.184.216.34:8443/', false],
    ['http://127.0.0.1:8080/hook', true],
    ['http://[::1]:8080/hook', true],
    ['http://receiver.internal/', true],
  ])('may be %s (private: %s)', (text, allowPrivate) => {
    expect(parseWebhookUrl(text, allowPrivate).href).toBe(text)
  })

  it.each([
    ['example.org/hook', /is https:\/\/host\/path/],
    ['ftp://example.org/', /is https:\/\/host\/path/],
    ['file:///etc/passwd', /is https:\/\/host\/path/],
    ['https://example.org/#part', /is https:\/\/host\/path/],
    ['', /is https:\/\/host\/path/],
    ['http://example.org/', /is not encrypted/],
    ['https://127.0.0.1/', /on this host, or in a private network/],
    ['https://[::1]/', /on this host, or in a private network/],
    ['https://10.0.0.5/', /on this host, or in a private network/],
    // Every way of writing it is the same address.
    ...['169.254.169.254', '0xA9FEA9FE', '2852039166', '0251.0376.0251.0376', '[::ffff:169.254.169.254]'].map(
      (host) => [`https://${host}/latest/meta-data`, /no webhook may have/] as const,
    ),
  ] as [string, RegExp][])('is not %s', (text, why) => {
    expect(refusal(text)).toMatchObject({ code: 'webhook_refused', message: expect.stringMatching(why) })
  })

  it('shows no password that was in it', () => {
    const failure = refusal('https://user:canary@example.org/')
    expect(JSON.stringify(failure) + failure.message).not.toContain('canary')
  })

  it('may not be an address of a link or a metadata service, whatever is allowed', () => {
    for (const host of ['169.254.169.254', '[fe80::1]', '[fd00:ec2::254]', '0.0.0.0', '224.0.0.1'])
      expect(refusal(`http://${host}/`, true).message).toContain('no webhook may have')
    expect(() => requireReach('169.254.169.254', 'rebound.example', true)).toThrow('rebound.example (169.254.169.254)')
  })
})
