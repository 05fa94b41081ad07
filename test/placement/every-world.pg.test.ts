import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { type BindingRow, type MatrixRow, PlacementDesk } from './placement-desk.ts'
import { answer, type Binding, bindings, combinations, isActive, type Question, states, yes } from './rule-in-words.ts'

const hosts = ['h1', 'h2', 'h3']
const delays = { ten: '10 minutes', now: '0', never: 'never' }
const minutes: Record<string, number | null> = { ten: 10, now: 0, never: null }
const ages = ['5 minutes', '15 minutes']

/** A site for each way to bind three hosts and each delay: `ten:prefer,none,forbid`. */
const sites = Object.keys(delays).flatMap((delay) =>
  combinations(bindings, 3).map((bound) => `${delay}:${bound.join(',')}`),
)
const wanted: BindingRow[] = sites.flatMap((site) =>
  boundOf(site).flatMap((binding, place) => (binding === 'none' ? [] : [{ site, host: hosts[place] ?? '', binding }])),
)
/** And the default site, which nothing binds, and work of no site. */
const all = [...sites, '', null]

function boundOf(site: string | null): Binding[] {
  return site ? (site.split(':')[1]?.split(',') as Binding[]) : ['none', 'none', 'none']
}

function delayOf(site: string | null): number | null {
  return site ? (minutes[site.split(':')[0] ?? ''] ?? null) : 10
}

type World = Pick<Question, 'states'>

function codeOf(world: World, site: string | null, host: number, waited: number): string {
  return answer({ ...world, site, host, bindings: boundOf(site), fallback: delayOf(site), waited })
}

function wrongRows(rows: MatrixRow[], world: World, waited: number): string[] {
  return rows.flatMap((row) => {
    const host = hosts.indexOf(row.host)
    const code = codeOf(world, row.site, host, waited)
    const expected = {
      code,
      may_run: yes.includes(code),
      binding: boundOf(row.site)[host],
      active: isActive(world.states[host]),
      drained: world.states[host]?.drained,
    }
    const { may_run, binding, active, drained } = row
    const found = { code: row.code, may_run, binding, active, drained }
    return JSON.stringify(found) === JSON.stringify(expected) ? [] : [JSON.stringify({ world, row, expected })]
  })
}

describe.each(['18', '14'])('every way to bind three hosts, in every state of theirs, on PostgreSQL %s', (version) => {
  // A host that is drained and down answers as one that is down: once is enough.
  const worlds = combinations(version === '18' ? states : states.slice(0, 3), 3)
  let desk: PlacementDesk

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    desk = await PlacementDesk.open(await server.createDatabase(`worlds ${version}`))
    await desk.rows("select yardmaster.set_fallback(null, '10 minutes')")
    for (const [name, delay] of Object.entries(delays))
      if (name !== 'ten')
        await desk.rows(`select yardmaster.set_fallback(s, $2) from unnest($1::text[]) s where s like $3`, [
          sites,
          delay,
          `${name}:%`,
        ])
    await desk.bind(wanted, true)
    await desk.work(all, ages)
  })

  test('explain, simulate and the claim all answer as the table does', async () => {
    const wrong: string[] = []
    let claims = 0
    for (const alive of worlds) {
      const world = { states: alive }
      await desk.supposed(async () => {
        const workers: (string | undefined)[] = []
        for (const [place, state] of alive.entries()) workers.push(await desk.bring(hosts[place] ?? '', state))
        // Without a time, it is about what has waited for longest.
        wrong.push(...wrongRows(await desk.matrix(all), world, 15))
        const up = hosts.filter((_, place) => alive[place]?.up)
        wrong.push(...wrongRows(await desk.matrix(all, { wanted, up, due: '5 minutes' }), world, 5))
        for (const [place, worker] of workers.entries()) {
          if (worker === undefined) continue
          claims++
          const given = await desk.tried(() => desk.claim(worker))
          const expected = all.flatMap((site) =>
            ages.flatMap((age) => {
              const code = codeOf(world, site, place, Number.parseInt(age, 10))
              return yes.includes(code) ? [{ site, object: age, placement: code }] : []
            }),
          )
          expect(given.map(({ site, object, placement }) => ({ site, object, placement }))).toEqual(expected)
        }
      })
    }
    expect(wrong.slice(0, 3)).toEqual([])
    expect(claims).toBe(version === '18' ? 96 : 54)
  })

  test('the sites that a host may take work of, and after which wait', async () => {
    for (const alive of worlds)
      await desk.supposed(async () => {
        for (const [place, state] of alive.entries()) await desk.bring(hosts[place] ?? '', state)
        for (const [place, host] of hosts.entries()) {
          const open = await desk.rows<{ site: string | null; minutes: number }>(
            'select site, extract(epoch from wait)::int / 60 as minutes from yardmaster.open_sites($1) order by site',
            [host],
          )
          const found = new Map(open.map(({ site, minutes }) => [site, minutes]))
          expect(found.size).toBe(open.length)
          if (alive[place]?.drained) expect(open).toEqual([])
          if (!isActive(alive[place])) continue
          for (const site of all) {
            const soonest = [0, 5, 10].find((waited) => yes.includes(codeOf({ states: alive }, site, place, waited)))
            expect(found.get(site), `${site} on ${host}, ${JSON.stringify(alive)}`).toBe(soonest)
          }
        }
      })
  })
})
