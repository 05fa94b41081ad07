import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startCli } from '../support/process.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('hosts')
  await shop.add('orders', 'table')
})

beforeEach(async () => {
  await shop.control.query(`truncate yardmaster.binding, yardmaster.host, yardmaster.host_address, yardmaster.host_site;
    delete from yardmaster.run where status in ('WAITING', 'RUNNING');
    update yardmaster.worker set ended_at = clock_timestamp() - interval '8 days' where ended_at is null and slots > 0`)
})

/** A worker that takes nothing by itself; it lives until it is ended. Returns its id, and what ends it. */
async function presence(host: string, slots = 2) {
  const session = await shop.control.client()
  const { rows } = await session.query(`select yardmaster.register_worker($1 || '#1', $1, $2) as id`, [host, slots])
  return { id: rows[0].id as string, end: () => session.end() }
}

const bind = (site: string, host: string, binding: string) =>
  shop.control.query('select yardmaster.set_binding($1, $2, $3)', [site, host, binding])

async function hostOf(name: string) {
  const { json } = await shop.done('host', 'list', '--json')
  return json.find((one: { host: string }) => one.host === name)
}

/** What a worker gets of the queue now, as objects. */
async function claimed(worker: { id: string }): Promise<string[]> {
  const rows = await shop.control.query<{ object: string }>(
    `select object from yardmaster.claim_runs($1, '{replication}', 2)`,
    [worker.id],
  )
  return rows.map(({ object }) => object)
}

describe('host drain', () => {
  it('says what finishes there, which sites move where, and which are left with no host', async () => {
    const [h1, h2, h3] = [await presence('h1'), await presence('h2'), await presence('h3')]
    for (const [site, host, binding] of [
      ['A', 'h1', 'prefer'],
      ['B', 'h1', 'prefer'],
      // Goes on where it is: another host that is preferred lives.
      ['shared', 'h1', 'prefer'],
      ['shared', 'h2', 'prefer'],
      ['only here', 'h2', 'forbid'],
      ['only here', 'h3', 'forbid'],
      ['not here', 'h1', 'forbid'],
      ['', 'h2', 'prefer'],
    ] as const)
      await bind(site, host, binding)
    await shop.control.query(
      `select yardmaster.begin_run(job_id, destination_database_id, 'refresh', 'dwh:public.orders', null, $1) from yardmaster.replications`,
      [h1.id],
    )
    const { out } = await shop.done('host', 'drain', 'h1')
    expect(out).toBe(
      'h1 is drained: 1 run finishes here; 2 sites move to h2 and h3. Take it back: yardmaster host undrain h1\n' +
        'WARNING No active host is left that may run only here: its work waits. Start a worker on another host, or allow one: yardmaster binding set SITE HOST allow\n',
    )
    expect(await hostOf('h1')).toMatchObject({
      active: false,
      drained: true,
      running: 1,
      drained_by: expect.any(String),
    })
    expect((await shop.done('host', 'list')).out).toMatch(/^draining\th1\t1\t2\t1\t/m)
    expect((await shop.done('host', 'drain', 'h1')).out).toMatch(
      /^h1 is drained already, since .* by .*; 1 run finishes here\.\n$/,
    )
    await shop.done('host', 'undrain', 'h1')
    const { json } = await shop.done('host', 'drain', 'h1', '--json')
    expect(json).toMatchObject({
      ...{ host: 'h1', running: 1, drained: true, stranded: ['only here'] },
      moves: [
        { site: 'A', hosts: ['h2', 'h3'] },
        { site: 'B', hosts: ['h2', 'h3'] },
      ],
    })
    await Promise.all([h1, h2, h3].map((host) => host.end()))
  })

  it('keeps new work from it, and gives it to another; undrain takes it back', async () => {
    const [h1, h2] = [await presence('h1'), await presence('h2')]
    await shop.done('replication', 'set', 'public.orders', 'site=A')
    await bind('A', 'h1', 'prefer')
    await shop.done('replication', 'refresh', 'public.orders', '--queue')
    expect(await claimed(h2)).toEqual([])
    await shop.done('host', 'drain', 'h1')
    expect(await claimed(h1)).toEqual([])
    expect((await shop.done('host', 'undrain', 'h1')).out).toMatch(/^h1 takes work again, after \d+.*\.\n$/)
    expect(await claimed(h2)).toEqual([])
    await shop.done('host', 'drain', 'h1')
    expect(await claimed(h2)).toEqual(['dwh:public.orders'])
    expect((await shop.done('host', 'undrain', 'h2')).out).toBe('h2 is not drained. Nothing was changed.\n')
    await Promise.all([h1.end(), h2.end()])
  })

  it('says when it was the last one', async () => {
    const h1 = await presence('h1')
    const { out } = await shop.done('host', 'drain', 'h1')
    expect(out).toContain('h1 is drained: nothing runs here.')
    expect(out).toContain('WARNING No other host is active: nothing starts until one is.')
    await h1.end()
  })
})

