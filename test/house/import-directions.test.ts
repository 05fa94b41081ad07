import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { importsOf, type Module, modulesBelow, programModules, root } from './source-tree.ts'

/** The order of ARCHITECTURE.md: what each room may import beside itself. Those of one kind never import each other. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  config: ['base'],
  postgres: ['base'],
  embedded: ['base', 'postgres'],
  control: ['base', 'config', 'postgres'],
  replication: ['base', 'config', 'postgres', 'control'],
  jobs: ['base', 'config', 'postgres', 'control'],
  placement: ['base', 'config', 'postgres', 'control'],
  monitoring: ['base', 'config', 'postgres', 'control'],
  compat: ['base', 'config', 'postgres', 'control'],
  worker: ['base', 'config', 'postgres', 'embedded', 'control', 'replication', 'jobs', 'monitoring', 'compat'],
  library: ['base', 'postgres', 'embedded', 'control', 'jobs', 'placement', 'monitoring', 'worker'],
  // The one barrel.
  'index.ts': ['base', 'jobs', 'monitoring', 'library'],
  http: ['base', 'config', 'postgres', 'embedded', 'control', 'replication', 'jobs', 'monitoring', 'worker'],
  demo: [
    ...[
      'base',
      'config',
      'postgres',
      'embedded',
      'control',
      'replication',
      'jobs',
      'placement',
      'monitoring',
      'worker',
    ],
    'http',
  ],
  cli: [
    ...[
      'base',
      'config',
      'postgres',
      'embedded',
      'control',
      'replication',
      'jobs',
      'placement',
      'monitoring',
      'compat',
    ],
    ...['worker', 'http', 'demo'],
  ],
}

const modules = programModules()
const byPath = new Map(modules.map((module) => [module.path, module]))
const roomOf = (path: string) => path.split('/')[1] ?? ''
const target = (from: Module, specifier: string) =>
  specifier.startsWith('.') ? relative(root, join(root, dirname(from.path), specifier)) : undefined
const arrows = modules.flatMap((from) =>
  from.imports.map((specifier) => ({ from, specifier, to: target(from, specifier) })),
)

describe('imports go one way', () => {
  it('sees the modules and their imports', () => {
    expect(modules.length).toBeGreaterThan(60)
    expect(arrows.length).toBeGreaterThan(200)
    const rooms = [...new Set(modules.map((module) => roomOf(module.path)))]
    expect(
      rooms.filter((room) => mayImport[room] === undefined),
      'in src, but not in the order',
    ).toEqual([])
  })

  it('reads every form of import', () => {
    const text = `
      import a from 'a'
      import { b,
        c } from 'b'
      import type { T } from 'c'
      export { d } from 'd'
      import 'e'
      const f = await import('f')
      // import g from 'g'
      /* import h from 'h' */`
    expect(importsOf(text)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
  })

  it('lets a room import only itself and what stands before it', () => {
    const wrong = arrows.flatMap(({ from, to }) => {
      if (to === undefined) return []
      const [here, there] = [roomOf(from.path), roomOf(to)]
      const allowed = to.startsWith('src/') && (here === there || mayImport[here]?.includes(there))
      return allowed ? [] : [`${from.path} imports ${to}`]
    })
    expect(wrong).toEqual([])
  })

  it('imports files of the project by a relative path that exists, and packages that are dependencies', () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    const wrong = arrows.flatMap(({ from, specifier, to }) => {
      const name = specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/')
      const known =
        to === undefined ? specifier.startsWith('node:') || dependencies[name] !== undefined : byPath.has(to)
      return known ? [] : [`${from.path} imports ${specifier}`]
    })
    expect(wrong).toEqual([])
  })

  it('keeps libraries out of base', () => {
    const outside = arrows.filter(({ from, to, specifier }) => {
      return roomOf(from.path) === 'base' && to === undefined && !specifier.startsWith('node:')
    })
    expect(outside.map(({ from, specifier }) => `${from.path} imports ${specifier}`)).toEqual([])
  })

  it('has no cycle', () => {
    expect(findCycle()).toBeUndefined()
  })
})

describe('the process belongs to its entry points', () => {
  const entryPoints = ['src/cli/main.ts', 'bench/', 'test/']

  it.each(['process.env', 'process.exit('])('%s stands only there', (word) => {
    const all = [...modulesBelow('src'), ...modulesBelow('test'), ...modulesBelow('bench'), ...modulesBelow('docs')]
    const users = all.filter((module) => module.text.includes(word)).map((module) => module.path)
    expect(users).toContain('src/cli/main.ts')
    expect(users.filter((path) => !entryPoints.some((place) => path.startsWith(place)))).toEqual([])
  })
})

/** A chain of modules that ends where it began. */
function findCycle(): string[] | undefined {
  const done = new Set<string>()
  const walk = (path: string, chain: readonly string[]): string[] | undefined => {
    const at = chain.indexOf(path)
    if (at >= 0) return [...chain.slice(at), path]
    if (done.has(path)) return undefined
    const next = arrows.flatMap(({ from, to }) => (from.path === path && to !== undefined ? [to] : []))
    for (const one of next) {
      const cycle = walk(one, [...chain, path])
      if (cycle) return cycle
    }
    done.add(path)
    return undefined
  }
  for (const { path } of modules) {
    const cycle = walk(path, [])
    if (cycle) return cycle
  }
  return undefined
}
