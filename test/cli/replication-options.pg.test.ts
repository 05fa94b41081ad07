import { beforeAll, describe, expect, it } from 'vitest'
import { FakeTerminal } from './fake-terminal.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('options')
  await shop.add('whole', 'snapshot', '--post-script', 'select 1')
  await shop.add('plain', 'table')
  await shop.add('log', 'inserter', '--column', 'id', '--by', 'serial', '--boundary', '0')
})

const shown = async (name: string) => (await shop.done('replication', 'show', `public.${name}`, '--json')).json
const set = (name: string, ...pairs: string[]) => shop.done('replication', 'set', `public.${name}`, ...pairs)

/** What `show` prints of options, as pairs that `set` takes. */
async function printedPairs(name: string): Promise<[key: string, value: string][]> {
  const { out } = await shop.done('replication', 'show', `public.${name}`)
  return [...out.matchAll(/^ {2}([a-z-]+): (.*)$/gm)].map((match) => [match[1] ?? '', match[2] ?? ''])
}

describe('replication set', () => {
  it.each(['whole', 'plain', 'log'])(
    'takes for %s what show prints, key by key, and changes nothing by it',
    async (name) => {
      const before = await shown(name)
      const given = (await printedPairs(name)).filter(([key]) => !['column', 'by', 'key'].includes(key))
      expect(given.length).toBeGreaterThan(7)
      const pairs = given.filter(([key]) => key !== 'every' && key !== 'cron')
      await set(name, ...pairs.map(([key, value]) => `${key}=${value === '—' ? '' : value}`))
      expect(await shown(name)).toEqual({ ...before, version: before.version + 1, lag_seconds: expect.any(Number) })
    },
  )

  it.each([
    ['plain', 'every=90 minutes', { every: '01:30:00', schedule: 'every 1 hour 30 minutes' }],
    ['plain', 'every=2 months', { every: '2 mons', schedule: 'every 2 months in UTC', cron: null }],
    ['plain', 'cron=30 2 * * *', { cron: '30 2 * * *', schedule: 'cron 30 2 * * * in UTC', every: null }],
    ['plain', 'timezone=Europe/London', { timezone: 'Europe/London', schedule: 'cron 30 2 * * * in Europe/London' }],
    ['plain', 'every=1 day', { every: '1 day', schedule: 'every day in Europe/London', cron: null }],
    ['plain', 'timezone=', { timezone: 'UTC' }],
    ['plain', 'lag-target=1 hour', { lag_target_seconds: 3600, late_after_seconds: 3600 }],
    ['plain', 'lag-target=', { lag_target_seconds: null, late_after_seconds: 172_800 }],
    ['plain', 'every=', { every: null, next_start: null, next_starts: [], late_after_seconds: null }],
    ['plain', 'index=false', { index: false }],
    ['plain', 'no-index=false', { index: true }],
    ['plain', 'no-index=true', { index: false }],
    ['plain', 'swap-wait=90', { swap_wait_seconds: 90 }],
    ['plain', 'swap-wait=', { swap_wait_seconds: 60 }],
    ['log', 'boundary=auto', { boundary: 'auto' }],
    ['log', 'boundary=25', { boundary: '25' }],
    ['log', 'boundary=', { boundary: '10' }],
    ['log', 'limit=500', { limit: 500 }],
    ['log', 'limit=', { limit: null }],
    ['log', 'control-timezone=Asia/Tokyo', { control_timezone: 'Asia/Tokyo' }],
    ['log', 'control-timezone=', { control_timezone: null }],
    ['log', 'dst-window=01:00-03:00', { dst_window: '01:00-03:00' }],
    ['log', 'dst-window=', { dst_window: null }],
    ['whole', 'post-script=', { post_script: [] }],
    ['whole', 'where=WHERE id > 3', { where: 'WHERE id > 3' }],
    ['whole', 'where=', { where: null }],
  ])('of %s: %s', async (name, pair, wanted) => {
    await set(name, pair)
    expect(await shown(name)).toMatchObject(wanted)
  })

  it.each([
    ['plain', 'limit=5', 'option_not_for_type'],
    ['plain', 'boundary=', 'option_not_for_type'],
    ['log', 'post-script=', 'option_not_for_type'],
    ['log', 'boundary=10 minutes', 'wrong_usage'],
    ['log', 'limit=0', 'wrong_usage'],
    ['plain', 'index=', 'wrong_usage'],
    ['plain', 'cron=99 * * * *', 'cron_invalid'],
    ['plain', 'timezone=Mars', 'timezone_unknown'],
    ['plain', 'lag-target=0', 'wrong_usage'],
  ])('refuses %s: %s', async (name, pair, code) => {
    const before = await shown(name)
    const { code: exit, json } = await shop.run('replication', 'set', `public.${name}`, pair, '--json')
    expect([exit, json.error.code]).toEqual([2, code])
    expect((await shown(name)).version).toBe(before.version)
  })

  it('shows the next starts of a new schedule at once, in order, as it counts them', async () => {
    const begun = Date.now()
    await set('plain', 'every=10 minutes')
    const { next_start: next, next_starts: starts } = await shown('plain')
    const times = starts.map((start: string) => Date.parse(start))
    expect(times).toHaveLength(5)
    expect(next).toBe(starts[0])
    expect(times.map((time: number, n: number) => time - times[0] - n * 600_000)).toEqual([0, 0, 0, 0, 0])
    expect(Math.abs(times[0] - begun - 600_000)).toBeLessThan(60_000)
    await set('plain', 'every=')
  })
})