describe('host set', () => {
  it('says addresses and capacities, each alone, and takes them away again', async () => {
    expect(
      await shop.done('host', 'set', 'h2', '--address', '10.0.0.7', '--address', 'fd00::1b', '--slots', '8'),
    ).toMatchObject({
      out: 'h2 runs 8 at once; addresses: 10.0.0.7, fd00::1b.\n',
      err: 'h2 is new: no worker was seen on it, and no binding names it.\n',
    })
    await shop.done('host', 'set', 'h2', '--site', '', '--slots', '2')
    await shop.done('host', 'set', '10.0.0.7', '--site', 'CEO', '--slots', '3')
    expect(await hostOf('h2')).toMatchObject({
      ...{ slots: 8, addresses: ['10.0.0.7', 'fd00::1b'], site_slots: { '': 2, CEO: 3 } },
    })
    await shop.done('host', 'set', 'h2', '--slots', 'none')
    await shop.done('host', 'set', 'h2', '--site', 'CEO', '--slots', 'none')
    const { out } = await shop.done('host', 'set', 'h2', '--address', 'none')
    expect(out).toBe('h2 runs as much as its workers have slots, the default site 2 at once.\n')
    expect(await hostOf('h2')).toMatchObject({ slots: null, addresses: [], site_slots: { '': 2 } })
  })

  it('forgets what was said, and says what is left', async () => {
    await bind('A', 'h2', 'prefer')
    await shop.done('host', 'set', 'h2', '--slots', '8')
    await shop.done('host', 'drain', 'h2')
    expect(await shop.done('host', 'remove', 'h2')).toMatchObject({
      out: 'What was known of h2 is forgotten; bindings that name it stay: 1.\n',
      err: 'It was drained; its workers take work again.\n',
    })
    expect(await hostOf('h2')).toMatchObject({ slots: null, drained: false })
    expect((await shop.run('host', 'remove', 'h2', '--json')).json.error).toMatchObject({
      code: 'host_unknown',
      message: "There is nothing about the host 'h2' that could be forgotten.",
      remedy: expect.stringContaining('yardmaster binding set SITE HOST none'),
    })
  })

  it('forgets a host that a worker was on once, and not one where a worker lives', async () => {
    const client = await shop.control.client()
    const { rows } = await client.query(`select yardmaster.register_worker('once', 'once', 1) as id`)
    expect((await shop.run('host', 'remove', 'once', '--json')).json.error).toMatchObject({ code: 'host_unknown' })
    await client.query('select yardmaster.end_worker($1)', [rows[0].id])
    expect(await hostOf('once')).toMatchObject({ workers: 0 })
    await shop.done('host', 'remove', 'once')
    expect(await hostOf('once')).toBeUndefined()
  })

  it.each([
    [['set', 'a b'], 2, 'wrong_usage', "cannot be called 'a b': it has spaces"],
    [['set', '=cmd'], 2, 'wrong_usage', 'it begins with = + - or @'],
    [['set', '10.0.0.0/24'], 2, 'wrong_usage', 'it has a slash, and a network is no host'],
    [['set', 'h'.repeat(201)], 2, 'wrong_usage', 'longer than 200 bytes'],
    [['set', 'h2', '--slots', '0'], 2, 'wrong_usage', '--slots is'],
    [['set', 'h2', '--slots', '1.5'], 2, 'wrong_usage', 'a whole number from 1 to 999999, or none'],
    [['set', 'h2', '--site', 'CEO'], 2, 'wrong_usage', '--slots is missing'],
    [['set', 'h2', '--address', 'nowhere'], 2, 'wrong_usage', "'nowhere' is no address of a host"],
    [['set', 'h2', '--address', '10.0.0.0/8'], 2, 'wrong_usage', 'is no address of a host'],
    [['set', 'h2', '--address', 'none', '--address', '10.0.0.9'], 2, 'wrong_usage', 'and an address too'],
    [['set', 'h2', '--address', '10.9.9.9'], 1, 'host_refused', "The address 10.9.9.9 is the host taken's already."],
    [['drain', 'takne'], 1, 'host_unknown', "There is no host 'takne'; there is taken."],
    [['undrain', '10.1.1.1'], 1, 'host_unknown', "There is no host '10.1.1.1'"],
    [['remove', 'nobody'], 1, 'host_unknown', "There is no host 'nobody'"],
    [['set', 'h2', '--slot', '3'], 2, 'wrong_usage', 'did you mean --slots?'],
  ])('%j is refused with %i %s', async (args, code, error, message) => {
    await shop.done('host', 'set', 'taken', '--address', '10.9.9.9')
    const before = (await shop.done('host', 'list', '--json')).json
    const ran = await shop.run('host', ...args, '--json')
    expect([ran.code, ran.json.error.code]).toEqual([code, error])
    expect(ran.json.error.message).toContain(message)
    expect(ran.json.error.remedy).toMatch(/\S{3}/)
    expect((await shop.done('host', 'list', '--json')).json).toEqual(before)
  })
})

