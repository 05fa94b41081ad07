import { chmodSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import { connectDatabase } from '../../src/control/databases.ts'
import { SecretKey } from '../../src/control/secret-key.ts'
import { FakeTerminal } from '../cli/fake-terminal.ts'
import { type PrivateServer, startServer, type TestDatabase } from '../support/databases.ts'
import { runCli, startCli } from '../support/process.ts'
import { openTestControl } from './control-database.ts'
import { startFakeServer } from './fake-server.ts'

// Another run's processes are looked at too, and hold another one.
const canary = `Canary%7&hunter2/${process.pid}/${Date.now()}`
const encoded = encodeURIComponent(canary)
/** The password in every form in which it could be written down. */
const forms = [
  canary,
  encoded,
  Buffer.from(canary).toString('hex'),
  Buffer.from(canary).toString('base64').slice(0, -4),
]
const keyHex = Buffer.from(canary.padEnd(32).slice(-32)).toString('hex')

function expectNone(text: string, where: string): void {
  for (const form of forms)
    expect(text.toLowerCase().includes(form.toLowerCase()), `${where} holds ${form}:\n${text.slice(0, 3000)}`).toBe(
      false,
    )
  expect(text.toLowerCase().includes(keyHex), `${where} holds the key`).toBe(false)
}

describe('a planted password', () => {
  let server: PrivateServer
  let control: TestDatabase
  let source: TestDatabase
  let destination: TestDatabase
  let url: string
  let environment: Record<string, string>

  beforeAll(async () => {
    server = await startServer()
    control = await server.createDatabase('canary control')
    source = await server.createDatabase('canary source')
    destination = await server.createDatabase('canary destination')
    await source.query(`create table public.orders (id int primary key, note text)`)
    await source.query(`insert into public.orders select g, 'row ' || g from generate_series(1, 100) g`)
    await source.query(`create role canary login superuser password '${canary.replaceAll("'", "''")}'`)
    for (const setting of [
      `log_statement = 'all'`,
      'log_min_duration_statement = 0',
      'log_connections = on',
      `log_min_messages = 'debug1'`,
    ])
      await source.query(`alter system set ${setting}`)
    await source.query('select pg_reload_conf()')
    url = Object.assign(new URL(source.url), { username: 'canary', password: encoded }).href
    environment = { YARDMASTER_CONTROL_URL: control.url, YARDMASTER_KEY: keyHex, PGPASSFILE: '/nonexistent/pgpass' }
  })

  /** In this process; what a process of its own adds to that is the last test's. */
  async function run(exit: number, ...args: string[]): Promise<string> {
    const screen = new FakeTerminal({ terminal: false, environment })
    expect(await screen.run(...args, '--log-level', 'debug', '--yes'), screen.err).toBe(exit)
    expectNone(screen.out + screen.err, args.join(' ').replaceAll(encoded, '…'))
    return screen.out + screen.err
  }

  test('is in nothing that a command prints, a table or a view keeps, a session shows or the server logs', async () => {
    const bad = Object.assign(new URL(url), { host: '127.0.0.1:1' }).href
    const to = Object.assign(new URL(url), { pathname: new URL(destination.url).pathname }).href
    const process = await runCli(['database', 'add', 'crm', url, '--json', '--log-level', 'debug'], {
      env: environment,
    })
    expect(process.exitCode, process.stderr).toBe(0)
    expectNone(process.stdout + process.stderr, 'a process')
    await run(0, 'database', 'add', 'dwh', to)
    await run(1, 'database', 'add', 'bad', bad)
    await run(0, 'database', 'add', 'bad', bad, '--force', '--json')
    await run(1, 'database', 'test', 'bad', '--json')
    // In places where no URL belongs.
    await run(1, 'database', 'test', url)
    await run(1, 'database', 'test', url, '--json')
    await run(2, 'database', 'add', url, 'crm')
    await run(2, url)
    await run(2, 'database', 'add', 'x', url, 'surplus')
    await run(2, 'database', 'list', `--control=${url}x?sslmode=none`)
    await run(0, 'database', 'set', 'crm', '--url', url, '--tag', 'prod')
    await run(0, 'database', 'test', 'crm', '--json')
    await run(0, 'database', 'list')
    await run(0, 'database', 'list', '--json')
    await run(0, 'database', 'prepare', 'crm', 'public.orders', '--for', 'snapshot', '--dry-run')
    await run(0, 'replication', 'add', 'snapshot', 'public.orders', '--from', 'crm', '--to', 'dwh')
    await run(0, 'replication', 'refresh', 'public.orders', '--force', '--json')
    await run(0, 'replication', 'show', 'public.orders', '--json')
    // A connection that fails in a run: what its steps and its message keep.
    await run(0, 'database', 'set', 'crm', '--url', bad, '--force')
    const failed = await run(1, 'replication', 'refresh', 'public.orders', '--force', '--json')
    expect(failed).toContain('source_unreachable')
    expect(await run(0, 'run', 'list')).toContain('ECONNREFUSED')
    await run(0, 'run', 'show', '3')
    await run(1, 'doctor', '--json')

    for (const { name } of await control.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class c where relnamespace = 'yardmaster'::regnamespace and relkind in ('r', 'v')`,
    ))
      expectNone(JSON.stringify(await control.query(`select t::text from ${name} t`)), name)
    expect(await control.query('select count(*)::int as n from yardmaster.secret')).toEqual([{ n: 3 }])
    for (const one of [source, destination])
      expectNone(
        JSON.stringify(await one.query('select query, application_name from pg_stat_activity')),
        'pg_stat_activity',
      )
    const log = readFileSync(join(server.directory, 'server.log'), 'utf8')
    expect(log).toContain('select yardmaster.add_database($1')
    expectNone(log.replaceAll(/^.*create role canary.*$/gm, ''), 'the server’s log')
  })

  test('opens again in this process, and the ciphertext for nobody else', async () => {
    const own = await openTestControl(control.url, new SecretKey(Buffer.from(keyHex, 'hex'), 'test'))
    const none = () => undefined
    const open = async (name: string, with_ = own) => {
      const session = await connectDatabase(with_, name, none, { side: 'database', purpose: 'test' })
      await session.end()
    }
    await run(0, 'database', 'set', 'crm', '--url', url)
    await open('crm')
    const [kept] = await control.query(
      `select s.* from yardmaster.secret s join yardmaster.managed_database d on d.secret_id = s.id where d.name = 'crm'`,
    )

    // Moved to the row of another database, whose host would receive it.
    await control.query(
      `update yardmaster.secret set ciphertext = $1 where id = (select secret_id from yardmaster.managed_database where name = 'bad')`,
      [kept.ciphertext],
    )
    await expect(open('bad')).rejects.toMatchObject({ code: 'key_wrong', object: 'bad' })
    // The row itself given to another database.
    await control.query(`update yardmaster.managed_database set secret_id = $1 where name = 'bad'`, [kept.id])
    await expect(open('bad')).rejects.toMatchObject({ code: 'key_wrong' })
    // The host changed by hand under the same password.
    await control.query(
      `update yardmaster.managed_database set url = replace(url, '127.0.0.1', '127.0.0.2') where name = 'crm'`,
    )
    await expect(open('crm')).rejects.toMatchObject({
      code: 'key_wrong',
      message: expect.stringContaining('was changed by hand'),
    })

    const other = await openTestControl(control.url, new SecretKey(Buffer.alloc(32), '/etc/other'))
    await expect(open('dwh', other)).rejects.toMatchObject({
      code: 'key_wrong',
      message: expect.stringContaining('/etc/other'),
    })
  })

  test('does not go along when the URL is changed without one', async () => {
    const received: string[] = []
    const attacker = await startFakeServer(async (connection) => {
      connection.send(Buffer.from('R\0\0\0\x08\0\0\0\x03', 'latin1'))
      received.push((await connection.read()).body.toString())
    })
    await run(0, 'database', 'set', 'crm', '--url', url)
    const moved = `postgresql://canary@127.0.0.1:${attacker.port}/d`
    await run(1, 'database', 'set', 'crm', '--url', moved)
    await run(0, 'database', 'set', 'crm', '--url', moved, '--force')
    const said = await run(1, 'database', 'test', 'crm')
    expect(said).toContain('the URL has none')
    expect(received).toEqual([])
    expect(
      await control.query(`select has_stored_password as stored from yardmaster.databases where name = 'crm'`),
    ).toEqual([{ stored: false }])
    // The role and the tags alone keep it.
    await run(0, 'database', 'set', 'crm', '--url', url)
    await run(0, 'database', 'set', 'crm', '--tag', 'a')
    await run(0, 'database', 'test', 'crm')
  })

  test('is not in the list of processes while a command runs, nor with a child of it', async () => {
    const silent = await startFakeServer(() => undefined)
    const given = `postgresql://ym:${encoded}@127.0.0.1:${silent.port}/d`
    const data = mkdtempSync(join(inject('runDirectory'), 'canary-'))
    // The embedded server's user passes through.
    chmodSync(data, 0o711)
    const running = startCli(['database', 'add', 'hidden', given, '--data-dir', data, `--log-level=debug`], {
      env: { YARDMASTER_KEY: keyHex, CANARY_URL: given },
    })
    const commandLine = () => readFileSync(`/proc/${running.pid}/cmdline`, 'latin1')
    await expect.poll(commandLine, { interval: 5, timeout: 10_000 }).toMatch(/^yardmaster\0*$/)
    // The embedded control database is up when the connection is tried.
    await expect.poll(() => silent.accepted, { timeout: 20_000, message: running.stderr() }).toBe(1)
    const family = processes().filter(({ pid }) => pid !== process.pid)
    const children = family.filter(({ command }) => command.includes(data))
    expect(children.length).toBeGreaterThan(0)
    for (const { pid, command, environ } of family) {
      expectNone(command, `the command line of ${pid}`)
      if (pid !== running.pid) expectNone(environ, `the environment of ${pid} (${command})`)
    }
    const cut = performance.now()
    expect((await running.kill('SIGINT')).exitCode).toBe(130)
    expect(performance.now() - cut, 'the attempt is given up at once').toBeLessThan(8000)
  })
})

/** Command line and environment of every process, where they can be read. */
function processes(): { pid: number; command: string; environ: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const read = (what: string) => readFileSync(`/proc/${name}/${what}`, 'utf8')
        return [{ pid: Number(name), command: read('cmdline'), environ: read('environ') }]
      } catch {
        // It has ended, or is another user's.
        return []
      }
    })
}
