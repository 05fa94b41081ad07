import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop
/** The run that waits. */
let id: string

beforeAll(async () => {
  shop = await openShop('why waiting')
  await shop.add('orders', 'table', '--site', 'CEO')
  await shop.add('items', 'table', '--pool', 'reports')
})

beforeEach(async () => {
  await shop.control.query(`truncate yardmaster.binding, yardmaster.host, yardmaster.host_address, yardmaster.host_site, yardmaster.concurrency_limit;
    update yardmaster.run set status = 'CRITICAL', finished_at = clock_timestamp() where status in ('WAITING', 'RUNNING');
    update yardmaster.attempt set status = 'CRITICAL' where status = 'RUNNING';
    update yardmaster.worker set ended_at = clock_timestamp() - interval '8 days' where ended_at is null and slots > 0`)
  id = (await shop.done('replication', 'refresh', 'public.orders', '--queue', '--json')).json.run_id
})

async function presence(host: string, slots = 1) {
  const session = await shop.control.client()
  const { rows } = await session.query(`select yardmaster.register_worker($1 || '#1', $1, $2) as id`, [host, slots])
  return rows[0].id as string
}

const bind = (host: string, binding: string) =>
  shop.control.query(`select yardmaster.set_binding('CEO', $1, $2)`, [host, binding])

/** A worker has begun the copy of a table. */
const begin = (worker: string, table: string, site: string | null = null) =>
  shop.control.query(
    `select yardmaster.begin_run(job_id, destination_database_id, 'refresh', 'dwh:public.' || $2, $3, $1)
    from yardmaster.replications where destination_name = $2`,
    [worker, table, site],
  )

const show = async () => (await shop.done('run', 'show', id, '--json')).json

const places = ['scheduled', 'due', 'dependency', 'overlap', 'limit', 'host', 'slot']

/** Every check, in order; the first that fails says the reason, in JSON, in text and in the list. */
async function waitsFor(check: string, code: string, why: RegExp): Promise<void> {
  const run = await show()
  expect(run.checks.map((one: { check: string }) => one.check)).toEqual(places)
  const failed = run.checks.find((one: { ok: boolean }) => !one.ok)
  expect(failed).toMatchObject({ check, code, why: expect.stringMatching(why) })
  expect(run).toMatchObject({ status: 'WAITING', reason: code, site: 'CEO', placement: null })
  const { out } = await shop.done('run', 'show', id)
  expect(out).toContain(
    `Run ${id}, refresh of dwh:public.orders, for CEO: WAITING (${code}).\nIt waits: ${failed.why}\n`,
  )
  expect(out).toContain(`no\t${check}\t${code}\t${failed.why}\n`)
  const { json } = await shop.done('run', 'list', '--status', 'WAITING', '--json')
  expect(json).toMatchObject([{ id, reason: code, waits_for: failed.why }])
  const listed = (await shop.done('run', 'list', '--status', 'WAITING')).out.split('\n')[1]?.split('\t')
  expect(listed?.slice(-2)).toEqual([code, failed.why])
}

