import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../base/failure.ts'
import { displayUrl, isLoopback, parseConnectionUrl, withoutPasswords } from './connection-url.ts'

function failureOf(url: string): Failure {
  try {
    parseConnectionUrl(url)
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
  throw new Error(`${url} was accepted`)
}

describe('a connection URL', () => {
  test.each([
    [
      'postgresql://ym@db.example.org:5433/crm',
      { host: 'db.example.org', port: 5433, user: 'ym', database: 'crm', sslMode: 'verify-full' },
    ],
    ['postgres://ym@DB.example.org/crm', { host: 'db.example.org', port: 5432, sslMode: 'verify-full' }],
    ['postgresql://ym:p%40%2F%3A%23%3F%25@h/d', { password: 'p@/:#?%' }],
    ['postgresql://ym:@h/d', { password: undefined }],
    ['postgresql://ym@/d', { host: 'localhost', sslMode: 'disable' }],
    ['postgresql://ym@[::1]:5433/d', { host: '::1', port: 5433, sslMode: 'disable' }],
    ['postgresql://ym@[2001:DB8::2]/d', { host: '2001:db8::2', sslMode: 'verify-full' }],
    ['postgresql://ym@127.0.0.2/d', { host: '127.0.0.2', sslMode: 'disable' }],
    ['postgresql://ym@/d?host=/run/postgresql', { host: '/run/postgresql', sslMode: 'disable' }],
    ['postgresql://ym@%2Frun%2Fpg/d', { host: '/run/pg' }],
    [
      'postgresql://ym@h/d?sslmode=require&sslrootcert=/etc/ca%20x.pem',
      { sslMode: 'require', sslRootCert: '/etc/ca x.pem' },
    ],
    ['postgresql://%C3%84@h/%22odd%22', { user: 'Ä', database: '"odd"' }],
  ])('%s is read', (url, parts) => {
    expect(parseConnectionUrl(url)).toMatchObject(parts)
  })

  test.each([
    ['?options=-csession_replication_role=replica', "'options'"],
    ['?service=prod', "'service'"],
    ['?passfile=/etc/shadow', "'passfile'"],
    ['?sslkey=/etc/key', "'sslkey'"],
    ['?hostaddr=10.0.0.1', "'hostaddr'"],
    ['?port=1', "'port'"],
    ['?user=postgres', "'user'"],
    ['?password=x', "'password'"],
    ['?target_session_attrs=any', "'target_session_attrs'"],
    ['?application_name=psql', "'application_name'"],
    ['?SSLMODE=disable', "'SSLMODE'"],
    ['?sslmode=prefer', "'prefer'"],
    ['?sslmode=', 'empty'],
    ['?sslmode=verify-full&sslmode=disable', 'twice'],
    ['?host=/tmp', 'names a host besides'],
    ['?host=evil.example.org', 'socket folder'],
  ])('with %s is refused', (query, said) => {
    const failure = failureOf(`postgresql://ym@h/d${query}`)
    expect(failure.code).toBe('url_invalid')
    expect(failure.message).toContain(said)
  })

  test.each([
    'postgresql://a,b@h1,h2/d',
    'postgresql://ym@h1,h2/d',
    'postgresql://ym@h1:1,h2:2/d',
    'postgresql://ym@h1%2Ch2/d',
    'postgresql://ym@/d?host=h1,h2',
    'postgresql://ym@h%0A/d',
    'postgresql://ym@-oProxyCommand/d',
    'postgresql://ym@[::1/d',
    'postgresql://ym@[::g]/d',
    'postgresql://ym@[1.2]/d',
    'postgresql://ym@h:0/d',
    'postgresql://ym@h:65536/d',
    'postgresql://ym@h:x/d',
    'postgresql://h/d',
    'postgresql://ym@h/',
    'postgresql://ym@h',
    'postgresql://ym@h/d#fragment',
    'postgresql://ym@h/d/e',
    'postgresql://y%zz@h/d',
    'postgresql://y%ff@h/d',
    'http://ym@h/d',
    'host=h user=ym',
    ' postgresql://ym@h/d',
    '',
  ])('%j is refused', (url) => {
    expect(failureOf(url).code).toBe('url_invalid')
  })

  // In the start-up message a NUL ends a value; what follows would be read as a setting's name.
  test.each([
    'ym%00options%00-csession_replication_role%3Dreplica@h/d',
    'ym@h/d%00replication%00true',
    'ym:p%00w@h/d',
    'ym@h/d%0A',
  ])('postgresql://%s cannot smuggle settings in', (rest) => {
    expect(failureOf(`postgresql://${rest}`).message).toContain('holds a control character')
  })

  test('is never echoed by the error, and neither is its password', () => {
    const password = 'hunter2Canary'
    const broken = [
      `postgresql://ym:${password}`,
      `postgresql://ym:${password}@`,
      `postgresql://ym:${password}@h`,
      `postgresql://ym:${password}@h/`,
      `postgresql://ym:${password}@h:99999/d`,
      `postgresql://ym:${password}@h/d?options=x`,
      `postgresql://ym:a@${password}@h/d`,
      `postgresql://ym:a/${password}@h/d`,
      `postgresql://ym:1/d?${password}@h/d`,
      `postgresql://ym:a#${password}@h/d`,
      `postgresql://:${password}@h/d`,
      `postgresql://ym:${password}%@h/d`,
      `postgresql://ym:${password}%00@h/d`,
      `postgresql://ym:${password}@h1,h2/d`,
      `postgresql:/ym:${password}@h/d`,
    ]
    for (const url of broken) {
      const failure = failureOf(url)
      expect(`${failure.stack} ${JSON.stringify(failure)}`).not.toContain(password)
    }
  })

  test('is shown without its password, and read back as it was', () => {
    const word = fc.string({ minLength: 1, maxLength: 12 }).filter((text) => !/\p{Cc}/u.test(text))
    const parts = fc.record({
      host: fc.constantFrom('h', 'db.example.org', '::1', '2001:db8::1', '127.0.0.1', '/run/pg', 'localhost'),
      port: fc.integer({ min: 1, max: 65535 }),
      user: word,
      database: word,
      sslMode: fc.constantFrom('disable', 'require', 'verify-ca', 'verify-full'),
      sslRootCert: fc.option(word, { nil: undefined }),
    })
    fc.assert(
      fc.property(parts, (given) => {
        const url = displayUrl({ ...given, password: 'hunter2Canary' })
        expect(url).not.toContain('hunter2Canary')
        expect(parseConnectionUrl(url)).toEqual({ ...given, password: undefined })
      }),
    )
  })
})

test.each([
  ['localhost', true],
  ['127.0.0.1', true],
  ['127.1.2.3', true],
  ['::1', true],
  ['/run/postgresql', true],
  ['127.evil.example.org', false],
  ['127.0.0.1.example.org', false],
  ['localhost.example.org', false],
  ['::ffff:10.0.0.1', false],
  ['0.0.0.0', false],
  ['10.0.0.1', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected)
})

test.each([
  ['no such name postgresql://ym:secret@h/d here', 'no such name postgresql://ym:…@h/d here'],
  ["'postgres://ym:se@cr/et@h/d'", "'postgres://ym:…@h/d'"],
  ['postgresql://ym@h/d?password=secret&x=1', 'postgresql://ym@h/d?password=…&x=1'],
  ['postgresql://ym@h/d and a@b:c', 'postgresql://ym@h/d and a@b:c'],
])('%s is shown as %s', (text, shown) => {
  expect(withoutPasswords(text)).toBe(shown)
})
