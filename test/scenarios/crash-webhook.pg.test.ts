import { beforeAll, describe, expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import { openShop, type Shop } from '../cli/shop.ts'
import { startCli } from '../support/process.ts'
import { startReceiver } from '../support/receiver.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('crash webhook')
  await shop.add('orders', 'table')
})

const work = (host: string, crashAt?: CrashPoint) =>
  startCli(['worker', '--host', host, '--log-level', 'warn'], {
    env: { ...shop.environment, ...(crashAt === undefined ? {} : { YARDMASTER_CRASH_AT: crashAt }) },
  })
const deliveries = () =>
  shop.control.query('select event, status, attempts from yardmaster.webhook_delivery order by id')

describe('a worker that is killed while an alert opens', () => {
  /** By point: messages that the receiver has when it died, attempts that are counted then, messages in the end. */
  const points: [CrashPoint, number, number, number][] = [
    ['alerts-after-evaluation', 0, 0, 1],
    ['webhook-after-claim', 0, 1, 1],
    ['webhook-after-post', 1, 1, 2],
  ]
  test.each(points)('at %s: another one tells it, with the same id', async (point, told, counted, all) => {
    const receiver = await startReceiver()
    await shop.control.query('delete from yardmaster.webhook; delete from yardmaster.alert')
    await shop.done('alert', 'webhook', 'add', receiver.url, '--allow-private')
    await shop.control.query(`update yardmaster.alert_evaluation set at = null;
      insert into yardmaster.refused_file (path, host, since, message) values ('/bindings.csv', 'h', now(), 'line 3')
      on conflict do nothing`)
    expect((await work('h1', point).ended).signal).toBe('SIGKILL')
    expect(receiver.received).toHaveLength(told)
    expect(await deliveries()).toEqual([{ event: 'opened', status: 'waiting', attempts: counted }])
    // Not before it is certain that nobody sends it; the test does not wait for that half minute.
    await shop.control.query(`update yardmaster.webhook_delivery set next_try = now()`)
    const other = work('h2')
    await receiver.got(all)
    await expect
      .poll(deliveries, { timeout: 20_000, interval: 50 })
      .toEqual([{ event: 'opened', status: 'delivered', attempts: counted + 1 }])
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    // It is over: it closes by itself.
    await shop.control.query('delete from yardmaster.refused_file')
    await receiver.got(all + 1)
    expect(JSON.parse(receiver.received.at(-1)?.body ?? '')).toMatchObject({
      type: 'alert.closed',
      data: { alert_status: 'bindings_refused', job_name: '/bindings.csv', closed_at: expect.any(String) },
    })
    expect((await other.kill()).exitCode).toBe(143)
  })
})

test('a watch whose session is ended opens another one, and tells what happened meanwhile', async () => {
  const receiver = await startReceiver()
  await shop.control.query('delete from yardmaster.webhook; delete from yardmaster.alert')
  await shop.done('alert', 'webhook', 'add', receiver.url, '--allow-private')
  const worker = work('h3')
  const cut = () =>
    shop.control.query(`select pg_terminate_backend(pid) as ended from pg_stat_activity
      where datname = current_database() and application_name like 'yardmaster alerts%'`)
  await expect.poll(cut, { timeout: 20_000, interval: 50 }).toEqual([{ ended: true }])
  await shop.control.query(
    `insert into yardmaster.refused_file (path, host, since, message) values ('/bindings.csv', 'h', now(), 'line 3')`,
  )
  await receiver.got(1)
  await shop.control.query('delete from yardmaster.refused_file')
  expect((await worker.kill()).exitCode).toBe(143)
})
