import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { BenchSite } from './bench-site.ts'

const binaries = '/usr/lib/postgresql/15/bin'
const extension = '/usr/share/postgresql/15/extension/mimeo.control'
const password = 'bench'

/** Whether Debian's postgresql-15-mimeo is installed. */
export function hasMimeo(): boolean {
  return existsSync(join(binaries, 'initdb')) && existsSync(extension)
}

/** Whether Debian's postgresql-15-cron is installed. */
export function hasPgCron(): boolean {
  return existsSync(join(binaries, 'initdb')) && existsSync('/usr/share/postgresql/15/extension/pg_cron.control')
}

/** A new server of Debian's PostgreSQL 15, with the defaults and fsync on. Returns the URL of a database of it. */
export async function startDebianServer(
  site: BenchSite,
  settings: Readonly<Record<string, string>>,
): Promise<(database: string) => string> {
  const folder = join(site.folder, 'debian')
  mkdirSync(folder)
  const secret = join(folder, 'password')
  writeFileSync(secret, password)
  const owner = process.getuid?.() === 0 ? ['runuser', '-u', 'postgres', '--'] : []
  if (owner.length > 0) execFileSync('chown', ['-R', 'postgres', folder])
  const run = (program: string, ...args: string[]) => {
    const [command = '', ...rest] = [...owner, join(binaries, program), ...args]
    execFileSync(command, rest, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
  }
  const data = join(folder, 'data')
  run('initdb', '-D', data, '-U', 'bench', '-A', 'scram-sha-256', `--pwfile=${secret}`, '-E', 'UTF8', '--locale=C')
  const port = await freePort()
  const given = { ...settings, listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: folder }
  const options = Object.entries(given).map(([name, value]) => `-c ${name}=${value}`)
  run('pg_ctl', '-D', data, '-w', '-l', join(folder, 'server.log'), '-o', options.join(' '), 'start')
  site.atEnd(async () => run('pg_ctl', '-D', data, '-m', 'fast', 'stop'))
  return (database) => `postgresql://bench:${password}@127.0.0.1:${port}/${database}`
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
