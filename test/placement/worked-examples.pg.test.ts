import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { readCsv } from '../../src/base/csv.ts'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { type BindingRow, PlacementDesk } from './placement-desk.ts'

/** The examples of palette-director's guide, with the hosts that may run each site's work whichever of the four are active. */
interface Example {
  readonly csv: string
  readonly active: string[]
  readonly may_run: Record<string, string[]>
}

const folder = new URL('worked-examples/', import.meta.url)
const examples = JSON.parse(readFileSync(new URL('cases.json', folder), 'utf8')) as Example[]
const hosts = ['qa.local', 'marketing.local', 'ceo.local', 'fallback.local']
const sites = ['CEO', 'QA', 'Marketing', null]

function bindingsOf(csv: string): BindingRow[] {
  const [, ...records] = readCsv(readFileSync(new URL(csv, folder), 'utf8'))
  return records.map(({ fields: [site = '', host = '', binding = ''] }) => ({ site, host, binding }) as BindingRow)
}

/** By site, who may, in one order. */
function bySite(pairs: readonly { site: string | null; host: string }[]): Record<string, string[]> {
  return Object.fromEntries(
    sites.map((site) => [
      site ?? '(none)',
      pairs
        .filter((pair) => pair.site === site)
        .map((pair) => pair.host)
        .sort(),
    ]),
  )
}

function expected({ may_run }: Example): Record<string, string[]> {
  return Object.fromEntries(sites.map((site) => [site ?? '(none)', [...(may_run[site ?? '(none)'] ?? [])].sort()]))
}

test('there are examples of every file and every set of active hosts', () => {
  expect(examples).toHaveLength(4 * 15)
  expect(new Set(examples.map(({ csv, active }) => `${csv} ${active.sort()}`)).size).toBe(60)
})

describe.each(['18', '14'])('the worked examples on PostgreSQL %s', (version) => {
  let desk: PlacementDesk

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    desk = await PlacementDesk.open(await server.createDatabase(`examples ${version}`))
    await desk.work(sites)
  })

  test('simulated: bindings that are not in force, hosts that nobody has seen', async () => {
    for (const example of examples) {
      const rows = await desk.matrix(sites, { wanted: bindingsOf(example.csv), up: example.active })
      expect(bySite(rows.filter((row) => row.may_run)), JSON.stringify(example)).toEqual(expected(example))
    }
    expect(await desk.rows('select * from yardmaster.bindings')).toEqual([])
  })

  test('in force: explained, and given to workers on just the active hosts', async () => {
    for (const example of examples)
      await desk.supposed(async () => {
        const workers = new Map<string, string>()
        for (const host of hosts) workers.set(host, await desk.start(host))
        await desk.bind(bindingsOf(example.csv))
        for (const host of hosts.filter((host) => !example.active.includes(host))) {
          await desk.rows('select yardmaster.end_worker($1)', [workers.get(host)])
          workers.delete(host)
        }
        const rows = await desk.matrix(sites)
        expect(bySite(rows.filter((row) => row.may_run)), JSON.stringify(example)).toEqual(expected(example))
        const given: { site: string | null; host: string }[] = []
        for (const [host, worker] of workers)
          for (const { site } of await desk.tried(() => desk.claim(worker))) given.push({ site, host })
        expect(bySite(given), JSON.stringify(example)).toEqual(expected(example))
      })
  })

  test('by address: the same, once the hosts have names', async () => {
    const wanted = bindingsOf('workers-5-by-address.csv')
    const addresses = { east: '10.0.0.189', west: '10.0.0.188', north: '10.0.0.27' }
    const names = Object.entries(addresses)
    const answer = async (named: boolean) => {
      const up = names.map(([name, address]) => (named ? name : address))
      const rows = await desk.matrix(sites, { up })
      const name = (host: string) => names.find(([, address]) => address === host)?.[0] ?? host
      return rows.map(({ site, host, code }) => `${site} ${name(host)} ${code}`).sort()
    }
    await desk.supposed(async () => {
      await desk.bind(wanted)
      const before = await answer(false)
      expect(before).toContain('Marketing east prefers')
      expect(before).toContain('Marketing north preferred_elsewhere')
      expect(before).toContain('QA west forbidden')
      expect(before).toContain('QA east allowed')
      for (const [name, address] of names)
        await desk.rows('select yardmaster.set_host($1, $2)', [name, JSON.stringify({ addresses: [address] })])
      expect(await answer(true)).toEqual(before)
      expect(await answer(false)).toEqual(before)
      expect(await desk.bind(wanted)).toBe(0)
    })
  })
})
