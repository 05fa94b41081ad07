import { createServer } from 'node:net'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type PrivateServer, postgres14, startServer, type TestDatabase } from '../../test/support/databases.ts'
import { startProxy } from '../../test/support/proxy.ts'
import { connect, type Session, type SessionOptions } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { sql, trusted } from '../postgres/sql.ts'
import { SessionPool, type SessionPoolOptions } from './session-pool.ts'

/** Of this file's own: roles that other tests change would end connections here. */
let server: PrivateServer
let database: TestDatabase

beforeAll(async () => {
  server = await startServer()
  database = await server.createDatabase('pool')
  await alter(`create role reader login password 'first'; create role owner_of_all; grant owner_of_all to reader`)
})

/** A pool that a test starts, and whose end is the test's end. */
async function startPool(options: SessionPoolOptions = {}): Promise<SessionPool> {
  const pool = new SessionPool(options)
  await pool.start()
  onTestFinished(() => pool.stop())
  return pool
}

function open(pool: SessionPool, url = database.url, options: Partial<SessionOptions> = {}): Promise<Session> {
  return pool.open(parseConnectionUrl(url), { side: 'destination', purpose: 'load x', object: 'dwh', ...options })
}

/** The same database by another role. */
function urlOf(user: string, password: string, url = database.url): string {
  return Object.assign(new URL(url), { username: user, password }).href
}

/** Changes what lets roles in. The counters that show it to others are written at a session's end at the latest. */
async function alter(statements: string): Promise<void> {
  const client = await database.client()
  await client.query(statements)
  await client.end()
}

/** Opens and ends a session; its process. */
async function pidOf(pool: SessionPool, url?: string): Promise<number> {
  const session = await open(pool, url)
  await session.end()
  return session.pid
}

const sessions = (where: string) =>
  database.query<{ pid: number; state: string; application_name: string; xmin: string | null; locks: number }>(
    `select pid, state, application_name, backend_xmin::text as xmin,
       (select count(*)::int from pg_locks l where l.pid = a.pid) as locks
     from pg_stat_activity a where application_name like 'yardmaster %' and application_name <> 'yardmaster test' and ${where}`,
  )

