import type { Session } from '../src/postgres/connect.ts'
import { parseConnectionUrl } from '../src/postgres/connection-url.ts'
import { sql } from '../src/postgres/sql.ts'
import { type BenchSite, programLine } from './bench-site.ts'
import { measure } from './measured-process.ts'

/** One way to bring a copy up to date; each has a copy of its own, `SCHEMA.measured`, with primary key and one index. */
export interface IncrementSubject {
  readonly name: string
  readonly schema: string
  /** New rows only, or changed ones too. */
  readonly takesChanges: boolean
  readonly command: string
  readonly environment: Readonly<Record<string, string>>
}

export interface IncrementScene {
  readonly site: BenchSite
  /** URLs. */
  readonly source: string
  readonly destination: string
  readonly control: string
  /** On the destination. */
  readonly session: Session
}

export const measuredColumns = `id bigint not null, customer int not null, name text not null, details jsonb not null,
  amount numeric(12,2) not null, created timestamptz not null, changed timestamptz not null`

const setters = ['customer', 'name', 'details', 'amount', 'created', 'changed']
  .map((column) => `${column} = excluded.${column}`)
  .join(', ')

/** What a script of one's own would do: it knows by its copy how far it came. */
export async function psqlSubjects(scene: IncrementScene): Promise<IncrementSubject[]> {
  const environment = { FROM: scene.source, TO: scene.destination }
  const rowsBehind = (schema: string, column: string) =>
    `set -o pipefail; last=$(psql -qXAt "$TO" -c 'select max(${column}) from ${schema}.measured'); psql -qX "$FROM" -c "copy (select * from public.measured where ${column} > '$last') to stdout (format binary)"`
  for (const schema of ['psql_inserter', 'psql_updater']) {
    await scene.session.script(
      `create schema ${schema}; create table ${schema}.measured (${measuredColumns}, primary key (id));
       create index on ${schema}.measured (changed)`,
    )
    await measure(
      `psql -qX "$FROM" -c 'copy public.measured to stdout' | psql -qX "$TO" -c 'copy ${schema}.measured from stdin' -c 'analyze ${schema}.measured'`,
      environment,
    )
  }
  const staging = `psql -qX "$TO" -c 'create temporary table staging (like psql_updater.measured)' -c 'copy staging from stdin (format binary)' -c 'insert into psql_updater.measured select * from staging on conflict (id) do update set ${setters}'`
  return [
    {
      name: 'psql COPY into the table',
      schema: 'psql_inserter',
      takesChanges: false,
      command: `${rowsBehind('psql_inserter', 'id')} | psql -qX "$TO" -c 'copy psql_inserter.measured from stdin (format binary)'`,
      environment,
    },
    {
      name: 'psql staging, updater',
      schema: 'psql_updater',
      takesChanges: true,
      command: `${rowsBehind('psql_updater', 'changed')} | ${staging}`,
      environment,
    },
  ]
}

/** Commands with their start, as cron would run them; the control database is on the same server. */
export async function yardmasterSubjects(scene: IncrementScene): Promise<IncrementSubject[]> {
  const { site, control } = scene
  await site.command(control, 'database add source "$DB"', { DB: scene.source })
  await site.command(control, 'database add destination "$DB"', { DB: scene.destination })
  const subjects: IncrementSubject[] = []
  for (const [type, column, by, boundary] of [
    ['inserter', 'id', 'serial', '0'],
    ['updater', 'changed', 'time', "'0 s'"],
  ]) {
    const schema = `yardmaster_${type}`
    await site.command(
      control,
      `replication add ${type} public.measured --from source --to destination --dest ${schema}.measured --column ${column} --by ${by} --boundary ${boundary}`,
    )
    subjects.push({
      name: `yardmaster ${type}`,
      schema,
      takesChanges: type === 'updater',
      command: programLine(site.folder, `replication refresh ${schema}.measured`),
      environment: { YARDMASTER_CONTROL_URL: control },
    })
  }
  return subjects
}

export async function mimeoSubjects({ source, destination, session }: IncrementScene): Promise<IncrementSubject[]> {
  const { host, port, user, password, database } = parseConnectionUrl(source)
  await session.script(
    `create schema mimeo; create schema dblink; create extension dblink schema dblink; create extension mimeo schema mimeo;
     create schema mimeo_inserter; create schema mimeo_updater`,
  )
  const { id } = await session.one<{ id: number }>(sql`
    insert into mimeo.dblink_mapping_mimeo (data_source, username, pwd)
    values (${`host=${host} port=${port} dbname=${database}`}, ${user}, ${password}) returning data_source_id as id`)
  const environment = { TO: destination }
  const subjects: IncrementSubject[] = []
  for (const [type, by, column, boundary] of [
    ['inserter', 'serial', 'id', "'0'"],
    ['updater', 'time', 'changed', "'0 seconds'"],
  ]) {
    const table = `mimeo_${type}.measured`
    await measure(
      `psql -qX "$TO" -v ON_ERROR_STOP=1 -c "select mimeo.${type}_maker('public.measured', '${by}', '${column}', ${id}, ${boundary}, p_dest_table := '${table}')"`,
      environment,
    )
    subjects.push({
      name: `mimeo ${type}`,
      schema: `mimeo_${type}`,
      takesChanges: type === 'updater',
      command: `psql -qX "$TO" -v ON_ERROR_STOP=1 -c "select mimeo.refresh_${type}('${table}')"`,
      environment,
    })
  }
  return subjects
}
