import { beforeAll, describe, expect, it } from 'vitest'
import { startCli } from '../support/process.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('queued')
  await shop.add('orders', 'table')
})

async function queue(...args: string[]): Promise<string> {
  return (await shop.done('replication', ...args, '--queue', '--json')).json.run_id
}

async function statusOf(id: string): Promise<{ status: string; reason: string | null; message: string | null }> {
  const { json } = await shop.done('run', 'show', id, '--json')
  return { status: json.status, reason: json.reason, message: json.message }
}

async function why(id: string): Promise<string> {
  const [row] = await shop.control.query('select code, why from yardmaster.why_waiting($1)', [id])
  return row === undefined ? 'it does not wait' : `${row.code}: ${row.why}`
}

/** A worker that takes nothing; it lives for as long as the session that is returned. */
async function fakeWorker(name: string, slots: number) {
  const session = await shop.control.client()
  await session.query(`select yardmaster.register_worker($1, 'here', $2)`, [name, slots])
  return session
}

describe('a run that is left to the workers', () => {
  it('is the same run when it is asked for again', async () => {
    const id = await queue('refresh', 'public.orders')
    expect(await queue('refresh', 'public.orders')).toBe(id)
    const other = await queue('refresh', 'public.orders', '--wait', 'forever')
    expect(other).not.toBe(id)
    expect(await why(other)).toBe(`overlap: Run ${id} of the same copy waits before it; one runs at a time.`)
    expect((await shop.done('run-due', '--json')).json.map((one: { run_id: string }) => one.run_id)).toEqual([
      id,
      other,
    ])
  })

  it('sets a copy up: registered here, its objects made by who carries it out', async () => {
    await shop.source.query('create table public.stock (id int primary key); insert into public.stock values (1), (2)')
    const id = await queue('add', 'table', 'public.stock', '--from', 'crm', '--to', 'dwh', '--every', '1 hour')
    const shown = async () => (await shop.done('replication', 'show', 'public.stock', '--json')).json
    expect(await shown()).toMatchObject({ status: 'setting_up', last_run: null, next_start: null })
    expect(await shop.destination.query(`select to_regclass('public.stock') as made`)).toEqual([{ made: null }])
    const following = shop.run('run', 'follow', id, '--json')
    await shop.done('run-due')
    const { code, json } = await following
    expect([code, json.at(-1)]).toMatchObject([0, { event: 'end', run_id: id, status: 'OK', rows: 2 }])
    expect(await shown()).toMatchObject({ status: 'active', next_start: expect.stringMatching(/^\d{4}-/) })
    expect(await shop.ids('stock')).toEqual([1, 2])
  })

  it('leaves nothing of a set-up that fails, as a command does', async () => {
    await shop.source.query('create table public.fading (id int primary key)')
    const id = await queue('add', 'table', 'public.fading', '--from', 'crm', '--to', 'dwh')
    await shop.source.query('drop table public.fading')
    await shop.run('run-due')
    expect(await statusOf(id)).toEqual({
      status: 'CRITICAL',
      reason: 'failed',
      message: expect.stringMatching(/^\[table_unknown\].* The set-up was undone; nothing is left of it\.$/),
    })
    const left = await shop.control.query(`select 1 from yardmaster.replications where source_name = 'fading'`)
    expect(left).toEqual([])
    expect(await shop.destination.query(`select 1 from yardmaster.position where table_name = 'fading'`)).toEqual([])
  })

  it('is not made where the checks fail', async () => {
    const ran = await shop.run(
      ...['replication', 'add', 'table', 'public.nothing', '--from', 'crm', '--to', 'dwh', '--queue', '--json'],
    )
    expect([ran.code, ran.json.error.code]).toEqual([1, 'table_unknown'])
    expect((await shop.run('replication', 'show', 'public.nothing')).code).toBe(1)
  })

  it('says why it waits: nobody is there, all are busy, it is paused, another one is under way', async () => {
    const id = await queue('refresh', 'public.orders')
    expect(await why(id)).toMatch(/^no_worker: No worker is alive\./)
    const { json } = await shop.done('run', 'list', '--status', 'WAITING', '--json')
    expect(json).toMatchObject([{ id, waits_for: expect.stringContaining('No worker is alive.') }])
    const worker = await fakeWorker('h1#1', 1)
    expect(await why(id)).toBe('starting: A worker is about to take it.')
    await shop.control.query(`select yardmaster.begin_run(r.job_id, r.destination_database_id, 'refresh', 'dwh:public.stock', null,
        (select id from yardmaster.worker where name = 'h1#1')) from yardmaster.replications r where r.destination_name = 'stock'`)
    expect(await why(id)).toBe('no_slot: here is full: 1 of 1 runs. It is the next one.')
    await shop.control.query(
      `update yardmaster.run set job_id = (select job_id from yardmaster.run where id = $1) where status = 'RUNNING'`,
      [id],
    )
    expect(await why(id)).toMatch(/^overlap: Run \d+ of the same copy is under way by h1#1; one runs at a time\.$/)
    await shop.control.query('update yardmaster.run set requested = false where id = $1', [id])
    await shop.done('replication', 'pause', 'public.orders', '--note', 'the source moves')
    expect(await why(id)).toMatch(/^paused: dwh:public\.orders is paused since .* by .*: the source moves$/)
    await shop.done('replication', 'resume', 'public.orders')
    await shop.control.query(`select yardmaster.end_worker(id) from yardmaster.worker where name = 'h1#1'`)
    await worker.end()
    await shop.done('run', 'cancel', id)
    expect(await why(id)).toBe('it does not wait')
  })
})

describe('run cancel', () => {
  it('calls off what waits', async () => {
    const id = await queue('refresh', 'public.orders')
    expect((await shop.done('run', 'cancel', id)).out).toBe(`Run ${id} is cancelled; it had not begun.\n`)
    expect(await statusOf(id)).toMatchObject({
      ...{ status: 'CRITICAL', reason: 'cancelled' },
      message: expect.stringMatching(/^.+@.+ cancelled it before it began\.$/),
    })
    expect((await shop.done('run-due', '--json')).json).toEqual([])
    expect((await shop.run('run', 'follow', id, '--json')).code).toBe(1)
    expect((await shop.done('run', 'cancel', id)).out).toBe(
      `Run ${id} has ended already: CRITICAL. Nothing was changed.\n`,
    )
    expect(await shop.run('run', 'cancel', '4711', '--json')).toMatchObject({
      code: 1,
      json: { error: { code: 'run_unknown' } },
    })
  })

  it.each(['a command', 'a worker'])('breaks off what %s carries out, which does not come again', async (who) => {
    const before = await shop.ids('orders')
    const blocker = await shop.source.client()
    await blocker.query('begin; lock table public.orders in access exclusive mode')
    const worker = who === 'a worker' ? startCli(['worker'], { env: shop.environment }) : undefined
    const queued = worker ? await queue('refresh', 'public.orders') : undefined
    const command = worker ? undefined : shop.run('replication', 'refresh', 'public.orders', '--json')
    await shop.readerWaits()
    const [{ id }] = await shop.control.query(`select id from yardmaster.run where status = 'RUNNING'`)
    expect(queued ?? id).toBe(id)
    const following = shop.run('run', 'follow', id, '--json')
    const asked = Date.now()
    const { json } = await shop.done('run', 'cancel', id, '--json')
    expect(json).toEqual({ run_id: id, status: 'RUNNING', was_running: true })
    const ended = await following
    expect(Date.now() - asked).toBeLessThan(8000)
    expect([ended.code, ended.json.at(-1)]).toMatchObject([
      1,
      { status: 'CRITICAL', reason: 'cancelled', message: expect.stringMatching(/Cancelled by .+@.+\.$/) },
    ])
    if (command !== undefined)
      expect((await command).json).toMatchObject({ status: 'CRITICAL', error: { code: 'cancelled' } })
    await blocker.query('rollback')
    expect(await shop.control.query(`select from yardmaster.run where status in ('WAITING', 'RUNNING')`)).toEqual([])
    await worker?.kill()
    expect(await shop.ids('orders')).toEqual(before)
    expect((await shop.done('run-due', '--json')).json).toEqual([])
  })

  it('leaves other runs of the same worker alone', async () => {
    const blocker = await shop.source.client()
    await blocker.query('begin; lock table public.orders, public.stock in access exclusive mode')
    const ids = [await queue('refresh', 'public.orders'), await queue('refresh', 'public.stock')]
    const passing = shop.run('run-due', '--parallel', '2', '--json')
    const running = () => shop.control.query(`select id from yardmaster.run where status = 'RUNNING' order by id`)
    await expect.poll(running, { timeout: 20_000, interval: 20 }).toHaveLength(2)
    await shop.done('run', 'cancel', ids[0] ?? '')
    await shop.run('run', 'follow', ids[0] ?? '', '--json')
    expect(await running()).toEqual([{ id: ids[1] }])
    await blocker.query('rollback')
    const { code, json } = await passing
    expect(code).toBe(1)
    expect(json).toMatchObject([
      { run_id: ids[0], status: 'CRITICAL', reason: 'cancelled' },
      { run_id: ids[1], status: 'OK' },
    ])
  })
})

describe('run follow', () => {
  it('tells of steps once, and of the end', async () => {
    const { json } = await shop.done('replication', 'refresh', 'public.orders', '--json')
    const followed = await shop.done('run', 'follow', json.run_id, '--json')
    const steps = followed.json.filter((one: { event: string }) => one.event === 'step')
    expect(steps.map((one: { ordinal: number }) => one.ordinal)).toEqual(steps.map((_: unknown, n: number) => n + 1))
    const shown = await shop.done('run', 'show', json.run_id, '--json')
    expect(steps.map((one: { action: string }) => one.action)).toEqual(
      shown.json.steps.map((one: { action: string }) => one.action),
    )
    const said = await shop.done('run', 'follow', json.run_id)
    expect(said.out).toMatch(
      new RegExp(`^Run ${json.run_id}, attempt 1, by .*\\n( {2}OK {2}.*\\n)+Run ${json.run_id}: OK .*\\n$`),
    )
  })

  it('sees a step begin and end while it goes on', async () => {
    const blocker = await shop.source.client()
    await blocker.query('begin; lock table public.orders in access exclusive mode')
    const refreshing = startCli(['replication', 'refresh', 'public.orders'], { env: shop.environment })
    await shop.readerWaits()
    const [{ id }] = await shop.control.query(`select id from yardmaster.run where status = 'RUNNING'`)
    const following = startCli(['run', 'follow', id, '--json'], { env: shop.environment })
    await following.waitForOutput(/"status":"RUNNING"/)
    await blocker.query('rollback')
    const { exitCode, stdout } = await following.ended
    expect(exitCode).toBe(0)
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const first = events.filter(({ event, ordinal }) => event === 'step' && ordinal === 1)
    expect(first.map(({ status }) => status)).toEqual(['RUNNING', 'OK'])
    expect(events.at(-1)).toMatchObject({ event: 'end', status: 'OK' })
    await refreshing.ended
  })
})