describe('a session that has ended', () => {
  test('lives on as another one, in the same server process', async () => {
    const pool = await startPool()
    const first = await open(pool, database.url, { purpose: 'load first' })
    const { pid } = first
    await first.end()
    const second = await open(pool, database.url, { side: 'source', purpose: 'read second', object: 'crm' })
    expect(second).toMatchObject({ pid, side: 'source', object: 'crm', isEnded: false, major: 18 })
    expect(await second.one(sql`select pg_backend_pid() as pid, current_setting('application_name') as name`)).toEqual({
      pid,
      name: 'yardmaster read second',
    })
    await expect(second.query(sql`create table public.never ()`)).rejects.toMatchObject({ sqlstate: '25006' })
    await second.end()
  })

  test('is ended for good: nothing that its borrower does reaches the next one', async () => {
    const pool = await startPool()
    const first = await open(pool)
    await first.end()
    const second = await open(pool)
    expect(second.pid).toBe(first.pid)
    expect(first.isEnded).toBe(true)
    await expect(first.query(sql`select 1`)).rejects.toThrow('used after its end')
    await expect(first.script('select 1')).rejects.toThrow('used after its end')
    expect(() => first.client).toThrow('used after its end')
    expect(() => first.connection).toThrow('used after its end')
    const running = second.query(sql`select pg_sleep(0.2)`)
    await first.cancel()
    first.destroy()
    await first.end()
    await running
    await second.end()
  })

  test('looks idle meanwhile, says so, and holds nothing back', async () => {
    const pool = await startPool()
    const session = await open(pool)
    await session.script('create temporary table t ()')
    await session.script('begin isolation level repeatable read')
    await session.query(sql`select count(*) from pg_class`)
    await session.end()
    expect(await sessions(`pid = ${session.pid}`)).toEqual([
      { pid: session.pid, state: 'idle', application_name: 'yardmaster idle', xmin: null, locks: 0 },
    ])
  })

  test('has the settings of a new one, all of them', async () => {
    const pool = await startPool()
    const url = urlOf('reader', 'first')
    await alter(`alter role reader set search_path = public; alter role reader set work_mem = '5MB'`)
    onTestFinished(() => alter('alter role reader reset all'))
    const settings = sql`select name, setting from pg_settings order by name`
    const used = await open(pool, url)
    await used.script(`set work_mem = '9MB'; set app.tenant = 'x'; set search_path = evil; set lock_timeout = 7;
      set default_transaction_read_only = on; set statement_timeout = 7000; set application_name = 'psql'`)
    await used.end()
    for (const side of ['source', 'destination'] as const) {
      const kept = await open(pool, url, { side })
      expect(kept.pid).toBe(used.pid)
      const fresh = await connect(parseConnectionUrl(url), { side, purpose: 'load x' })
      expect((await kept.query(settings)).filter((row) => row.name !== 'app.tenant')).toEqual(
        await fresh.query(settings),
      )
      await kept.end()
      await fresh.end()
    }
  })

  test.each([
    [
      'a transaction',
      `begin; create table public.half ()`,
      `to_regclass('public.half') is null and pg_current_xact_id_if_assigned() is null`,
    ],
    ['a failed transaction', `begin; select 1/0`, `pg_current_xact_id_if_assigned() is null`],
    ['a temporary table', `create temporary table t (id int)`, `to_regclass('pg_temp.t') is null`],
    [
      'a session lock',
      `select pg_advisory_lock(1498238285, 7)`,
      `not exists (select from pg_locks where locktype = 'advisory')`,
    ],
    [
      'a setting',
      `set work_mem = '7MB'; set app.tenant = 'x'`,
      `current_setting('work_mem') <> '7MB' and current_setting('app.tenant', true) <> 'x'`,
    ],
    ['a channel', `listen jobs`, `not exists (select from pg_listening_channels())`],
    ['a prepared statement', `prepare p as select 1`, `not exists (select from pg_prepared_statements)`],
    [
      'a held cursor',
      `declare c cursor with hold for select 1`,
      `not exists (select from pg_cursors where name = 'c')`,
    ],
    [
      'a role',
      `set role owner_of_all`,
      `current_user = session_user and session_user not in ('reader', 'owner_of_all')`,
    ],
    [
      'a session authorization',
      `set session authorization reader; set role owner_of_all`,
      `current_user = session_user and session_user not in ('reader', 'owner_of_all')`,
    ],
    ['a sequence value', `create temporary sequence s; select nextval('s')`, `to_regclass('pg_temp.s') is null`],
  ])('leaves no trace of %s', async (_, left, gone) => {
    const pool = await startPool()
    const first = await open(pool)
    await first.script(left).catch(() => undefined)
    await first.end()
    const next = await open(pool)
    expect(next.pid).toBe(first.pid)
    expect(await next.one(sql`select ${trusted(gone)} as gone`)).toEqual({ gone: true })
    await next.end()
  })

  test('has let its locks go when its end is reported', async () => {
    const pool = await startPool()
    const session = await open(pool)
    await session.query(sql`select pg_advisory_lock(1498238285, 8)`)
    await session.end()
    expect(await database.query('select pg_try_advisory_lock(1498238285, 8) as got')).toEqual([{ got: true }])
  })

  test.each([18, 14])('keeps the role that its login role puts on: PostgreSQL %d', async (major) => {
    const { url } = major === 14 ? await (await postgres14()).createDatabase('pool role') : database
    const [login, other] = [`login_${process.pid}`, `other_${process.pid}`]
    const administrator = await connect(parseConnectionUrl(url), { side: 'destination', purpose: 'prepare' })
    await administrator.script(`create role ${login} login password 'p'; create role ${other};
      grant ${other} to ${login}; alter role ${login} set role = ${other}`)
    onTestFinished(async () => {
      await administrator.script(`drop role ${login}, ${other}`)
      await administrator.end()
    })
    const pool = await startPool()
    const first = await open(pool, urlOf(login, 'p', url))
    await first.script('set role none')
    await first.end()
    const next = await open(pool, urlOf(login, 'p', url))
    // In 18 the administrator's own changes may show late, by which the connection would be another.
    if (major === 14) expect(next.pid).toBe(first.pid)
    expect(await next.one(sql`select current_user as role`)).toEqual({ role: other })
    await next.end()
  })

  test('works the same with PostgreSQL 14', async () => {
    const old = await (await postgres14()).createDatabase('pool 14')
    const pool = await startPool()
    const first = await open(pool, old.url)
    await first.script(`begin; create temporary table t ()`)
    await first.end()
    const next = await open(pool, old.url)
    expect(next).toMatchObject({ pid: first.pid, major: 14 })
    expect(await next.one(sql`select to_regclass('pg_temp.t') is null as gone`)).toEqual({ gone: true })
    await next.end()
  })
})