describe('pause and resume', () => {
  it('show who, since when and why; a slot starts no more, and is decided anew afterwards', async () => {
    await set('plain', 'every=1 hour')
    await shop.done('replication', 'pause', 'public.plain', '--note', 'the source moves')
    expect(await shown('plain')).toMatchObject({
      ...{ status: 'paused', next_start: null, next_starts: [], note: 'the source moves' },
      paused: { since: expect.stringMatching(/^\d{4}/), by: expect.stringContaining('@'), note: 'the source moves' },
    })
    expect((await shop.done('replication', 'pause', 'public.plain')).out).toBe(
      'dwh:public.plain was paused already; nothing was changed.\n',
    )
    expect((await shown('plain')).note).toBe('the source moves')
    expect((await shop.done('replication', 'list')).out).toMatch(/\tpaused\t.*\tthe source moves\n/)
    await shop.done('replication', 'refresh', 'public.plain')
    expect((await shown('plain')).status).toBe('paused')
    const again = await shop.done('replication', 'resume', 'public.plain')
    expect(again.out).toBe('dwh:public.plain is active again; what was missed meanwhile is made up for once.\n')
    expect(await shown('plain')).toMatchObject({ status: 'active', paused: null, note: null })
    expect((await shown('plain')).next_starts).toHaveLength(5)
    expect((await shop.done('replication', 'resume', 'public.plain')).out).toBe('dwh:public.plain was not paused.\n')
    await set('plain', 'every=')
  })

  it('adding what is paused is refused, and takes nothing away', async () => {
    await shop.done('replication', 'pause', 'public.plain')
    const before = await shop.ids('plain')
    const { code, json } = await shop.run(
      ...['replication', 'add', 'table', 'public.plain', '--from', 'crm', '--to', 'dwh', '--json'],
    )
    expect([code, json.error.code]).toEqual([1, 'replication_exists'])
    expect(await shop.ids('plain')).toEqual(before)
    expect((await shown('plain')).status).toBe('paused')
    await shop.done('replication', 'resume', 'public.plain')
  })
})

describe('replication list and lag', () => {
  it('have the late one first, with a mark; one that had nothing new is idle, one that nobody measured is not 0', async () => {
    await set('plain', 'lag-target=1 minute')
    await shop.done('replication', 'refresh', 'public.log')
    await shop.control.query(`update yardmaster.replication set as_of = now() - case destination_name
      when 'plain' then interval '2 minutes' when 'log' then interval '30 seconds' end`)
    const rows = (await shop.done('replication', 'list')).out.split('\n').map((line) => line.split('\t'))
    expect(rows[0]?.slice(4, 7)).toEqual(['DESTINATION', 'LAG', 'LATE'])
    expect(rows[1]?.slice(4, 7)).toEqual(['dwh:public.plain', expect.stringMatching(/^2 min 0\d s$/), 'LATE'])
    const cells = (destination: string) => rows.find((row) => row[4] === destination)?.slice(5, 7)
    expect(cells('dwh:public.log')).toEqual(['idle', ''])
    expect(cells('dwh:public.whole')).toEqual(['', ''])
    const lag = (await shop.done('replication', 'lag', '--json')).json
    expect(lag).toMatchObject([
      { destination: 'dwh:public.plain', late: true, idle: false, late_after_seconds: 60 },
      { destination: 'dwh:public.log', late: false, idle: true, position: '10' },
      { destination: 'dwh:public.whole', late: false, lag_seconds: null, as_of: null },
    ])
    expect((await shop.done('replication', 'show', 'public.plain')).out).toMatch(
      /^Lag: 2 min 0\d s, LATE; late after 1 min 00 s$/m,
    )
    await set('plain', 'lag-target=')
  })

  it('print a table on a terminal', async () => {
    const terminal = new FakeTerminal({ environment: shop.environment, columns: 160 })
    expect(await terminal.run('replication', 'list', '--color', 'never')).toBe(0)
    expect(terminal.out).toMatch(/^LEVEL +STATUS +TYPE +SOURCE +DESTINATION +LAG +LATE +LAST RUN +NEXT START +NOTE\n/)
    expect(terminal.out).toMatch(/\n✓ OK +active +inserter +crm:public\.log +dwh:public\.log +idle /)
  })
})

