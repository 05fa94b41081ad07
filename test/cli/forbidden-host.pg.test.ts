import { hostname } from 'node:os'
import { beforeAll, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

/** The message names host and site; the remedy what else can be done. */
const refusal = {
  code: 'host_forbidden',
  message: `${hostname()} never runs work of CEO: the binding forbids it, also by hand.`,
  remedy: expect.stringMatching(/--queue.*yardmaster binding set 'CEO' '.*' allow/),
}

beforeAll(async () => {
  shop = await openShop('forbidden host')
  await shop.add('orders', 'table', '--site', 'CEO')
  // Another host is known, so that the site is not left without any.
  await shop.done('host', 'set', 'elsewhere')
  await shop.control.query(`select yardmaster.set_binding('CEO', $1, 'forbid')`, [hostname()])
})

const runs = () => shop.control.query('select id from yardmaster.run order by id')

describe('on a host that a binding forbids for the site', () => {
  it.each([['refresh'], ['resync']])('%s is refused before a run begins; --queue hands it over', async (operation) => {
    const before = await runs()
    const ran = await shop.run('replication', operation, 'public.orders', '--json')
    expect(ran).toMatchObject({ code: 1, json: { error: { ...refusal, object: 'dwh:public.orders' } } })
    expect(await runs()).toEqual(before)
    const { json } = await shop.done('replication', operation, 'public.orders', '--queue', '--json')
    expect((await shop.done('run', 'show', json.run_id, '--json')).json).toMatchObject({
      status: 'WAITING',
      site: 'CEO',
    })
    await shop.done('run', 'cancel', json.run_id)
  })

  it('a pass over what is due leaves it for others', async () => {
    const { json } = await shop.done('replication', 'refresh', 'public.orders', '--queue', '--json')
    expect((await shop.done('run-due', '--json')).json).toEqual([])
    await shop.done('run', 'cancel', json.run_id)
  })

  it('nothing is set up: it is refused before anything is registered or cleared away', async () => {
    await shop.source.query('create table public.stock (id int primary key)')
    const add = ['replication', 'add', 'table', 'public.stock', '--from', 'crm', '--to', 'dwh', '--site', 'CEO']
    const before = [
      await runs(),
      await shop.control.query('select id from yardmaster.job'),
      await shop.control.query('select id from yardmaster.audit'),
    ]
    for (const more of [[], ['--dry-run']]) {
      const ran = await shop.run(...add, ...more, '--json')
      expect(ran).toMatchObject({ code: 1, json: { error: { ...refusal, object: 'dwh:public.stock' } } })
    }
    expect([
      await runs(),
      await shop.control.query('select id from yardmaster.job'),
      await shop.control.query('select id from yardmaster.audit'),
    ]).toEqual(before)
    expect(await shop.destination.query(`select to_regclass('public.stock') as made`)).toEqual([{ made: null }])
    // What a broken-off set-up left stays, for who may finish it.
    await shop.done(...add, '--queue')
    const left = () => shop.control.query(`select job_id from yardmaster.replications where source_name = 'stock'`)
    const registered = await left()
    expect(registered).toHaveLength(1)
    expect((await shop.run(...add, '--json')).json.error).toMatchObject(refusal)
    expect(await left()).toEqual(registered)
    await shop.done('replication', 'remove', 'public.stock')
  })

  it('is a matter of that site alone', async () => {
    await shop.done('replication', 'set', 'public.orders', 'no-site')
    await shop.done('replication', 'refresh', 'public.orders')
    await shop.done('replication', 'set', 'public.orders', 'site=')
    await shop.done('replication', 'refresh', 'public.orders')
    await shop.done('replication', 'set', 'public.orders', 'site=CEO')
    expect((await shop.run('replication', 'refresh', 'public.orders', '--json')).json.error).toMatchObject(refusal)
  })

  it('rows can be counted, options changed, and the copy removed', async () => {
    expect((await shop.done('replication', 'validate', 'public.orders', '--json')).json).toMatchObject({ match: true })
    await shop.done('replication', 'set', 'public.orders', 'swap-wait=90')
    await shop.done('replication', 'remove', 'public.orders', '--drop-table', '--yes')
    expect(await shop.destination.query(`select to_regclass('public.orders') as left`)).toEqual([{ left: null }])
  })
})

describe('the site of a replication', () => {
  const siteOf = async () => (await shop.done('replication', 'show', 'public.items', '--json')).json.site
  const show = () => shop.done('replication', 'show', 'public.items')

  it('is none, the default site or one with a name, and each can be told from the others', async () => {
    await shop.add('items', 'table', '--no-site')
    expect(await siteOf()).toBeNull()
    expect((await show()).out).toContain('\n  no-site: true\n')
    await shop.done('replication', 'set', 'public.items', 'site=')
    expect(await siteOf()).toBe('')
    expect((await show()).out).toContain("\n  site: ''\n")
    await shop.done('replication', 'set', 'public.items', 'no-site=true')
    expect(await siteOf()).toBeNull()
    await shop.done('replication', 'set', 'public.items', 'site=A', 'pool=reports')
    expect(await siteOf()).toBe('A')
    await shop.done('replication', 'set', 'public.items', 'no-site', 'pool=')
    expect((await shop.done('replication', 'show', 'public.items', '--json')).json).toMatchObject({
      site: null,
      pool: null,
    })
    await shop.done('replication', 'remove', 'public.items')
    await shop.done('replication', 'add', 'table', 'public.items', '--from', 'crm', '--to', 'dwh', '--site', '')
    expect(await siteOf()).toBe('')
  })

  it('moves with what waits', async () => {
    const { json } = await shop.done('replication', 'refresh', 'public.items', '--queue', '--json')
    await shop.done('replication', 'set', 'public.items', 'site=A')
    expect((await shop.done('run', 'show', json.run_id, '--json')).json).toMatchObject({ site: 'A' })
    await shop.done('run', 'cancel', json.run_id)
  })

  it.each([
    ['no-site=false', "has no option 'no-site'"],
    [`site=${'s'.repeat(201)}`, 'it is longer than 200 bytes'],
    ['pool=a:b', 'it must be a name without a colon'],
    ['sites=A', "did you mean 'site'?"],
  ])('%s is refused', async (pair, message) => {
    const ran = await shop.run('replication', 'set', 'public.items', pair, '--json')
    expect([ran.code, ran.json.error.code]).toEqual([2, 'wrong_usage'])
    expect(ran.json.error.message).toContain(message)
  })
})
