import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { findPassword } from './password-file.ts'

const parts = { host: 'db.example.org', port: 5432, user: 'ym', database: 'crm', sslMode: 'verify-full' } as const

function fileOf(content: string, mode = 0o600): string {
  const file = join(mkdtempSync(join(tmpdir(), 'pgpass-')), 'pgpass')
  writeFileSync(file, content)
  chmodSync(file, mode)
  return file
}

test.each([
  ['an exact line', 'db.example.org:5432:crm:ym:secret', {}, 'secret'],
  ['stars', '*:*:*:*:secret', {}, 'secret'],
  ['the first line that fits', '*:5433:*:*:no\n# *:*:*:*:comment\n\n*:*:crm:ym:first\n*:*:*:*:second\n', {}, 'first'],
  ['Windows line ends', '*:*:*:*:secret\r\n', {}, 'secret'],
  ['colons and stars in a password', '*:*:*:*:a\\:b:c*\\\\', {}, 'a:b:c*\\'],
  ['a star as a password', '*:*:*:*:*', {}, '*'],
  ['an escaped user', '*:*:*:a\\:b:secret', { user: 'a:b' }, 'secret'],
  ['an IPv6 address', '\\:\\:1:*:*:*:secret', { host: '::1' }, 'secret'],
  ['a socket, which is localhost', 'localhost:5432:*:*:secret', { host: '/run/postgresql' }, 'secret'],
  ['no line for another host', 'db.example.com:*:*:*:secret', {}, undefined],
  ['no line for another port', '*:5433:*:*:secret', {}, undefined],
  ['no line for another database', '*:*:crm2:*:secret', {}, undefined],
  ['no line for another user', '*:*:*:Ym:secret', {}, undefined],
  ['a line that is none', 'secret\n*:*:*:secret\n*:*:*:*:', {}, undefined],
])('%s', (_what, content, more, password) => {
  expect(findPassword({ ...parts, ...more }, fileOf(content))).toMatchObject({ password, ignored: undefined })
})

test.each([0o640, 0o604, 0o660, 0o777])('a file of mode %o is not used, and the reason is told', (mode) => {
  const found = findPassword(parts, fileOf('*:*:*:*:secret', mode))
  expect(found.password).toBeUndefined()
  expect(found.ignored).toMatch(/others may read it \(mode 0\d{3}\); chmod 0600/)
})

test('a file that is not there is no reason', () => {
  expect(findPassword(parts, '/nonexistent/pgpass')).toEqual({
    file: '/nonexistent/pgpass',
    password: undefined,
    ignored: undefined,
  })
})

test('a folder in its place is one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pgpass-'))
  expect(findPassword(parts, folder).ignored).toContain('EISDIR')
})
