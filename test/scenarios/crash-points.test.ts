import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { crashPoints } from '../../src/base/crash-point.ts'

const root = join(import.meta.dirname, '../..')

/** Names in calls of `crashPoint(…)`, also where one of two is chosen. */
function usedNames(): string[] {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  const sources = files.filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
  return sources.flatMap((name) => {
    const text = readFileSync(join(root, 'src', name), 'utf8')
    const calls = text.matchAll(/(?<!function )\bcrashPoint\(([^)]*)\)/g)
    return [...calls].flatMap((call) => [...(call[1] ?? '').matchAll(/'([a-z-]{6,})'/g)].map((match) => match[1] ?? ''))
  })
}

/** Names in a scenario's lists of points. */
function walkedNames(): Set<string> {
  const files = readdirSync(import.meta.dirname).filter((name) => /^crash-.*\.pg\.test\.ts$/.test(name))
  const text = files.map((name) => readFileSync(join(import.meta.dirname, name), 'utf8')).join('\n')
  return new Set([...text.matchAll(/'([a-z]+(?:-[a-z]+)+)'/g)].map((match) => match[1] ?? ''))
}

test('each registered crash point stands in the program, and each one there is registered', () => {
  expect([...new Set(usedNames())].sort()).toEqual([...crashPoints].sort())
})

test('each crash point is walked by a scenario', () => {
  const walked = walkedNames()
  expect(crashPoints.filter((name) => !walked.has(name))).toEqual([])
})
