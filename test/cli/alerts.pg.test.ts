import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startReceiver } from '../support/receiver.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('alerts')
  await shop.add('orders', 'table', '--every', '1 hour')
  await shop.add('stock', 'table')
  // Somebody carries out what is due.
  const worker = await shop.control.client()
  await worker.query(`select yardmaster.register_worker('h1#1', 'h1', 4);
    update yardmaster.worker set lease_until = now() + interval '1 day' where name = 'h1#1'`)
})

/** Everything is fine, and no alert is open. */
beforeEach(async () => {
  await shop.control.query(`delete from yardmaster.alert_rule; delete from yardmaster.alert; delete from yardmaster.webhook;
    delete from yardmaster.run where operation = 'refresh'; update yardmaster.replication set as_of = now()`)
  await evaluate()
  expect(await listed()).toEqual([])
})

const evaluate = async () => {
  const [row] = await shop.control.query<{ changes: number | null }>('select yardmaster.evaluate_alerts() as changes')
  return row?.changes
}
const listed = async (...args: string[]) => (await shop.done('alert', 'list', ...args, '--json')).json
const check = async () => (await shop.run('check', '--json')).json
/** A run of a copy that has ended; newer than all others. Its job knows of it. */
const ran = (table: string, status: string, more: { reason?: string; ago?: string } = {}) =>
  shop.control.query(
    `with made as (
       insert into yardmaster.run (job_id, slot, due_at, database_id, operation, object, status, reason, started_at, finished_at, message)
       select job_id, clock_timestamp(), clock_timestamp(), destination_database_id, 'refresh', destination_database || ':' || destination_table, $2, $3,
         now() - $4::interval, now() - $4::interval, 'as told' from yardmaster.replications where destination_name = $1
       returning *)
     update yardmaster.job_state s set last_run = m.id, last_status = m.status, last_reason = m.reason from made m
     where s.job_id = m.job_id and s.database_id = m.database_id and m.status in ('OK', 'WARNING', 'CRITICAL')`,
    [table, status, more.reason ?? null, more.ago ?? '0'],
  )
const age = (table: string, how: string) =>
  shop.control.query(`update yardmaster.replication set as_of = now() - $2::interval where destination_name = $1`, [
    table,
    how,
  ])
const audited = () =>
  shop.control.query(
    `select object_kind, object, after ->> 'note' as note from yardmaster.audit_log order by id desc limit 1`,
  )

