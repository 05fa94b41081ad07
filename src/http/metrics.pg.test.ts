import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openShop, type Shop } from '../../test/cli/shop.ts'
import { openTestControl } from '../../test/security/control-database.ts'
import { startServer } from '../../test/support/databases.ts'
import { request } from '../../test/support/http-request.ts'
import type { Control } from '../control/control.ts'
import { machineRoutes } from './metrics.ts'
import { StatusPage } from './status-page.ts'

let shop: Shop
let control: Control

beforeAll(async () => {
  shop = await openShop('metrics')
  await shop.add('orders', 'table', '--every', '1 hour')
  control = await openTestControl(shop.control.url)
})

async function startPage(of: Control): Promise<string> {
  const page = new StatusPage(
    { host: '127.0.0.1', port: 0, orNext: false },
    () => Promise.reject(new Error('nobody asks')),
    machineRoutes(of),
  )
  await page.start()
  onTestFinished(() => page.stop())
  return page.url
}

/** Values by series, as a scraper reads them. */
async function scrape(url: string): Promise<Map<string, number>> {
  const { status, headers, body } = await request(`${url}metrics`)
  expect([status, headers['content-type']], body).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8'])
  const lines = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const [, series = '', value] = /^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})?) (\S+)$/.exec(line) ?? []
      expect(series, line).not.toBe('')
      return [series, Number(value)]
    }),
  )
}

