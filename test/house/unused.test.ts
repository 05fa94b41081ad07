import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Module, modulesBelow, root } from './source-tree.ts'

const modules = ['src', 'test', 'bench', 'docs', 'data'].flatMap((folder) => modulesBelow(folder))
const isTest = (path: string) => path.endsWith('.test.ts')

/** Names that a module exports as values: types of its own signatures may be exported without anybody naming them. */
function exportedValues({ text }: Module): string[] {
  return [...text.matchAll(/^export (?:async )?(?:const|let|function|class) (\w+)/gm)].map((match) => match[1] ?? '')
}

/** `file#name` of everything that is imported by name, and `file#*` where a whole module is loaded. */
function importedNames(module: Module): string[] {
  const resolve = (specifier: string) => relative(root, join(root, dirname(module.path), specifier))
  const byName = [...module.text.matchAll(/^\s*(?:import|export)\s+(?:type\s+)?\{([^}]*)\}\s*from\s*'(\.[^']+)'/gm)]
  const loaded = [
    ...module.text.matchAll(/const \{([^}]*)\} = await import\('(\.[^']+)'\)/g),
    ...module.text.matchAll(/import \* as (\w+) from '(\.[^']+)'/g),
  ]
  return [...byName, ...loaded].flatMap(([, names = '', specifier = '']) =>
    names.split(',').map((name) => {
      const plain =
        name
          .trim()
          .replace(/^type /, '')
          .split(/\s+as\s+|:/)[0] ?? ''
      return `${resolve(specifier)}#${plain.trim()}`
    }),
  )
}

const imported = new Set(modules.flatMap(importedNames))

describe('nothing is there for nobody', () => {
  it('sees exports and imports', () => {
    expect(modules.length).toBeGreaterThan(100)
    expect(modules.flatMap(exportedValues).length).toBeGreaterThan(150)
    expect(imported.size).toBeGreaterThan(200)
  })

  it('every exported value is imported somewhere', () => {
    // The scripts in data are loaded by address.
    const ours = modules.filter(({ path }) => !path.startsWith('data/'))
    const unused = ours.flatMap((module) =>
      exportedValues(module)
        .filter((name) => !imported.has(`${module.path}#${name}`))
        .map((name) => `${module.path}: ${name}`),
    )
    expect(unused).toEqual([])
  })

  it('every module is imported, or is where something begins', () => {
    const begins = [
      'src/cli/main.ts',
      'bench/full-copy.ts',
      'bench/dispatch.ts',
      'bench/increments.ts',
      'docs/write-reference.ts',
      'data/write-extract.ts',
      'test/support/global-setup.ts',
    ]
    const files = new Set(
      modules.flatMap((module) =>
        module.imports.map((specifier) => relative(root, join(root, dirname(module.path), specifier))),
      ),
    )
    const unused = modules.filter(({ path }) => !isTest(path) && !files.has(path) && !begins.includes(path))
    // A process of its own is started by the name of its file.
    const texts = modules.map((module) => module.text).join('\n')
    const named = (path: string) => texts.includes(`${path.split('/').at(-1)}'`)
    expect(unused.map(({ path }) => path).filter((path) => !named(path))).toEqual([])
  })

  it('every dependency is used', () => {
    const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
      devDependencies: Record<string, string>
    }
    const texts = [...modules.map((module) => module.text), readFileSync(join(root, 'vitest.config.ts'), 'utf8')]
    // Run, not imported: the compiler, the formatter, Node itself, types, and what vitest runs on.
    const tools = ['@biomejs/biome', '@types/node', '@types/pg', 'node', 'typescript', 'vite']
    const unused = Object.keys({ ...dependencies, ...devDependencies }).filter(
      (name) => !tools.includes(name) && !texts.some((text) => text.includes(`'${name}`)),
    )
    expect(unused).toEqual([])
  })
})