describe('refresh, resync and remove by type', () => {
  it.each([
    ['plain', '--limit', '5'],
    ['whole', '--repull'],
    ['log', '--force'],
  ])('of %s: %s is refused', async (name, ...flags) => {
    for (const more of [[], ['--queue']]) {
      const { code, json } = await shop.run('replication', 'refresh', `public.${name}`, ...flags, ...more, '--json')
      expect([code, json.error.code]).toEqual([2, 'option_not_for_type'])
    }
  })

  it('a limit, a repulled range, and everything anew', async () => {
    await shop.source.query('insert into public.log select g, g from generate_series(11, 20) g')
    await set('log', 'boundary=0')
    expect((await shop.done('replication', 'refresh', 'public.log', '--limit', '4')).out).toMatch(/^WARNING /)
    expect(await shop.ids('log')).toHaveLength(14)
    await shop.done('replication', 'refresh', 'public.log')
    await shop.destination.query('delete from public.log where id in (3, 7)')
    await shop.done('replication', 'refresh', 'public.log', '--repull', '--start', '2', '--end', '5')
    expect(await shop.ids('log')).toHaveLength(19)
    await shop.done('replication', 'resync', 'public.log')
    expect(await shop.ids('log')).toHaveLength(20)
    await shop.destination.query('delete from public.log where id in (3, 7)')
    await shop.done('replication', 'refresh', 'public.log', '--repull', '--start', '2', '--end', '5', '--queue')
    await shop.done('run-due')
    expect(await shop.ids('log')).toHaveLength(19)
    const counted = await shop.done('replication', 'validate', 'public.log', '--lower', '1', '--upper', '5', '--json')
    expect(counted.json).toMatchObject({ match: true, source_count: 4, dest_count: 4 })
  })

  it('a dry run of remove is refused where the removal is, and says nothing of what stays', async () => {
    await shop.destination.query('create materialized view public.above as select * from public.whole')
    await shop.destination.query('create table public.over_plain (id int references public.plain)')
    for (const args of [['public.whole'], ['public.whole', '--drop-table'], ['public.plain', '--drop-table']]) {
      const dry = await shop.run('replication', 'remove', ...args, '--dry-run', '--json')
      const real = await shop.run('replication', 'remove', ...args, '--yes', '--json')
      expect([dry.code, dry.json.error.code], args.join(' ')).toEqual([1, 'dependent_objects'])
      expect([real.code, real.json.error.code], args.join(' ')).toEqual([1, 'dependent_objects'])
    }
    await shop.destination.query('drop table public.over_plain; drop materialized view public.above')
    expect((await shop.done('replication', 'remove', 'public.plain', '--dry-run', '--json')).json.drops).toEqual([])
  })

  it('an inserter is removed as a table is, and a table of somebody else beside it stays', async () => {
    await shop.destination.query('create table public.log_snap1 ()')
    expect((await shop.done('replication', 'remove', 'public.log', '--drop-table', '--dry-run')).out).toContain(
      '- dwh: table public.log\n',
    )
    await shop.done('replication', 'remove', 'public.log', '--drop-table', '--yes')
    const left = await shop.destination.query(
      `select relname from pg_class where relname like 'log%' and relkind in ('r', 'v')`,
    )
    expect(left).toEqual([{ relname: 'log_snap1' }])
  })
})
