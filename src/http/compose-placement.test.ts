import { describe, expect, it } from 'vitest'
import { composePlacement } from './compose-placement.ts'
import type { HostRow, PairRow, PlacementFacts } from './placement-store.ts'

const at = new Date('2024-01-01T12:00:00Z')

function host(name: string, more: Partial<HostRow> = {}): HostRow {
  return {
    ...{ name, active: true, has_worker: true, drained: false, drained_at: null, drained_by: null },
    ...{ workers: 1, running: 0, room: 4, seen_at: at, count: 2, ...more },
  }
}

function pair(site: string | null, on: string, more: Partial<PairRow> = {}): PairRow {
  return { site, host: on, binding: 'none', may_run: true, code: 'allowed', running: 0, ...more }
}

const facts: PlacementFacts = {
  hosts: [host('h1'), host('h2')],
  active_count: 2,
  alerts: [],
  sites: ['a', '', null],
  site_count: 2,
  binding_count: 1,
  pairs: [],
}

describe('has every site a host?', () => {
  it.each<[string, Partial<PlacementFacts>, string, string]>([
    ['all have', {}, 'OK', 'Each of 2 sites has an active host that may run its work.'],
    ['nothing bound', { binding_count: 0 }, 'OK', 'Nothing is bound: every host may run the work of every site.'],
    ['nobody there', { active_count: 0 }, 'UNKNOWN', 'No host is active.'],
    [
      'stranded and at risk',
      {
        alerts: [
          { site: 'a', alert_code: 3, alert_text: 'A.' },
          { site: '', alert_code: 2, alert_text: 'B.' },
        ],
      },
      'CRITICAL',
      'No active host may run 1 of 2 sites: a. 1 of 2 sites has one active host left: default site.',
    ],
    [
      'at risk',
      { alerts: [{ site: 'a', alert_code: 2, alert_text: 'B.' }] },
      'WARNING',
      '1 of 2 sites has one active host left: a.',
    ],
  ])('%s', (_, more, level, answer) => {
    expect(composePlacement({ ...facts, ...more })).toMatchObject({ level, answer })
  })
})

describe('a placement', () => {
  it('has each pair at its place, whatever the order in which they come', () => {
    const pairs = [
      pair('', 'h2', { binding: 'forbid', may_run: false, code: 'forbidden' }),
      pair(null, 'h2', { code: 'no_site', running: 1 }),
      pair('a', 'h2'),
      pair('a', 'h1', { binding: 'prefer', code: 'prefers', running: 2 }),
      pair('', 'h1', { binding: 'allow' }),
      pair(null, 'h1', { code: 'no_site' }),
    ]
    const { sites } = composePlacement({ ...facts, pairs })
    expect(
      sites.map(({ site, hosts }) => [site, hosts.map((one) => `${one.host} ${one.binding} ${one.running}`)]),
    ).toEqual([
      ['a', ['h1 prefer 2', 'h2 none 0']],
      ['', ['h1 allow 0', 'h2 forbid 0']],
      [null, ['h1 none 0', 'h2 none 1']],
    ])
    expect(sites[1]?.hosts[1]).toEqual({ host: 'h2', binding: 'forbid', may_run: false, code: 'forbidden', running: 0 })
  })

  it('says which sites are stranded and which at risk, with the sentences of the first', () => {
    const alerts = Array.from(
      { length: 12 },
      (_, n) => ({ site: `s${n}`, alert_code: 3, alert_text: `No host: ${n}.` }) as const,
    )
    const shown = composePlacement({
      ...facts,
      alerts: [...alerts, { site: 'a', alert_code: 2, alert_text: 'One left.' }],
      sites: ['s0', 'a', '', null],
    })
    expect(shown.alerts.map(({ level, text }) => `${level} ${text}`)).toEqual(
      alerts.slice(0, 10).map(({ alert_text: text }) => `CRITICAL ${text}`),
    )
    expect(shown.alert_count).toBe(13)
    expect(shown.sites.map(({ site, stranded, at_risk }) => [site, stranded, at_risk])).toEqual([
      ['s0', true, false],
      ['a', false, true],
      ['', false, false],
      [null, false, false],
    ])
  })

  it('shows hosts: drained by whom and since when, null for what is not known, no control characters', () => {
    const drained = host('h\u001b1', { active: false, drained: true, drained_at: at, drained_by: 'ann\u202e' })
    const gone = host('h2', { active: false, has_worker: false, workers: 0, room: null, seen_at: null })
    const { hosts, host_count: count } = composePlacement({ ...facts, hosts: [drained, gone] })
    expect(hosts).toEqual([
      {
        ...{
          host: 'h\\u{1b}1',
          active: false,
          drained: true,
          drained_at: at.toISOString(),
          drained_by: 'ann\\u{202e}',
        },
        ...{ workers: 1, running: 0, slots: 4, last_seen: at.toISOString() },
      },
      {
        ...{ host: 'h2', active: false, drained: false, drained_at: null, drained_by: null },
        ...{ workers: 0, running: 0, slots: null, last_seen: null },
      },
    ])
    expect(count).toBe(2)
  })
})
