import { beforeEach, describe, expect, it } from 'vitest'
import { type BindingDesk, openBindingDesk } from './binding-desk.ts'
import { openShop } from './shop.ts'

let desk: BindingDesk

beforeEach(async () => {
  desk = await openBindingDesk('explain')
})

interface Site {
  site: string | null
  hosts: { host: string; may_run: boolean; code: string }[]
  stranded: boolean
}

/** `site: host code, …`, with ! where it is stranded. */
const verdicts = (json: { sites: Site[] }) =>
  json.sites.map(
    ({ site, hosts, stranded }) =>
      `${site ?? '(none)'}${stranded ? '!' : ''}: ${hosts.map(({ host, may_run: may, code }) => `${may ? '+' : '-'}${host} ${code}`).join(', ')}`,
  )

describe('binding explain', () => {
  it('says of each host whether a site may run there now, and why', async () => {
    await desk.up('h1', 'h2', 'qa')
    await desk.done('host', 'drain', 'h2')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer', 'CEO,qa,forbid', 'CEO,h4,allow']))
    const { json } = await desk.done('binding', 'explain', 'CEO', '--json')
    expect(json).toEqual({
      hosts: [
        { host: 'h1', active: true, drained: false },
        { host: 'h2', active: false, drained: true },
        { host: 'h4', active: false, drained: false },
        { host: 'qa', active: true, drained: false },
      ],
      sites: [
        {
          site: 'CEO',
          stranded: false,
          hosts: [
            {
              host: 'h1',
              binding: 'prefer',
              may_run: true,
              code: 'prefers',
              why: 'h1 may run CEO: the binding prefers it.',
            },
            {
              host: 'h2',
              binding: 'none',
              may_run: false,
              code: 'preferred_elsewhere',
              why: expect.stringContaining('h1 prefers it'),
            },
            { host: 'h4', binding: 'allow', may_run: false, code: 'preferred_elsewhere', why: expect.any(String) },
            {
              host: 'qa',
              binding: 'forbid',
              may_run: false,
              code: 'forbidden',
              why: expect.stringContaining('never runs CEO'),
            },
          ],
        },
      ],
      known: true,
      nearest: null,
      waiting: [],
    })
    await desk.down('h1')
    expect(verdicts((await desk.done('binding', 'explain', 'CEO', '--json')).json)).toEqual([
      'CEO!: -h1 inactive, -h2 draining, -h4 inactive, -qa forbidden',
    ])
    expect((await desk.done('binding', 'explain', 'CEO')).out).toMatch(
      /^No active host may run site CEO\.\nHOST\tBINDING\tMAY RUN\tWHY\nh1\tprefer\tno\th1 has no live worker/,
    )
  })

  it('answers for work of no site, for the default site, and for a site that nobody knows', async () => {
    await desk.up('h1')
    await desk.done('binding', 'apply', desk.file(['Marketing,h1,prefer', '"",h1,forbid', '"",h2,prefer']))
    expect(verdicts((await desk.done('binding', 'explain', '--no-site', '--json')).json)).toEqual([
      '(none): +h1 no_site, -h2 inactive',
    ])
    expect((await desk.done('binding', 'explain', '')).out).toContain('No active host may run the default site.\n')
    const unknown = await desk.done('binding', 'explain', 'Marketng')
    expect(unknown.out).toMatch(
      /^Nothing is known of site Marketng: no binding, no job, no run; did you mean Marketing\?\nSite Marketng may run now on h1\.\n/,
    )
    expect((await desk.done('binding', 'explain', 'Marketng', '--json')).json).toMatchObject({
      known: false,
      nearest: 'Marketing',
    })
    for (const args of [[], ['CEO', '--no-site']]) {
      const { code, err } = await desk.run('binding', 'explain', ...args)
      expect([code, err]).toEqual([2, expect.stringContaining('--no-site')])
      expect(err).toContain(args.length === 0 ? ' SITE: No site was named.' : " 'CEO', and --no-site says")
    }
  })

  it('a host that is full strands nobody', async () => {
    const shop = await openShop('explain full')
    await shop.add('orders', 'table', '--site', 'CEO')
    await shop.add('stock', 'table', '--site', 'CEO')
    const session = await shop.control.client()
    const [worker] = (await session.query(`select yardmaster.register_worker('h1#1', 'h1', 1) as id`)).rows
    for (const table of ['orders', 'stock']) await shop.done('replication', 'refresh', `public.${table}`, '--queue')
    await session.query(`select * from yardmaster.claim_runs($1, '{replication}', 1)`, [worker.id])
    const { json } = await shop.done('binding', 'explain', 'CEO', '--json')
    expect(verdicts(json)).toEqual(['CEO: -h1 host_full'])
    expect(json.waiting[0].checks.at(-1)).toMatchObject({ check: 'slot', ok: false, code: 'no_slot' })
    expect((await shop.done('binding', 'explain', 'CEO')).out).toContain('Every host that may run site CEO is full.\n')
  })

  it('shows what the oldest runs of the site wait for, check by check', async () => {
    const shop = await openShop('explain runs')
    await shop.add('orders', 'table', '--site', 'CEO')
    await shop.done('binding', 'set', 'CEO', 'h2', 'prefer')
    const id = (await shop.done('replication', 'refresh', 'public.orders', '--queue', '--json')).json.run_id
    const { json } = await shop.done('binding', 'explain', 'CEO', '--json')
    expect(json.waiting).toHaveLength(1)
    expect(json.waiting[0].run_id).toBe(id)
    expect(json.waiting[0].checks.map((one: { check: string; ok: boolean }) => [one.check, one.ok])).toEqual([
      ['scheduled', true],
      ['due', true],
      ['dependency', true],
      ['overlap', true],
      ['limit', true],
      ['host', false],
      ['slot', false],
    ])
    const { out } = await shop.done('binding', 'explain', 'CEO')
    expect(out).toContain(`Run ${id} waits: No worker is alive.`)
    expect(out).toContain('\n  ✓ scheduled: Somebody asked for it.\n')
    expect(out).toContain('\n  ✕ host: No worker is alive.')
    expect((await shop.done('binding', 'explain', '--no-site', '--json')).json.waiting).toEqual([])
  })

  it('draws bindings by shape too, in ASCII where the locale has no more', async () => {
    await desk.up('h1', 'h2', 'h3', 'h4')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer', 'CEO,h2,allow', 'CEO,h3,forbid']))
    const glyphs = async (locale: string) => {
      const terminal = desk.terminal({ LANG: locale, NO_COLOR: '1' })
      await terminal.run('binding', 'explain', 'CEO')
      return [...terminal.out.matchAll(/^h\d +(\S \w+)/gm)].map((match) => match[1])
    }
    expect(await glyphs('C.UTF-8')).toEqual(['● prefer', '○ allow', '✕ forbid', '· none'])
    expect(await glyphs('C')).toEqual(['* prefer', 'o allow', 'x forbid', '. none'])
  })
})

