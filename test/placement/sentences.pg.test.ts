import { beforeAll, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { type MatrixRow, PlacementDesk } from './placement-desk.ts'
import { yes } from './rule-in-words.ts'

let desk: PlacementDesk
/** Every row that a test of this file has seen. */
const seen: MatrixRow[] = []

beforeAll(async () => {
  desk = await PlacementDesk.open(await createDatabase('sentences'))
})

/** Sentences by `site @ host`, seconds and times left out. */
async function sentences(...args: Parameters<PlacementDesk['matrix']>): Promise<Record<string, string>> {
  const rows = await desk.matrix(...args)
  seen.push(...rows)
  return Object.fromEntries(
    rows.map(({ site, host, code, why }) => [
      `${site} @ ${host}`,
      `${code}: ${why.replaceAll(/\d+ s\b/g, '# s').replaceAll(/\d{4}-\d\d-\d\d [\d:]+ \S+(?= by)/g, 'then')}`,
    ]),
  )
}

async function scene(): Promise<void> {
  await desk.rows(
    `select yardmaster.set_host('berth', '{"slots": 1}'), yardmaster.set_host('pier', '{"site_slots": {"Ops": 1}}')`,
  )
  await desk.work(['Ops', 'Ops', 'CEO'], ['4 minutes'])
  for (const host of ['berth', 'pier']) {
    const worker = await desk.start(host, 5)
    expect((await desk.claim(worker, 1)).map(({ site }) => site)).toEqual(['Ops'])
  }
  for (const host of ['ceo', 'qa', 'port', 'dock']) await desk.start(host)
  await desk.rows("select yardmaster.drain_host('dock')")
  await desk.bind([
    { site: 'CEO', host: 'ceo', binding: 'prefer' },
    { site: 'CEO', host: 'qa', binding: 'forbid' },
    { site: 'CEO', host: 'lab', binding: 'allow' },
  ])
}

test('each code has its sentence, with the host and the site', () =>
  desk.supposed(async () => {
    await scene()
    const elsewhere = 'may not run CEO now: ceo prefers it and is active.'
    expect(await sentences(['CEO', 'Ops', '', null])).toMatchObject({
      'CEO @ ceo': 'prefers: ceo may run CEO: the binding prefers it.',
      'CEO @ qa': 'forbidden: qa never runs CEO: the binding forbids it, even as the last host.',
      'CEO @ port': `preferred_elsewhere: port ${elsewhere} port takes over when no preferring host is active.`,
      'CEO @ lab': `preferred_elsewhere: lab ${elsewhere} Nor has it a live worker.`,
      'CEO @ dock': `preferred_elsewhere: dock ${elsewhere} It is drained, too.`,
      'Ops @ ceo': 'allowed: ceo may run Ops: no other active host prefers it.',
      'Ops @ lab': 'inactive: lab has no live worker; none was seen in the last week.',
      'Ops @ dock': 'draining: dock is drained since then by clerk@desk: it takes nothing new.',
      'Ops @ berth': 'host_full: berth is full: 1 of 1 runs.',
      'Ops @ pier': 'pair_full: pier runs as much of Ops as it may: 1 of 1 runs.',
      ' @ ceo': 'allowed: ceo may run the default site: no other active host prefers it.',
      'null @ ceo': 'no_site: ceo may run it: work of no site runs on every host.',
      'null @ berth': 'host_full: berth is full: 1 of 1 runs.',
      'null @ pier': 'no_site: pier may run it: work of no site runs on every host.',
    })
    await desk.rows("select yardmaster.set_fallback('CEO', '10 minutes')")
    expect(await sentences(['CEO'])).toMatchObject({
      'CEO @ port': `preferred_elsewhere: port ${elsewhere} port takes over when no preferring host is active, or for work due longer than 10 min # s (oldest: 4 min # s).`,
    })
    await desk.rows("select yardmaster.set_fallback('Idle', '10 minutes')")
    expect(
      await sentences(['Idle'], { wanted: [{ site: 'Idle', host: 'ceo', binding: 'prefer' }], up: ['ceo', 'port'] }),
    ).toMatchObject({
      'Idle @ port':
        'preferred_elsewhere: port may not run Idle now: ceo prefers it and is active. port takes over when no preferring host is active, or for work due longer than 10 min # s.',
    })
    expect(await sentences(['CEO'], { due: '12 minutes' })).toMatchObject({
      'CEO @ port':
        'fallback_elapsed: port may run CEO: ceo prefers it, but its oldest work has been due for 12 min # s, not less than 10 min # s.',
    })
  }))

test('a host that was seen once is said when, and one that is down as a supposition only, that', () =>
  desk.supposed(async () => {
    const worker = await desk.start('gone')
    await desk.start('here')
    await desk.rows('select yardmaster.end_worker($1)', [worker])
    const [gone] = await desk.matrix(['Ops'])
    seen.push(...(gone ? [gone] : []))
    expect(gone?.why).toMatch(/^gone has no live worker; last seen 2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d \S+\.$/)
    expect(await sentences(['Ops'], { up: ['new'] })).toMatchObject({
      'Ops @ here': 'inactive: here has no live worker, as supposed.',
      'Ops @ new': 'allowed: new may run Ops: no other active host prefers it.',
    })
  }))

test('several that prefer it are named, more than eight by number', async () => {
  const hosts = Array.from({ length: 10 }, (_, n) => `h${n}`)
  const wanted = (count: number) =>
    hosts.slice(0, count).map((host) => ({ site: 'CEO', host, binding: 'prefer' as const }))
  const others = async (count: number) =>
    (await sentences(['CEO'], { wanted: wanted(count), up: ['z', ...hosts] }))['CEO @ z']?.split(' now: ')[1]
  const over = 'z takes over when no preferring host is active.'
  expect(await others(2)).toBe(`h0 and h1 prefer it and are active. ${over}`)
  expect(await others(8)).toBe(`h0, h1, h2, h3, h4, h5, h6 and h7 prefer it and are active. ${over}`)
  expect(await others(10)).toBe(`h0, h1, h2, h3, h4, h5, h6 and 3 more prefer it and are active. ${over}`)
  // One that prefers it itself is not in its own way, and they share.
  expect((await sentences(['CEO'], { wanted: wanted(2), up: ['h0', 'h1'] }))['CEO @ h0']).toMatch(/^prefers: /)
})

test('no name is read as anything but a name', async () => {
  for (const site of ['100 %s %1$s', "O'Brien \\1", 'line\nbreak \u001b[31m', '$$'])
    expect((await sentences([site], { up: ['h'] }))[`${site} @ h`]).toBe(
      `allowed: h may run ${site}: no other active host prefers it.`,
    )
})

test('work that is not due yet has waited for nothing', () =>
  desk.supposed(async () => {
    await scene()
    expect(await sentences(['CEO', 'Ops', null], { due: '-5 minutes' })).toMatchObject({
      'CEO @ ceo': 'prefers: ceo may run CEO: the binding prefers it.',
      'Ops @ ceo': 'allowed: ceo may run Ops: no other active host prefers it.',
      'null @ ceo': 'no_site: ceo may run it: work of no site runs on every host.',
    })
  }))

test('a sentence says yes where its code does, and names the host', () => {
  expect(new Set(seen.map(({ code }) => code)).size).toBe(10)
  for (const { code, why, may_run, host } of seen) {
    expect(may_run, why).toBe(yes.includes(code))
    expect(why.includes(`${host} may run `), why).toBe(may_run)
    expect(why.startsWith(`${host} `), why).toBe(true)
  }
})
