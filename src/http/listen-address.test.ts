import { describe, expect, it } from 'vitest'
import { isOwnHost, parseListenAddress, urlOf } from './listen-address.ts'

describe('--listen', () => {
  it.each([
    ['127.0.0.1:8080', '127.0.0.1', 8080],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['[::1]:65535', '::1', 65535],
    ['LOCALHOST:1', 'localhost', 1],
    [':7878', '127.0.0.1', 7878],
  ])('reads %s', (text, host, port) => {
    expect(parseListenAddress(text)).toEqual({ host, port, orNext: false })
  })

  it.each([
    '',
    '127.0.0.1',
    '127.0.0.1:',
    ':65536',
    'example.org:80',
    '::1:80',
    '[::1]',
    '1.2.3.4.5:80',
    '127.0.0.1:80x',
  ])('refuses %j', (text) => {
    expect(() => parseListenAddress(text)).toThrow(expect.objectContaining({ code: 'wrong_usage', object: '--listen' }))
  })

  it('makes URLs', () => {
    expect([urlOf('127.0.0.1', 80), urlOf('::1', 80), urlOf('localhost', 80)]).toEqual([
      'http://127.0.0.1:80/',
      'http://[::1]:80/',
      'http://localhost:80/',
    ])
  })
})

describe('the Host header', () => {
  it.each(['127.0.0.1', '127.0.0.1:7878', 'localhost:1', 'LocalHost', '[::1]:7878', '10.1.2.3:80'])(
    'is ours: %s',
    (host) => {
      expect(isOwnHost(host)).toBe(true)
    },
  )

  // Names that end in, begin with, or look like ours are an attacker's to register.
  it.each([
    undefined,
    '',
    'evil.example',
    'evil.example:7878',
    'localhost.evil.example',
    '127.0.0.1.evil.example:7878',
    'evil.example@127.0.0.1',
    'localhost:',
    '127.0.0.1:7878:1',
    '[evil.example]:7878',
    '2130706433',
    '127.1',
  ])('is not ours: %s', (host) => {
    expect(isOwnHost(host)).toBe(false)
  })
})
