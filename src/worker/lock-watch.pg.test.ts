import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { JobCrew } from '../../test/jobs/job-crew.ts'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, postgres14, type TestDatabase } from '../../test/support/databases.ts'
import { startProxy } from '../../test/support/proxy.ts'
import type { Control } from '../control/control.ts'
import { blockedProcesses } from '../jobs/lock-holders.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'
import { LockWatch, type WatchedCall } from './lock-watch.ts'

const open = (url: string, signal?: AbortSignal) =>
  connect(parseConnectionUrl(url), { side: 'database', purpose: 'test', object: 'dwh', signal })

/** A session that waits for what somebody else holds. */
async function waiter(database: TestDatabase, statement: string, given?: Session) {
  const session = given ?? (await open(database.url))
  const waiting = session.query(sql`select public.waits(${statement})`).then(
    () => undefined,
    () => undefined,
  )
  onTestFinished(async () => {
    session.destroy()
    await waiting
  })
  await expect
    .poll(() =>
      database.query(`select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'`, [session.pid]),
    )
    .toHaveLength(1)
  return { session, process: { pid: session.pid, backendStart: session.started } }
}

async function prepare(database: TestDatabase): Promise<TestDatabase> {
  await database.query('create table public.stock (id int primary key)')
  await database.query('insert into public.stock values (1), (2)')
  await database.query(`create function public.waits(statement text) returns void language plpgsql as
    $$ begin execute statement; end $$`)
  return database
}