describe('a connection does not go back', () => {
  test('when its session was destroyed, still runs something, or was asked to cancel', async () => {
    const pool = await startPool()
    const [destroyed, running, cancelled, plain] = [
      await open(pool),
      await open(pool),
      await open(pool),
      await open(pool),
    ]
    destroyed.destroy()
    await destroyed.end()
    const rejected = expect(running.query(sql`select pg_sleep(60)`)).rejects.toThrow()
    await expect.poll(() => sessions(`pid = ${running.pid} and state = 'active'`)).toHaveLength(1)
    const asked = Date.now()
    await running.end()
    expect(Date.now() - asked).toBeLessThan(1500)
    await rejected
    await database.query(`select pg_terminate_backend(${running.pid}, 5000)`)
    await cancelled.cancel()
    await cancelled.end()
    await plain.end()
    const next = [await open(pool), await open(pool)]
    expect(next[0]?.pid).toBe(plain.pid)
    expect([destroyed.pid, running.pid, cancelled.pid]).not.toContain(next[1]?.pid)
    for (const session of next) await session.end()
  })

  test('when enough are idle, when it is old, and before start and after stop', async () => {
    const limited = await startPool({ idleLimit: 2 })
    const three = [await open(limited), await open(limited), await open(limited)]
    for (const session of three) await session.end()
    const left = (await sessions(`application_name = 'yardmaster idle'`)).map(({ pid }) => pid)
    expect(left.sort()).toEqual([three[1]?.pid, three[2]?.pid].sort())
    const ageing = await startPool({ usedFor: 0 })
    expect(await pidOf(ageing)).not.toBe(await pidOf(ageing))
    const stopped = new SessionPool()
    expect(await pidOf(stopped)).not.toBe(await pidOf(stopped))
    await limited.stop()
    await limited.stop()
    expect(await sessions('true')).toEqual([])
    expect(await pidOf(limited)).not.toBe(await pidOf(limited))
    expect(await sessions('true')).toEqual([])
  })

  test('and is closed when it was idle for long', async () => {
    const pool = await startPool({ idleFor: 50 })
    await pidOf(pool)
    await expect.poll(() => sessions('true')).toEqual([])
  })
})

describe('a kept connection that is no good', () => {
  test('its process was ended: another one is made', async () => {
    const pool = await startPool()
    const pid = await pidOf(pool)
    await database.query(`select pg_terminate_backend(${pid}, 5000)`)
    expect(await pidOf(pool)).not.toBe(pid)
  })

  test('the server was restarted: another one is made', async () => {
    const own = await startServer()
    const pool = await startPool()
    const held = await open(pool, own.url)
    const pid = await pidOf(pool, own.url)
    await own.restart()
    expect(await pidOf(pool, own.url)).not.toBe(pid)
    await held.end()
  })

  test('it is open and dead: noticed within seconds, and another one is made', async () => {
    const proxy = await startProxy(database.url)
    const pool = await startPool()
    const two = [await open(pool, proxy.url), await open(pool, proxy.url)]
    for (const session of two) await session.end()
    const before = proxy.accepted
    proxy.set('both', { kind: 'half-open' })
    const started = Date.now()
    const opening = open(pool, proxy.url)
    await expect.poll(() => proxy.accepted, { timeout: 10_000 }).toBe(before + 1)
    expect(Date.now() - started).toBeLessThan(5000)
    proxy.set('both', { kind: 'pass' })
    const session = await opening
    expect(two.map(({ pid }) => pid)).not.toContain(session.pid)
    await session.end()
  })

  test('one that breaks while it is borrowed takes the idle ones with it', async () => {
    const pool = await startPool()
    const [borrowed, idle] = [await open(pool), await open(pool)]
    await idle.end()
    await database.query(`select pg_terminate_backend(${borrowed.pid}, 5000)`)
    await expect(borrowed.query(sql`select 1`)).rejects.toMatchObject({ code: 'destination_unreachable' })
    await expect.poll(() => sessions(`pid = ${idle.pid}`)).toEqual([])
    await borrowed.end()
  })

  test.each([
    [
      'its password was changed',
      `alter role reader password 'second'`,
      'authentication_failed',
      `alter role reader password 'first'`,
    ],
    ['it may not log in any more', 'alter role reader nologin', 'authentication_failed', 'alter role reader login'],
    [
      'its time is over',
      `alter role reader valid until '2020-01-01'`,
      'authentication_failed',
      `alter role reader valid until 'infinity'`,
    ],
    [
      'it may not connect to the database',
      'revoke connect on database DB from public',
      'permission_denied',
      'grant connect on database DB to public',
    ],
  ])('whose role is out: %s', async (_, change, code, undo) => {
    const pool = await startPool()
    const url = urlOf('reader', 'first')
    await pidOf(pool, url)
    await alter(change.replace('DB', database.name))
    onTestFinished(() => alter(undo.replace('DB', database.name)))
    await expect(pidOf(pool, url)).rejects.toMatchObject({ code, object: 'dwh' })
  })

  test('the configuration was loaded anew, pg_hba.conf with it: another one is made', async () => {
    const pool = await startPool()
    const pid = await pidOf(pool)
    await database.query('select pg_reload_conf()')
    await expect.poll(() => pidOf(pool)).not.toBe(pid)
  })

  test('fills the server: idle ones of other databases make room', async () => {
    const other = await server.createDatabase('pool other')
    await alter(`create role narrow login connection limit 1 password 'narrow'`)
    const pool = await startPool()
    await pidOf(pool, urlOf('narrow', 'narrow'))
    const session = await open(pool, urlOf('narrow', 'narrow', other.url))
    await expect(pidOf(pool, urlOf('narrow', 'narrow'))).rejects.toMatchObject({ code: 'too_many_connections' })
    await session.end()
  })
})

