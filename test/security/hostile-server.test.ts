import { describe, expect, onTestFinished, test } from 'vitest'
import { Failure } from '../../src/base/failure.ts'
import { connect, type Session } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { copyThrough } from '../../src/postgres/copy.ts'
import { maxAnswerBytes } from '../../src/postgres/message-guard.ts'
import { sql } from '../../src/postgres/sql.ts'
import { createDatabase } from '../support/databases.ts'
import {
  answer,
  authentication,
  error,
  type FakeConnection,
  keyData,
  letIn,
  message,
  notice,
  ready,
  startFakeServer,
  untilSync,
} from './fake-server.ts'

const patience = 1000

/** The failure that opening a session on this server ends with; it must come within the patience and a little. */
async function refusal(
  url: string,
  more: { connectTimeout?: number; side?: 'source' | 'database' } = {},
): Promise<Failure> {
  const { side = 'database', connectTimeout = patience } = more
  const started = performance.now()
  try {
    const session = await connect(parseConnectionUrl(url), { side, purpose: 'test', object: 'crm', connectTimeout })
    session.destroy()
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    expect(performance.now() - started).toBeLessThan(connectTimeout + 2000)
    expect(`${failure.stack} ${JSON.stringify(failure)} ${String(failure.cause)}`).not.toContain('hunter2Canary')
    expect(failure.object).toBe('crm')
    return failure
  }
  throw new Error('the session was opened')
}

async function opened(url: string, side: 'source' | 'destination' = 'source'): Promise<Session> {
  const session = await connect(parseConnectionUrl(url), { side, purpose: 'test', connectTimeout: 5000 })
  onTestFinished(() => session.end())
  return session
}

/** Writes again and again, as fast as the client reads, until it goes. */
async function flood(connection: FakeConnection, chunk: Buffer): Promise<number> {
  const { socket } = connection
  let sent = 0
  while (!socket.destroyed) {
    sent += chunk.length
    if (socket.write(chunk)) await new Promise((resolve) => setImmediate(resolve))
    else
      await new Promise<void>((resolve) => {
        socket.once('drain', resolve)
        socket.once('close', () => resolve())
      })
  }
  return sent
}

