/**
 * Increments of one table: new rows by inserter and updater, changed rows by updater, as they ship, against pipelines of psql
 * and, where Debian's postgresql-15-mimeo is installed, against mimeo, all on one server in one run.
 *
 *   npm run bench:increments -- [--rows 200000] [--rounds 2] [--json FILE]
 *
 * Needs bash and psql on the PATH. The server is Debian's PostgreSQL 15 where mimeo is there, else the embedded one; fsync is on.
 */
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import { BenchSite } from './bench-site.ts'
import { hasMimeo, startDebianServer } from './debian-server.ts'
import {
  type IncrementSubject,
  measuredColumns,
  mimeoSubjects,
  psqlSubjects,
  yardmasterSubjects,
} from './increment-subjects.ts'
import { type Cost, measure, median } from './measured-process.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '200000' },
    rounds: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
})
const rows = Number(values.rows)
const rounds = Number(values.rounds)
const site = new BenchSite()
const settings = { max_wal_size: '4GB', shared_buffers: '256MB' }

type Costs = Map<string, Cost[]>

async function main(): Promise<void> {
  const withMimeo = hasMimeo()
  const url = withMimeo ? await startDebianServer(site, settings) : await embedded()
  const admin = await site.session(url('postgres'))
  for (const name of ['source', 'destination', 'control']) await admin.script(`create database ${name}`)
  const source = await site.session(url('source'))
  const destination = await site.session(url('destination'))
  console.error(`Making ${rows} rows, and copies of them …`)
  await makeTable(source)
  const scene = {
    site,
    source: url('source'),
    destination: url('destination'),
    control: url('control'),
    session: destination,
  }
  const subjects = [
    ...(await psqlSubjects(scene)),
    ...(await yardmasterSubjects(scene)),
    ...(withMimeo ? await mimeoSubjects(scene) : []),
  ]
  const [added, changed]: [Costs, Costs] = [new Map(), new Map()]
  for (let round = 1; round <= rounds; round += 1) {
    await addRows(source, round)
    // Nobody is always the first, with the cleanest cache.
    const order = round % 2 === 0 ? subjects.toReversed() : subjects
    for (const subject of order) await run(subject, added, round, 'new', destination)
    await changeRows(source, round)
    for (const subject of order.filter(({ takesChanges }) => takesChanges))
      await run(subject, changed, round, 'changed', destination)
  }
  await compare(source, destination, subjects)
  report(withMimeo, added, changed)
}

async function embedded(): Promise<(database: string) => string> {
  const server = await site.server('increments', settings)
  return (database) => server.url(database)
}

async function makeTable(source: Session): Promise<void> {
  await source.script(`
    create table public.measured (${measuredColumns});
    insert into public.measured ${rowsOf(1)};
    alter table public.measured add primary key (id);
    create index on public.measured (changed)`)
  await source.query(sql`vacuum (analyze) public.measured`)
}

/** `changed` is when a row is written: by time, only what is newer than the last look can be new. */
function rowsOf(from: number): string {
  return `select g, g % 50000, 'customer number ' || g % 50000,
      jsonb_build_object('state', case g % 3 when 0 then 'open' when 1 then 'paid' else 'closed' end, 'note', repeat(chr(97 + g::int % 26), 60), 'n', g),
      (g % 100000) / 7.0, clock_timestamp(), clock_timestamp()
    from generate_series(${from}, ${from + rows - 1}) g`
}

async function addRows(source: Session, round: number): Promise<void> {
  await source.script(`insert into public.measured ${rowsOf(1 + round * rows)}; analyze public.measured`)
}

/** As many rows as are added in a round, over the whole table. */
async function changeRows(source: Session, round: number): Promise<void> {
  await source.script(
    `update public.measured set amount = amount + 1, changed = clock_timestamp() where id % ${round + 1} = 0`,
  )
  await source.query(sql`vacuum (analyze) public.measured`)
}

async function run(
  subject: IncrementSubject,
  costs: Costs,
  round: number,
  what: string,
  destination: Session,
): Promise<void> {
  await destination.query(sql`checkpoint`)
  const cost = await measure(subject.command, subject.environment)
  costs.set(subject.name, [...(costs.get(subject.name) ?? []), cost])
  console.error(`round ${round}  ${what.padEnd(8)} ${subject.name.padEnd(40)} ${cost.seconds.toFixed(2)} s`)
}

/** Whoever copied fewer rows has done less work: all must hold what the source holds, but for a boundary of a few rows. */
async function compare(source: Session, destination: Session, subjects: readonly IncrementSubject[]): Promise<void> {
  const total = await source.one<{ rows: string }>(sql`select count(*) as rows from public.measured`)
  for (const { name, schema, takesChanges } of subjects) {
    const copy = await destination.client.query<{ rows: string; changed: string }>(
      `select count(*) as rows, count(*) filter (where amount > (id % 100000) / 7.0 + 0.9) as changed from ${schema}.measured`,
    )
    const found = copy.rows[0]
    const missing = Number(total.rows) - Number(found?.rows)
    const wrong = missing > 20 || missing < 0 || (takesChanges && Number(found?.changed) < 0.99 * rows)
    if (wrong) throw new Error(`${name} holds ${found?.rows} of ${total.rows} rows, ${found?.changed} of them changed.`)
  }
}

function report(withMimeo: boolean, added: Costs, changed: Costs): void {
  const server = withMimeo ? 'PostgreSQL 15 (Debian)' : 'PostgreSQL 18 (embedded)'
  console.log(
    `${rows} rows, ${rounds} rounds, ${server}, fsync on, Node ${process.versions.node}, ${cpus().length} cores`,
  )
  const results = [
    ...table('new rows, inserter', added, (name) => !name.includes('updater'), 'psql COPY into the table'),
    ...table('new rows, updater', added, (name) => name.includes('updater'), 'psql staging, updater'),
    ...table('changed rows, updater', changed, () => true, 'psql staging, updater'),
  ]
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ rows, rounds, server, results }, null, 2)}\n`)
}

function table(title: string, costs: Costs, wanted: (name: string) => boolean, reference: string) {
  const seconds = (name: string) => median((costs.get(name) ?? []).map((cost) => cost.seconds))
  const peer = [...costs.keys()].find((name) => name.startsWith('mimeo') && wanted(name))
  console.log(`\n${title.padEnd(42)} rows/s   ratio to psql   ratio to mimeo   client CPU s`)
  return [...costs]
    .filter(([name]) => wanted(name))
    .map(([name, list]) => {
      const [toPsql, toMimeo] = [seconds(reference) / seconds(name), peer ? seconds(peer) / seconds(name) : undefined]
      const cpu = median(list.map((cost) => cost.cpu))
      console.log(
        `${name.padEnd(40)} ${(rows / seconds(name)).toFixed(0).padStart(8)} ${toPsql.toFixed(2).padStart(15)} ${(toMimeo?.toFixed(2) ?? '–').padStart(16)} ${cpu.toFixed(2).padStart(14)}`,
      )
      return { title, name, seconds: list.map((cost) => cost.seconds), toPsql, toMimeo: toMimeo ?? null, cpu }
    })
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void site.end().then(() => process.exit(130)))
try {
  await main()
} finally {
  await site.end()
}
