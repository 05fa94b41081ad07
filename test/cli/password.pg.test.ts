import { beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'

const password = 'pässwört with @ : / %'
let control: TestDatabase
let database: TestDatabase
let role: string
let url: string

beforeAll(async () => {
  control = await createDatabase('password control')
  database = await createDatabase('password')
  role = `asked_${process.pid}`
  await database.query(`create role ${role} login password '${password}'`)
  const address = new URL(database.url)
  url = `postgresql://${role}@${address.host}${address.pathname}`
})

const open = (options = {}) =>
  new FakeTerminal({ ...options, environment: { YARDMASTER_CONTROL_URL: control.url, HOME: '/nonexistent' } })

describe('a password that the URL has not', () => {
  it('is asked for unseen, stored, and used from then on', async () => {
    const terminal = open()
    const added = terminal.run('database', 'add', 'asked', url)
    await terminal.asked('Password of')
    terminal.type(`${password}\r`)
    expect(await added, terminal.err).toBe(0)
    expect(terminal.out + terminal.err).not.toContain(password.slice(0, 4))
    expect(await terminal.run('database', 'test', 'asked'), terminal.err).toBe(0)
    expect(terminal.out).toContain(`as role ${role}.`)
    expect(await terminal.run('database', 'list', '--json')).toBe(0)
    expect(terminal.out).toContain('"has_stored_password": true')
  })

  it.each([
    ['wrong', 'no\r', false],
    ['empty', '\r', false],
    ['cut off by Ctrl-C', 'half\x03', true],
    ['cut off by the end of the input', '\x04', false],
  ])('%s leaves nothing registered', async (_how, keys, interrupts) => {
    const terminal = open()
    const added = terminal.run('database', 'add', 'never', url)
    await terminal.asked('Password of')
    terminal.type(keys)
    expect(await added).toBe(1)
    expect(terminal.interrupted).toBe(interrupts)
    expect(terminal.err).toMatch(/Error \[(authentication_failed|cancelled)\]/)
    const rows = await control.query("select name from yardmaster.databases where name = 'never'")
    expect(rows).toEqual([])
  })

  it('is not asked for where nobody sits, nor for a URL with a wrong one', async () => {
    const pipe = open({ terminal: false })
    expect(await pipe.run('database', 'add', 'never', url)).toBe(1)
    const wrong = open()
    expect(await wrong.run('database', 'add', 'never', url.replace('@', ':wrong@'))).toBe(1)
    for (const { err } of [pipe, wrong]) {
      expect(err).toContain('Error [authentication_failed]')
      expect(err).not.toContain('Password of')
    }
  })

  it('is asked for by set, too', async () => {
    const terminal = open()
    expect(await terminal.run('database', 'add', 'moved', database.url)).toBe(0)
    const changed = terminal.run('database', 'set', 'moved', '--url', url)
    await terminal.asked('Password of')
    terminal.type(`${password}\r`)
    expect(await changed, terminal.err).toBe(0)
    expect(await terminal.run('database', 'test', 'moved')).toBe(0)
    expect(terminal.out).toContain(`as role ${role}.`)
  })
})

describe('a destructive command', () => {
  it('asks for the name on a terminal, and does nothing for another answer', async () => {
    const terminal = open()
    await terminal.run('database', 'add', 'kept', database.url)
    const refused = terminal.run('database', 'remove', 'kept')
    await terminal.asked('Type kept to go on')
    terminal.type('yes\r')
    expect(await refused).toBe(1)
    expect(await control.query("select name from yardmaster.databases where name = 'kept'")).toHaveLength(1)
  })

  it('does it when the name is typed', async () => {
    const terminal = open()
    await terminal.run('database', 'add', 'gone', database.url)
    const removed = terminal.run('database', 'remove', 'gone')
    await terminal.asked('Type gone to go on')
    terminal.type('gone\r')
    expect(await removed, terminal.err).toBe(0)
    expect(await control.query("select name from yardmaster.databases where name = 'gone'")).toEqual([])
  })

  it('needs --yes where nobody can be asked: exit 2, nothing done', async () => {
    const pipe = open({ terminal: false })
    await pipe.run('database', 'add', 'piped', database.url)
    expect(await pipe.run('database', 'remove', 'piped')).toBe(2)
    expect(pipe.err).toContain('Error [confirmation_needed]')
    expect(await control.query("select name from yardmaster.databases where name = 'piped'")).toHaveLength(1)
    expect(await pipe.run('database', 'remove', 'piped', '--yes')).toBe(0)
  })
})
