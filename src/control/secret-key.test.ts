import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { loadSecretKey, SecretKey } from './secret-key.ts'

const hex = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
const base64 = Buffer.from(hex, 'hex').toString('base64')
const folder = () => mkdtempSync(join(tmpdir(), 'key-'))

describe('an encrypted password', () => {
  const key = new SecretKey(Buffer.alloc(32, 1), 'a test')
  const sealed = key.encrypt('hunter2Canary', 'row 1')

  test('opens for its owner only', () => {
    expect(key.decrypt(sealed, 'row 1', key.id, 'crm')).toBe('hunter2Canary')
    expect(() => key.decrypt(sealed, 'row 2', key.id, 'crm')).toThrow(expect.objectContaining({ code: 'key_wrong' }))
  })

  test('opens with its key only; another one is named, not shown', () => {
    const other = new SecretKey(Buffer.alloc(32, 2), '/etc/key')
    expect(() => other.decrypt(sealed, 'row 1', key.id, 'crm')).toThrow(
      `The password of 'crm' was stored with key ${key.id}; this process has key ${other.id} (from /etc/key).`,
    )
    expect(() => other.decrypt(sealed, 'row 1', other.id, 'crm')).toThrow(
      expect.objectContaining({ code: 'key_wrong' }),
    )
  })

  test('does not open when one bit of it was changed, or it was cut', () => {
    for (let at = 0; at < sealed.length; at += 7) {
      const changed = Buffer.from(sealed)
      changed[at] = (changed[at] ?? 0) ^ 1
      expect(() => key.decrypt(changed, 'row 1', key.id, 'crm')).toThrow(expect.objectContaining({ code: 'key_wrong' }))
    }
    for (const length of [0, 11, 12, 20, 28, sealed.length - 1])
      expect(() => key.decrypt(sealed.subarray(0, length), 'row 1', key.id, 'crm')).toThrow(
        expect.objectContaining({ code: 'key_wrong' }),
      )
  })

  test('is another one each time, and holds nothing of the text', () => {
    const again = key.encrypt('hunter2Canary', 'row 1')
    expect(again.equals(sealed)).toBe(false)
    expect(again.subarray(0, 12).equals(sealed.subarray(0, 12))).toBe(false)
    expect(again.toString('latin1')).not.toContain('hunter2')
  })

  test('shows no key where it is printed', () => {
    expect(JSON.stringify(key) + String(key)).not.toMatch(/0101|AQEB/)
  })
})

describe('a key', () => {
  test.each([
    ['hexadecimal', hex],
    ['hexadecimal in capitals', hex.toUpperCase()],
    ['base64', base64],
    ['base64 without its end', base64.replace('=', '')],
    ['base64 for URLs', base64.replaceAll('+', '-').replaceAll('/', '_')],
  ])('is read from YARDMASTER_KEY: %s', (_what, text) => {
    const expected = new SecretKey(Buffer.from(hex, 'hex'), '').id
    expect(loadSecretKey({ text, file: '/nonexistent/key' }).id).toBe(expected)
  })

  test.each([
    'short',
    hex.slice(1),
    `${hex}00`,
    base64.slice(4),
    `${base64}AAAA`,
    `${base64.slice(0, 20)} ${base64.slice(20)}`,
    '!'.repeat(44),
  ])('%j is refused, and not shown', (text) => {
    let said = ''
    try {
      loadSecretKey({ text, file: '/nonexistent/key' })
    } catch (error) {
      said = `${(error as Error).stack} ${JSON.stringify(error)}`
    }
    expect(said).toContain('key_wrong')
    expect(said.replace('openssl rand -base64 32', '')).not.toContain(text)
  })

  test('is made where there is none, for its owner only, and read the next time', () => {
    const file = join(folder(), 'deep', 'key')
    const key = loadSecretKey({ file })
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(loadSecretKey({ file }).id).toBe(key.id)
    expect(key.origin).toBe(file)
    expect(readdirSync(join(file, '..'))).toEqual(['key'])
  })

  test('that is made by several processes at once is one', async () => {
    const place = folder()
    // Each process makes ten keys, the others at the same moments.
    const script = `import { loadSecretKey } from ${JSON.stringify(join(import.meta.dirname, 'secret-key.ts'))}
      const ids = []
      for (let count = 0; count < 10; count++) {
        while (Date.now() < ${Date.now() + 2000} + 20 * count);
        ids.push(loadSecretKey({ file: ${JSON.stringify(place)} + '/key' + count }).id)
      }
      process.stdout.write(ids.join())`
    const ran = await Promise.all(
      Array.from({ length: 2 }, () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])),
    )
    const files = Array.from({ length: 10 }, (_, count) => `key${count}`)
    const ids = files.map((file) => loadSecretKey({ file: join(place, file) }).id).join()
    expect(ran.map(({ stdout }) => stdout)).toEqual([ids, ids])
    expect(readdirSync(place).sort()).toEqual(files)
  })

  test('file that is empty, a folder, or in a place where none can be made says so', () => {
    const place = folder()
    writeFileSync(join(place, 'empty'), '')
    mkdirSync(join(place, 'folder'))
    for (const file of [join(place, 'empty'), join(place, 'folder'), join(place, 'empty', 'key')])
      expect(() => loadSecretKey({ file })).toThrow(expect.objectContaining({ code: 'key_wrong', object: file }))
    expect(readFileSync(join(place, 'empty'), 'utf8')).toBe('')
    chmodSync(place, 0o700)
  })
})