describe('/metrics', () => {
  it('has each metric with its help and type, by conventional names', async () => {
    const { body } = await request(`${await startPage(control)}metrics`)
    const named = (what: string) => [...body.matchAll(new RegExp(`^# ${what} (\\S+)`, 'gm'))].map((match) => match[1])
    expect(named('HELP')).toEqual(named('TYPE'))
    expect(new Set(named('HELP')).size).toBe(named('HELP').length)
    for (const name of named('HELP')) {
      expect(name).toMatch(/^yardmaster_[a-z_]+$/)
      expect(body).toContain(`# TYPE ${name} ${/_total$/.test(name ?? '') ? 'counter' : 'gauge'}\n`)
    }
  })

  it('counts runs, also those whose history was cleared', async () => {
    const url = await startPage(control)
    const before = await scrape(url)
    for (let run = 0; run < 2; run += 1) await shop.done('replication', 'refresh', 'public.orders')
    await shop.source.query('alter table public.orders rename to gone')
    await shop.run('replication', 'refresh', 'public.orders')
    await shop.source.query('alter table public.gone rename to orders')
    const total = (outcome: string) => `yardmaster_runs_total{kind="replication",outcome="${outcome}"}`
    const counted = async () => {
      const now = await scrape(url)
      return ['success', 'failure'].map(
        (one) => (now.get(total(one)) ?? Number.NaN) - (before.get(total(one)) ?? Number.NaN),
      )
    }
    expect(await counted()).toEqual([2, 1])
    await shop.done('run', 'clear', '--older-than', '0 s', '--yes')
    expect(await shop.control.query(`select from yardmaster.run where status <> 'WAITING'`)).toHaveLength(2)
    expect(await counted()).toEqual([2, 1])
  })

  it('says what runs, waits, is late, wrong, on its way', async () => {
    const url = await startPage(control)
    await shop.control.query(`update yardmaster.replication set as_of = now() - interval '3 hours';
      insert into yardmaster.refused_file (path, host, message) values ('/b.csv', 'h', 'line 3')`)
    await shop.done('alert', 'webhook', 'add', 'http://127.0.0.1:9/', '--allow-private')
    await shop.control.query('select yardmaster.evaluate_alerts()')
    const [alerts] = await shop.control.query<{ n: number }>(
      'select count(*)::int as n from yardmaster.alert where closed_at is null and level = 2',
    )
    await shop.done('replication', 'refresh', 'public.orders', '--queue')
    await shop.control.query(
      `update yardmaster.run set due_at = now() - interval '90 s', slot = now() - interval '90 s' where status = 'WAITING'`,
    )
    const now = await scrape(url)
    expect(now.get('yardmaster_runs_waiting{kind="replication"}')).toBe(1)
    expect(now.get('yardmaster_runs_running{kind="procedure"}')).toBe(0)
    expect(now.get('yardmaster_oldest_waiting_seconds')).toBeGreaterThanOrEqual(90)
    expect(now.get('yardmaster_workers')).toBe(0)
    expect(now.get('yardmaster_replications_late')).toBe(1)
    expect(now.get('yardmaster_replication_lag_seconds{destination="dwh:public.orders"}')).toBeGreaterThanOrEqual(
      10_800,
    )
    expect(now.get('yardmaster_alerts{level="warning",silenced="false"}')).toBe(alerts?.n)
    expect(alerts?.n).toBeGreaterThan(1)
    expect(now.get('yardmaster_alert_evaluation_age_seconds')).toBeLessThan(60)
    expect(now.get('yardmaster_webhook_messages_waiting{webhook="1"}')).toBeGreaterThan(1)
    expect(now.get('yardmaster_webhook_messages_total{outcome="delivered",webhook="1"}')).toBe(0)
  })

  it('has a series for each copy up to a limit, the worst, and says how many it left out', async () => {
    await shop.control.query(`update yardmaster.replication set as_of = now()`)
    const [most] =
      await shop.control.query(`select count(*) filter (where name = 'replication_lag_seconds')::int as series,
      max(value) filter (where name = 'replication_lag_series_dropped') as dropped from yardmaster.metrics(0)`)
    expect(most).toEqual({ series: 0, dropped: 1 })
  })

  it('quotes whatever a name holds', async () => {
    await shop.control.query(`update yardmaster.replication set destination_name = E'a"b\\\\c\\nd'`)
    const series = [...(await scrape(await startPage(control))).keys()].filter((key) => key.includes('lag_seconds{'))
    await shop.control.query(`update yardmaster.replication set destination_name = 'orders'`)
    expect(series).toHaveLength(1)
    expect(series[0]).not.toMatch(/[^\\]"b/)
  })

  it('goes through no ended run, however many there are', async () => {
    await shop.control.query(`insert into yardmaster.run (job_id, slot, due_at, database_id, operation, object, status, started_at, finished_at)
      select (select min(job_id) from yardmaster.replications), now() - g * interval '1 s', now(), 1, 'refresh', 'x', 'OK', now(), now() from generate_series(1, 20000) g`)
    await shop.control.query('analyze yardmaster.run')
    const session = await shop.control.client()
    await session.query('begin')
    await session.query('select * from yardmaster.metrics()')
    const { rows } = await session.query(
      `select seq_scan::int, idx_tup_fetch::int from pg_stat_xact_user_tables where relname = 'run'`,
    )
    await session.query('rollback')
    await session.end()
    expect(rows[0].seq_scan).toBe(0)
    expect(rows[0].idx_tup_fetch).toBeLessThan(50)
  })

  it('is for whoever asks by address: a name could be a page’s that is made to stand for this machine', async () => {
    const url = await startPage(control)
    expect((await request(`${url}metrics`, { host: 'evil.example' })).status).toBe(421)
    expect((await request(`${url}metrics?x`, { host: 'evil.example' })).status).toBe(421)
    expect((await request(`${url}metrics`, { host: '10.0.0.5:7878' })).status).toBe(200)
  })
})

describe('probes', () => {
  it('answer whoever asks, by whatever name, and tell nothing', async () => {
    const url = await startPage(control)
    const health = await request(`${url}healthz`, { host: 'pod-1.internal' })
    expect([health.status, JSON.parse(health.body)]).toEqual([200, { status: 'ok', version: expect.any(String) }])
    const ready = await request(`${url}readyz`, { host: 'pod-1.internal' })
    expect([ready.status, JSON.parse(ready.body)]).toEqual([200, { status: 'ready' }])
  })

  it('tell a process that is up from one whose control database is away', async () => {
    const server = await startServer()
    const away = await openTestControl((await server.createDatabase('probes')).url)
    const url = await startPage(away)
    expect((await request(`${url}readyz`)).status).toBe(200)
    await server.stop('immediate')
    const ready = await request(`${url}readyz`)
    expect([ready.status, JSON.parse(ready.body)]).toEqual([503, { status: 'not_ready', code: 'control_unreachable' }])
    expect((await request(`${url}healthz`)).status).toBe(200)
    const metrics = await request(`${url}metrics`)
    expect([metrics.status, JSON.parse(metrics.body).error.code]).toEqual([503, 'control_unreachable'])
    await server.restart()
    await expect.poll(async () => (await request(`${url}readyz`)).status, { timeout: 20_000, interval: 100 }).toBe(200)
  }, 60_000)
})