describe('an alert', () => {
  it('opens once, changes its level, and closes; each is told once', async () => {
    const receiver = await startReceiver()
    await shop.done('alert', 'webhook', 'add', receiver.url, '--allow-private')
    const events = () =>
      shop.control.query(
        `select event, (body::jsonb -> 'data' ->> 'level') as level from yardmaster.webhook_delivery order by id`,
      )
    await age('orders', '3 hours')
    expect([await evaluate(), await evaluate()]).toEqual([1, 0])
    expect(await listed()).toMatchObject([
      { level: 'WARNING', alert_code: 2, alert_status: 'MISSING', job_name: 'dwh:public.orders', closed_at: null },
    ])
    await age('orders', '1 day')
    expect([await evaluate(), await evaluate()]).toEqual([1, 0])
    await age('orders', '3 hours')
    await evaluate()
    await age('orders', '0')
    expect([await evaluate(), await evaluate()]).toEqual([1, 0])
    expect(await events()).toEqual([
      { event: 'opened', level: 'WARNING' },
      { event: 'changed', level: 'CRITICAL' },
      { event: 'changed', level: 'WARNING' },
      { event: 'closed', level: 'WARNING' },
    ])
    expect(await listed()).toEqual([])
    expect(await listed('--closed', '5')).toMatchObject([{ closed_at: expect.any(String) }])
  })

  it('is opened by one of many who look at once', async () => {
    await age('orders', '3 hours')
    const clients = await Promise.all(Array.from({ length: 4 }, () => shop.control.client()))
    const found = await Promise.all(
      clients.map((client) => client.query('select yardmaster.evaluate_alerts() as changes')),
    )
    expect(found.map(({ rows }) => rows[0].changes).filter((changes) => changes === 1)).toHaveLength(1)
    expect(await listed()).toHaveLength(1)
    for (const client of clients) await client.end()
  })

  it('is not looked for where somebody is at it, or did it a moment ago', async () => {
    const other = await shop.control.client()
    await other.query('begin; select yardmaster.evaluate_alerts()')
    expect(await evaluate()).toBe(null)
    await other.query('commit')
    const soon = await shop.control.query(`select yardmaster.evaluate_alerts('1 minute') as changes`)
    expect([soon, await evaluate()]).toEqual([[{ changes: null }], 0])
    await other.end()
  })

  it('and what is told of it are one: where the transaction is undone, neither is there', async () => {
    const receiver = await startReceiver()
    await shop.done('alert', 'webhook', 'add', receiver.url, '--allow-private')
    await age('orders', '3 hours')
    const other = await shop.control.client()
    await other.query('begin; select yardmaster.evaluate_alerts(); rollback')
    await other.end()
    expect(await shop.control.query('select from yardmaster.webhook_delivery')).toEqual([])
    expect(await listed()).toEqual([])
  })

  it('has the text of now, at most a minute old', async () => {
    await age('orders', '3 hours')
    await evaluate()
    await age('orders', '4 hours')
    await evaluate()
    expect((await listed())[0].alert_text).toMatch(/^3 h /)
    await shop.control.query(`update yardmaster.alert set text_at = now() - interval '61 s'`)
    expect(await evaluate()).toBe(0)
    expect((await listed())[0].alert_text).toMatch(/^4 h /)
  })
})

