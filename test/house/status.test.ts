import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from './source-tree.ts'

const page = readFileSync(join(root, 'docs/status.md'), 'utf8')
const rows = page.split('\n').filter((line) => line.startsWith('| ') && !line.endsWith('| shown by |'))
/** A file in backquotes and the titles in quotes behind it. */
const named = [...page.matchAll(/`([^`\s]+\.test\.ts)`((?:,? ?"[^"\n]+")+)/g)].flatMap((match) =>
  [...(match[2] ?? '').matchAll(/"([^"]+)"/g)].map((title) => [match[1] ?? '', title[1] ?? ''] as const),
)

describe('docs/status.md', () => {
  it('names a test, or says not yet, for each promise', () => {
    expect(rows.length).toBeGreaterThan(60)
    const silent = rows.filter((row) => !/`[^`]+\.test\.ts` "|not yet|no test|`\.ci\//.test(row))
    expect(silent).toEqual([])
  })

  it('has every number of the hazards and of the errors of old', () => {
    for (const [letter, last] of [
      ['H', 23],
      ['B', 27],
    ] as const) {
      const covered = new Set<number>()
      for (const [, from, to] of page.matchAll(new RegExp(`\\b${letter}(\\d+)(?:–${letter}(\\d+))?`, 'g'))) {
        for (let n = Number(from); n <= Number(to ?? from); n += 1) covered.add(n)
      }
      expect([...covered].sort((a, b) => a - b)).toEqual(Array.from({ length: last }, (_, index) => index + 1))
    }
  })

  it('names only tests that there are', () => {
    expect(named.length).toBeGreaterThan(50)
    const gone = named.filter(([file, title]) => {
      const path = join(root, file)
      return !existsSync(path) || !readFileSync(path, 'utf8').includes(title)
    })
    expect(gone).toEqual([])
  })
})