describe('a worker', () => {
  const queue = async () =>
    (await shop.done('replication', 'refresh', 'public.orders', '--queue', '--json')).json.run_id

  it('that names an address works as the host that has it', async () => {
    await shop.done('host', 'set', 'h2', '--address', '10.0.0.7')
    const worker = startCli(['worker', '--host', '10.0.0.7', '--slots', '1'], { env: shop.environment })
    await worker.waitForOutput(/Worker 10\.0\.0\.7#\d+ takes work as host h2, 1 runs at once\./)
    expect(await hostOf('h2')).toMatchObject({
      workers: 1,
      worker_slots: 1,
      active: true,
      last_seen: expect.any(String),
    })
    expect(await hostOf('10.0.0.7')).toBeUndefined()
    const id = await queue()
    await shop.done('run', 'follow', id, '--json')
    expect((await shop.done('run', 'show', id, '--json')).json).toMatchObject({ host: 'h2', status: 'OK' })
    await worker.kill()
    expect(await hostOf('h2')).toMatchObject({ workers: 0, active: false, last_seen: expect.any(String) })
  })

  it('on a drained host says so, and takes nothing until it is taken back', async () => {
    await shop.done('host', 'set', 'h2')
    await shop.done('host', 'drain', 'h2')
    const worker = startCli(['worker', '--host', 'h2', '--slots', '1'], { env: shop.environment })
    await worker.waitForOutput(/h2 is drained since \S+ by \S+: it takes nothing until: yardmaster host undrain h2/)
    const id = await queue()
    const { json } = await shop.done('run', 'show', id, '--json')
    expect(json).toMatchObject({ status: 'WAITING', reason: 'placement' })
    expect(json.checks.at(-2).why).toMatch(/h2 is drained since .*: it takes nothing new\./)
    await shop.done('host', 'undrain', 'h2')
    await shop.done('run', 'follow', id, '--json')
    await worker.kill()
  })

  it.each([
    ['a b', 'it has spaces'],
    ['', 'it is empty'],
    ['-h', 'it begins with'],
    ['h\u200f2', "can't be seen"],
  ])('cannot be on a host called %j', async (name, fault) => {
    const ran = await shop.run('worker', `--host=${name}`, '--json')
    expect([ran.code, ran.json.error.code, ran.json.error.object]).toEqual([2, 'wrong_usage', '--host'])
    expect(ran.json.error.message).toContain(fault)
    await expect(shop.control.query(`select yardmaster.register_worker('w', $1, 1)`, [name])).rejects.toMatchObject({
      code: 'YM003',
    })
  })
})

describe('doctor', () => {
  const findings = async () => {
    const { json } = await shop.run('doctor', '--json')
    return json.findings as { code: string; level: string; object: string; message: string; remedy: string }[]
  }

  it('finds names in bindings that nobody was seen under, long drains, and sites without a host', async () => {
    const h1 = await presence('host1')
    await bind('A', 'hots1', 'prefer')
    await shop.done('host', 'set', 'planned')
    await bind('A', 'planned', 'allow')
    await bind('lost', 'host1', 'forbid')
    await bind('lost', 'planned', 'allow')
    const found = await findings()
    expect(found.filter(({ code }) => code === 'host_unseen')).toEqual([
      {
        ...{ code: 'host_unseen', level: 'WARNING', object: 'host hots1' },
        message: '1 binding names it, and no worker was seen on it in the last week; there is host1.',
        remedy: expect.stringContaining('binding set SITE hots1 none'),
      },
    ])
    expect(found.filter(({ code }) => code === 'site_stranded')).toMatchObject([
      { level: 'CRITICAL', object: 'site lost', remedy: '' },
    ])
    expect(found.some(({ code }) => code === 'drained_long')).toBe(false)
    await shop.done('host', 'drain', 'host1')
    expect((await findings()).some(({ code }) => code === 'drained_long')).toBe(false)
    await shop.control.query(
      `update yardmaster.host set drained_at = drained_at - interval '25 hours' where name = 'host1'`,
    )
    expect((await findings()).filter(({ code }) => code === 'drained_long')).toMatchObject([
      { object: 'host host1', remedy: expect.stringContaining('yardmaster host undrain host1') },
    ])
    await h1.end()
  })
})