describe.each(['14', '18'])('who holds a lock, on PostgreSQL %s', (major) => {
  let database: TestDatabase

  beforeAll(async () => {
    const label = 'lock holders'
    database = await prepare(
      major === '14' ? await (await postgres14()).createDatabase(label) : await createDatabase(label),
    )
  })

  const holders = async (processes: Parameters<typeof blockedProcesses>[1]) => {
    const session = await open(database.url)
    return blockedProcesses(session, processes).finally(() => session.end())
  }

  it('is a session, by its role, name, transaction and statement', async () => {
    const holder = await database.client()
    await holder.query(`set application_name = 'monthly report'`)
    await holder.query('begin')
    await holder.query(`lock table public.stock --\u001b[31m ${'x'.repeat(200)}`)
    const { process } = await waiter(database, 'select from public.stock')
    const idle = await open(database.url)
    const found = await holders([process, { pid: idle.pid, backendStart: idle.started }])
    await idle.end()
    expect(found).toEqual([
      {
        pid: process.pid,
        holder: expect.stringMatching(
          /^pid \d+ \(role yardmaster, 'monthly report', in a transaction since .* UTC, last statement: lock table public\.stock --.*x{5}…\)$/,
        ),
        seconds: expect.any(Number),
      },
    ])
    expect(found[0]?.holder).not.toContain('\u001b')
    expect(found[0]?.holder.length).toBeLessThan(260)
    // Another process by the same number is not ours.
    expect(await holders([{ ...process, backendStart: '2020-01-01T00:00:00.000000Z' }])).toEqual([])
    await holder.query('rollback')
  })

  it('is the one that does not wait itself', async () => {
    // Whose transaction is older.
    const middle = await open(database.url)
    await middle.script('begin')
    const holder = await database.client()
    const [own] = (await holder.query('select pg_backend_pid() as pid')).rows
    await holder.query('begin')
    await holder.query('lock table public.stock in share mode')
    await waiter(database, 'lock table public.stock in access exclusive mode', middle)
    const { process } = await waiter(database, 'lock table public.stock in row exclusive mode')
    expect((await holders([process]))[0]?.holder).toMatch(new RegExp(`^pid ${own.pid} .* and one other$`))
    await holder.query('rollback')
  })

  it('is a prepared transaction, by its name', async () => {
    const client = await database.client()
    await client.query('begin')
    await client.query('update public.stock set id = 2 where id = 2')
    await client.query(`prepare transaction 'left behind'`)
    const row = await waiter(database, 'update public.stock set id = 2 where id = 2')
    expect((await holders([row.process]))[0]?.holder).toMatch(
      /^the prepared transaction 'left behind' \(role yardmaster, in a transaction since /,
    )
    const table = await waiter(database, 'lock table public.stock')
    expect((await holders([table.process]))[0]?.holder).toMatch(/^the prepared transaction 'left behind'/)
    await client.query(`rollback prepared 'left behind'`)
  })
})

describe('the watch of calls', () => {
  let control: Control
  let database: TestDatabase
  let stored: TestDatabase
  let opens: number

  beforeAll(async () => {
    stored = await createDatabase('lock watch control')
    control = await openTestControl(stored.url)
    database = await prepare(await createDatabase('lock watch'))
  })
  beforeEach(() => {
    opens = 0
  })

  function watched(process: { pid: number; backendStart: string }, url = database.url, name = 'dwh'): WatchedCall {
    const token = '00000000-0000-4000-8000-000000000000'
    return {
      ...{ token, database: name, ...process },
      open: (signal) => {
        opens += 1
        return open(url, signal)
      },
    }
  }
  function start(options: ConstructorParameters<typeof LockWatch>[1]): LockWatch {
    const watch = new LockWatch(control, options)
    onTestFinished(() => watch.stop())
    return watch
  }
  const someone = { pid: 1, backendStart: '2020-01-01T00:00:00.000000Z' }

  it('asks nothing about calls that end in time, and each database once about all others', async () => {
    const watch = start({ after: 300, every: 60_000 })
    const ends = Array.from({ length: 20 }, () => watch.watch(watched(someone)))
    for (const end of ends) end()
    watch.watch(watched(someone))
    watch.watch(watched(someone))
    watch.watch(watched(someone, database.url, 'other'))
    await expect.poll(() => opens, { interval: 20 }).toBe(2)
    expect(opens).toBe(2)
  })

  it('asks nothing about a call that has just begun, whatever else runs long', async () => {
    const watch = start({ after: 1000, every: 20 })
    let young = 0
    watch.watch(watched(someone))
    await expect.poll(() => opens, { interval: 10 }).toBe(1)
    watch.watch({
      ...watched(someone, database.url, 'young'),
      open: async () => Promise.reject(new Error(`${++young}`)),
    })
    await expect.poll(() => opens, { interval: 10 }).toBeGreaterThan(3)
    expect(young).toBe(0)
    await expect.poll(() => young).toBeGreaterThan(0)
  })

  it('asks a database that owes an answer no more, and ends without it', async () => {
    const proxy = await startProxy(database.url)
    proxy.set('both', { kind: 'half-open' })
    const watch = start({ after: 20, every: 20, answerWithin: 60_000 })
    watch.watch(watched(someone, proxy.url, 'silent'))
    await expect.poll(() => opens).toBe(1)
    let others = 0
    watch.watch({
      ...watched(someone, database.url, 'awake'),
      open: async (signal) => {
        others += 1
        return open(database.url, signal)
      },
    })
    // Others are asked many times meanwhile.
    await expect.poll(() => others).toBeGreaterThan(5)
    expect(opens).toBe(1)
    watch.stop()
  })

  it('asks it again once the time for an answer is over', async () => {
    const proxy = await startProxy(database.url)
    proxy.set('both', { kind: 'half-open' })
    const watch = start({ after: 20, every: 20, answerWithin: 50 })
    watch.watch(watched(someone, proxy.url, 'silent'))
    await expect.poll(() => opens).toBeGreaterThan(2)
  })
})

it('a run that waits for a lock says who holds it, is BLOCKED after a minute, and goes on', async () => {
  const target = await prepare(await createDatabase('blocked run'))
  await target.query(
    `create procedure public.sells(job_id int, config jsonb) language sql as 'delete from public.stock where id = 1'`,
  )
  const crew = await JobCrew.open('blocked', { dwh: target.url })
  const holder = await target.client()
  await holder.query('begin')
  await holder.query('lock table public.stock')
  await crew.worker()
  const job = await crew.define({ proc: 'public.sells', database: 'dwh', scheduled: false, verified: true })
  await crew.request(job)
  const blocked = async () =>
    (
      await crew.control.query(
        `select blocked_by, blocked_since < started_at + interval '2 s' as soon from yardmaster.attempt`,
      )
    )[0]
  await expect
    .poll(blocked, { timeout: 20_000 })
    .toMatchObject({ blocked_by: expect.stringMatching(/^pid \d+ .*lock table public\.stock\)$/), soon: true })
  const alerts = () =>
    crew.control.query(
      `select alert_code, alert_status, alert_text from yardmaster.check_job_status() where alert_status = 'BLOCKED'`,
    )
  expect(await alerts()).toEqual([])
  await crew.control.query(`update yardmaster.attempt set blocked_since = blocked_since - interval '1 minute'`)
  expect(await alerts()).toEqual([
    {
      alert_code: 2,
      alert_status: 'BLOCKED',
      alert_text: expect.stringMatching(/waiting for a lock for 1 min .*; it is held by pid/),
    },
  ])
  await holder.query('rollback')
  await expect.poll(() => crew.runs(job)).toMatchObject([{ status: 'OK' }])
  expect(await alerts()).toEqual([])
}, 60_000)
