import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { inspectDatabase } from '../../src/control/inspection.ts'
import { connect } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { sql } from '../../src/postgres/sql.ts'
import { type PrivateServer, startServer } from '../support/databases.ts'
import { type Certificate, hasOpenssl, makeCertificate } from './certificates.ts'

const openssl = hasOpenssl()
if (!openssl) console.log('TLS is not tested: there is no openssl here to make certificates with.')

describe.runIf(openssl)('TLS', () => {
  let server: PrivateServer
  let home: string
  let good: Certificate
  let other: Certificate
  let expired: Certificate

  beforeAll(async () => {
    server = await startServer()
    home = join(server.directory, 'tls')
    mkdirSync(home)
    good = serverCertificate('good', 'DNS:localhost')
    other = serverCertificate('other', 'DNS:elsewhere.example.org')
    expired = serverCertificate('expired', 'DNS:localhost', -1)
    await use(good)
  })

  // Only the server's user may read its key.
  function serverCertificate(label: string, names: string, days?: number): Certificate {
    const made = makeCertificate(home, label, names, days)
    const { uid, gid } = statSync(join(server.directory, 'data'))
    for (const file of [made.file, made.keyFile]) chownSync(file, uid, gid)
    chmodSync(made.keyFile, 0o600)
    return made
  }

  /** New connections get this certificate, or none. */
  async function use(certificate: Certificate | undefined): Promise<void> {
    const admin = new pg.Client({ connectionString: server.url })
    await admin.connect()
    await admin.query(`alter system set ssl = ${certificate ? 'on' : 'off'}`)
    if (certificate) {
      await admin.query(`alter system set ssl_cert_file = '${certificate.file}'`)
      await admin.query(`alter system set ssl_key_file = '${certificate.keyFile}'`)
    }
    await admin.query('select pg_reload_conf()')
    await admin.end()
    // The postmaster takes a signal when it likes; a new connection tells what it has.
    await vi.waitFor(async () => expect(await offered()).toBe(certificate?.file ?? 'none'), 10_000)
  }

  async function offered(): Promise<string> {
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    const { rows } = await client.query(
      `select case current_setting('ssl') when 'on' then current_setting('ssl_cert_file') else 'none' end as file`,
    )
    await client.end()
    return rows[0].file
  }

  function url(host: string, mode: string, root?: Certificate): string {
    const given = Object.assign(new URL(server.url), { host: `${host}:${server.port}` })
    return `${given.href}?sslmode=${mode}${root ? `&sslrootcert=${encodeURIComponent(root.file)}` : ''}`
  }

  /** `encrypted` or `plain`, or the code and message that refused it. */
  async function outcome(target: string): Promise<string> {
    try {
      const session = await connect(parseConnectionUrl(target), { side: 'database', purpose: 'tls', object: 'crm' })
      const row = await session.one<{ ssl: boolean }>(sql`select ssl from pg_stat_ssl where pid = pg_backend_pid()`)
      await session.end()
      return row.ssl ? 'encrypted' : 'plain'
    } catch (failure) {
      const { code, message } = failure as { code: string; message: string }
      return `${code}: ${message}`
    }
  }

  afterEach(() => use(good))

  test('verify-full takes a known CA and the right name', async () => {
    expect(await outcome(url('localhost', 'verify-full', good))).toBe('encrypted')
  })

  test('verify-full refuses another name, verify-ca takes it', async () => {
    expect(await outcome(url('127.0.0.1', 'verify-full', good))).toMatch(/^tls_failed: .*127\.0\.0\.1.*altnames/)
    expect(await outcome(url('127.0.0.1', 'verify-ca', good))).toBe('encrypted')
    await use(other)
    expect(await outcome(url('localhost', 'verify-full', other))).toMatch(/^tls_failed: .*localhost.*altnames/)
    expect(await outcome(url('localhost', 'verify-ca', other))).toBe('encrypted')
  })

  test.each(['verify-full', 'verify-ca'])('%s refuses an unknown CA', async (mode) => {
    expect(await outcome(url('localhost', mode))).toMatch(/^tls_failed: .*self-signed certificate/)
    expect(await outcome(url('localhost', mode, other))).toMatch(/^tls_failed: .*self-signed certificate/)
  })

  test.each(['verify-full', 'verify-ca'])('%s refuses a certificate that has expired', async (mode) => {
    await use(expired)
    expect(await outcome(url('localhost', mode, expired))).toMatch(/^tls_failed: .*expired/)
  })

  test('require encrypts with whatever certificate, and with a CA verifies it', async () => {
    await use(expired)
    expect(await outcome(url('127.0.0.1', 'require'))).toBe('encrypted')
    expect(await outcome(url('127.0.0.1', 'require', other))).toMatch(/^tls_failed: /)
    await use(other)
    expect(await outcome(url('127.0.0.1', 'require', other))).toBe('encrypted')
  })

  test('disable does not encrypt', async () => {
    expect(await outcome(url('127.0.0.1', 'disable'))).toBe('plain')
  })

  test.each(['verify-full', 'verify-ca', 'require'])(
    '%s refuses a server without TLS, and sends it nothing',
    async (mode) => {
      await use(undefined)
      expect(await outcome(url('localhost', mode, mode === 'require' ? undefined : good))).toMatch(
        /^tls_failed: localhost:\d+: The server does not support SSL/,
      )
    },
  )

  test('a CA file that cannot be read, or holds no certificate, is named', async () => {
    const absent = { file: join(home, 'absent.crt'), keyFile: '' }
    expect(await outcome(url('localhost', 'verify-full', absent))).toMatch(/^tls_failed: .*absent\.crt.*ENOENT/)
    const empty = { file: join(home, 'empty.crt'), keyFile: '' }
    writeFileSync(empty.file, 'no certificate\n')
    expect(await outcome(url('localhost', 'verify-full', empty))).toMatch(/^tls_failed: /)
  })

  test('a cancellation goes by TLS too', async () => {
    const session = await connect(parseConnectionUrl(url('localhost', 'verify-full', good)), {
      side: 'database',
      purpose: 'tls',
    })
    const sleeping = session.query(sql`select pg_sleep(60)`)
    const refused = expect(sleeping).rejects.toMatchObject({ code: 'cancelled' })
    await session.cancel()
    await refused
    await session.end()
  })

  test('database test says what is not verified', async () => {
    const session = await connect(parseConnectionUrl(url('127.0.0.1', 'require')), { side: 'database', purpose: 'tls' })
    const { findings, encrypted } = await inspectDatabase(session)
    await session.end()
    expect(encrypted).toBe(true)
    expect(findings.map((finding) => finding.code)).toContain('certificate_unverified')
  })
})