describe('a run that waits says why, on every face in the same words', () => {
  it('nobody is there', () => waitsFor('host', 'no_worker', /^No worker is alive\. Start one: yardmaster worker/))

  it('it is paused', async () => {
    await presence('h1')
    await shop.control.query('update yardmaster.run set requested = false where id = $1', [id])
    await shop.done('replication', 'pause', 'public.orders', '--note', 'the source moves')
    await waitsFor('scheduled', 'paused', /is paused since .* by .*: the source moves$/)
    await shop.done('replication', 'resume', 'public.orders')
  })

  it('it is not due', async () => {
    await presence('h1')
    await shop.control.query(`update yardmaster.run set due_at = due_at + interval '1 hour' where id = $1`, [id])
    await waitsFor('due', 'not_due', /^It is due at \d{4}-/)
  })

  it('another run of the same copy is under way', async () => {
    await begin(await presence('h1', 2), 'orders')
    await waitsFor('overlap', 'overlap', /^Run \d+ of the same copy is under way by h1#1; one runs at a time\.$/)
  })

  it('a limit holds it back, and who has it', async () => {
    await begin(await presence('h1', 2), 'items')
    await shop.done('limit', 'set', 'database:crm', '1')
    await waitsFor(
      'limit',
      'limit',
      /^The limit database:crm allows 1 at once: taken by run \d+ \(dwh:public\.items\)\.$/,
    )
    await shop.done('limit', 'set', 'database:crm', '0')
    await waitsFor('limit', 'limit', /^The limit database:crm allows 0 at once: nothing starts\.$/)
    await shop.done('limit', 'remove', 'database:crm')
    expect(await show()).toMatchObject({ reason: 'starting' })
  })

  it('every host forbids it, or leaves it to another one, host by host', async () => {
    await presence('h1')
    await shop.done('host', 'set', 'h2')
    await bind('h1', 'forbid')
    await waitsFor(
      'host',
      'placement',
      /^No host may take work of CEO now\. h1 never runs CEO: the binding forbids it, even as the last host\. h2 has no live worker/,
    )
  })

  it('the host that may run it is drained', async () => {
    await presence('h1')
    await shop.done('host', 'drain', 'h1')
    await waitsFor('host', 'placement', /h1 is drained since .* by .*: it takes nothing new\.$/)
  })

  it('the host that may run it is full, as a whole or of this site', async () => {
    const worker = await presence('h1', 2)
    await begin(worker, 'items')
    await shop.done('host', 'set', 'h1', '--slots', '1')
    await waitsFor('slot', 'no_slot', /^h1 is full: 1 of 1 runs\. It is the next one\.$/)
    await shop.done('host', 'set', 'h1', '--slots', 'none', '--json')
    await shop.done('host', 'set', 'h1', '--site', 'CEO', '--slots', '1')
    await begin(worker, 'items', 'CEO')
    await waitsFor(
      'slot',
      'no_slot',
      /^h1 (is full: 2 of 2 runs|runs as much of CEO as it may: 1 of 1 runs)\. It is the next one\.$/,
    )
  })
})

describe('a run that a worker took', () => {
  const take = (worker: string) =>
    shop.control.query(`select * from yardmaster.claim_runs($1, '{replication}', 1)`, [worker])

  it.each([
    ['prefers', [['h1', 'prefer']]],
    ['allowed', []],
    ['fallback_elapsed', [['h2', 'prefer']]],
  ] as const)('says by which part of the rule: %s', async (code, bindings) => {
    const worker = await presence('h1')
    if (code === 'fallback_elapsed') await presence('h2')
    for (const [host, binding] of bindings) await bind(host, binding)
    await shop.done('site', 'set', 'CEO', '--fallback-after', code === 'fallback_elapsed' ? '10 minutes' : 'default')
    if (code === 'fallback_elapsed') {
      expect(await take(worker)).toEqual([])
      await shop.control.query(`update yardmaster.run set due_at = due_at - interval '11 minutes' where id = $1`, [id])
    }
    expect(await show()).toMatchObject({ reason: 'starting' })
    expect(await take(worker)).toHaveLength(1)
    expect(await show()).toMatchObject({ status: 'RUNNING', reason: null, placement: code, host: 'h1', checks: [] })
    expect((await shop.done('run', 'show', id)).out).toContain(`, for CEO: RUNNING, by h1#1 on h1 (${code}).\n`)
    const { json } = await shop.done('run', 'list', '--limit', '1', '--json')
    expect(json).toMatchObject([{ id, placement: code, waits_for: null }])
  })

  it('by a command, none', async () => {
    await shop.done('run', 'cancel', id)
    const { json } = await shop.done('replication', 'refresh', 'public.items', '--json')
    expect((await shop.done('run', 'show', json.run_id, '--json')).json).toMatchObject({
      site: null,
      placement: null,
      checks: [],
    })
  })
})
