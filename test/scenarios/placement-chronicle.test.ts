import { beforeEach, describe, expect, test } from 'vitest'
import { type PlacedAttempt, PlacementChronicle } from './placement-chronicle.ts'

let chronicle: PlacementChronicle

/** h1 prefers site A from 100 on. */
beforeEach(() => {
  chronicle = new PlacementChronicle(['h1', 'h2'])
  chronicle.bound('A', 'h1', 'prefer', 100, 110)
})

function attempt(given: Partial<PlacedAttempt>, seen: Partial<PlacedAttempt['witnessed']> = {}): PlacedAttempt {
  const began = given.claimed_at ?? 1000
  const witnessed = {
    bindings: { h1: 'prefer' } as const,
    active: [],
    drained: [],
    fallback_ms: null,
    waited_ms: 0,
    ...seen,
  }
  return {
    id: '1',
    site: 'A',
    host: 'h2',
    placement: 'allowed',
    claimed_at: began,
    began_at: began,
    witnessed,
    ...given,
  }
}

describe('by what was done', () => {
  test('an allowed host while the preferred one is there', () => {
    expect(chronicle.faults(attempt({}))).toEqual(['attempt 1 of A on h2: h1 preferred it and was there'])
  })

  test.each([
    ['in the moment of the binding', () => {}, attempt({ claimed_at: 105 })],
    ['before it', () => {}, attempt({ claimed_at: 99 })],
    ['while the preferred host may be gone', () => chronicle.up('h1', false, 900, 1100), attempt({})],
    ['while it is gone', () => chronicle.up('h1', false, 900, 950), attempt({})],
    ['while it may be drained', () => chronicle.drained('h1', true, 999, 1001), attempt({})],
    ['with no site', () => {}, attempt({ site: null, placement: 'no_site' })],
  ])('nothing is wrong %s', (_when, happens, one) => {
    happens()
    expect(chronicle.faults(one)).toEqual([])
  })

  test('a forbidden host, one that is drained, one that is not there', () => {
    const preferred = { host: 'h1', placement: 'prefers' }
    chronicle.drained('h1', true, 200, 210)
    expect(chronicle.faults(attempt(preferred))).toEqual(['attempt 1 of A on h1: it was drained'])
    chronicle.drained('h1', false, 300, 310)
    expect(chronicle.faults(attempt(preferred))).toEqual([])
    chronicle.up('h1', false, 400, 410)
    expect(chronicle.faults(attempt(preferred))).toEqual(['attempt 1 of A on h1: it was not there'])
    chronicle.bound('A', 'h2', 'forbid', 500, 510)
    expect(chronicle.faults(attempt({}))).toEqual(['attempt 1 of A on h2: it was forbidden'])
  })
})

describe('by what the claim saw', () => {
  test.each([
    ['allowed', 'preferred_elsewhere', { active: ['h1'] }],
    ['allowed', 'forbidden', { bindings: { h2: 'forbid' } }],
    ['fallback_elapsed', 'preferred_elsewhere', { active: ['h1'], fallback_ms: 3000, waited_ms: 2999 }],
    ['allowed', 'fallback_elapsed', { active: ['h1'], fallback_ms: 3000, waited_ms: 3000 }],
  ] as const)('%s where the rule says %s', (placement, expected, seen) => {
    const one = attempt({ claimed_at: 50, placement }, seen)
    expect(chronicle.faults(one)).toContain(
      `attempt 1 of A on h2: its record says ${placement}, the rule says ${expected}`,
    )
  })
})
