import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import { quantile } from './bench-site.ts'
import { ended } from './pickup.ts'
import type { SmallCopies } from './small-copies.ts'

/** A refresh that finds nothing to do, by a worker that has done it before. */
export interface UnchangedRefresh {
  readonly name: string
  readonly runs: number
  /** Milliseconds from the claim to the written end. */
  readonly p50: number
  readonly p99: number
  /** Statements for one run, by database: what the run and its record cost, `begin` and `commit` too. */
  readonly statements: Readonly<Record<string, number>>
}

export async function unchangedRefreshes(
  { control, unchanged, inserter }: SmallCopies,
  samples: number,
): Promise<UnchangedRefresh[]> {
  await control.script('create extension if not exists pg_stat_statements with schema public')
  const results: UnchangedRefresh[] = []
  for (const [name, job] of [
    ['snapshot, skipped', unchanged],
    ['inserter, nothing new', inserter],
  ] as const) {
    for (let warm = 0; warm < 5; warm += 1) await once(control, job)
    const times: number[] = []
    for (let sample = 0; sample < samples; sample += 1) times.push(await once(control, job))
    const statements = await statementsOf(control, job)
    results.push({ name, runs: samples, p50: quantile(times, 0.5), p99: quantile(times, 0.99), statements })
  }
  return results
}

async function once(control: Session, job: number): Promise<number> {
  const { id } = await control.one<{ id: string }>(sql`select yardmaster.queue_run(${job}) as id`)
  await ended(control, id)
  const { ms } = await control.one<{ ms: number }>(sql`
    select extract(epoch from r.finished_at - a.started_at)::float8 * 1000 as ms
    from yardmaster.run r join yardmaster.attempt a on a.run_id = r.id where r.id = ${id}`)
  return ms
}

/** Our own statements are told by their text, and left out. */
async function statementsOf(control: Session, job: number): Promise<Record<string, number>> {
  const runs = 20
  await track(control, 'top')
  await control.query(sql`select public.pg_stat_statements_reset()`)
  for (let run = 0; run < runs; run += 1) await once(control, job)
  const rows = await control.query<{ database: string; calls: string }>(sql`
    select d.datname as database, sum(s.calls) as calls from public.pg_stat_statements s join pg_database d on d.oid = s.dbid
    where s.query !~ 'queue_run|pg_stat_statements|from yardmaster.run (r join yardmaster.attempt a on a.run_id|where id)'
    group by 1 order by 1`)
  await track(control, 'none')
  return Object.fromEntries(rows.map((row) => [row.database, Number(row.calls) / runs]))
}

/** Each session reads it before its next statement. */
async function track(control: Session, what: 'top' | 'none'): Promise<void> {
  await control.script(`alter system set pg_stat_statements.track = '${what}'`)
  await control.query(sql`select pg_reload_conf()`)
}
