import { expect, it } from 'vitest'
import { premature } from './job-order.ts'

const at = (seconds: number) => new Date(Date.UTC(2024, 0, 1, 0, 0, seconds))
const run = (id: string, slot: number, began = slot) => ({ id, slot: at(slot), started_at: at(began) })
const ended = (object: string, second: number) => ({ object, finished_at: at(second) })

it('finds nothing wrong where both came between two runs', () => {
  const both = [ended('a', 3), ended('b', 4), ended('b', 9), ended('a', 10)]
  expect(premature([run('1', 4), run('2', 10)], ['a', 'b'], both, at(0))).toEqual([])
})

it.each([
  ['one never came', [ended('a', 3)], 'run 1 began though b had not ended well since the run before it'],
  [
    'one came before the job was there',
    [ended('a', 3), ended('b', -2)],
    'run 1 began though b had not ended well since the run before it',
  ],
  [
    'one came after it began',
    [ended('a', 3), ended('b', 5)],
    'run 1 began though b had not ended well since the run before it',
  ],
])('%s', (_, others, problem) => {
  expect(premature([run('1', 4)], ['a', 'b'], others, at(0))).toEqual([problem])
})

it('does not count twice what the run before it had', () => {
  const once = [ended('a', 3), ended('b', 3), ended('a', 8)]
  expect(premature([run('1', 4), run('2', 8)], ['a', 'b'], once, at(0))).toEqual([
    'run 2 began though b had not ended well since the run before it',
  ])
})
