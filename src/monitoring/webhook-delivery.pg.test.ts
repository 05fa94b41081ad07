import { beforeEach, describe, expect, it } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { type Received, startReceiver } from '../../test/support/receiver.ts'
import type { Control } from '../control/control.ts'
import { deliverDue } from './webhook-delivery.ts'
import { makeWebhookSecret, messageHeaders } from './webhook-message.ts'
import { type Ask, addWebhook, claimDeliveries, listWebhooks, removeWebhook } from './webhooks.ts'

let database: TestDatabase
let control: Control
let ask: Ask
const secret = makeWebhookSecret()

beforeEach(async () => {
  database = await createDatabase('webhooks')
  control = await openTestControl(database.url)
  ask = (work) => control.perform(work, 0)
})

const open = (name = 'dwh:public.orders', level = 3) =>
  database.query('select yardmaster.open_alert($1, $2, $3, $4)', ['FAILED_RUN', name, level, 'it failed: "ü"'])
const deliver = () => deliverDue(ask, control.key)
const deliveries = () =>
  database.query(
    `select event, status, attempts, outcome, next_try > now() as later from yardmaster.webhook_delivery order by webhook_id, id`,
  )
/** As if the pause were over. */
const skipPause = () =>
  database.query(`update yardmaster.webhook_delivery set next_try = now() where status = 'waiting'`)
const hear = (url: string) => addWebhook(control, url, secret, true)

describe('a message', () => {
  it('is signed, and says what the alert is', async () => {
    const receiver = await startReceiver()
    await hear(receiver.url)
    await open()
    expect(await deliver()).toBe(1)
    const [message] = receiver.received
    const { headers, body } = message as Received
    const [id, at] = [String(headers['webhook-id']), Number(headers['webhook-timestamp'])]
    expect(id).toMatch(/^msg_[0-9a-f-]{36}$/)
    expect(Math.abs(at - Date.now() / 1000)).toBeLessThan(30)
    expect(headers['webhook-signature']).toBe(messageHeaders(id, at, body, secret)['webhook-signature'])
    expect(JSON.parse(body)).toEqual({
      type: 'alert.opened',
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      data: {
        ...{ id: '1', level: 'CRITICAL', alert_code: 3, alert_status: 'FAILED_RUN', job_name: 'dwh:public.orders' },
        ...{
          alert_text: 'it failed: "ü"',
          opened_at: expect.any(String),
          changed_at: expect.any(String),
          closed_at: null,
        },
      },
    })
    expect(await deliveries()).toMatchObject([{ event: 'opened', status: 'delivered', attempts: 1, outcome: '204' }])
    expect(await deliver()).toBe(0)
  })

  it('is tried again with the same id and a new time, ever later, until it is taken', async () => {
    const receiver = await startReceiver(500, 302, (_, socket) => socket.destroy())
    await hear(receiver.url)
    await open()
    const outcomes = []
    for (let attempt = 1; attempt <= 4; attempt += 1) {
      expect(await deliver()).toBe(1)
      // Not before its time.
      expect(await deliver()).toBe(0)
      outcomes.push(...(await deliveries()))
      await skipPause()
    }
    const later = { event: 'opened', status: 'waiting', later: true }
    expect(outcomes).toEqual([
      { ...later, attempts: 1, outcome: '500' },
      { ...later, attempts: 2, outcome: '302: redirects are not followed' },
      { ...later, attempts: 3, outcome: 'the receiver closed the connection without an answer' },
      { ...later, status: 'delivered', attempts: 4, outcome: '204' },
    ])
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(new Set(receiver.received.map(({ body }) => body)).size).toBe(1)
    expect(await listWebhooks(control)).toMatchObject([
      { waiting: 0, delivered: '1', given_up: '0', last_outcome: '204' },
    ])
  })

  it('that nobody takes for a day is given up, and the reason is kept', async () => {
    const receiver = await startReceiver(503, 503)
    await hear(receiver.url)
    await open()
    await deliver()
    await skipPause()
    await database.query(`update yardmaster.webhook_delivery set created_at = now() - interval '24 hours 1 second'`)
    await deliver()
    expect(await deliveries()).toMatchObject([{ status: 'given_up', attempts: 2, outcome: '503' }])
    await skipPause()
    expect(await deliver()).toBe(0)
    expect(await listWebhooks(control)).toMatchObject([
      { waiting: 0, given_up: '1', last_status: 'given_up', last_outcome: '503', last_attempts: 2 },
    ])
  })

  it('waits for an earlier one of its alert, and for no other', async () => {
    const receiver = await startReceiver(500)
    await hear(receiver.url)
    await open()
    await deliver()
    await database.query(`select yardmaster.announce_alert(1, 'closed')`)
    await open('dwh:public.other')
    expect(await deliver()).toBe(1)
    await skipPause()
    expect([await deliver(), await deliver(), await deliver()]).toEqual([1, 1, 0])
    const types = receiver.received
      .map(({ body }) => JSON.parse(body))
      .map(({ type, data }) => `${type} ${data.job_name}`)
    expect(types).toEqual([
      'alert.opened dwh:public.orders',
      'alert.opened dwh:public.other',
      'alert.opened dwh:public.orders',
      'alert.closed dwh:public.orders',
    ])
  })

  it('is tried by one at a time; whoever vanishes with it leaves it to others after half a minute', async () => {
    const receiver = await startReceiver()
    await hear(receiver.url)
    for (let n = 0; n < 4; n += 1) await open(`job ${n}`)
    const other = await openTestControl(database.url, control.key)
    const both = await Promise.all([claimDeliveries(ask, 3), claimDeliveries((work) => other.perform(work, 0), 3)])
    const ids = both.flat().map(({ id }) => id)
    expect([ids.length, new Set(ids).size]).toEqual([4, 4])
    expect(await deliver()).toBe(0)
    const [{ lease } = { lease: 0 }] = await database.query<{ lease: number }>(
      `select extract(epoch from max(next_try) - now())::float8 as lease from yardmaster.webhook_delivery`,
    )
    expect(lease).toBeGreaterThan(20)
    expect(lease).toBeLessThanOrEqual(30)
    await skipPause()
    expect(await deliver()).toBe(4)
    // The first one wakes up, and what it says does not count any more.
    const [late] = both.flat()
    const [said] = await database.query(`select yardmaster.record_delivery($1, 1, false, 'late') as status`, [late?.id])
    expect([said, (await deliveries()).map((one) => one.status)]).toEqual([
      { status: null },
      Array(4).fill('delivered'),
    ])
  })

  it('of one webhook does not hold up those of another', async () => {
    const [dead, alive] = [await startReceiver(), await startReceiver()]
    await hear(dead.url)
    await hear(alive.url)
    await dead.stop()
    for (let n = 0; n < 20; n += 1) await open(`job ${n}`)
    await deliver()
    expect(alive.received).toHaveLength(5)
  })

  it('with a secret that does not open is not sent unsigned', async () => {
    const receiver = await startReceiver()
    await hear(receiver.url)
    await hear(`${receiver.url}2`)
    // Moved to another URL by hand: the ciphertext is the first one's.
    await database.query(`update yardmaster.webhook set url = url || 'x' where id = 1`)
    await open()
    await deliver()
    expect(receiver.received.map(({ path }) => path)).toEqual(['/hook2'])
    expect(await deliveries()).toMatchObject([
      { status: 'waiting', outcome: expect.stringContaining("password of 'webhook 1' does not open") },
      { status: 'delivered' },
    ])
  })
})

