/**
 * Full copy of one table with its indexes: `replication refresh` as it ships against `psql COPY | psql COPY` (binary and
 * text) and the initial sync of native logical replication, alternating on the same servers in one run.
 *
 *   npm run bench -- [--rows 500000] [--rounds 3] [--json FILE]
 *
 * Needs bash and psql on the PATH; the servers are embedded ones, with fsync on, in a temporary folder.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { EmbeddedServer } from '../src/embedded/embedded-server.ts'
import { connect, type Session } from '../src/postgres/connect.ts'
import { parseConnectionUrl } from '../src/postgres/connection-url.ts'
import { sql } from '../src/postgres/sql.ts'
import { type Cost, measure, median } from './measured-process.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '500000' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
})
const rows = Number(values.rows)
const rounds = Number(values.rounds)

interface Subject {
  readonly name: string
  /** Prepares an empty destination; not measured. */
  before(): Promise<void>
  run(): Promise<Cost>
}

const cleanups: (() => Promise<void>)[] = []
const folder = mkdtempSync(join(tmpdir(), 'yardmaster-bench-'))
chmodSync(folder, 0o711)
const settings = { wal_level: 'logical', max_wal_size: '4GB', shared_buffers: '256MB' }
const sourceServer = new EmbeddedServer({ directory: join(folder, 'source'), settings })
const destinationServer = new EmbeddedServer({ directory: join(folder, 'destination'), settings })

async function main(): Promise<void> {
  await Promise.all([sourceServer.start(), destinationServer.start()])
  const [sourceUrl, destinationUrl] = [
    await freshDatabase(sourceServer, 'source'),
    await freshDatabase(destinationServer, 'destination'),
  ]
  const source = await connect(parseConnectionUrl(sourceUrl), { side: 'database', purpose: 'bench' })
  const destination = await connect(parseConnectionUrl(destinationUrl), { side: 'database', purpose: 'bench' })
  console.error(`Making ${rows} rows …`)
  await makeTable(source)
  await makePeerTable(destination, 'peer')
  const size = await source.one<{ bytes: string }>(sql`select pg_table_size('public.measured')::text as bytes`)
  const subjects = [
    pipe('psql binary', 'binary', sourceUrl, destinationUrl, destination),
    pipe('psql text', 'text', sourceUrl, destinationUrl, destination),
    await logicalReplication(source, destination, sourceUrl),
    ...(await yardmaster(sourceUrl, destinationUrl)),
  ]
  const costs = new Map<string, Cost[]>(subjects.map((subject) => [subject.name, []]))
  for (let round = 1; round <= rounds; round += 1) {
    for (const subject of subjects) {
      await subject.before()
      await destination.query(sql`checkpoint`)
      const cost = await subject.run()
      costs.get(subject.name)?.push(cost)
      console.error(`round ${round}  ${subject.name.padEnd(34)} ${cost.seconds.toFixed(2)} s`)
    }
  }
  report(costs, Number(size.bytes))
  await source.end()
  await destination.end()
}

async function freshDatabase(server: EmbeddedServer, name: string): Promise<string> {
  const session = await connect(parseConnectionUrl(server.url()), { side: 'database', purpose: 'bench' })
  await session.script(`create database ${name}`)
  await session.end()
  return server.url(name)
}

const columns = `id bigint not null, customer int not null, name text not null, details jsonb not null, amount numeric(12,2) not null,
  created timestamptz not null, changed timestamptz not null`

async function makeTable(source: Session): Promise<void> {
  await source.script(`
    create table public.measured (${columns});
    insert into public.measured select g, g % 50000, 'customer number ' || g % 50000,
      jsonb_build_object('state', case g % 3 when 0 then 'open' when 1 then 'paid' else 'closed' end, 'note', repeat(chr(97 + g::int % 26), 60), 'n', g),
      (g % 100000) / 7.0, timestamptz '2026-01-01' + g * interval '1 second', now() from generate_series(1, ${rows}) g;
    alter table public.measured add primary key (id);
    create index on public.measured (customer);`)
  await source.query(sql`vacuum (freeze, analyze) public.measured`)
}

async function makePeerTable(destination: Session, name: string): Promise<void> {
  await destination.script(`create schema if not exists ${name}; create table ${name}.measured (${columns}, primary key (id));
    create index on ${name}.measured (customer);`)
}

function pipe(name: string, format: string, from: string, to: string, destination: Session): Subject {
  return {
    name,
    before: () => destination.script('truncate peer.measured'),
    run: () =>
      measure(
        `set -o pipefail; psql -qX "$FROM" -c 'copy public.measured to stdout (format ${format})' | psql -qX "$TO" -c 'copy peer.measured from stdin (format ${format})' -c 'analyze peer.measured'`,
        { FROM: from, TO: to },
      ),
  }
}