describe('acknowledge and silence', () => {
  let receiver: Awaited<ReturnType<typeof startReceiver>>
  const events = async () =>
    (await shop.control.query('select event from yardmaster.webhook_delivery order by id')).map(({ event }) => event)
  const openOne = async (): Promise<string> => {
    receiver = await startReceiver()
    await shop.done('alert', 'webhook', 'add', receiver.url, '--allow-private')
    await age('orders', '3 hours')
    await evaluate()
    return (await listed())[0].id
  }

  it('an acknowledged alert says who cares, in check too, and is told again when its level rises', async () => {
    const id = await openOne()
    const said = await shop.done('alert', 'ack', id, '--note', 'the disk is full')
    expect(said.out).toBe(`Alert ${id} is acknowledged; nobody is told of it again until its level rises.\n`)
    expect(await audited()).toMatchObject([{ object_kind: 'alert', note: 'the disk is full' }])
    expect(await check()).toMatchObject({
      level: 1,
      alerts: [{ alert_text: expect.stringMatching(/ \(acknowledged by \S+: the disk is full\)$/) }],
    })
    await age('orders', '1 day')
    await evaluate()
    expect(await events()).toEqual(['opened', 'changed'])
    expect(await listed()).toMatchObject([{ level: 'CRITICAL', acknowledged_by: null, note: null }])
    // The level that falls is no news to whoever looks after it; that it is over, is.
    await shop.done('alert', 'ack', id)
    await age('orders', '3 hours')
    await evaluate()
    await age('orders', '0')
    await evaluate()
    expect(await events()).toEqual(['opened', 'changed', 'closed'])
  })

  it('a silenced alert is left out of check, comes back silent, and is heard when its level rises', async () => {
    const id = await openOne()
    await shop.done('alert', 'silence', id, '--until', '2 hours')
    expect(await check()).toMatchObject({
      level: 0,
      alerts: [{ alert_status: 'OK', alert_text: 'what is wrong is silenced: 1' }],
    })
    await age('orders', '0')
    await evaluate()
    await age('orders', '3 hours')
    await evaluate()
    expect(await events()).toEqual(['opened', 'closed'])
    expect(await listed()).toMatchObject([{ silenced_until: expect.any(String), silenced_by: expect.any(String) }])
    expect((await check()).level).toBe(0)
    await age('orders', '1 day')
    // Before anybody has looked, check knows already that it is more than what was silenced.
    expect((await check()).level).toBe(2)
    await evaluate()
    expect(await events()).toEqual(['opened', 'closed', 'opened'])
    expect(await listed()).toMatchObject([{ level: 'CRITICAL', silenced_until: null }])
  })

  it('a silence that is taken back, or over, is none', async () => {
    const id = await openOne()
    await shop.done('alert', 'silence', id, '--until', '2099-01-01T00:00Z').then(
      () => expect.unreachable(),
      () => undefined,
    )
    await shop.done('alert', 'silence', id, '--until', '1 hour')
    await shop.done('alert', 'silence', id, '--until', 'none')
    expect((await check()).level).toBe(1)
    await shop.done('alert', 'silence', id, '--until', '1 hour')
    await shop.control.query(`update yardmaster.alert set silenced_until = now() - interval '1 s'`)
    expect((await check()).level).toBe(1)
    await age('orders', '0')
    await evaluate()
    await age('orders', '3 hours')
    await evaluate()
    expect(await events()).toEqual(['opened', 'closed', 'opened'])
  })

  it.each([
    [['ack', '99'], 1, 'alert_unknown'],
    [['ack', 'x'], 1, 'alert_unknown'],
    [['silence', '99', '--until', '1 hour'], 1, 'alert_unknown'],
    [['silence', '1', '--until', 'soon'], 2, 'wrong_usage'],
    [['silence', '1', '--until', '2020-13-45'], 2, 'wrong_usage'],
    [['silence', '1'], 2, 'wrong_usage'],
    [['list', '--closed', '-1'], 2, 'wrong_usage'],
    [['set', 'nope'], 1, 'job_unknown'],
    [['set', 'public.orders', '--warn', 'soon'], 2, 'wrong_usage'],
    [['set', 'public.orders', '--warn', '0'], 2, 'wrong_usage'],
    [['set', 'public.orders', '--warn', '2 hours', '--error', '1 hour'], 2, 'wrong_usage'],
    [['set', 'public.orders', '--sensitivity', '0'], 2, 'wrong_usage'],
    [['set', 'public.orders', '--escalate', '1001'], 2, 'wrong_usage'],
    [['webhook', 'add', 'https://169.254.169.254/'], 2, 'webhook_refused'],
    [['webhook', 'add', 'http://127.0.0.1:1/'], 2, 'webhook_refused'],
    [['webhook', 'add', 'https://example.org/', '--secret', 'short'], 2, 'webhook_refused'],
    [['webhook', 'add', 'https://example.org/', '--secret', 'env:NOT_SET'], 1, 'reference_unreadable'],
    [['webhook', 'remove', '99'], 1, 'webhook_unknown'],
  ])('alert %j is refused with %i %s', async (args, code, error) => {
    const said = await shop.run('alert', ...args, '--json')
    expect([said.code, said.json.error.code]).toEqual([code, error])
  })

  it('of an alert that is over is refused', async () => {
    const id = await openOne()
    await age('orders', '0')
    await evaluate()
    for (const args of [
      ['ack', id],
      ['silence', id, '--until', '1 hour'],
    ]) {
      const said = await shop.run('alert', ...args, '--json')
      expect([said.code, said.json.error.code]).toEqual([1, 'alert_over'])
    }
  })
})

