import { expect, onTestFinished, test } from 'vitest'
import { openTestControl } from '../../test/security/control-database.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import type { Control } from '../control/control.ts'
import { composePlacement } from './compose-placement.ts'
import { readPlacement } from './placement-store.ts'

interface Stage {
  readonly database: TestDatabase
  readonly control: Control
  bind(...lines: string[]): Promise<void>
  /** Workers that are alive, with three slots each. */
  start(...hosts: string[]): Promise<void>
  /** A copy for each of these sites (undefined: none), due since ten minutes. */
  queue(...sites: (string | undefined)[]): Promise<void>
  /** What a host may take begins there. */
  claim(host: string): Promise<void>
}

async function stage(label: string): Promise<Stage> {
  const database = await createDatabase(`page ${label}`)
  const control = await openTestControl(database.url)
  onTestFinished(() => control.close())
  await database.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
  let copies = 0
  return {
    database,
    control,
    bind: async (...lines) => {
      const wanted = lines.map((line) => line.split(' ')).map(([site, host, binding]) => ({ site, host, binding }))
      await database.query('select yardmaster.set_bindings($1, true)', [JSON.stringify(wanted)])
    },
    start: async (...hosts) => {
      await database.query(
        `insert into yardmaster.worker (name, host, slots, session_pid, session_start, lease_until)
         select h || '#1', h, 3, 1, now(), now() + interval '1 hour' from unnest($1::text[]) h`,
        [hosts],
      )
    },
    queue: async (...sites) => {
      for (const site of sites) {
        const options = JSON.stringify(site === undefined ? {} : { site })
        copies += 1
        await database.query(
          `select yardmaster.queue_run(j.id) from (select yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', $1, $2)) j(id)`,
          [`t${copies}`, options],
        )
      }
      await database.query(`update yardmaster.run set due_at = due_at - interval '10 minutes' where status = 'WAITING'`)
    },
    claim: async (host) => {
      await database.query(
        `select yardmaster.claim_runs(id, array['replication'], 9) from yardmaster.worker where host = $1`,
        [host],
      )
    },
  }
}

test('each pair has the code that explain gives it; all codes there are', async () => {
  const { database, control, bind, start, queue, claim } = await stage('pairs')
  await bind(
    'late h1 prefer',
    'late h5 prefer',
    'kept h1 prefer',
    'kept h2 forbid',
    'lost h3 prefer',
    'little h2 allow',
  )
  await start('h1', 'h2', 'h4', 'h5', 'h6')
  await database.query(`select yardmaster.set_fallback('late', '5 minutes'), yardmaster.drain_host('h4')`)
  await database.query(
    `select yardmaster.set_host('h5', '{"slots": 1}'), yardmaster.set_host('h2', '{"site_slots": {"little": 1}}')`,
  )
  await queue('little', undefined)
  await claim('h2')
  await queue(undefined)
  await claim('h5')
  await queue('late')
  const found = await readPlacement(control)
  const explained = await database.query(`
    select site, host, binding, may_run, code from yardmaster.placement_matrix(array['kept', 'late', 'little', 'lost', null])`)
  const shown = found.pairs.map(({ running: _, ...pair }) => pair)
  const byName = (one: object) => JSON.stringify(one)
  expect(shown.map(byName).sort()).toEqual(explained.map(byName).sort())
  expect(new Set(shown.map(({ code }) => code))).toEqual(
    new Set([
      ...['forbidden', 'preferred_elsewhere', 'inactive', 'draining', 'host_full', 'pair_full'],
      ...['no_site', 'prefers', 'allowed', 'fallback_elapsed'],
    ]),
  )
  expect(
    found.pairs.filter(({ running }) => running > 0).map(({ site, host, running }) => [site, host, running]),
  ).toEqual(
    expect.arrayContaining([
      ['little', 'h2', 1],
      [null, 'h2', 1],
      [null, 'h5', 1],
    ]),
  )
  expect(found).toMatchObject({ sites: ['kept', 'late', 'little', 'lost', null], site_count: 4, active_count: 4 })
})

test('sites without a host come first, then those with one left; what to do is said', async () => {
  const { control, bind, start, queue } = await stage('alerts')
  await bind(
    ...['a h1 prefer', 'b h1 prefer', 'b h3 forbid', 'b h2 allow', 'c h2 prefer', 'c h1 forbid', 'c h3 forbid'],
    ...['d h1 forbid', 'd h2 forbid', 'd h3 forbid'],
  )
  await start('h1', 'h3')
  await queue('c')
  const shown = composePlacement(await readPlacement(control))
  expect(shown.answer).toBe('No active host may run 2 of 4 sites: c, d. 1 of 4 sites has one active host left: b.')
  expect(shown.alerts.map(({ site, level }) => [site, level])).toEqual([
    ['c', 'CRITICAL'],
    ['d', 'CRITICAL'],
    ['b', 'WARNING'],
  ])
  expect(shown.alerts[0]?.text).toMatch(
    /^No host may run site c\. h1 and h3 are forbidden; h2 prefers it but has no worker\. 1 run waits, the oldest 10 min/,
  )
  expect(shown.alerts[1]?.text).toContain('Every known host forbids it: it will wait for ever.')
  expect(shown.alerts[2]?.text).toBe('Site b has one active host left (h1).')
  expect(shown.sites.map(({ site, stranded, at_risk }) => [site, stranded, at_risk])).toEqual([
    ['c', true, false],
    ['d', true, false],
    ['b', false, true],
    ['a', false, false],
  ])
})

test('of many hosts and sites the first are shown, those that matter before others; the answer counts all', async () => {
  const { control, bind, start } = await stage('many')
  const names = (letter: string, from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, n) => `${letter}${from + n}`)
  const [hosts, sites] = [names('h', 101, 160), names('s', 1001, 1300)]
  const forbidden = hosts.filter((host) => host !== 'h102').map((host) => `s1299 ${host} forbid`)
  await bind(
    ...sites.filter((site) => site < 's1299').map((site) => `${site} h101 allow`),
    's1298 h102 allow',
    ...forbidden,
    's1300 h160 forbid',
  )
  await start('h101', 'h160')
  const facts = await readPlacement(control)
  expect(facts.hosts).toHaveLength(40)
  expect(facts.hosts.filter(({ active }) => active).map(({ name }) => name)).toEqual(['h101', 'h160'])
  expect([facts.sites.length, ...facts.sites.slice(0, 3)]).toEqual([50, 's1299', 's1300', 's1001'])
  expect(facts.pairs).toHaveLength(2000)
  const shown = composePlacement(facts)
  expect(shown).toMatchObject({ host_count: 60, site_count: 300, alert_count: 2 })
  expect(shown.answer).toBe(
    'No active host may run 1 of 300 sites: s1299. 1 of 300 sites has one active host left: s1300.',
  )
})