describe('binding simulate', () => {
  it('shows every site as it would be, and what moves, and writes nothing', async () => {
    await desk.up('h1', 'h2')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer', 'QA,h1,forbid']))
    const path = desk.file(['CEO,h2,prefer', 'Sales,h1,forbid', 'Sales,h2,forbid'], 'new.csv')
    const before = await desk.control.query('select count(*) from yardmaster.audit')
    const { json, code } = await desk.run('binding', 'simulate', path, '--json')
    expect(code).toBe(0)
    expect(verdicts(json)).toEqual([
      'CEO: -h1 preferred_elsewhere, +h2 prefers',
      'QA: +h1 allowed, +h2 allowed',
      'Sales!: -h1 forbidden, -h2 forbidden',
      '(none): +h1 no_site, +h2 no_site',
    ])
    expect(json.changes).toEqual([
      { site: 'CEO', before: ['h1'], after: ['h2'] },
      { site: 'QA', before: ['h2'], after: ['h1', 'h2'] },
      { site: 'Sales', before: ['h1', 'h2'], after: [] },
    ])
    expect(json.refusals).toMatchObject([{ code: 'site_stranded', sites: ['Sales'] }])
    expect(json.bindings).toHaveLength(5)
    const { out } = await desk.done('binding', 'simulate', path)
    expect(out).toContain('Then site CEO moves h1 → h2.\n')
    expect(out).toContain('No active host may run then: site Sales.\n')
    expect(out).toMatch(
      /\n! No known host could run Sales then.*\nPlan: 3 to create, 0 to change, 0 to replace, 2 to delete\.\n$/,
    )
    expect(await desk.bound()).toEqual(['CEO h1 prefer', 'QA h1 forbid'])
    expect(await desk.control.query('select count(*) from yardmaster.audit')).toEqual(before)
  })

  it('hides what stays as it is from people only', async () => {
    await desk.up('h1', 'h2')
    const path = desk.file(['CEO,h1,prefer', 'QA,h2,prefer'])
    await desk.done('binding', 'apply', path)
    const { out, err } = await desk.done('binding', 'simulate', path)
    expect(out.split('\n').filter((line) => line.includes('\tyes\t'))).toEqual([
      expect.stringMatching(/^CEO\th1\t/),
      expect.stringMatching(/^QA\th2\t/),
      expect.stringMatching(/^no site\th1\t/),
      expect.stringMatching(/^no site\th2\t/),
    ])
    expect(err).toBe('')
    const terminal = desk.terminal()
    expect(await terminal.run('binding', 'simulate', path)).toBe(0)
    expect(terminal.out).not.toContain('CEO')
    expect(terminal.err).toBe('3 sites stay as they are; a pipe and --json show all.\n')
  })

  it('with --up takes exactly these hosts for active', async () => {
    await desk.up('h1', 'h2')
    await desk.done('host', 'set', 'h3', '--address', '10.0.0.3')
    const path = desk.file(['CEO,h1,prefer', 'CEO,h2,forbid'])
    const upOnly = async (hosts: string) => (await desk.done('binding', 'simulate', path, '--up', hosts, '--json')).json
    expect(verdicts(await upOnly('h2, 10.0.0.3'))[0]).toBe('CEO: -h1 inactive, -h2 forbidden, +h3 allowed')
    expect(verdicts(await upOnly('h1'))[0]).toBe('CEO: +h1 prefers, -h2 forbidden, -h3 preferred_elsewhere')
    const none = await upOnly('')
    expect(none.hosts.filter((one: { active: boolean }) => one.active)).toEqual([])
    expect(none.sites.every((one: Site) => one.stranded)).toBe(true)
    expect((await upOnly('h1,h11')).unknown_hosts).toEqual([{ host: 'h11', nearest: 'h1' }])
    expect((await desk.done('binding', 'simulate', path, '--up', 'h1,h11')).out).toContain(
      'Note: no worker was ever seen on h11; did you mean h1?\n',
    )
  })

  it('of a bad file says what is wrong with it', async () => {
    const { code, json } = await desk.run('binding', 'simulate', desk.file(['CEO,h1,yes']), '--json')
    expect([code, json.error.code, json.error.errors[0].line]).toEqual([1, 'bindings_invalid', 2])
  })
})
