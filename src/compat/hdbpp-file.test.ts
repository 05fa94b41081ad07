import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Failure } from '../base/failure.ts'
import { loadHdbppFile, readHdbppFile } from './hdbpp-file.ts'

const read = (text: string) => readHdbppFile('file.conf', text)
const connections = (text: string) => read(text).deployments.map(({ connection }) => connection)
const one = (lines: string) => `hdb:\n  connection:\n    ${lines.replaceAll('\n', '\n    ')}\n`

function refusal(text: string): string {
  try {
    read(text)
  } catch (error) {
    expect((error as Failure).code).toBe('hdbpp_file_invalid')
    return (error as Failure).message
  }
  throw new Error(`was taken:\n${text}`)
}

describe('a file of hdbpp-postprocessing', () => {
  it('gives the defaults of the script', () => {
    const standard = { host: 'localhost', port: 5432, database: 'hdb', password: undefined, sslMode: 'disable' }
    expect(connections(one('user: hdb'))).toMatchObject([{ user: 'hdb', ...standard }])
    expect(connections(one("user: hdb\npassword: ''\nhost:\nport: ''\ndatabase: ~"))).toMatchObject([standard])
  })

  it('has any number of deployments, in its order', () => {
    const { deployments } = read(`b:\n  connection: {user: x}\na:\n  connection: {user: y, port: '5433'}\n`)
    expect(deployments.map(({ name, connection }) => [name, connection.user, connection.port])).toEqual([
      ['b', 'x', 5432],
      ['a', 'y', 5433],
    ])
  })

  it('may share parts by anchors and merge keys', () => {
    const text = `
a: {connection: &a {user: x, password: one, port: 5433}}
b: {connection: *a}
c: {connection: {<<: *a, user: y}}
d: {connection: {<<: [{database: z}, *a]}}`
    expect(connections(text)).toMatchObject([
      { user: 'x', password: 'one', port: 5433 },
      { user: 'x', password: 'one', port: 5433 },
      { user: 'y', password: 'one', port: 5433 },
      { user: 'x', database: 'z' },
    ])
  })

  it('verifies a server elsewhere unless it is told otherwise', () => {
    expect(connections(one('user: x\nhost: db.example.org'))).toMatchObject([{ sslMode: 'verify-full' }])
    expect(connections(one('user: x\nhost: db.example.org\nsslmode: require'))).toMatchObject([{ sslMode: 'require' }])
    expect(connections(one('user: x\nhost: /run/postgresql'))).toMatchObject([{ sslMode: 'disable' }])
  })

  it('may have numbers and letters that the script took as they stand there', () => {
    expect(connections(one('user: y\npassword: 12345\ndatabase: 0'))).toMatchObject([
      { user: 'y', password: '12345', database: '0' },
    ])
    expect(connections(one('user: 007x\npassword: 1e5'))).toMatchObject([{ user: '007x', password: '1e5' }])
  })

  it.each(['0123', '1_000', '12:30:45', '1.50', 'yes', '2024-01-01', '!!binary aGk=', '[a]', '{a: b}'])(
    'with the password %s wants quotes, and shows none of it',
    (password) => {
      const said = refusal(one(`user: x\npassword: ${password}`))
      expect(said).toMatch(
        /^One fault; nothing was run\.\nfile\.conf:4: hdb\.connection\.password: found .* in quotes where/,
      )
      expect(said).not.toContain(password)
      const quoted = one(`user: x\npassword: '${password}'`)
      expect(connections(quoted)).toMatchObject([{ password }])
    },
  )

  it('is refused with all its faults at once', () => {
    const said = refusal(`
a:
  connection:
    usr: hdb
    port: 70000
b: 5
c:
  conection: {user: x}
d:
  connection: {user: x, host: 'one,two', sslmode: prefer}
e:
  connection: {user: [x]}
`)
    expect(said.split('\n')).toEqual([
      '9 faults; nothing was run.',
      'file.conf:4: a.connection.usr: found an unknown key; expected user, if that is what was meant',
      'file.conf:4: a.connection.user: found nothing; expected the user to connect as',
      'file.conf:5: a.connection.port: found something else; expected a whole number from 1 to 65535',
      'file.conf:6: b: found a number; expected a map with the key connection',
      'file.conf:8: c.conection: found an unknown key; expected connection, if that is what was meant',
      'file.conf:8: c.connection: found nothing; expected a map: {user: hdb, host: localhost, database: hdb}',
      'file.conf:10: d.connection.host: found several words; expected one host or address',
      "file.conf:10: d.connection.sslmode: found 'prefer'; expected disable, require, verify-ca, verify-full",
      'file.conf:12: e.connection.user: found a list; expected a text, in quotes where YAML reads something else',
    ])
  })

  it('may have keys that did nothing with the script, which is said', () => {
    const { deployments, notes } = read('hdb:\n  description: x\n  connection: {user: x, schema: public}\n')
    expect(deployments).toHaveLength(1)
    expect(notes).toEqual([
      'file.conf: hdb.description is no key that is known; it does nothing.',
      'file.conf: hdb.connection.schema is no key that is known; it does nothing.',
    ])
  })

  it.each([
    ['', 'found nothing; expected deployments by name'],
    ['- a', 'found a list'],
    ['{}', 'found an empty map'],
    ['hdb:\n  connection: {user: x}\nhdb:\n  connection: {user: y}', ':3: found a key that its map has already'],
    ['hdb:\n  connection: {user: !env X}', ':2: found a tag that YAML does not know'],
    ['hdb: !!python/object:os.system {}', 'found a tag that YAML does not know'],
    ['a: {connection: {user: x}}\n---\nb: {connection: {user: x}}', 'found a second document'],
    ['hdb:\n  connection:\n    user: x\n    password: s3cr3t: x', ':4: found what is no YAML (block as implicit key)'],
    ['hdb:\n\tconnection: s3cr3t', 'found what is no YAML'],
    ['hdb:\n  connection: *s3cr3t', ':2: found an alias of nothing'],
    ['hdb:\n  connection: {user: x, password: @s3cr3t}', 'found what is no YAML'],
    ['hdb:\n  connection: {user: "x\\u0000y"}', 'found a control character'],
    ['? [a]\n: {connection: {user: x}}', 'found a list as a key'],
    ['a: &a\n  <<: *a\n  connection: {user: x}', 'found more than 1000 merged maps'],
    ['hdb: {connection: {user: x, <<: 5}}', 'found a number; expected an alias of a map'],
  ])('%j is refused, and shows no value', (text, why) => {
    const said = refusal(text)
    expect(said).toContain(why)
    expect(said).not.toContain('s3cr3t')
  })

  it('of aliases of aliases is refused at once', () => {
    const levels = Array.from(
      { length: 30 },
      (_, index) => `l${index + 1}: &l${index + 1} [${'*l#,'.repeat(9).replaceAll('#', String(index))}]`,
    )
    const merges = Array.from(
      { length: 30 },
      (_, index) => `m${index + 1}: &m${index + 1} {<<: [${'*m#,'.repeat(9).replaceAll('#', String(index))}]}`,
    )
    const began = performance.now()
    expect(refusal(['l0: &l0 lol', ...levels].join('\n'))).toContain('found a list; expected a map')
    expect(refusal(['m0: &m0 {a: b}', ...merges].join('\n'))).toContain('more than 1000 merged maps')
    expect(performance.now() - began).toBeLessThan(5000)
  })

  it('that ships as an example is taken as it is', async () => {
    const { deployments, notes } = await loadHdbppFile('deploy/hdbpp/hdbpp_postprocessing.conf')
    expect(notes).toEqual([])
    expect(deployments.map(({ name, connection }) => [name, connection.user, connection.database])).toEqual([
      ['hdb-cluster', 'hdb_postprocessing', 'hdb'],
    ])
  })

  it.each([
    ['/nonexistent/file.conf', 'there is no such file'],
    [tmpdir(), 'it is a folder'],
  ])('at %s is named', async (path, why) => {
    await expect(loadHdbppFile(path)).rejects.toMatchObject({
      code: 'hdbpp_file_invalid',
      message: `${path} cannot be read: ${why}.`,
    })
  })

  it('that is no text, or far too long, is refused', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'hdbpp-')), 'file.conf')
    writeFileSync(path, Buffer.from([0x61, 0xff, 0x0a]))
    await expect(loadHdbppFile(path)).rejects.toThrow('it is not UTF-8')
    writeFileSync(path, `#${'x'.repeat(1024 * 1024)}`)
    await expect(loadHdbppFile(path)).rejects.toThrow('it has more than 1 MiB')
  })
})
