import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { type BindingRow, PlacementDesk } from './placement-desk.ts'

interface Alert {
  alert_code: number
  alert_status: string
  job_name: string
  alert_text: string
}

describe.each(['18', '14'])('alerts of placement on PostgreSQL %s', (version) => {
  let desk: PlacementDesk

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    desk = await PlacementDesk.open(await server.createDatabase(`alerts ${version}`))
  })

  /** Alerts of sites and of workers that can't take anything, with times left out. */
  async function alerts(): Promise<string[]> {
    const rows = await desk.rows<Alert>('select * from yardmaster.check_job_status()')
    return rows
      .filter(({ alert_status }) => alert_status.startsWith('site_') || alert_status === 'MISSING')
      .map(
        ({ alert_code, alert_status, job_name, alert_text }) =>
          `${alert_code} ${alert_status} ${job_name}: ${alert_text.replaceAll(/\d\d:\d\d \S+(?= \()/g, '##:##').replaceAll(/\d+ s\b/g, '# s')}`,
      )
  }

  async function hopeless(wanted?: BindingRow[]): Promise<(string | undefined)[]> {
    const rows = await desk.rows<{ site: string }>('select site from yardmaster.hopeless_sites($1)', [
      wanted === undefined ? null : JSON.stringify(wanted),
    ])
    return rows.map((row) => row.site)
  }

  const ceo: BindingRow[] = [
    { site: 'CEO', host: 'ceo', binding: 'prefer' },
    { site: 'CEO', host: 'qa', binding: 'forbid' },
    { site: 'CEO', host: 'lab', binding: 'forbid' },
  ]

  test('a site whose only host dies is stranded, and no more when it is back', () =>
    desk.supposed(async () => {
      const first = await desk.start('ceo')
      for (const host of ['qa', 'lab']) await desk.start(host)
      await desk.bind(ceo)
      await desk.work(['CEO', 'CEO'], ['9 minutes', '2 minutes'])
      expect(await alerts()).toEqual([])
      await desk.rows('select yardmaster.end_worker($1)', [first])
      expect(await alerts()).toEqual([
        '3 site_stranded site CEO: No host may run site CEO. lab and qa are forbidden; ceo prefers it but is down since ##:## (# s). ' +
          "4 runs wait, the oldest 9 min # s. Start a worker on ceo, or allow another host: yardmaster binding set 'CEO' lab allow",
      ])
      await desk.start('ceo')
      expect(await alerts()).toEqual([])
      await desk.rows("select yardmaster.drain_host('ceo')")
      expect(await alerts()).toEqual([
        '3 site_stranded site CEO: No host may run site CEO. lab and qa are forbidden; ceo prefers it but is drained. ' +
          "4 runs wait, the oldest 9 min # s. Take ceo back (yardmaster host undrain ceo), or allow another host: yardmaster binding set 'CEO' lab allow",
      ])
      await desk.rows("select yardmaster.undrain_host('ceo')")
      expect(await alerts()).toEqual([])
    }))

  test('where every known host forbids it, it will wait for ever, until a host comes that does not', () =>
    desk.supposed(async () => {
      for (const host of ['qa', 'lab']) await desk.start(host)
      const wanted = ceo.filter(({ host }) => host !== 'ceo')
      await desk.bind(wanted, true)
      expect(await hopeless()).toEqual(['CEO'])
      expect(await alerts()).toEqual([
        '3 site_stranded site CEO: No host may run site CEO. Every known host forbids it: it will wait for ever. ' +
          "Allow a host: yardmaster binding set 'CEO' lab allow",
      ])
      await desk.work(['CEO'], ['1 minute'])
      expect(await alerts()).toEqual([
        expect.stringContaining('wait for ever. 1 run waits, the oldest 1 min # s. Allow'),
      ])
      await desk.start('port')
      expect(await alerts()).toEqual([])
      expect(await hopeless()).toEqual([])
    }))

  test('a host whose only worker is about to stop is active no more, though it runs what it has', () =>
    desk.supposed(async () => {
      const [ceos] = [await desk.start('ceo'), await desk.start('qa')]
      await desk.bind([{ site: 'A', host: 'ceo', binding: 'prefer' }])
      const codes = async () =>
        (await desk.rows<{ code: string }>(`select code from yardmaster.placement_matrix('{A}') order by host`)).map(
          ({ code }) => code,
        )
      expect(await codes()).toEqual(['prefers', 'preferred_elsewhere'])
      await desk.rows('select yardmaster.stop_worker($1)', [ceos])
      expect(await codes()).toEqual(['inactive', 'allowed'])
    }))

  test('a site of several hosts that has one left is at risk', () =>
    desk.supposed(async () => {
      const workers: string[] = []
      for (const host of ['ceo', 'qa', 'port']) workers.push(await desk.start(host))
      await desk.bind([
        { site: 'CEO', host: 'qa', binding: 'forbid' },
        { site: '', host: 'qa', binding: 'forbid' },
        { site: 'Free', host: 'ceo', binding: 'prefer' },
      ])
      expect(await alerts()).toEqual([])
      await desk.rows('select yardmaster.end_worker($1)', [workers[0]])
      expect(await alerts()).toEqual([
        '2 site_at_risk site CEO: Site CEO has one active host left (port).',
        '2 site_at_risk the default site: The default site has one active host left (port).',
      ])
      await desk.rows('select yardmaster.end_worker($1)', [workers[2]])
      expect(await alerts()).toEqual([
        expect.stringMatching(
          /^3 site_stranded site CEO: No host may run site CEO\. qa is forbidden; ceo may run it but is down/,
        ),
        expect.stringMatching(
          /^3 site_stranded the default site: No host may run the default site\. .* binding set '' qa allow$/,
        ),
      ])
      // Without any worker that is one alert of its own, and none of these.
      await desk.rows('select yardmaster.end_worker($1)', [workers[1]])
      expect(await alerts()).toEqual([])
    }))

  test('every host drained is said once, also where nothing is bound', () =>
    desk.supposed(async () => {
      await desk.rows(
        `select yardmaster.set_replication_status(yardmaster.add_replication('table', 'crm', 'public', 'drained', 'dwh', 'copies', 'drained',
          '{"schedule_interval": "1 hour"}'), 'active')`,
      )
      expect(await alerts()).toEqual([
        expect.stringMatching(/^2 MISSING workers: no worker is alive, and schedules wait for one: 1\./),
      ])
      await desk.start('ceo')
      expect(await alerts()).toEqual([])
      await desk.rows("select yardmaster.drain_host('ceo')")
      expect(await alerts()).toEqual([
        '2 MISSING workers: every host with a live worker is drained, and schedules wait: 1. Take one back: yardmaster host undrain ceo',
      ])
      await desk.rows("select yardmaster.undrain_host('ceo')")
      expect(await alerts()).toEqual([])
    }))

  test('sites that would be hopeless are told from bindings that are not in force', () =>
    desk.supposed(async () => {
      for (const host of ['qa', 'lab']) await desk.start(host)
      const forbid = (site: string, ...hosts: string[]) =>
        hosts.map((host) => ({ site, host, binding: 'forbid' as const }))
      expect(await hopeless(forbid('A', 'qa'))).toEqual([])
      expect(await hopeless([...forbid('A', 'qa', 'lab'), ...forbid('B', 'lab')])).toEqual(['A'])
      // A host that the bindings themselves name is one, too.
      expect(await hopeless([...forbid('A', 'qa', 'lab'), { site: 'B', host: 'ceo', binding: 'allow' }])).toEqual([])
      expect(await hopeless()).toEqual([])
    }))

  test('one host that only a binding names is not every host; one that was seen is', () =>
    desk.supposed(async () => {
      const forbid = [{ site: 'A', host: 'qa', binding: 'forbid' as const }]
      expect(await hopeless(forbid)).toEqual([])
      await desk.rows(`select yardmaster.set_bindings('[{"site": "A", "host": "qa", "binding": "forbid"}]')`)
      expect(await alerts()).toEqual([])
      await desk.rows(`select yardmaster.set_host('qa')`)
      expect(await hopeless()).toEqual([])
      await desk.start('qa')
      expect(await hopeless(forbid)).toEqual(['A'])
      expect(await alerts()).toHaveLength(1)
    }))

  test('a shell reads the command as it is meant, whatever the site is called', () =>
    desk.supposed(async () => {
      await desk.start('qa')
      await desk.bind([{ site: "O'Brien $(id)", host: 'qa', binding: 'forbid' }], true)
      expect((await alerts())[0]).toMatch(/ binding set 'O'\\''Brien \$\(id\)' qa allow$/)
    }))
})
