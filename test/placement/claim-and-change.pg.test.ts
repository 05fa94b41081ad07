import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

/** Something that changes what a host may take, while a claim of that host goes on. `%` stands for the site. */
interface Change {
  readonly name: string
  /** What is so before. */
  readonly before?: string
  readonly change: string
  /** What takes it back, after all. */
  readonly after?: string
  /** Whether the host may take the work before the change, and after it. */
  readonly may: readonly [boolean, boolean]
}

const bind = (host: string, binding: string) => `select yardmaster.set_binding('%', '${host}', '${binding}')`

const changesToTry: Change[] = [
  { name: 'forbid', change: bind('here', 'forbid'), may: [true, false] },
  { name: 'prefer another', change: bind('there', 'prefer'), may: [true, false] },
  { name: 'allow again', before: bind('here', 'forbid'), change: bind('here', 'allow'), may: [false, true] },
  {
    name: 'undo a forbid',
    before: bind('here', 'forbid'),
    change: 'select yardmaster.undo_bindings()',
    may: [false, true],
  },
  {
    name: 'fall back at once',
    before: bind('there', 'prefer'),
    change: "select yardmaster.set_fallback('%', '0')",
    may: [false, true],
  },
  {
    name: 'drain',
    change: "select yardmaster.drain_host('here')",
    after: "select yardmaster.undrain_host('here')",
    may: [true, false],
  },
  {
    name: 'drain the one that prefers it',
    before: bind('there', 'prefer'),
    change: "select yardmaster.drain_host('there')",
    after: "select yardmaster.undrain_host('there')",
    may: [false, true],
  },
]

/** All ways to do the steps of two sessions, each in its own order. */
function interleavings(one: readonly string[], other: readonly string[]): string[][] {
  const [first, ...rest] = one
  const [second, ...others] = other
  if (first === undefined || second === undefined) return [[...one, ...other]]
  return [
    ...interleavings(rest, other).map((steps) => [first, ...steps]),
    ...interleavings(one, others).map((steps) => [second, ...steps]),
  ]
}

const orders = interleavings(['change', 'commit change'], ['begin', 'claim', 'commit claim'])

describe.each([false, true])('a claim beside a change of placement; the host has a limit: %s', (limited) => {
  let desk: PlacementDesk
  let changer: pg.Client
  let claimer: pg.Client
  let worker: string

  beforeAll(async () => {
    desk = await PlacementDesk.open(await createDatabase(`claim and change ${limited}`))
    changer = await desk.database.client()
    claimer = await desk.database.client()
    if (limited) await desk.rows(`select yardmaster.set_host('here', '{"slots": 500}')`)
    worker = await desk.start('here')
    await desk.start('there')
  })

  /** Does the steps, of which some may wait; returns whether the claim got the work, and whether it waited for the change. */
  async function play(order: readonly string[], change: string): Promise<{ ids: string[]; waited: boolean }> {
    const all: Promise<unknown>[] = []
    let [ids, waited]: [string[], boolean] = [[], false]
    const steps: Record<string, [pg.Client, () => Promise<unknown>]> = {
      change: [changer, () => changer.query(`begin; ${change}`)],
      'commit change': [changer, () => changer.query('commit')],
      begin: [claimer, () => claimer.query('begin')],
      claim: [
        claimer,
        async () => {
          const sql = "select run_id from yardmaster.claim_runs($1, '{replication}', 500)"
          ids = (await claimer.query(sql, [worker])).rows.map((row) => row.run_id)
        },
      ],
      'commit claim': [claimer, () => claimer.query('commit')],
    }
    for (const step of order) {
      const [session, act] = steps[step] ?? [changer, () => Promise.resolve()]
      const asked = act()
      all.push(asked)
      const isHeldUp = await desk.waits(session, asked)
      if (step === 'claim') waited = isHeldUp
    }
    await Promise.all(all)
    return { ids, waited }
  }

  test.each(changesToTry)('$name', async ({ name, ...change }) => {
    for (const [n, order] of orders.entries()) {
      const site = `${name} ${n}`
      await desk.work([site])
      if (change.before) await desk.rows(change.before.replaceAll('%', site))
      const { ids, waited } = await play(order, change.change.replaceAll('%', site))
      const got = await desk.rows('select from yardmaster.runs where id = any ($1) and site = $2', [ids, site])
      const isBehind = order.indexOf('claim') > order.indexOf('commit change')
      expect(got.length === 1, `${order}`).toBe(change.may[isBehind || waited ? 1 : 0])
      // A claim waits for nobody, but for who changes its own host where that has a limit.
      if (!(limited && name === 'drain')) expect(waited).toBe(false)
      if (change.after) await desk.rows(change.after)
      // Nobody is to be given it later.
      await desk.rows("update yardmaster.run set status = 'OK' where site = $1 and status = 'WAITING'", [site])
    }
  })

  test('what a claim found before a change is asked about once more as it begins', async () => {
    const runs = await desk.work(['Found', 'Found too', null])
    const begin = (most: number) =>
      desk.rows<{ attempts: string[] }>('select yardmaster.begin_attempts($1, $2, $3) as attempts', [
        worker,
        runs,
        most,
      ])
    await desk.rows("select yardmaster.set_binding('Found', 'here', 'forbid')")
    await desk.rows("select yardmaster.drain_host('here')")
    expect(await begin(10)).toEqual([{ attempts: [] }])
    await desk.rows("select yardmaster.undrain_host('here')")
    await begin(10)
    const begun = await desk.rows(
      "select site from yardmaster.runs where id = any ($1) and status = 'RUNNING' order by id",
      [runs],
    )
    expect(begun).toEqual([{ site: 'Found too' }, { site: null }])
  })
})
