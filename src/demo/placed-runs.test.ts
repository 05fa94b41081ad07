import { expect, it } from 'vitest'
import { demoBindings } from './demo-bindings.ts'
import { misplacedRuns, type PlacedRun } from './placed-runs.ts'

const at = (seconds: number) => new Date(Date.UTC(2024, 0, 1) + seconds * 1000)
const times = { began: at(0), away: [{ host: 'marketing', from: at(100), to: at(110) }] }

function run(site: string | null, host: string, placement: string, more: Partial<PlacedRun> = {}): PlacedRun {
  return { id: '7', object: 'dwh:public.t', site, host, placement, started_at: at(50), attempt: 1, ...more }
}

it.each<[string, PlacedRun, string | undefined]>([
  ['where it is preferred', run('Marketing', 'marketing', 'prefers'), undefined],
  ['where nothing prefers it', run('Sales', 'ceo', 'allowed'), undefined],
  ['of no site', run(null, 'qa', 'no_site'), undefined],
  ['on the fallback host meanwhile', run('Marketing', 'qa', 'allowed', { started_at: at(105) }), undefined],
  ['begun on the host that was killed', run('Marketing', 'qa', 'allowed', { attempt: 2 }), undefined],
  ['before all hosts were there', run('CEO', 'qa', 'allowed', { started_at: at(-1) }), undefined],
  ['a claim that ended just then', run('Marketing', 'qa', 'allowed', { started_at: at(110.4) }), undefined],
  [
    'forbidden, also while the others are away',
    run('Marketing', 'ceo', 'allowed', { started_at: at(105) }),
    'which forbids Marketing',
  ],
  ['forbidden, at its second attempt', run('QA', 'marketing', 'allowed', { attempt: 2 }), 'which forbids QA'],
  [
    'the preferred host is there',
    run('Marketing', 'qa', 'allowed'),
    'though marketing prefers Marketing and was there',
  ],
  [
    'the preferred host is there again',
    run('Marketing', 'qa', 'allowed', { started_at: at(111) }),
    'though marketing prefers Marketing and was there',
  ],
  [
    'another host is away',
    run('CEO', 'qa', 'allowed', { started_at: at(105) }),
    'though ceo prefers CEO and was there',
  ],
  ['a code that is not so', run('Sales', 'ceo', 'prefers'), 'by prefers, not by allowed'],
  ['as if it were of no site', run('QA', 'qa', 'no_site'), 'by no_site, not by prefers'],
])('%s', (_, one, wrong) => {
  const said = wrong === undefined ? [] : [`run 7 of dwh:public.t was on ${one.host}, ${wrong}`]
  expect(misplacedRuns([one], demoBindings, times)).toEqual(said)
})
