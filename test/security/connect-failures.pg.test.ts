import { writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { beforeAll, beforeEach, describe, expect, inject, onTestFinished, test } from 'vitest'
import { FakeTerminal } from '../cli/fake-terminal.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { error, letIn, startFakeServer } from './fake-server.ts'

const password = 'hunter2Canary'
let control: TestDatabase
let database: TestDatabase
let role: string
let terminal: FakeTerminal

beforeAll(async () => {
  control = await createDatabase('failures control')
  database = await createDatabase('failures')
  role = `role-of ${process.pid}`
  await database.query(`create role "${role}" login password '${password}' connection limit 1`)
})

beforeEach(() => {
  const environment = {
    YARDMASTER_CONTROL_URL: control.url,
    PGPASSFILE: '/nonexistent/pgpass',
    JUNK: `not a URL ${password}`,
    NESTED: 'env:JUNK',
  }
  terminal = new FakeTerminal({ terminal: false, environment })
})

/** A URL of the test database with these parts changed. */
function url(parts: Partial<Record<'username' | 'password' | 'host' | 'pathname' | 'search', string>> = {}): string {
  return Object.assign(new URL(database.url), { username: encodeURIComponent(role), password, ...parts }).href
}

/** `database add` with this URL fails like this, says it right, and keeps nothing. */
async function refused(given: string, code: string, said: RegExp, exit = 1): Promise<{ remedy: string }> {
  expect(await terminal.run('database', 'add', 'crm', given, '--json', '--log-level', 'debug')).toBe(exit)
  const { error: failure } = JSON.parse(terminal.out)
  expect(failure).toMatchObject({ code, message: expect.stringMatching(said) })
  if (exit === 1) expect(failure.object).toBe('crm')
  expect(failure.remedy.length).toBeGreaterThan(20)
  expect(terminal.out + terminal.err).not.toContain(password)
  expect(
    await control.query(`select (select count(*)::int from yardmaster.managed_database) as databases,
      (select count(*)::int from yardmaster.secret) as secrets, (select count(*)::int from yardmaster.audit) as audit`),
  ).toEqual([{ databases: 0, secrets: 0, audit: 0 }])
  return failure
}

describe('a database that cannot be reached is not registered', () => {
  test('refused port', () =>
    refused(url({ host: '127.0.0.1:1' }), 'database_unreachable', /ECONNREFUSED 127\.0\.0\.1:1/))

  test('refused port of a name with several addresses', () =>
    refused(url({ host: 'localhost:1' }), 'database_unreachable', /ECONNREFUSED (127\.0\.0\.1|::1):1/))

  test('host that does not exist', () =>
    refused(
      url({ host: 'no-such-host.invalid' }),
      'database_unreachable',
      /(ENOTFOUND|EAI_AGAIN) no-such-host\.invalid/,
    ))

  test('socket folder that does not exist', () =>
    refused(`postgresql://u:${password}@/d?host=/nonexistent`, 'database_unreachable', /ENOENT \/nonexistent/))

  test('wrong password', () =>
    refused(url({ password: 'wrong' }), 'authentication_failed', /password authentication failed for user "role-of/))

  test('no password', async () => {
    await refused(
      url({ password: '' }),
      'authentication_failed',
      /asks for the password of role-of .*the URL has none, nor has \/nonexistent\/pgpass/,
    )
  })

  test('unknown role', () =>
    refused(url({ username: 'nobody' }), 'authentication_failed', /password authentication failed for user "nobody"/))

  test('unknown database', () =>
    refused(url({ pathname: '/no-such' }), 'database_missing', /database "no-such" does not exist/))

  test('no right to connect', async () => {
    await database.query(`revoke connect on database ${database.name} from public`)
    onTestFinished(async () => void (await database.query(`grant connect on database ${database.name} to public`)))
    const { remedy } = await refused(url(), 'permission_denied', /permission denied for database/)
    expect(remedy).toContain(`GRANT CONNECT ON DATABASE "${database.name}" TO "${role}";`)
  })

  test('CONNECTION LIMIT of the role', async () => {
    const other = new pg.Client({ connectionString: url() })
    await other.connect()
    onTestFinished(() => other.end())
    await refused(url(), 'too_many_connections', /too many connections for role/)
  })

  test('CONNECTION LIMIT of the database', async () => {
    await database.query(`alter database ${database.name} connection limit 0`)
    onTestFinished(async () => void (await database.query(`alter database ${database.name} connection limit -1`)))
    await refused(url(), 'too_many_connections', /too many connections for database/)
  })

  test.each(['starting up', 'shutting down', 'in recovery mode'])('server that is %s', async (state) => {
    const server = await startFakeServer((connection) =>
      connection.send(error('57P03', `the database system is ${state}`)),
    )
    await refused(
      server.url(),
      'database_unreachable',
      new RegExp(`127.0.0.1:${server.port}: the database system is ${state}`),
    )
  })

  test('server of an older version', async () => {
    const server = await startFakeServer((connection) => letIn(connection, '130014'))
    await refused(server.url(), 'version_unsupported', /PostgreSQL 13; versions 14 to 18/)
  })

  test('pooler before a real server', async () => {
    await refused(await poolerBefore(database.url), 'pooler_refused', /runs through a pooler/)
  })

  test('something else than PostgreSQL', async () => {
    const server = await startFakeServer((connection) => void connection.socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    await refused(server.url(), 'protocol_violated', /announced a message of/)
  })

  test('server without TLS where it is wanted', () =>
    refused(url({ search: '?sslmode=verify-full' }), 'tls_failed', /does not support SSL/))

  test('clear text to another host', async () => {
    const server = await startFakeServer((connection) => connection.send(Buffer.from('R\0\0\0\x08\0\0\0\x03')))
    await refused(server.url('0.0.0.0'), 'password_unprotected', /in clear text over plain TCP; it was not sent/)
    expect(server.received).toEqual([])
  })

  test('variable that is not set', () =>
    refused('env:ABSENT', 'reference_unreadable', /env:ABSENT is empty or not set/))

  test('file that is not there', () => refused('file:/nonexistent/url', 'reference_unreadable', /ENOENT/))

  test.each([
    ['env:JUNK', /cannot be read/],
    ['env:NESTED', /cannot be read/],
    ['env:YARDMASTER_CONTROL_URL', /one of Yardmaster's own settings/],
    ['env:YARDMASTER_KEY', /one of Yardmaster's own settings/],
    ['env:', /names no environment variable/],
    [`postgresql://u:${password}@h/d?options=-csession_replication_role=replica`, /parameter 'options'/],
    [`postgresql://u%00options%00x:${password}@h/d`, /control character/],
    [`postgresql://u:${password}@a,b/d`, /exactly one host/],
  ])('wrong usage: %s', async (given, said) => {
    await refused(given, 'url_invalid', said, 2)
  })
})

describe('a reference', () => {
  test('to a file or a variable is kept as it is, and followed at each connection', async () => {
    const file = join(inject('runDirectory'), `url-${process.pid}`)
    writeFileSync(file, `${url()}\n`)
    const own = new FakeTerminal({ terminal: false, environment: { YARDMASTER_CONTROL_URL: control.url, CRM: url() } })
    for (const [name, given] of [
      ['filed', `file:${file}`],
      ['varied', 'env:CRM'],
    ] as const) {
      expect(await own.run('database', 'add', name, given), own.err).toBe(0)
      expect(await own.run('database', 'test', name), own.err).toBe(0)
    }
    onTestFinished(async () => {
      for (const name of ['filed', 'varied']) await own.run('database', 'remove', name, '--yes')
    })
    expect(
      await control.query('select name, url, has_stored_password from yardmaster.databases order by name'),
    ).toEqual([
      { name: 'filed', url: `file:${file}`, has_stored_password: false },
      { name: 'varied', url: 'env:CRM', has_stored_password: false },
    ])
    writeFileSync(file, '')
    expect(await own.run('database', 'test', 'filed')).toBe(1)
    expect(own.err).toContain('[reference_unreadable]')
    expect(own.out + own.err).not.toContain(password)
  })
})

/** A pooler as small as can be: passes everything on, with a process id of its own. */
async function poolerBefore(target: string): Promise<string> {
  const address = new URL(target)
  const server = createServer((client) => {
    const upstream = createConnection(Number(address.port), address.hostname)
    for (const socket of [client, upstream]) socket.on('error', () => undefined)
    client.on('data', (bytes) => upstream.write(bytes))
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
    upstream.on('data', (bytes) => {
      const at = bytes.indexOf(Buffer.from('K\0\0\0\x0c', 'latin1'))
      if (at !== -1) bytes.writeInt32BE(7, at + 5)
      client.write(bytes)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return Object.assign(new URL(target), { port: String((server.address() as { port: number }).port) }).href
}