describe('rules of one job', () => {
  const alerts = async () => (await check()).alerts.filter((one: { alert_code: number }) => one.alert_code > 1)
  const set = (...args: string[]) => shop.done('alert', 'set', ...args)

  it('thresholds: no completed run for so long; failed ones are none', async () => {
    await ran('stock', 'OK', { ago: '2 hours' })
    await ran('stock', 'CRITICAL')
    expect(await alerts()).toEqual([])
    await set('public.stock', '--warn', '90 minutes')
    expect(await alerts()).toMatchObject([
      {
        alert_code: 2,
        alert_status: 'MISSING',
        alert_text: expect.stringMatching(
          /^no run completed for 2 h 0 min \(warning after 1 h 30 min\); run \d+ CRITICAL: as told$/,
        ),
      },
    ])
    await set('public.stock', '--warn', '1 hour', '--error', '90 minutes')
    expect(await alerts()).toMatchObject([{ alert_code: 3, alert_status: 'MISSING' }])
    await set('public.stock', '--warn', '3 hours', '--error', '3 hours')
    expect(await alerts()).toEqual([])
    await ran('stock', 'WARNING')
    await set('public.stock', '--warn', '1 minute')
    expect(await alerts()).toEqual([])
  })

  it('thresholds take the place of the schedule’s lateness', async () => {
    await ran('orders', 'OK')
    await age('orders', '1 day')
    expect(await alerts()).toMatchObject([{ alert_code: 3, alert_status: 'MISSING' }])
    await set('public.orders', '--warn', '2 days')
    expect(await alerts()).toEqual([])
    await set('public.orders', '--warn', 'none')
    expect(await alerts()).toMatchObject([{ alert_code: 3 }])
  })

  it('thresholds: a run that goes on for so long', async () => {
    await ran('stock', 'OK')
    await ran('stock', 'RUNNING', { ago: '20 minutes' })
    expect(await alerts()).toEqual([])
    await set('public.stock', '--warn', '10 minutes', '--error', '30 minutes')
    expect(await alerts()).toMatchObject([
      {
        alert_code: 2,
        alert_status: 'RUNNING',
        alert_text: expect.stringMatching(/^run \d+ has been going on for 20 min/),
      },
    ])
    await set('public.stock', '--error', '15 minutes')
    expect(await alerts()).toMatchObject([{ alert_code: 3, alert_status: 'RUNNING' }])
  })

  it('a run that waits for a lock in its target: who holds it, after a minute or the job’s own threshold', async () => {
    await shop.control.query(`select yardmaster.begin_run(r.job_id, r.destination_database_id, 'refresh', 'dwh:public.stock', null,
        (select id from yardmaster.worker where name = 'h1#1')) from yardmaster.replications r where r.destination_name = 'stock'`)
    const report = (holder: string | null) =>
      shop.control.query(
        `select yardmaster.report_blocked(token, $1) from yardmaster.attempt where status = 'RUNNING'`,
        [holder],
      )
    await report('pid 4711 (alice, VACUUM FULL)')
    expect(await alerts()).toEqual([])
    await shop.control.query(`update yardmaster.attempt set blocked_since = now() - interval '2 minutes'`)
    // Said again of another one, it has waited as long.
    await report('pid 4712 (bob)')
    expect(await alerts()).toMatchObject([
      {
        alert_code: 2,
        alert_status: 'BLOCKED',
        alert_text: expect.stringMatching(/has been waiting for a lock for 2 min 0 s; it is held by pid 4712 \(bob\)$/),
      },
    ])
    await set('public.stock', '--error', '1 minute', '--warn', '30 s')
    expect((await alerts()).filter((one: { alert_status: string }) => one.alert_status === 'BLOCKED')).toMatchObject([
      { alert_code: 3 },
    ])
    await set('public.stock', '--error', 'none', '--warn', 'none')
    await report(null)
    expect(await alerts()).toEqual([])
  })

  it('sensitivity: so many bad runs in a row; a good one ends them', async () => {
    await set('public.stock', '--sensitivity', '2')
    await ran('stock', 'OK')
    await ran('stock', 'WARNING')
    expect(await alerts()).toEqual([])
    await ran('stock', 'CRITICAL')
    expect(await alerts()).toMatchObject([
      {
        alert_status: 'FAILED_RUN',
        alert_code: 2,
        alert_text: expect.stringMatching(/^2 bad runs in a row \(alerts from 2 on\)/),
      },
    ])
    // What somebody called off, or found the table locked, is neither.
    await ran('stock', 'CRITICAL', { reason: 'cancelled' })
    await ran('stock', 'WARNING', { reason: 'locked' })
    expect(await alerts()).toMatchObject([{ alert_text: expect.stringMatching(/^2 bad/) }])
    await ran('stock', 'OK')
    expect(await alerts()).toEqual([])
  })

  it('escalation: after so many alerts on WARNING, CRITICAL', async () => {
    await set('public.stock', '--sensitivity', '1', '--escalate', '2')
    const codes = []
    for (let run = 0; run < 4; run += 1) {
      await ran('stock', 'WARNING')
      codes.push((await alerts())[0].alert_code)
    }
    expect(codes).toEqual([2, 2, 3, 3])
  })

  it('are shown, changed one by one, and audited', async () => {
    expect((await set('public.stock')).out).toBe(
      'dwh:public.stock: late as its schedule says; an alert from 3 bad runs in a row on.\n',
    )
    const [{ job_id: id } = { job_id: 0 }] = await shop.control.query<{ job_id: number }>(
      `select job_id from yardmaster.replications where destination_name = 'stock'`,
    )
    expect((await set('public.stock', '--sensitivity', '1')).out).toContain('an alert from the first bad run on')
    await set(String(id), '--warn', '1 day', '--sensitivity', 'none', '--escalate', '2')
    expect((await set('dwh:public.stock', '--sensitivity', '5', '--json')).json).toEqual({
      ...{ job_id: id, job_name: 'dwh:public.stock', warn: '1 day', error: null, sensitivity: 5, escalate: 2 },
    })
    expect(await audited()).toMatchObject([{ object_kind: 'alert_rule', object: String(id) }])
    await set(String(id), '--warn', 'none', '--sensitivity', 'none', '--escalate', 'none')
    expect(await shop.control.query('select from yardmaster.alert_rule')).toEqual([])
  })
})

