import { expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

test('no name of a host does anything where a command that names it is copied', async () => {
  const desk = await PlacementDesk.open(await createDatabase('second reader names'))
  const letters = Array.from({ length: 94 }, (_, n) => String.fromCharCode(33 + n)).filter(
    (letter) => !/[\w\-.:%=+@,/^]/.test(letter),
  )
  expect(letters.join('')).toBe('!"#$&\'()*;<>?[\\]`{|}~')
  await desk.client.query('begin')
  for (const letter of letters) {
    const name = `a${letter}b`
    expect(await desk.refused('select yardmaster.set_host($1)', [name]), name).toMatch(/^YM003 A host cannot be called/)
    expect(await desk.refused("select yardmaster.set_binding('s', $1, 'forbid')", [name]), name).toMatch(/^YM003 /)
    expect(await desk.refused('select yardmaster.register_worker($1, $1, 1)', [name]), name).toMatch(/^YM003 /)
  }
  for (const name of ['web-1.example.org', 'Web_1', 'fe80::1', 'bücher', 'a+b', 'a%b'])
    expect(await desk.refused('select yardmaster.set_host($1)', [name])).toBe('not refused')
  await desk.client.query('rollback')
})
