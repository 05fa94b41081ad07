import { beforeAll, describe, expect, it } from 'vitest'
import { Failure } from '../../src/base/failure.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { SessionPool } from '../../src/worker/session-pool.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { startProxy } from '../support/proxy.ts'
import { CallDesk } from './call-desk.ts'

describe.each(['18', '14'])('how a call ends in PostgreSQL %s', (version) => {
  let target: TestDatabase
  let desk: CallDesk

  beforeAll(async () => {
    target = version === '14' ? await (await postgres14()).createDatabase('ends') : await createDatabase('ends')
    desk = new CallDesk(target.url)
    await target.query(`create table public.done (what text)`)
    await target.query(`create procedure public.sleeps(job_id int, config jsonb) language plpgsql as $$
      begin
        insert into done values ('begun'); commit;
        loop
          begin perform pg_sleep(60); exit;
          exception when query_canceled then if not config ? 'stubborn' then raise; end if; end;
        end loop;
        insert into done values ('ended');
      end $$`)
    await target.query(`create function public.naps(job_id int, config jsonb) returns void language plpgsql as $$
      begin insert into done values ('begun'); perform pg_sleep(60); end $$`)
  })

  const done = async () => (await target.query('select what from public.done')).map((row) => row.what)
  const working = async () =>
    target.query<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and application_name like '%[1000]' and wait_event = 'PgSleep'`,
    )
  const sleeping = async () => {
    await expect.poll(async () => (await working()).length, { interval: 10 }).toBe(1)
    return (await working())[0]?.pid
  }
  /** Its process is gone by the time that the call has ended here. */
  const expectNobody = async () =>
    expect(
      await target.query(
        `select pid from pg_stat_activity where datname = current_database() and application_name like '%[1000]'`,
      ),
    ).toEqual([])
  const start = async (name: string, choice: Parameters<CallDesk['proc']>[1] = {}) => {
    await target.query('truncate public.done')
    const running = desk.proc(name, choice)
    running.catch(() => undefined)
    return running
  }

  it.each([
    ['sleeps', '{}', 'what it had committed stays', ['begun'], 0],
    ['naps', '{}', 'nothing of it took effect', [], 0],
    ['sleeps', '{"stubborn": 1}', 'what it had committed stays', ['begun'], 4500],
  ])('after max_runtime: %s %s', async (name, config, left, stays, least) => {
    const began = performance.now()
    const running = start(name, { config, maxRuntime: 300 })
    await expect(running).rejects.toMatchObject({ code: 'job_timeout' })
    await expect(running).rejects.toThrow(
      `public.${name} ran longer than its max_runtime of 300 ms and was ended; ${left}.`,
    )
    await expectNobody()
    expect(await done()).toEqual(stays)
    expect(performance.now() - began).toBeGreaterThan(least)
    // Long before the server's own limit, which is ten seconds behind.
    expect(performance.now() - began).toBeLessThan(9500)
  })

  it('when somebody cancels it, also before it begins', async () => {
    const cancel = new AbortController()
    const running = start('sleeps', { signal: cancel.signal, config: '{}' })
    running.catch(() => undefined)
    await sleeping()
    cancel.abort(new Failure('cancelled', { message: 'Cancelled by alice.' }))
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    await expectNobody()
    await expect(start('sleeps', { signal: cancel.signal })).rejects.toMatchObject({ code: 'cancelled' })
    expect(await done()).toEqual([])
  })

  it('several statements: what was cancelled goes on with none of them', async () => {
    const cancel = new AbortController()
    await target.query('truncate public.done')
    const running = desk.sql(['select pg_sleep(60)', `insert into done values ('second')`], { signal: cancel.signal })
    running.catch(() => undefined)
    await sleeping()
    cancel.abort()
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    expect(await done()).toEqual([])
  })

  it('several statements: a cancel that comes between two is heeded as well', async () => {
    const cancel = new AbortController()
    await target.query('truncate public.done')
    const running = desk.sql(['select 1', `insert into done values ('second')`], {
      signal: cancel.signal,
      onStepEnd: () => cancel.abort(),
    })
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    expect(await done()).toEqual([])
  })

  it('when its session is terminated, or its statement cancelled, in the database', async () => {
    const running = start('sleeps', { config: '{}' })
    running.catch(() => undefined)
    await target.query('select pg_terminate_backend($1)', [await sleeping()])
    await expect(running).rejects.toMatchObject({
      code: 'job_failed',
      sqlstate: '57P01',
      message: expect.stringMatching(/what it had committed stays/),
    })
    const second = start('sleeps', { config: '{}' })
    second.catch(() => undefined)
    await target.query('select pg_cancel_backend($1)', [await sleeping()])
    await expect(second).rejects.toMatchObject({
      code: 'job_failed',
      sqlstate: '57014',
      message: expect.stringMatching(/cancelled in the database/),
    })
    await expectNobody()
  })

  it('when its connection breaks: the old session is ended, and nobody says what is not known', async () => {
    const proxy = await startProxy(target.url)
    const running = start('sleeps', {
      config: '{}',
      connector: (purpose) => desk.connector(purpose === 'call a job' ? proxy.url : target.url)(purpose),
    })
    running.catch(() => undefined)
    await sleeping()
    proxy.set('toClient', { kind: 'reset' })
    proxy.set('toServer', { kind: 'half-open' })
    await expect(running).rejects.toMatchObject({
      code: 'job_outcome_unknown',
      message: expect.stringMatching(/it is not known whether it took effect/),
    })
    await expectNobody()
    expect(await done()).toEqual(['begun'])
  })

  it('when the target is away meanwhile: it is asked until it answers, and unknown until then', async () => {
    const proxy = await startProxy(target.url)
    let away = true
    const tries: number[] = []
    const connector = (purpose: string) => {
      if (purpose !== 'end a job') return desk.connector(proxy.url)(purpose)
      tries.push(performance.now())
      if (away) throw new Failure('database_unreachable', { message: 'no route', retryable: true })
      return desk.connector()(purpose)
    }
    desk.unknowns.length = 0
    const running = start('sleeps', { config: '{}', connector: async (purpose) => connector(purpose) })
    running.catch(() => undefined)
    await sleeping()
    proxy.set('toClient', { kind: 'reset' })
    proxy.set('toServer', { kind: 'half-open' })
    await expect.poll(() => tries.length).toBe(2)
    expect(desk.unknowns).toEqual(['no route'])
    expect((tries[1] ?? 0) - (tries[0] ?? 0)).toBeGreaterThan(900)
    expect(await working()).toHaveLength(1)
    away = false
    await expect(running).rejects.toMatchObject({ code: 'job_outcome_unknown' })
    await expectNobody()
  })

  it('when it is cancelled while the target is away: after some seconds it says that the session may live', async () => {
    const proxy = await startProxy(target.url)
    const cancel = new AbortController()
    const connector = async (purpose: string) => {
      if (purpose === 'end a job') throw new Failure('database_unreachable', { message: 'no route', retryable: true })
      return desk.connector(proxy.url)(purpose)
    }
    const running = start('sleeps', { config: '{}', connector, signal: cancel.signal })
    running.catch(() => undefined)
    const pid = await sleeping()
    proxy.set('toClient', { kind: 'reset' })
    proxy.set('toServer', { kind: 'half-open' })
    cancel.abort()
    await expect(running).rejects.toMatchObject({
      code: 'job_outcome_unknown',
      message: expect.stringMatching(new RegExp(`process ${pid}.*no route`)),
    })
    expect((await working()).map((row) => row.pid)).toEqual([pid])
    // Whoever comes next ends it.
    await target.query('select pg_terminate_backend($1)', [pid])
  })

  it('connections of a pool come back as new', async () => {
    const pool = new SessionPool()
    await pool.start()
    const connector = (purpose: string) =>
      pool.open(parseConnectionUrl(target.url), { side: 'database', purpose, object: 'warehouse' })
    await target.query(
      `create or replace function public.quick(job_id int, config jsonb) returns text language sql as $$ select set_config('search_path', 'nowhere', false) $$`,
    )
    for (let index = 0; index < 3; index += 1) await desk.proc('quick', { connector })
    const [first, second, third] = desk.processes.slice(-3)
    expect([second, third]).toEqual([first, first])
    expect(await target.query(`select from pg_locks where locktype = 'advisory' and pid = $1`, [first?.pid])).toEqual(
      [],
    )
    await pool.stop()
  })
})

it('a connection that is open and dead is noticed within 30 s, and its session ended', async () => {
  const target = await createDatabase('half_open')
  await target.query(
    `create procedure public.waits(job_id int, config jsonb) language plpgsql as $$ begin perform pg_sleep(4); end $$`,
  )
  const desk = new CallDesk(target.url)
  const proxy = await startProxy(target.url)
  const connector = (purpose: string) => desk.connector(purpose === 'call a job' ? proxy.url : target.url)(purpose)
  const running = desk.proc('waits', { connector })
  running.catch(() => undefined)
  await expect
    .poll(async () =>
      target.query(`select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`),
    )
    .toHaveLength(1)
  proxy.set('both', { kind: 'half-open' })
  const began = performance.now()
  await expect(running).rejects.toMatchObject({ code: 'job_outcome_unknown' })
  expect(performance.now() - began).toBeLessThan(30_000)
  expect(
    await target.query(
      `select from pg_stat_activity where application_name like '%[1000]' and datname = current_database()`,
    ),
  ).toEqual([])
})
