import { expect, it } from 'vitest'
import { nearest } from './nearest.ts'

it.each([
  ['tabel', ['snapshot', 'table'], 'table'],
  ['snapshto', ['snapshot', 'table'], 'snapshot'],
  ['colums', ['columns', 'where'], 'columns'],
  ['WHERE', ['columns', 'where'], 'where'],
  ['inde', ['index', 'site'], 'index'],
  ['source_unreachabel', ['source_unreachable', 'control_unreachable'], 'source_unreachable'],
  ['stream', ['snapshot', 'table'], undefined],
  ['', ['snapshot', 'table'], undefined],
  ['x', [], undefined],
])('%s of %j is %s', (name, known, found) => {
  expect(nearest(name, known)).toBe(found)
})
