import { beforeAll, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

interface Check {
  place: number
  check: string
  ok: boolean
  code: string
  why: string
}

const names = ['scheduled', 'due', 'dependency', 'overlap', 'limit', 'host', 'slot']
const fine = ['scheduled', 'due', 'none_awaited', 'alone', 'within_limits', 'may_run', 'starting']

let desk: PlacementDesk

beforeAll(async () => {
  desk = await PlacementDesk.open(await createDatabase('checks'))
})

function plain(text: string): string {
  return text.replaceAll(/\d{4}-\d\d-\d\d [\d:]+( [A-Z]+)?/g, 'then').replaceAll(/\d+ s\b/g, '# s')
}

/** The codes of the seven checks; those that hold in brackets. */
async function checks(run: string | undefined): Promise<Check[]> {
  const rows = await desk.rows<Check>('select * from yardmaster.waiting_checks($1) order by place', [run])
  expect(rows.map((row) => row.check)).toEqual(names)
  expect(rows.map((row) => row.place)).toEqual([1, 2, 3, 4, 5, 6, 7])
  // What is said in one line is the first that does not hold, or else the last.
  const told = await desk.rows('select code, why from yardmaster.why_waiting($1)', [run])
  const first = rows.find((row) => !row.ok) ?? rows[6]
  expect(told).toEqual([{ code: first?.code, why: first?.why }])
  return rows.map((row) => ({ ...row, why: plain(row.why) }))
}

async function held(run: string | undefined, place: number): Promise<string> {
  const rows = await checks(run)
  const codes = rows.map((row) => row.code)
  expect(rows.map((row) => row.ok).slice(0, place)).toEqual(names.slice(0, place).map((_, n) => n < place - 1))
  // What was not asked about is as good as ever, behind it too; without a host there is no slot.
  const others = codes.filter((_, n) => n !== place - 1 && !(place === 6 && n === 6))
  expect(others).toEqual(fine.filter((_, n) => n !== place - 1 && !(place === 6 && n === 6)))
  return `${codes[place - 1]}: ${rows[place - 1]?.why}`
}

async function jobOf(run: string | undefined): Promise<number> {
  const [row] = await desk.rows<{ job_id: number }>('select job_id from yardmaster.runs where id = $1', [run])
  return row?.job_id ?? 0
}

test('a run that nothing holds back is about to be taken, and one that began has no checks', () =>
  desk.supposed(async () => {
    const [run] = await desk.work(['CEO'], ['1 minute'])
    const worker = await desk.start('h1')
    const rows = await checks(run)
    expect(rows.map(({ ok, code }) => (ok ? code : 'held'))).toEqual(fine)
    expect(rows.map(({ why }) => why)).toEqual([
      '1 minute is active.',
      'It has been due since then.',
      'It waits for no other job.',
      'No other run of it is under way or before it.',
      'No limit holds it back.',
      'h1 may take it.',
      'A worker is about to take it.',
    ])
    await desk.claim(worker)
    expect(await desk.rows('select * from yardmaster.waiting_checks($1)', [run])).toEqual([])
    expect(await desk.rows('select * from yardmaster.why_waiting($1)', [run])).toEqual([])
  }))

test('paused, not due yet, or one at a time', () =>
  desk.supposed(async () => {
    const [run, later, double] = await desk.work(['CEO', null, 'QA'], ['1 minute'])
    const worker = await desk.start('h1', 1)
    await desk.rows("select yardmaster.pause_replication($1, 'until Monday')", [await jobOf(run)])
    expect(await held(run, 1)).toBe('paused: 1 minute is paused since then by clerk@desk: until Monday')
    await desk.rows("select yardmaster.set_replication_status($1, 'broken')", [await jobOf(run)])
    expect(await held(run, 1)).toBe('not_active: 1 minute is broken: only what somebody asks for is run.')
    const [asked] = await desk.rows<{ id: string }>('select yardmaster.queue_run($1) as id', [await jobOf(run)])
    expect((await checks(asked?.id))[0]).toMatchObject({ ok: true, code: 'requested', why: 'Somebody asked for it.' })
    await desk.rows("update yardmaster.run set due_at = due_at + interval '1 hour' where id = $1", [later])
    expect(await held(later, 2)).toBe('not_due: It is due at then.')
    const [second] = await desk.rows<{ id: string }>('select yardmaster.queue_run($1) as id', [await jobOf(double)])
    expect((await checks(second?.id))[3]).toMatchObject({
      code: 'overlap',
      why: `Run ${double} of the same copy waits before it; one runs at a time.`,
    })
    expect((await desk.claim(worker, 1)).map((given) => given.run_id)).toEqual([double])
    await desk.start('h2')
    expect((await checks(second?.id))[3]).toMatchObject({
      ok: false,
      why: `Run ${double} of the same copy is under way by h1; one runs at a time.`,
    })
  }))

test('a limit says who holds it', () =>
  desk.supposed(async () => {
    const [first, second, third] = await desk.work(['CEO', 'CEO', 'CEO'], ['1 minute'])
    const worker = await desk.start('h1')
    await desk.rows("select yardmaster.set_limit('site:CEO', 0)")
    expect(await held(first, 5)).toBe('limit: The limit site:CEO allows 0 at once: nothing starts.')
    expect(await desk.claim(worker)).toEqual([])
    await desk.rows("select yardmaster.set_limit('site:CEO', 2)")
    expect((await desk.claim(worker)).map((given) => given.run_id)).toEqual([first, second])
    expect(await held(third, 5)).toBe(
      `limit: The limit site:CEO allows 2 at once: taken by run ${first} (1 minute) and run ${second} (1 minute).`,
    )
    await desk.rows("select yardmaster.set_limit('site:CEO', 3)")
    expect((await checks(third)).every((check) => check.ok)).toBe(true)
    expect((await desk.claim(worker)).map((given) => given.run_id)).toEqual([third])
  }))

test('no worker, then no host that may, then the fallback of this run’s own time', () =>
  desk.supposed(async () => {
    const [old, recent] = await desk.work(['CEO'], ['12 minutes', '4 minutes'])
    expect(await held(old, 6)).toBe(
      'no_worker: No worker is alive. Start one: yardmaster worker; or work off what is due once: yardmaster run-due.',
    )
    const ceo = await desk.start('ceo', 1)
    await desk.start('qa')
    await desk.bind([
      { site: 'CEO', host: 'ceo', binding: 'forbid' },
      { site: 'CEO', host: 'qa', binding: 'forbid' },
      { site: 'CEO', host: 'lab', binding: 'prefer' },
    ])
    expect(await held(old, 6)).toBe(
      'placement: No host may take work of CEO now. ceo never runs CEO: the binding forbids it, even as the last host. ' +
        'qa never runs CEO: the binding forbids it, even as the last host. lab has no live worker; none was seen in the last week.',
    )
    await desk.bind([
      { site: 'CEO', host: 'ceo', binding: 'prefer' },
      { site: 'CEO', host: 'lab', binding: 'forbid' },
    ])
    await desk.rows("select yardmaster.set_fallback(null, '10 minutes')")
    const [both, one] = [await checks(old), await checks(recent)]
    expect(both[5]?.why).toBe('ceo and qa may take it.')
    expect(one[5]?.why).toBe('ceo may take it.')
    // The one that prefers it is busy: the run that is overdue goes elsewhere, the other one waits for its time.
    const [busy] = await desk.work(['QA'], ['1 hour'])
    expect((await desk.claim(ceo, 1)).map((given) => given.run_id)).toEqual([busy])
    expect((await checks(old))[6]).toMatchObject({ ok: true, code: 'starting' })
    expect(await held(recent, 7)).toBe(
      'no_slot: ceo is full: 1 of 1 runs. Before it wait: 1. Hosts that do not prefer it may take it from then on.',
    )
    await desk.rows("select yardmaster.set_fallback('CEO', 'never')")
    expect(await held(recent, 7)).toBe('no_slot: ceo is full: 1 of 1 runs. Before it wait: 1.')
    await desk.rows("select yardmaster.set_fallback('CEO', 'default')")
    const [sentence] = (await desk.matrix(['CEO'], { due: '4 minutes' })).filter((row) => row.host === 'qa')
    expect(plain(sentence?.why ?? '')).toBe(
      'qa may not run CEO now: ceo prefers it and is active. qa takes over when no preferring host is active, or for work due longer than 10 min # s (oldest: 4 min # s).',
    )
  }))

test('of many hosts the first eight are said, the active ones before the others', () =>
  desk.supposed(async () => {
    const [run] = await desk.work(['CEO'])
    const hosts = Array.from({ length: 12 }, (_, n) => `h${n + 10}`)
    await desk.start('h21')
    await desk.bind(
      hosts.map((host) => ({ site: 'CEO', host, binding: 'forbid' as const })),
      true,
    )
    const why = (await held(run, 6)).split('. ')
    expect(why).toHaveLength(9)
    expect(why[1]).toMatch(/^h21 never/)
    expect(why[8]).toMatch(/^h16 never/)
  }))
