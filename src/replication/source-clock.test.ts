import { describe, expect, test } from 'vitest'
import type { ControlColumn } from './definition.ts'
import { findBreak, readMemory, type SourceClock, writeMemory } from './source-clock.ts'

const control: ControlColumn = { column: 'at', by: 'time', boundary: 'auto', timezone: null, dstWindow: null }
const clock: SourceClock = { instant: 5_000_000, isStandby: false, system: '71', timeline: '0000000A', zone: 'UTC' }
const samples = [{ value: '9007199254740993', clock: 4_000_000, open: ['3/1'], prepared: ['800 1.5'] }]

describe('memory', () => {
  const memory = JSON.parse(JSON.stringify(writeMemory(control, clock, { samples, again: '2026-01-01' })))

  test('goes through JSON whole', () => {
    expect(readMemory(memory, control)).toEqual({
      ...{ clock: 5_000_000, system: '71', timeline: '0000000A', samples, again: '2026-01-01' },
    })
  })

  test('of another column, of another kind, or of somebody else counts for nothing', () => {
    for (const other of [
      { ...control, column: 'b' },
      { ...control, by: 'serial' as const },
    ]) {
      expect(readMemory(memory, other)).toMatchObject({ samples: [], clock: undefined })
    }
    expect(readMemory({}, control)).toMatchObject({ samples: [] })
    expect(readMemory({ ...memory, samples: [{ value: 5 }] }, control)).toMatchObject({ samples: [], again: undefined })
  })
})

describe('the source went back', () => {
  const before = readMemory(writeMemory(control, clock, { samples: [] }), control)
  test.each<[string, Partial<SourceClock>, string | undefined]>([
    ['not when the clock went on', { instant: 5_000_001 }, undefined],
    ['not when it stands', {}, undefined],
    ['when its clock did', { instant: 3_500_000 }, 'clock went back by 1.5 s'],
    ['when it is another server', { system: '72' }, 'another server than before'],
    ['when its history is another', { timeline: '0000000B' }, 'its timeline is 11, and was 10'],
    ['not when a standby says nothing of its history', { timeline: null, isStandby: true }, undefined],
  ])('%s', (_, changes, why) => {
    const found = findBreak(before, { ...clock, ...changes })
    if (why === undefined) expect(found).toBeUndefined()
    else expect(found).toContain(why)
  })

  test('nothing says so where nothing is remembered', () => {
    expect(findBreak(readMemory({}, control), clock)).toBeUndefined()
  })
})