describe('alert webhook', () => {
  it('shows a secret that it made once, and never one that was given', async () => {
    const made = await shop.done('alert', 'webhook', 'add', 'https://example.org/hook?token=canary')
    expect(made.out).toMatch(
      /^Webhook \d+ is told of every alert that opens from now on: https:\/\/example\.org\/hook\?…\nIts secret, which is shown only now: whsec_[A-Za-z0-9+/]{43}=\n$/,
    )
    const own = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
    const given = await shop.done('alert', 'webhook', 'add', 'https://example.org/other', '--secret', own, '--json')
    expect(given.json).not.toHaveProperty('secret')
    const list = await shop.done('alert', 'webhook', 'list')
    expect(list.out.split('\n')).toEqual([
      'WEBHOOK\tDELIVERED\tWAITING\tGIVEN UP\tLAST\tURL',
      expect.stringMatching(/^\d+\t0\t0\t0\t\thttps:\/\/example\.org\/hook\?…$/),
      expect.stringMatching(/^\d+\t0\t0\t0\t\thttps:\/\/example\.org\/other$/),
      '',
    ])
    const removed = await shop.done('alert', 'webhook', 'remove', String(given.json.id))
    expect(removed.out).toBe(`Webhook ${given.json.id} (https://example.org/other) is gone; messages dropped: 0.\n`)
  })
})

it('alert list says when nobody looks', async () => {
  await shop.control.query(`update yardmaster.alert_evaluation set at = now() - interval '2 minutes'`)
  expect((await shop.done('alert', 'list')).err).toMatch(
    /^No alert is open\.\nNobody has looked for alerts for 2 min 00 s: workers do\. /,
  )
  await shop.control.query('update yardmaster.alert_evaluation set at = null')
  expect((await shop.done('alert', 'list')).err).toContain('Nobody has looked for alerts yet')
})
