import { beforeAll, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('sites')
  await shop.add('orders', 'table', '--site', 'CEO')
  for (const host of ['h1', 'h2', 'h3']) {
    const session = await shop.control.client()
    await session.query(`select yardmaster.register_worker($1 || '#1', $1, 1)`, [host])
  }
  await shop.control.query(`select yardmaster.set_bindings('[{"site": "CEO", "host": "h1", "binding": "prefer"},
    {"site": "", "host": "h1", "binding": "forbid"}, {"site": "", "host": "h2", "binding": "forbid"}]')`)
})

async function listed(): Promise<Record<string, Record<string, unknown>>> {
  const { json } = await shop.done('site', 'list', '--json')
  return Object.fromEntries(json.map((one: { label: string }) => [one.label, one]))
}

describe('site list', () => {
  it('says what belongs to each, which delay counts, and who may run it now', async () => {
    expect(await listed()).toEqual({
      'the default site': {
        ...{ site: '', label: 'the default site', jobs: 0, bindings: 2, waiting_since: null, may_run_on: ['h3'] },
        ...{ fallback_after_seconds: null, fallback_inherited: true },
      },
      CEO: {
        ...{ site: 'CEO', label: 'CEO', jobs: 1, bindings: 1, waiting_since: null, may_run_on: ['h1'] },
        ...{ fallback_after_seconds: null, fallback_inherited: true },
      },
    })
    const { json } = await shop.done('replication', 'refresh', 'public.orders', '--queue', '--json')
    const { json: run } = await shop.done('run', 'show', json.run_id, '--json')
    expect((await listed()).CEO).toMatchObject({ waiting_since: run.slot })
    expect(await shop.done('site', 'list')).toMatchObject({
      out: expect.stringMatching(/^SITE\t.*\nthe default site\tnever\t0\t2\t\th3\nCEO\tnever\t1\t1\t\d{4}-\S+Z\th1\n$/),
      err: 'Fallback after, for sites that have none of their own: never.\n',
    })
    await shop.done('run', 'cancel', json.run_id)
  })

  it('names a host that is full, and none that is drained', async () => {
    await shop.control.query(`select yardmaster.begin_run(job_id, destination_database_id, 'refresh', 'dwh:public.orders', '',
      (select id from yardmaster.worker where name = 'h3#1')) from yardmaster.replications`)
    const [full] = await shop.control.query(`select code from yardmaster.placement_matrix(array['']) where host = 'h3'`)
    expect(full).toEqual({ code: 'host_full' })
    expect(await listed()).toMatchObject({ 'the default site': { may_run_on: ['h3'] } })
    await shop.done('host', 'drain', 'h1')
    expect(await listed()).toMatchObject({ CEO: { may_run_on: ['h2', 'h3'] } })
    await shop.done('host', 'undrain', 'h1')
    await shop.done('host', 'drain', 'h3')
    expect(await listed()).toMatchObject({ 'the default site': { may_run_on: [] } })
    expect((await shop.done('site', 'list')).out).toMatch(/^the default site\t.*\tno active host$/m)
    await shop.done('host', 'undrain', 'h3')
  })
})

describe('site set', () => {
  it('gives a site a delay of its own, never, or that of all bindings', async () => {
    const { out } = await shop.done('site', 'set', 'CEO', '--fallback-after', '10 minutes')
    expect(out).toBe('Work of CEO may run on hosts that are not preferred once it has been due for 10 min 00 s.\n')
    await shop.done('site', 'set', '--default', '--fallback-after', '1 hour')
    expect(await listed()).toMatchObject({
      CEO: { fallback_after_seconds: 600, fallback_inherited: false },
      'the default site': { fallback_after_seconds: 3600, fallback_inherited: true },
    })
    expect((await shop.done('site', 'set', '', '--fallback-after', 'never')).out).toBe(
      'Work of the default site runs nowhere else while a host that is preferred lives.\n',
    )
    const { json } = await shop.done('site', 'set', 'CEO', '--fallback-after', 'default', '--json')
    expect(json).toEqual({ site: 'CEO', fallback_after_seconds: 3600, fallback_inherited: true })
    expect(await listed()).toMatchObject({
      CEO: { fallback_after_seconds: 3600, fallback_inherited: true },
      'the default site': { fallback_after_seconds: null, fallback_inherited: false },
    })
    expect((await shop.done('site', 'list')).out).toMatch(/^the default site\tnever \(its own\)\t/m)
  })

  it('says when nothing belongs to the site, and which one may be meant', async () => {
    const { err } = await shop.done('site', 'set', 'CEOO', '--fallback-after', '1 min')
    expect(err).toBe('Nothing is bound to CEOO yet, and no work belongs to it; there is CEO.\n')
    const odd = await shop.done('site', 'set', 'a\nb', '--fallback-after', '1h')
    expect(odd.out + odd.err).toMatch(/^Work of a\\u\{a\}b may run on .*\nNothing is bound to a\\u\{a\}b yet/)
    await shop.done('site', 'set', 'a\nb', '--fallback-after', 'default')
    expect((await shop.done('site', 'set', 'CEO', '--fallback-after', '1 min')).err).toBe('')
  })

  it.each([
    [['CEO'], 'Nothing to change was named', '--fallback-after'],
    [[], 'Nothing to change was named', '--fallback-after'],
    [['--fallback-after', '1 h'], 'No site was named', '--default'],
    [['CEO', '--default', '--fallback-after', '1 h'], "'CEO' is one site", '--fallback-after default'],
    [['--default', '--fallback-after', 'default'], 'cannot be that of all bindings', 'never'],
    [['CEO', '--fallback-after', 'soon'], "The fallback delay 'soon' must be an interval", '10 minutes'],
    [['CEO', '--fallback-after', '-1 hour'], 'must be an interval that is not negative', '10 minutes'],
    [['CEO', '--fallback-after', 'infinity'], 'must be an interval', '10 minutes'],
    [['CEO', '--fallback-after', '11 years'], 'is longer than 10 years; say never', '10 minutes'],
    [['s'.repeat(201), '--fallback-after', '1 h'], 'has 200 bytes at most', '10 minutes'],
  ])('%j is refused', async (args, message, remedy) => {
    const before = await listed()
    const ran = await shop.run('site', 'set', ...args, '--json')
    expect([ran.code, ran.json.error.code]).toEqual([2, 'wrong_usage'])
    expect(ran.json.error.message).toContain(message)
    expect(ran.json.error.remedy).toContain(remedy)
    expect(await listed()).toEqual(before)
  })
})