describe('a webhook', () => {
  it('has a secret that is nowhere to be read, also not in the audit, nor what stands behind its question mark', async () => {
    await addWebhook(control, 'https://example.org/hook?token=canary', secret, false)
    const rows = []
    for (const text of [
      'select * from yardmaster.webhooks',
      'select * from yardmaster.audit_log',
      'select key_id, encode(ciphertext, $$escape$$) from yardmaster.secret',
    ])
      rows.push(...(await database.query(text)))
    const dump = JSON.stringify(rows)
    expect(dump).toContain('https://example.org/hook?…')
    expect(dump).not.toContain('canary')
    expect(dump).not.toContain(secret.slice(6, 30))
  })

  it('that is removed is told nothing more, and its secret is gone', async () => {
    const receiver = await startReceiver()
    const { id } = await hear(receiver.url)
    await open()
    await removeWebhook(control, id)
    expect(await deliver()).toBe(0)
    expect(await database.query('select from yardmaster.secret')).toEqual([])
    expect(
      await database.query(`select action, object from yardmaster.audit_log where object_kind = 'webhook' order by id`),
    ).toEqual([
      { action: 'create', object: '1' },
      { action: 'delete', object: '1' },
    ])
  })

  it('that comes later hears nothing of the end of what it never heard of', async () => {
    await open('before')
    const receiver = await startReceiver()
    await hear(receiver.url)
    await database.query(`select yardmaster.announce_alert(1, 'closed')`)
    expect(await deliver()).toBe(0)
    await database.query(`select yardmaster.announce_alert(1, 'changed')`)
    await deliver()
    expect(receiver.received.map(({ body }) => JSON.parse(body).type)).toEqual(['alert.opened'])
  })

  it.each([
    [`select yardmaster.add_webhook('https://user:secret@example.org/', gen_random_uuid(), 'k', 'x')`, 'YM003'],
    [`select yardmaster.add_webhook('ftp://example.org/', gen_random_uuid(), 'k', 'x')`, 'YM003'],
    [`select yardmaster.add_webhook('https://example.org/', null, null, null)`, 'YM003'],
    ['select yardmaster.remove_webhook(7)', 'YM001'],
  ])('is refused: %s', async (statement, code) => {
    await expect(database.query(statement)).rejects.toMatchObject({ code })
  })
})

it('the pauses between attempts grow from 5 s to 6 h, and not all alike', async () => {
  await hear('http://127.0.0.1:9/')
  await open()
  const pauses: number[] = []
  for (let attempt = 1; attempt <= 12; attempt += 1) {
    await database.query(`update yardmaster.webhook_delivery set attempts = ${attempt}`)
    await database.query(`select yardmaster.record_delivery(1, ${attempt}, false, 'x')`)
    const [row] = await database.query<{ pause: number }>(
      'select extract(epoch from next_try - now())::float8 as pause from yardmaster.webhook_delivery',
    )
    pauses.push(row?.pause ?? 0)
  }
  pauses.forEach((pause, index) => {
    const middle = Math.min(5 * 3 ** index, 21_600)
    expect(pause).toBeGreaterThan(middle * 0.79)
    expect(pause).toBeLessThan(middle * 1.21)
  })
  expect(new Set(pauses.slice(8).map((pause) => Math.round(pause))).size).toBeGreaterThan(1)
})
