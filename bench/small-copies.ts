import type { EmbeddedServer } from '../src/embedded/embedded-server.ts'
import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import type { BenchSite } from './bench-site.ts'

/** Copies of tables that hold one row and never change: what is left of a refresh is what it costs to look. */
export interface SmallCopies {
  readonly controlUrl: string
  readonly control: Session
  /** Job of a snapshot that has no schedule. */
  readonly unchanged: number
  /** Job of an inserter that has no schedule. */
  readonly inserter: number
  /** Jobs of snapshots that are given schedules. */
  readonly scheduled: readonly number[]
}

const scheduledCount = 4

export async function makeSmallCopies(site: BenchSite, server: EmbeddedServer): Promise<SmallCopies> {
  const controlUrl = await site.database(server, 'control')
  const source = await site.database(server, 'source')
  const destination = await site.database(server, 'destination')
  const session = await site.session(source)
  const tables = ['unchanged', ...Array.from({ length: scheduledCount }, (_, index) => `scheduled_${index + 1}`)]
  for (const table of tables)
    await session.script(
      `create table public.${table} (id bigint primary key, name text); insert into public.${table} values (1, 'one')`,
    )
  await session.script(
    `create table public.growing (id bigint primary key, name text);
     insert into public.growing select g, 'row ' || g from generate_series(1, 100) g`,
  )
  await session.end()
  const command = (args: string, environment = {}) => site.command(controlUrl, args, environment)
  await command('database add source "$DB"', { DB: source })
  await command('database add destination "$DB"', { DB: destination })
  const sides = '--from source --to destination'
  for (const table of tables) await command(`replication add snapshot public.${table} ${sides} --dest copy.${table}`)
  await command(`replication add inserter public.growing ${sides} --dest copy.growing --column id --by serial`)
  const control = await site.session(controlUrl)
  const jobs = await control.query<{ name: string; job_id: number }>(
    sql`select destination_name as name, job_id from yardmaster.replications order by job_id`,
  )
  const jobOf = (name: string) => jobs.find((job) => job.name === name)?.job_id ?? 0
  return {
    controlUrl,
    control,
    unchanged: jobOf('unchanged'),
    inserter: jobOf('growing'),
    scheduled: jobs.filter((job) => job.name.startsWith('scheduled_')).map((job) => job.job_id),
  }
}
