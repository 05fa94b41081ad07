import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('check')
  await shop.add('orders', 'table', '--every', '1 hour')
  await shop.add('stock', 'table', '--lag-target', '5 minutes')
  // Somebody who would carry out what is due; it ends with this session.
  const worker = await shop.control.client()
  await worker.query(`select yardmaster.register_worker('h1#1', 'h1', 4)`)
})

/** All is well: both copies are current, and the worker lives. */
beforeEach(async () => {
  await shop.done('replication', 'refresh', 'public.orders')
  await shop.done('replication', 'refresh', 'public.stock')
  await shop.control.query(`update yardmaster.worker set lease_until = now() + interval '1 hour' where name = 'h1#1'`)
})

interface Checked {
  readonly code: number
  readonly alerts: readonly { alert_code: number; alert_status: string; job_name: string; alert_text: string }[]
}

async function check(...args: string[]): Promise<Checked> {
  const { code, json } = await shop.run('check', ...args, '--json')
  expect(json.level).toBe(code)
  return { code, alerts: json.alerts }
}

async function age(name: string, interval: string): Promise<void> {
  await shop.control.query(
    `update yardmaster.replication set as_of = now() - $2::interval where destination_name = $1`,
    [name, interval],
  )
}

async function failRefresh(name: string): Promise<void> {
  await shop.source.query(`alter table public.${name} rename to elsewhere`)
  expect((await shop.run('replication', 'refresh', `public.${name}`)).code).toBe(1)
  await shop.source.query(`alter table public.elsewhere rename to ${name}`)
}

const fine = [
  { alert_code: 1, alert_status: 'OK', job_name: 'all jobs', alert_text: expect.stringContaining('jobs: 2') },
]

