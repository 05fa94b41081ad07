import { chmodSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, inject, test } from 'vitest'
import { root } from '../house/source-tree.ts'
import { startNode } from '../support/process.ts'

const page = readFileSync(join(root, 'docs/guide/use-the-library.md'), 'utf8')
const programs = [...page.matchAll(/^```ts\n(.*?)^```/gms)].map((match) => match[1] ?? '')
const outputs = [...page.matchAll(/^```text\n(.*?)^```/gms)].map((match) => match[1] ?? '')

test('the programs of the guide run as printed, one after the other, and print what is said', async () => {
  expect([programs.length, outputs.length]).toEqual([2, 2])
  const folder = mkdtempSync(join(inject('runDirectory'), 'library-guide-'))
  // The embedded control server runs under another user when the tests run as root.
  chmodSync(folder, 0o711)
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  for (const [index, program] of programs.entries()) {
    const file = join(folder, `program-${index}.ts`)
    const source = pathToFileURL(join(root, 'src/index.ts')).href
    writeFileSync(file, program.replace("from 'yardmaster'", `from '${source}'`))
    const env = { YARDMASTER_DATA_DIR: join(folder, 'data') }
    const { stdout, stderr, exitCode } = await startNode([file], { env }).ended
    expect([stdout, exitCode], stderr).toEqual([outputs[index], 0])
  }
})