describe('a server that never answers', () => {
  test.each<[string, (connection: FakeConnection) => Promise<void> | void]>([
    ['the start-up message', () => undefined],
    ['the login', (connection) => connection.send(authentication(0))],
    [
      'the first statement',
      async (connection) => {
        connection.send(authentication(0), keyData(1), ready)
        await untilSync(connection)
      },
    ],
    [
      'anything, but sends a notice now and then',
      async (connection) => {
        connection.send(authentication(0), keyData(1), ready)
        while (!connection.socket.destroyed) {
          connection.send(notice('wait'))
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      },
    ],
  ])('%s is given up', async (_what, behave) => {
    const server = await startFakeServer(behave)
    const failure = await refusal(server.url(), { connectTimeout: 300 })
    expect(failure).toMatchObject({
      code: 'database_unreachable',
      retryable: true,
      message: `127.0.0.1:${server.port} did not answer within 0.3 s.`,
    })
  })

  test('the request for TLS is given up', async () => {
    const server = await startFakeServer(() => undefined, '')
    const failure = await refusal(server.url().replace('disable', 'verify-full'), { connectTimeout: 300 })
    expect(failure).toMatchObject({ code: 'database_unreachable', message: expect.stringContaining('did not answer') })
  })
})

describe('a password', () => {
  const clearText = (connection: FakeConnection) => connection.send(authentication(3))
  const md5 = (connection: FakeConnection) => connection.send(authentication(5, 'salt'))

  test.each([
    ['in clear text', clearText],
    ['as MD5', md5],
  ])('%s over plain TCP to another host is not sent', async (said, ask) => {
    const server = await startFakeServer(async (connection) => {
      ask(connection)
      await connection.read()
    })
    // 0.0.0.0 reaches this machine, and is no loopback address.
    const failure = await refusal(server.url('0.0.0.0'))
    expect(failure).toMatchObject({ code: 'password_unprotected', message: expect.stringContaining(said) })
    expect(server.received).toEqual([])
  })

  test.each([
    ['in clear text', clearText],
    ['as MD5', md5],
  ])('%s on loopback is sent', async (_said, ask) => {
    const server = await startFakeServer(async (connection) => {
      ask(connection)
      await connection.read()
      connection.send(error('28P01', 'no'))
    })
    expect((await refusal(server.url())).code).toBe('authentication_failed')
    expect(server.received).toEqual(['p'])
  })

  test('that a server asks for with 2³¹ iterations is not computed', async () => {
    const server = await startFakeServer(async (connection) => {
      connection.send(authentication(10, 'SCRAM-SHA-256\0\0'))
      const { body } = await connection.read()
      const nonce = /r=(.*)$/.exec(body.toString())?.[1]
      connection.send(authentication(11, `r=${nonce}more,s=c2FsdA==,i=2147483647`))
      await connection.read()
    })
    const failure = await refusal(server.url('0.0.0.0'))
    expect(failure).toMatchObject({ code: 'authentication_failed', message: expect.stringContaining('2147483647') })
  })

  test('that a server asks for by a way that we have not is a login that failed', async () => {
    for (const kind of [2, 7, 9]) {
      const server = await startFakeServer((connection) => connection.send(authentication(kind)))
      expect((await refusal(server.url())).code).toBe('authentication_failed')
    }
  })

  test('that nobody gave is said to be missing', async () => {
    const server = await startFakeServer((connection) => connection.send(authentication(3)))
    const failure = await refusal(server.url().replace(':hunter2Canary', ''))
    expect(failure).toMatchObject({
      code: 'authentication_failed',
      message: expect.stringMatching(/the URL has none, nor has .*pgpass/),
    })
  })
})

describe('a server that lies', () => {
  test.each<[string, Buffer]>([
    ['a message of 2 GB', message('S', 'x', 0x7fffffff)],
    ['a message of 4 GB', message('S', 'x', 0xffffffff)],
    ['a message shorter than its length', message('S', '', 3)],
    ['a message of no length', message('N', '', 0)],
    ['an unknown message', message('~', 'x')],
    ['rows that nobody asked for', message('D', Buffer.from([0, 0]))],
    ['columns of a negative number', message('T', Buffer.from([255, 255]))],
    ['an error that does not end', message('E', 'SFATAL\0C00000\0Mhello')],
    ['an error whose fields do not end', message('E', 'SFATAL\0C00000\0Mhello\0')],
    ['a notice that does not end', message('N', 'S')],
    ['an empty notice', message('N')],
    ['an error with bytes behind its end', message('E', 'SFATAL\0C00000\0Mhello\0\0more\0')],
    ['a login that is cut', message('R', Buffer.from([0]))],
    ['HTTP', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['SSH', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')],
  ])('%s ends the connection', async (_what, bytes) => {
    const server = await startFakeServer((connection) => connection.send(authentication(0), keyData(1), ready, bytes))
    const failure = await refusal(server.url(), { connectTimeout: 5000 })
    expect(failure.code).toBe('protocol_violated')
    expect(failure.message).toContain(`127.0.0.1:${server.port}`)
  })

  test('endlessly, with notices, is cut when its answer is too long, and memory stays flat', async () => {
    let sent = 0
    const server = await startFakeServer(async (connection) => {
      await letIn(connection)
      await untilSync(connection)
      sent = await flood(connection, Buffer.concat(Array.from({ length: 64 }, () => notice('x'.repeat(1000)))))
    })
    const session = await opened(server.url())
    const before = process.memoryUsage().rss
    await expect(session.query(sql`select 1`)).rejects.toMatchObject({ code: 'protocol_violated' })
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024)
    await expect.poll(() => sent).toBeGreaterThan(maxAnswerBytes / 2)
  })

  test('endlessly, with rows, is cut too', async () => {
    const server = await startFakeServer(async (connection) => {
      await letIn(connection)
      await untilSync(connection)
      connection.send(message('1'), message('2'), message('T', Buffer.from([0, 0])))
      await flood(connection, Buffer.concat(Array.from({ length: 4000 }, () => message('D', Buffer.from([0, 0])))))
    })
    const session = await opened(server.url())
    await expect(session.query(sql`select 1`)).rejects.toMatchObject({ code: 'protocol_violated' })
  })

  test('many answers, each within the bound, are none too long', async () => {
    const long = 'x'.repeat(1024 * 1024)
    const server = await startFakeServer(async (connection) => {
      await letIn(connection)
      for (let count = 0; count < 70; count++) {
        await untilSync(connection)
        connection.send(answer({ long }))
      }
    })
    const session = await opened(server.url())
    for (let count = 0; count < 70; count++)
      expect((await session.one<{ long: string }>(sql`select 1`)).long).toHaveLength(long.length)
  })

  test('a message in single bytes is put together', async () => {
    const server = await startFakeServer(async (connection) => {
      connection.socket.setNoDelay(true)
      const send = connection.send
      const slowly: FakeConnection = {
        ...connection,
        read: connection.read,
        send: (...messages) => {
          for (const byte of Buffer.concat(messages)) send(Buffer.from([byte]))
        },
      }
      await letIn(slowly)
    })
    expect((await opened(server.url())).pid).toBe(42)
  })

  test('escapes in an error are made visible', async () => {
    const server = await startFakeServer((connection) => connection.send(error('28000', 'no\u001b[2J\u202e\nno')))
    expect((await refusal(server.url())).message).toBe('no\\u{1b}[2J\\u{202e} no (SQLSTATE 28000)')
  })

  test('that it closes without a word says who did', async () => {
    const server = await startFakeServer((connection) => void connection.socket.end())
    expect((await refusal(server.url())).message).toContain(
      `127.0.0.1:${server.port}: Connection terminated unexpectedly`,
    )
  })
})

describe('what a session is', () => {
  test('nothing but the URL decides: variables of libpq do not count', async () => {
    const names = {
      PGOPTIONS: '-csession_replication_role=replica',
      PGREPLICATION: 'database',
      PGPASSWORD: 'foreign',
      PGSSLNEGOTIATION: 'direct',
      PGAPPNAME: 'psql',
      PGUSER: 'root',
    }
    Object.assign(process.env, names)
    onTestFinished(() => {
      for (const name of Object.keys(names)) delete process.env[name]
    })
    let startup: ReadonlyMap<string, string> = new Map()
    const server = await startFakeServer(async (connection) => {
      startup = connection.startup
      connection.send(authentication(3))
    })
    const failure = await refusal(server.url().replace(':hunter2Canary', ''))
    expect(failure.message).toContain('the URL has none')
    expect([...startup.keys()].filter((key) => key !== '').sort()).toEqual([
      'application_name',
      'client_encoding',
      'database',
      'user',
    ])
    expect(startup.get('application_name')).toBe('yardmaster test')
  })

  test.each(['130000', '190000', '0', 'x'])('a server of version %s is refused', async (version) => {
    const server = await startFakeServer((connection) => letIn(connection, version))
    expect((await refusal(server.url())).code).toBe('version_unsupported')
  })

  test('a pooler is refused: the process that it announces is not the server’s', async () => {
    const server = await startFakeServer((connection) => letIn(connection, '180000', 42, 43))
    expect(await refusal(server.url())).toMatchObject({
      code: 'pooler_refused',
      message: expect.stringContaining('announced process 42, the server’s is 43'.replace('’', "'")),
    })
  })
})

describe('a source that lies in mid-copy', () => {
  async function copyFrom(frames: (connection: FakeConnection) => Promise<void> | void) {
    const database = await createDatabase('lying copy')
    await database.query('create table public.t (a int, b text)')
    const destination = await opened(database.url, 'destination')
    const server = await startFakeServer(async (connection) => {
      await letIn(connection)
      await untilSync(connection)
      connection.send(message('1'), message('2'), message('H', Buffer.from([0, 0, 2, 0, 0, 0, 0])))
      await frames(connection)
    })
    const source = await opened(server.url())
    await destination.script('begin')
    try {
      const copied = await copyThrough(
        { session: source, statement: sql`copy t to stdout` },
        { session: destination, statement: sql`copy public.t from stdin` },
      )
      return copied
    } finally {
      await destination.script('rollback').catch(() => undefined)
    }
  }
  const end = Buffer.concat([message('c'), message('C', 'COPY 1\0'), ready])

  test('with rows of another shape gets the destination’s error, and the session stays usable', async () => {
    await expect(copyFrom((connection) => connection.send(message('d', '1\ta\textra\n'), end))).rejects.toMatchObject({
      code: 'sql_failed',
      sqlstate: '22P04',
    })
  })

  test('with text that is no row at all', async () => {
    await expect(
      copyFrom((connection) => connection.send(message('d', 'PGCOPY\n\xff\r\n\0'), end)),
    ).rejects.toMatchObject({
      code: 'sql_failed',
    })
  })

  test.each<[string, Buffer]>([
    ['a frame of 2 GB', message('d', '1\ta\n', 0x7fffffff)],
    ['a frame shorter than its length', message('d', '', 2)],
    ['a message in between that does not end', message('N', 'S')],
  ])('with %s is cut, and nothing of it stays', async (_what, bytes) => {
    await expect(copyFrom((connection) => connection.send(message('d', '1\ta\n'), bytes))).rejects.toMatchObject({
      code: 'protocol_violated',
    })
  })

  test('with an error in the middle says it', async () => {
    await expect(
      copyFrom((connection) => connection.send(message('d', '1\ta\n'), error('53200', 'out of memory'), ready)),
    ).rejects.toMatchObject({ sqlstate: '53200' })
  })

  test('true rows arrive', async () => {
    expect(await copyFrom((connection) => connection.send(message('d', '1\ta\n'), end))).toMatchObject({ rows: 1 })
  })
})
