import { expect, test } from 'vitest'
import { describeHolder, describePrepared, joinNotes } from './bound-holder.ts'

const second = 1_000_000

test.each([
  [299, undefined, ''],
  [300, 'OK', 'for 5 minutes'],
  [3599, 'OK', 'for 59 minutes'],
  [3600, 'WARNING', 'for 60 minutes'],
  [36_000, 'WARNING', 'for 10 hours'],
] as const)('whoever holds the bound back for %s s', (age, level, text) => {
  const holder = describeHolder({ pid: 47, user: 'eve', age: age * second })
  const prepared = describePrepared([{ id: '1', gid: "it's", owner: 'eve', since: 0 }], age * second)
  expect(holder?.level).toBe(level)
  expect(prepared?.level).toBe(level)
  if (level === undefined) return
  expect(holder?.text).toContain(`process 47 (eve) has been open at the source ${text}`)
  expect(prepared?.text).toContain(`'it''s' of eve has been waiting at the source ${text}`)
  expect(prepared?.text).toContain("ROLLBACK PREPARED 'it''s'")
})

test('several notes are one, as bad as the worst', () => {
  expect(joinNotes([undefined])).toEqual({ note: undefined, level: 'OK' })
  expect(joinNotes([{ text: 'A.', level: 'WARNING' }, undefined, { text: 'B.', level: 'OK' }])).toEqual({
    note: 'A. B.',
    level: 'WARNING',
  })
})
