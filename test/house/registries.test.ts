import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { referencePages } from '../../docs/reference-pages.ts'
import { errorRegistry } from '../../src/base/error-registry.ts'
import { buildProgram } from '../../src/cli/program.ts'
import { environmentSettings, type OptionDeclaration, programOptions } from '../../src/config/program-options.ts'
import { type ReplicationOption, replicationOptions, settableKey } from '../../src/config/replication-options.ts'
import { programModules, root } from './source-tree.ts'

const modules = programModules()
const textWithout = (path: string) =>
  modules
    .filter((module) => module.path !== path)
    .map((module) => module.text)
    .join('\n')
const matches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map((match) => match[1] ?? '')

describe('error registry', () => {
  const text = textWithout('src/base/error-registry.ts')
  const codes = Object.keys(errorRegistry)
  /** `…_unreachable` of a template stands for one code a side. */
  const byTemplate = matches(text, /`\$\{side\}(_[a-z_]+)`/g)

  it('has no code that nothing throws', () => {
    const used = (code: string) => text.includes(`'${code}'`) || byTemplate.some((tail) => code.endsWith(tail))
    expect(byTemplate).toEqual(['_unreachable'])
    expect(codes.filter((code) => !used(code))).toEqual([])
  })

  it('has every code that is thrown', () => {
    const thrown = matches(text, /new Failure\(\s*'([^']*)'/g)
    expect(thrown.length).toBeGreaterThan(40)
    expect(thrown.filter((code) => !codes.includes(code))).toEqual([])
  })

  it('is what the page documents, both ways', () => {
    const page = readFileSync(join(root, 'docs/reference/errors.md'), 'utf8')
    expect(matches(page, /^## (.*)$/gm).sort()).toEqual([...codes].sort())
  })

  it('gives each code a sentence that says what it means and one that says what to do', () => {
    for (const [code, entry] of Object.entries(errorRegistry)) {
      expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/)
      expect(entry.meaning, code).toMatch(/^\S.{10,}\.$/s)
      expect(entry.remedy, code).toMatch(/^\S.{6,}[.]$/s)
    }
  })
})

describe('options', () => {
  const program = buildProgram()
  const all = commandsBelow(program)
  const flagsOf = (command: Command | undefined) => command?.options.map((option) => option.flags) ?? []

  it('of the program are taken by every command', () => {
    expect(all.length).toBeGreaterThan(15)
    const globals = Object.values<OptionDeclaration>(programOptions).map((option) => option.flag)
    for (const command of all) {
      const longs = command.options.map((option) => option.long)
      for (const flag of globals) expect(longs, command.name()).toContain(flag.split(' ')[0])
    }
  })

  it('of a replication are flags of add, and keys of set by the same name', () => {
    const add = all.find((command) => command.name() === 'add' && command.parent?.name() === 'replication')
    for (const [key, option] of Object.entries<ReplicationOption>(replicationOptions)) {
      expect(flagsOf(add)).toContain(option.flag)
      const name = (option.flag.split(' ')[0] ?? '').replace(/^--(no-)?/, '')
      if (option.column === undefined) expect(() => settableKey(name)).toThrow(/cannot be changed/)
      else expect(settableKey(name)).toBe(key)
    }
  })

  it('and commands are what the page documents, both ways', () => {
    const page = readFileSync(join(root, 'docs/reference/cli.md'), 'utf8')
    const flags = new Set(matches(page, /^\| `(-[^`]+)` \|/gm))
    const declared = new Set(all.flatMap(flagsOf))
    expect([...flags].sort()).toEqual([...declared].sort())
    const headings = matches(page, /^## yardmaster ([a-z -]*[a-z])/gm)
    const leaves = all.filter((command) => command.commands.length === 0)
    expect(headings.sort()).toEqual(leaves.map(nameOf).sort())
  })

  it('have a help text each, and each command an example', () => {
    for (const command of all) {
      for (const option of command.options) expect(option.description, option.flags).not.toBe('')
      if (command.commands.length > 0) continue
      let printed = ''
      command.configureOutput({ writeOut: (text) => (printed += text) }).outputHelp()
      expect(printed, nameOf(command)).toContain(`Example:\n  yardmaster ${nameOf(command).split(' ')[0]}`)
    }
  })
})

describe('environment variables', () => {
  const declared = [
    ...Object.values<OptionDeclaration>(programOptions).map((option) => option.environment),
    ...Object.values(environmentSettings).map((setting) => setting.environment),
  ].filter((name) => name !== undefined)

  it('that the program reads are declared', () => {
    const read = modules.flatMap((module) =>
      matches(module.text, /\b(?:environment|process\.env)[.(]'?([A-Z][A-Z_]+)/g),
    )
    expect(read.length).toBeGreaterThan(5)
    expect(read.filter((name) => !declared.includes(name))).toEqual([])
  })

  it('are what the page documents, both ways', () => {
    const page = readFileSync(join(root, 'docs/reference/environment.md'), 'utf8')
    expect(matches(page, /^\| `([A-Z_]+)`/gm).sort()).toEqual([...declared].sort())
  })
})

describe('reference pages', () => {
  it.each(Object.entries(referencePages()))('%s is current (npm run docs writes it)', (path, text) => {
    expect(readFileSync(join(root, path), 'utf8')).toBe(text)
  })
})

function commandsBelow(command: Command): Command[] {
  return command.commands.flatMap((child) => [child as Command, ...commandsBelow(child as Command)])
}

function nameOf(command: Command): string {
  return command.parent?.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()
}
