import { beforeAll, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('limits')
  await shop.add('orders', 'table', '--site', 'CEO', '--pool', 'reports')
  await shop.add('items', 'table', '--site', '')
})

const listed = async () => (await shop.done('limit', 'list', '--json')).json

describe('limit', () => {
  it.each([
    ['site:CEO', ['orders']],
    ['site:', ['items']],
    ['database:crm', ['items', 'orders']],
    ['database:dwh', ['items', 'orders']],
    ['reports', ['orders']],
  ])('%s counts %j', async (key, tables) => {
    expect((await shop.done('limit', 'set', key, '1')).out).toBe(`At most 1 of ${key} run at once.\n`)
    const ids: string[] = []
    for (const table of ['orders', 'items'])
      ids.push((await shop.done('replication', 'refresh', `public.${table}`, '--queue', '--json')).json.run_id)
    expect(await listed()).toEqual([{ key, limit: 1, running: 0, waiting: tables.length }])
    const session = await shop.control.client()
    const { rows } = await session.query(`select yardmaster.register_worker('h1#1', 'h1', 4) as id`)
    const taken = await session.query(`select object from yardmaster.claim_runs($1, '{replication}', 4)`, [rows[0].id])
    // One of those that count, and all that do not.
    expect(taken.rows).toHaveLength(3 - tables.length)
    expect(await listed()).toEqual([{ key, limit: 1, running: 1, waiting: tables.length - 1 }])
    expect((await shop.done('limit', 'set', key, '0')).err).toBe(
      '1 run now; they finish, and nothing starts until fewer than 1 run.\n',
    )
    expect((await shop.done('limit', 'remove', key)).out).toBe(`The limit ${key} (0 at once) is gone.\n`)
    await session.query(`select yardmaster.end_worker($1)`, [rows[0].id])
    for (const id of ids) await shop.done('run', 'cancel', id)
  })

  it('is changed in place, and says what it does not count', async () => {
    expect((await shop.done('limit', 'set', 'database:crm', '2', '--json')).json).toEqual({
      ...{ key: 'database:crm', limit: 2, running: 0, waiting: 0 },
    })
    await shop.done('limit', 'set', 'database:crm', '3')
    expect((await shop.done('limit', 'list')).out).toBe('KEY\tLIMIT\tRUNNING\tWAITING\ndatabase:crm\t3\t0\t0\n')
    expect((await shop.done('limit', 'set', 'site:CEOO', '3')).err).toBe(
      'No job counts for site:CEOO yet; there is site:CEO.\n',
    )
    for (const [name, key] of [
      ['CEO', 'site:CEO'],
      ['crm', 'database:crm'],
    ] as const) {
      expect((await shop.done('limit', 'set', name, '3')).err).toBe(`No job counts for ${name} yet; there is ${key}.\n`)
      await shop.done('limit', 'remove', name)
    }
    expect((await shop.done('limit', 'set', 'reprots', '3')).err).toBe('No job counts for reprots yet.\n')
    for (const key of ['database:crm', 'site:CEOO', 'reprots']) await shop.done('limit', 'remove', key)
    expect(await shop.done('limit', 'list')).toMatchObject({ out: '', err: expect.stringContaining('No limit yet.') })
  })

  it.each([
    [['set', 'databse:crm', '2'], 2, 'wrong_usage', "not 'databse:crm'", "limit set 'database:crm' 2"],
    [['set', 'Site:CEO', '2'], 2, 'wrong_usage', "not 'Site:CEO'", "limit set 'site:CEO' 2"],
    [['set', '', '2'], 2, 'wrong_usage', 'The key of a limit is', 'limit set database:crm 2'],
    [['set', 'database:crn', '2'], 1, 'database_unknown', 'registered are crm, dwh', 'database add crn'],
    [['set', 'reports', 'many'], 2, 'wrong_usage', "from 0 to 999999, not 'many'", 'limit set database:crm 2'],
    [['set', 'reports', '1000000'], 2, 'wrong_usage', 'from 0 to 999999', 'limit set database:crm 2'],
    [['set', 'reports', 'none'], 2, 'wrong_usage', "not 'none'", 'limit remove KEY'],
    [['set', 'reports'], 2, 'wrong_usage', "missing required argument 'n'", 'limit set <key> <n>'],
    [['remove', 'reprots'], 1, 'limit_unknown', 'There is no limit reprots; there is reports.', 'limit list'],
  ])('%j is refused with %i %s', async (args, code, error, message, remedy) => {
    await shop.done('limit', 'set', 'reports', '5')
    const ran = await shop.run('limit', ...args, '--json')
    expect([ran.code, ran.json.error.code]).toEqual([code, error])
    expect(ran.json.error.message.toLowerCase()).toContain(message.toLowerCase())
    expect(ran.json.error.remedy).toContain(remedy)
    expect(await listed()).toEqual([{ key: 'reports', limit: 5, running: 0, waiting: 0 }])
  })
})