/** A port where nobody lets anybody in; counts who comes. */
async function startDeadServer(): Promise<{ url: string; tries: () => number }> {
  let tries = 0
  const dead = createServer((socket) => {
    tries += 1
    socket.destroy()
  })
  await new Promise<void>((resolve) => dead.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void dead.close())
  const { port } = dead.address() as { port: number }
  return { url: `postgresql://u:p@127.0.0.1:${port}/d`, tries: () => tries }
}

describe('a database that is away', () => {
  test('200 at once make a handful of tries; everybody is told the same, and when the next one comes', async () => {
    const dead = await startDeadServer()
    const pool = await startPool()
    const ends = await Promise.allSettled(
      Array.from({ length: 200 }, (_, at) => open(pool, dead.url, at % 2 ? { side: 'source', object: 'crm' } : {})),
    )
    expect(dead.tries()).toBeLessThanOrEqual(4)
    const reasons = ends.map((end) => (end.status === 'rejected' ? end.reason : undefined))
    for (const [at, reason] of reasons.entries()) {
      const expected =
        at % 2 ? { code: 'source_unreachable', object: 'crm' } : { code: 'destination_unreachable', object: 'dwh' }
      expect(reason).toMatchObject({ ...expected, retryable: true })
    }
    const told = reasons.filter((reason) =>
      /That try failed 0\.\d s ago; the next one is made in 0\.\d s/.test(reason.message),
    )
    expect(told).toHaveLength(200 - dead.tries())
  })

  test('is found within seconds of its return, and was not stormed while it was away', async () => {
    const own = await startServer()
    const proxy = await startProxy(own.url)
    const pool = await startPool()
    await pidOf(pool, proxy.url)
    await own.stop()
    const before = proxy.accepted
    const gone = Date.now()
    const attempt = () =>
      pidOf(pool, proxy.url).then(
        () => true,
        () => false,
      )
    await expect
      .poll(async () => ((await attempt()) ? 'up' : Date.now() - gone > 4000), { timeout: 10_000, interval: 20 })
      .toBe(true)
    // At once, after half a second, and after each second.
    expect(proxy.accepted - before).toBeLessThanOrEqual(6)
    expect(proxy.accepted - before).toBeGreaterThanOrEqual(3)
    await own.restart()
    const back = Date.now()
    await expect.poll(attempt, { timeout: 10_000, interval: 20 }).toBe(true)
    expect(Date.now() - back).toBeLessThan(2500)
  })

  test('is tried at once with another password', async () => {
    const pool = await startPool()
    await expect(pidOf(pool, urlOf('reader', 'wrong'))).rejects.toMatchObject({ code: 'authentication_failed' })
    await expect(pidOf(pool, urlOf('reader', 'wrong'))).rejects.toThrow(/the next one is made in/)
    await pidOf(pool, urlOf('reader', 'first'))
  })

  test('does not hold up who is cancelled', async () => {
    const pool = await startPool()
    const pid = await pidOf(pool)
    const aborted = AbortSignal.abort()
    await expect(open(pool, database.url, { signal: aborted })).rejects.toMatchObject({ code: 'cancelled' })
    expect(await pidOf(pool)).not.toBe(pid)
  })
})
