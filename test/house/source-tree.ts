import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** One TypeScript file and what it imports. */
export interface Module {
  /** From the project's root: `src/base/failure.ts`. */
  readonly path: string
  readonly text: string
  /** As written: `../base/failure.ts`, `node:fs`, `pg`. Of `import`, `export … from`, `import()` and `import type`. */
  readonly imports: readonly string[]
}

/** The project's root folder. */
export const root = join(import.meta.dirname, '../..')

/** All TypeScript files below a folder of the project. */
export function modulesBelow(folder: string): Module[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .sort()
    .map((file) => readModule(join(folder, file)))
}

/** The modules of the program itself: `src` without its tests. */
export function programModules(): Module[] {
  return modulesBelow('src').filter((module) => !module.path.endsWith('.test.ts'))
}

function readModule(path: string): Module {
  const text = readFileSync(join(root, path), 'utf8')
  return { path: relative(root, join(root, path)), text, imports: importsOf(text) }
}

/** Reads import specifiers. Comments are taken out first, so that an example in one is no import. */
export function importsOf(text: string): string[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '')
  const found = code.matchAll(
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm,
  )
  return [...found].map((match) => match[1] ?? match[2] ?? match[3] ?? '')
}
