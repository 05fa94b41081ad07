import type { Session } from '../src/postgres/connect.ts'
import { sql } from '../src/postgres/sql.ts'
import type { BenchSite } from './bench-site.ts'
import type { Throughput } from './job-queues.ts'

/** A run of the record: its claim, one step, its end. */
export interface ClaimRate extends Throughput {
  /** Milliseconds of one call, on average. */
  readonly claimCall: number
  readonly finishCall: number
}

/** Makes replications by SQL: nobody ever refreshes them, so what they copy need not be there. */
export async function addIdleReplications(control: Session, count: number, schedule: string | null): Promise<void> {
  await control.query(sql`
    with databases as (select min(id) as id from yardmaster.managed_database),
    jobs as (insert into yardmaster.job (kind, status, created_by, owner, schedule_interval)
      select 'replication', 'active', 'bench', session_user, ${schedule}::interval from generate_series(1, ${count}::int) returning id),
    states as (insert into yardmaster.job_state (job_id, database_id, scheduled)
      select j.id, d.id, ${schedule}::interval is not null from jobs j, databases d)
    insert into yardmaster.replication (job_id, type, source_database, source_schema, source_name, destination_database,
      destination_schema, destination_name, build_indexes, load_data, post_script, sequences, truncate_cascade, swap_wait)
    select j.id, 'table', d.id, 'public', 't' || j.id, d.id, 'copy', 't' || j.id, true, true, '{}', '{}', false, '1 minute'
    from jobs j, databases d`)
  await giveLanes(control)
}

/** As adding a replication, or changing its site, does; in one go. */
export async function giveLanes(control: Session): Promise<void> {
  await control.query(sql`
    with its as (
      select j.id, j.site, array_remove(array['database:any', 'site:' || j.site], null) as keys from yardmaster.job j
    ), made as (
      insert into yardmaster.lane (site, keys) select distinct site, keys from its
      on conflict (keys, priority, (coalesce(task, ''))) do update set keys = excluded.keys returning id, keys)
    update yardmaster.job_state s set lane = m.id from its i join made m on m.keys = i.keys where i.id = s.job_id`)
}

/** Tops the waiting runs up to one for each job. */
export async function queueEverything(control: Session): Promise<void> {
  await control.script(`
    insert into yardmaster.run (job_id, slot, due_at, lane, database_id, operation, object, status, queued, requested)
    select v.job_id, clock_timestamp(), clock_timestamp(), v.lane, v.destination_database_id, 'refresh', v.destination_table, 'WAITING', true, false
    from yardmaster.replications v
    where not exists (select 1 from yardmaster.run r where r.job_id = v.job_id and r.status in ('WAITING', 'RUNNING'));
    analyze yardmaster.run, yardmaster.job, yardmaster.replication, yardmaster.attempt`)
}

/** Claims and ends runs by the functions that workers call, on several connections, for some seconds. */
export async function claimThroughput(
  site: BenchSite,
  url: string,
  connections: number,
  batch: number,
  seconds: number,
  host = (index: number) => `c${index}`,
): Promise<ClaimRate> {
  const claimers = await Promise.all(Array.from({ length: connections }, (_, index) => claimer(site, url, host(index))))
  // Plans are made and tables are read once before it counts.
  await Promise.all(claimers.map((one) => one.once(batch)))
  const totals = { jobs: 0, calls: 0, claiming: 0, finishing: 0 }
  const started = performance.now()
  const loop = async (once: (batch: number) => Promise<Figures>) => {
    while (performance.now() - started < seconds * 1000) {
      const figures = await once(batch)
      if (figures.runs === 0) return
      totals.jobs += figures.runs
      totals.calls += 1
      totals.claiming += figures.claiming
      totals.finishing += figures.finishing
    }
  }
  await Promise.all(claimers.map((one) => loop(one.once)))
  const elapsed = (performance.now() - started) / 1000
  await Promise.all(claimers.map((one) => one.session.end()))
  return {
    name: `yardmaster, ${connections} ${connections === 1 ? 'connection' : 'connections'}, ${batch} at once`,
    jobs: totals.jobs,
    seconds: elapsed,
    claimCall: totals.claiming / totals.calls,
    finishCall: totals.finishing / totals.calls,
  }
}

interface Figures {
  readonly runs: number
  readonly claiming: number
  readonly finishing: number
}

async function claimer(site: BenchSite, url: string, name: string) {
  const session = await site.session(url)
  const { id } = await session.one<{ id: string }>(sql`select yardmaster.register_worker(${name}, ${name}, 1000) as id`)
  const once = async (batch: number): Promise<Figures> => {
    const began = performance.now()
    const claims = await session.query<{ token: string }>(
      sql`select token from yardmaster.claim_runs(${id}, '{replication}', ${batch})`,
    )
    const claimed = performance.now()
    if (claims.length > 0) await finish(session, claims)
    return { runs: claims.length, claiming: claimed - began, finishing: performance.now() - claimed }
  }
  return { session, once }
}

async function finish(session: Session, claims: readonly { token: string }[]): Promise<void> {
  const now = new Date().toISOString()
  const steps = claims.map(({ token }) => ({
    token,
    ordinal: 1,
    action: 'compare',
    status: 'OK',
    started_at: now,
    finished_at: now,
    message: 'nothing to do',
  }))
  const outcomes = claims.map(({ token }) => ({ token, status: 'OK', message: 'unchanged', rows: 0, bytes: 0, lag: 0 }))
  await session.query(
    sql`select token from yardmaster.record_progress(${JSON.stringify(steps)}::jsonb, ${JSON.stringify(outcomes)}::jsonb)`,
  )
}

/** Prints figures beside those of the first peer. */
export function reportClaims(title: string, results: readonly (Throughput | ClaimRate)[]): void {
  const reference = results.find((one) => one.name.startsWith('graphile'))
  const per = (one: Throughput) => one.jobs / one.seconds
  console.log(`\n${title.padEnd(80)} per s   to the first peer   ms a claim   ms an end`)
  for (const one of results) {
    const calls = 'claimCall' in one ? [one.claimCall.toFixed(2), one.finishCall.toFixed(2)] : ['–', '–']
    const ratio = reference ? (per(one) / per(reference)).toFixed(2) : '–'
    console.log(
      `${one.name.padEnd(78)} ${per(one).toFixed(0).padStart(7)} ${ratio.padStart(19)} ${(calls[0] ?? '').padStart(12)} ${(calls[1] ?? '').padStart(11)}`,
    )
  }
}