describe('check', () => {
  it('is OK with one line and figures', async () => {
    const { code, out, err } = await shop.run('check')
    expect([code, err]).toEqual([0, ''])
    expect(out).toBe(
      'OK - nothing fails, hangs or is late; jobs: 2, paused: 0 | jobs=2 late=0 failed=0 paused=0 running=0 waiting=0 workers=1\n',
    )
    expect(await check()).toEqual({ code: 0, alerts: fine })
  })

  it('warns of a copy past its target, and is CRITICAL from three times that on', async () => {
    await age('stock', '6 minutes')
    expect(await check()).toEqual({
      code: 1,
      alerts: [
        {
          ...{ alert_code: 2, alert_status: 'MISSING', job_name: 'dwh:public.stock' },
          alert_text: expect.stringMatching(/^6 min 0 s behind \(late after 5 min 0 s\); run \d+ OK: /),
        },
      ],
    })
    await age('stock', '16 minutes')
    expect((await check()).code).toBe(2)
    expect((await shop.run('check')).out).toMatch(/^CRITICAL - 1 alert: dwh:public\.stock MISSING: 16 min .* late=1 /)
  })

  it('goes by the schedule where there is no target: twice the period', async () => {
    await age('orders', '119 minutes')
    expect((await check()).code).toBe(0)
    await age('orders', '121 minutes')
    expect(await check()).toMatchObject({
      code: 1,
      alerts: [{ alert_status: 'MISSING', job_name: 'dwh:public.orders' }],
    })
  })

  it('does not call late what the boundary leaves out on purpose, also where auto cannot be used', async () => {
    await shop.source.query(`create table public.log (at timestamptz not null default now());
      create view public.logged as select at from public.log;
      insert into public.log select now() - interval '1 hour'`)
    await shop.done(
      ...['replication', 'add', 'inserter', 'public.logged', '--from', 'crm', '--to', 'dwh'],
      ...['--column', 'at', '--by', 'time', '--boundary', 'auto', '--every', '10 seconds'],
    )
    const [copy] = await shop.control.query<{ lag: number; late: number }>(`
      select extract(epoch from now() - as_of)::float8 as lag, extract(epoch from late_after)::float8 as late
      from yardmaster.replications where destination_name = 'logged'`)
    expect(copy?.lag).toBeGreaterThan(595)
    expect(copy?.late).toBe(900)
    await shop.done('replication', 'remove', 'public.logged')
  })

  it('says nothing of one that is paused', async () => {
    await age('stock', '1 day')
    await shop.done('replication', 'pause', 'public.stock', '--note', 'the source moves')
    expect((await check()).code).toBe(0)
    await shop.done('replication', 'resume', 'public.stock')
    expect((await check()).code).toBe(2)
  })

  it('alerts of the third failed run in a row, and forgets them with one that ends well', async () => {
    await failRefresh('stock')
    await failRefresh('stock')
    expect((await check()).code).toBe(0)
    await failRefresh('stock')
    expect(await check()).toMatchObject({
      code: 2,
      alerts: [
        {
          ...{ alert_code: 3, alert_status: 'FAILED_RUN', job_name: 'dwh:public.stock' },
          alert_text: expect.stringMatching(/^3 failed runs in a row; the last one, \d+: \[table_unknown\] /),
        },
      ],
    })
    await shop.done('replication', 'refresh', 'public.stock')
    expect((await check()).code).toBe(0)
  })

  it('names who holds a lock that run after run finds taken', async () => {
    const holder = await shop.destination.client()
    const [pid] = (await holder.query('select pg_backend_pid() as pid')).rows
    await holder.query(`select yardmaster.try_lock_destination('public.stock')`)
    for (let run = 0; run < 3; run += 1) {
      expect((await check()).code).toBe(0)
      expect((await shop.done('replication', 'refresh', 'public.stock')).out).toContain('WARNING')
    }
    expect(await check()).toMatchObject({
      code: 1,
      alerts: [
        {
          ...{ alert_status: 'BLOCKED', job_name: 'dwh:public.stock' },
          alert_text: expect.stringMatching(new RegExp(`^3 runs in a row found it locked; .*\\b${pid.pid}\\b`)),
        },
      ],
    })
    await holder.end()
    await shop.done('replication', 'refresh', 'public.stock')
    expect((await check()).code).toBe(0)
  })

  it('says when nobody carries out what is scheduled: a warning, and CRITICAL once a slot is overdue', async () => {
    const stop = (how: string) =>
      shop.control.query(`update yardmaster.worker set ended_at = now() - interval '${how}', end_reason = 'stopped'
        where name = 'h1#1'`)
    await stop('9 minutes')
    expect((await check()).code).toBe(0)
    await stop('11 minutes')
    expect(await check()).toMatchObject({ code: 1, alerts: [{ alert_status: 'MISSING', job_name: 'workers' }] })
    await shop.control.query(
      `update yardmaster.job_state set next_start = now() - interval '2 minutes', next_slot = now() - interval '2 minutes' where next_start is not null`,
    )
    expect(await check()).toMatchObject({ code: 2, alerts: [{ alert_text: expect.stringContaining('overdue: 1') }] })
    await shop.control.query(`update yardmaster.job_state set next_start = now() + interval '1 hour', next_slot = now() + interval '1 hour' where next_start is not null;
      update yardmaster.worker set ended_at = null, end_reason = null where name = 'h1#1'`)
    expect((await check()).code).toBe(0)
  })

  it('tells of a run whose worker is not heard of, also where nobody gives it up', async () => {
    await shop.control.query(`insert into yardmaster.worker (name, host, slots, session_pid, session_start, lease_until)
      values ('h2#7', 'h2', 1, 0, now(), now() - interval '1 minute')`)
    await shop.control.query(`select yardmaster.begin_run(r.job_id, r.destination_database_id, 'refresh', 'dwh:public.stock', null,
        (select id from yardmaster.worker where name = 'h2#7')) from yardmaster.replications r where r.destination_name = 'stock'`)
    const alerts = await shop.control.query('select * from yardmaster.check_job_status()')
    expect(alerts).toMatchObject([
      {
        ...{ alert_code: 2, alert_status: 'RUNNING', job_name: 'dwh:public.stock' },
        alert_text: expect.stringMatching(/^run \d+ is carried out by h2#7, which has not been heard of since \d{4}-/),
      },
    ])
    await shop.control.query(`select yardmaster.end_worker((select id from yardmaster.worker where name = 'h2#7'))`)
  })

  it('looks at the jobs that are asked for, and does not know of none', async () => {
    await age('stock', '1 day')
    for (const pattern of ['public.stock', 'dwh:*', '*.st?ck']) expect((await check('--job', pattern)).code).toBe(2)
    for (const pattern of ['public.orders', 'dwh:public.o*']) expect((await check('--job', pattern)).code).toBe(0)
    const none = await shop.run('check', '--job', 'public.%')
    expect([none.code, none.out]).toEqual([3, "UNKNOWN - [replication_unknown] No job has a name like 'public.%'.\n"])
  })

  it('keeps to one line and one bar, whatever a message holds', async () => {
    await shop.control.query(
      `update yardmaster.run set message = E'a|b\\n  c' where job_id = (select job_id from yardmaster.replications where destination_name = 'stock')`,
    )
    await age('stock', '1 day')
    const { out } = await shop.run('check')
    expect(out).toMatch(/^CRITICAL - [^|\n]*: a\/b c \| jobs=2 [^|\n]*\n$/)
  })
})

describe('doctor', () => {
  it('tells of what check alerts of, of a single failed run, and of a long pause', async () => {
    await age('orders', '1 day')
    await failRefresh('stock')
    const codes = async () => {
      const { json } = await shop.run('doctor', '--json')
      return json.findings.map((one: { code: string; object: string }) => `${one.code} ${one.object}`)
    }
    expect(await codes()).toEqual(
      expect.arrayContaining(['missing dwh:public.orders', 'last_run_failed dwh:public.stock']),
    )
    await shop.done('replication', 'pause', 'public.stock')
    expect(await codes()).not.toContain('paused_long dwh:public.stock')
    await shop.control.query(
      `update yardmaster.job set paused_at = now() - interval '25 hours' where status = 'paused'`,
    )
    expect(await codes()).toContain('paused_long dwh:public.stock')
    await shop.done('replication', 'resume', 'public.stock')
  })
})