/** Subscribes, and waits until the table is `ready`. The server's own workers do it: there is no client to measure. */
async function logicalReplication(source: Session, destination: Session, sourceUrl: string): Promise<Subject> {
  const conninfo = sourceUrl.replaceAll("'", "''")
  await source.script('create publication measured for table public.measured')
  return {
    name: 'logical replication, initial sync',
    before: async () => {
      await destination.script('drop table if exists public.measured')
      await destination.script(
        `create table public.measured (${columns}, primary key (id)); create index on public.measured (customer)`,
      )
    },
    run: async () => {
      const started = performance.now()
      await destination.script(
        `create subscription measured connection '${conninfo}' publication measured with (binary = true)`,
      )
      for (let ready = false; !ready; ) {
        await new Promise((resolve) => setTimeout(resolve, 20))
        const row = await destination.one<{ ready: boolean }>(
          sql`select bool_and(srsubstate in ('s', 'r')) as ready from pg_subscription_rel`,
        )
        ready = row.ready
      }
      await destination.query(sql`analyze public.measured`)
      const seconds = (performance.now() - started) / 1000
      await destination.script('drop subscription measured')
      await destination.script('drop table public.measured')
      return { seconds, cpu: 0, peakMiB: 0, stdout: '' }
    },
  }
}

async function yardmaster(sourceUrl: string, destinationUrl: string): Promise<Subject[]> {
  const main = new URL('../src/cli/main.ts', import.meta.url).pathname
  const command = (args: string) =>
    `"${process.execPath}" "${main}" --data-dir "${join(folder, 'control')}" --json ${args}`
  // The control server stays up between commands, as it does beside a worker.
  const control = new EmbeddedServer({ directory: join(folder, 'control-server') })
  await control.start()
  const controlUrl = await freshDatabase(control, 'control')
  const environment = { YARDMASTER_CONTROL_URL: controlUrl, FROM: sourceUrl, TO: destinationUrl }
  cleanups.push(() => control.stop())
  const run = (args: string) => measure(command(args), environment)
  await run('database add source "$FROM"')
  await run('database add destination "$TO"')
  await run('replication add snapshot public.measured --from source --to destination --dest ym.snapshot_copy')
  await run('replication add table public.measured --from source --to destination --dest ym.table_copy')
  const subject = (name: string, args: string): Subject => ({
    name,
    before: async () => undefined,
    run: () => run(args),
  })
  return [
    subject('yardmaster snapshot refresh', 'replication refresh ym.snapshot_copy --force'),
    subject('yardmaster table refresh', 'replication refresh ym.table_copy'),
    {
      name: 'yardmaster snapshot add',
      before: async () => {
        await run('replication remove ym.added --drop-table --yes').catch(() => undefined)
      },
      run: () => run('replication add snapshot public.measured --from source --to destination --dest ym.added'),
    },
  ]
}

function report(costs: ReadonlyMap<string, readonly Cost[]>, bytes: number): void {
  const reference = median((costs.get('psql binary') ?? []).map((cost) => cost.seconds))
  console.log(
    `${rows} rows, ${(bytes / 2 ** 20).toFixed(0)} MiB, ${rounds} rounds, PostgreSQL 18 (embedded, fsync on), Node ${process.versions.node}, ${cpus().length} cores`,
  )
  console.log(
    'full copy with indexes              rows/s     MB/s  client CPU s  CPU s/396 MB  peak MiB  ratio to psql binary',
  )
  const results = [...costs].map(([name, list]) => {
    const seconds = median(list.map((cost) => cost.seconds))
    const cpu = median(list.map((cost) => cost.cpu))
    const peak = Math.max(...list.map((cost) => cost.peakMiB))
    return {
      name,
      rows_per_second: Math.round(rows / seconds),
      mb_per_second: bytes / 1e6 / seconds,
      cpu,
      cpu_per_396_mb: (cpu / (bytes / 1e6)) * 396,
      peak_mib: peak,
      ratio: reference / seconds,
      seconds: list.map((cost) => cost.seconds),
    }
  })
  for (const one of results) {
    const client =
      one.cpu === 0 ? ['–', '–', '–'] : [one.cpu.toFixed(2), one.cpu_per_396_mb.toFixed(2), one.peak_mib.toFixed(0)]
    console.log(
      `${one.name.padEnd(34)} ${String(one.rows_per_second).padStart(8)} ${one.mb_per_second.toFixed(1).padStart(8)} ${(client[0] ?? '').padStart(13)} ${(client[1] ?? '').padStart(13)} ${(client[2] ?? '').padStart(9)} ${one.ratio.toFixed(2).padStart(8)}`,
    )
  }
  if (values.json)
    writeFileSync(
      values.json,
      `${JSON.stringify({ rows, bytes, rounds, node: process.versions.node, cores: cpus().length, results }, null, 2)}\n`,
    )
}

cleanups.push(
  () => sourceServer.stop(),
  () => destinationServer.stop(),
)
try {
  await main()
} finally {
  for (const cleanup of cleanups) await cleanup()
  rmSync(folder, { recursive: true, force: true })
}
