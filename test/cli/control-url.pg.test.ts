import { beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { runCli } from '../support/process.ts'
import { FakeTerminal } from './fake-terminal.ts'

let source: TestDatabase
let destination: TestDatabase

beforeAll(async () => {
  source = await createDatabase('control url source')
  destination = await createDatabase('control url destination')
  await source.query('create table public.things (id int primary key, name text)')
  await source.query("insert into public.things select g, 'thing ' || g from generate_series(1, 20) g")
})

describe('--control', () => {
  it('takes a PostgreSQL 14: a copy runs with its definitions there', async () => {
    const server = await postgres14()
    const control = await server.createDatabase('control url')
    const terminal = new FakeTerminal({ terminal: false })
    const run = async (...args: string[]) => {
      expect(await terminal.run(...args, '--control', control.url), terminal.err).toBe(0)
    }
    await run('database', 'add', 'crm', source.url)
    await run('database', 'add', 'dwh', destination.url)
    await run('replication', 'add', 'snapshot', 'public.things', '--from', 'crm', '--to', 'dwh')
    await run('replication', 'refresh', 'public.things', '--force')
    await run('replication', 'set', 'public.things', 'swap-wait=2min')
    await run('run', 'show', '2')
    await run('doctor')
    expect(await destination.query('select count(*)::int as count from public.things')).toEqual([{ count: 20 }])
    await run('replication', 'remove', 'public.things', '--drop-table', '--yes')
    const [{ changes, version }] = await control.query(
      "select count(*)::int as changes, current_setting('server_version_num')::int / 10000 as version from yardmaster.audit_log",
    )
    expect(version).toBe(14)
    expect(changes).toBeGreaterThanOrEqual(5)
  })

  it('is read from the environment as well', async () => {
    const control = await createDatabase('control url environment')
    const result = await runCli(['migrate', '--json'], { env: { YARDMASTER_CONTROL_URL: control.url } })
    expect(result.json()).toMatchObject({ from: 0, pending: [] })
    expect(await control.query("select to_regclass('yardmaster.job') is not null as there")).toEqual([{ there: true }])
  })

  const wrong = (change: (url: URL) => void) => {
    const url = new URL(source.url)
    change(url)
    return url.href
  }
  it.each([
    ['no URL', () => 'somewhere', 2, 'url_invalid'],
    ['no database in it', () => wrong((url) => (url.pathname = '/')), 2, 'url_invalid'],
    ['an unknown parameter', () => `${source.url}?options=-csession_replication_role=replica`, 2, 'url_invalid'],
    ['nobody at the port', () => wrong((url) => (url.port = '1')), 1, 'control_unreachable'],
    ['an unknown host', () => wrong((url) => (url.host = 'nowhere.invalid')), 1, 'control_unreachable'],
    ['a wrong password', () => wrong((url) => (url.password = 'canary-wrong')), 1, 'authentication_failed'],
    ['an unknown database', () => wrong((url) => (url.pathname = '/nothing')), 1, 'database_missing'],
  ])('with %s fails clearly', async (_what, url, code, error) => {
    for (const command of [['database', 'list'], ['migrate'], ['doctor'], ['migrate', '--dry-run']]) {
      const terminal = new FakeTerminal({ terminal: false })
      expect(await terminal.run(...command, '--control', url())).toBe(code)
      expect(terminal.out).toBe('')
      expect(terminal.err).toContain(`Error [${error}]`)
      expect(terminal.err).toMatch(/\nRemedy: .{10}/)
      expect(terminal.err).not.toContain('canary')
      expect(terminal.err).not.toContain(new URL(source.url).password)
    }
  })
})
