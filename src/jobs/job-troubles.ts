import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { checkTimeZone, wallClock } from './time-zone.ts'

/** Why a job does not run, or soon will not, though nothing of it has failed just now. */
export interface JobTrouble {
  readonly code: string
  readonly level: 'WARNING' | 'CRITICAL'
  /** The job as people know it, or what it is about. */
  readonly object: string
  readonly message: string
  readonly remedy: string
}

interface Row {
  readonly code: string
  readonly level: 'WARNING' | 'CRITICAL'
  readonly job_id: number
  readonly object: string
  /** What stands in the message and the remedy, by code. */
  readonly detail: string
  readonly other: string | null
}

/** Minutes after which nobody seems to look at a job, or to know its task. */
const patience = 1
/** Days after which a pause may have been forgotten. */
const longPause = 1

const words: Readonly<Record<string, (row: Row) => Pick<JobTrouble, 'message' | 'remedy'>>> = {
  job_unverified: ({ detail }) => ({
    message: `No worker could look whether it can be called since ${detail}; it does not start before.`,
    remedy:
      'Start a worker that reaches its database: yardmaster worker; what is wrong there, yardmaster database test DATABASE says.',
  }),
  job_stopped: ({ job_id: id, detail }) => ({
    message: `It is paused since it failed too often: ${sentence(detail)}`,
    remedy: `Mend it, then: yardmaster job resume ${id}; what went wrong: yardmaster job errors ${id}`,
  }),
  job_stopped_there: ({ job_id: id, detail, other }) => ({
    message: `It is paused in ${other}, where it failed too often: ${sentence(detail)}`,
    remedy: `Mend it there, then: yardmaster job resume ${id}; what went wrong: yardmaster job errors ${id}`,
  }),
  job_unfit: ({ job_id: id, detail }) => ({
    message: `It is paused because it can’t be called: ${sentence(detail)}`,
    remedy: `Mend it, then: yardmaster job resume ${id}`,
  }),
  job_orphaned: ({ job_id: id, detail }) => ({
    message: `Its owner, the role ${detail}, is gone: it does not start.`,
    remedy: `Give it another one: select yardmaster.change_owner(${id}, 'ROLE'); then: yardmaster job resume ${id}`,
  }),
  job_owner_without_right: ({ job_id: id, detail, other }) => ({
    message: `Its owner, the role ${detail}, may not make such jobs in ${other} any more; this one goes on.`,
    remedy: `If that is right: yardmaster job delete ${id}. If not: select yardmaster.grant_use('${detail.replaceAll("'", "''")}', '${other}')`,
  }),
  paused_long: ({ job_id: id, detail }) => ({
    message: `It is paused since ${sentence(detail)}`,
    remedy: `Go on with: yardmaster job resume ${id}`,
  }),
  dependency_paused: ({ job_id: id, detail, other }) => ({
    message: `It starts after ${detail}, which is ${other}: until that goes on, it does not start.`,
    remedy: `Have that go on, or this one start without it: yardmaster job alter ${id} --after none`,
  }),
  tag_unused: ({ job_id: id, detail }) => ({
    message: `It runs in each database that has the tag ${detail}, and none has it.`,
    remedy: `yardmaster database set NAME --tag ${detail}; or: yardmaster job alter ${id} --database DATABASE`,
  }),
  task_unknown_to_workers: ({ detail, other }) => ({
    message: `Its run ${detail} has been waiting since ${other}, though workers are alive: none of them seems to know its task.`,
    remedy: 'Start the program that registers the task.',
  }),
}

/** Worst first. */
export async function jobTroubles(control: Control): Promise<JobTrouble[]> {
  const rows = await control.perform((session) => session.query<Row>(troubles), 0)
  const found = rows.map((row) => {
    const text = words[row.code]?.({ ...row, detail: printable(row.detail), other: printable(row.other ?? '') })
    return {
      code: row.code,
      level: row.level,
      object: printable(row.object),
      ...(text ?? { message: row.detail, remedy: '' }),
    }
  })
  return [...found, ...(await zoneTroubles(control))]
}

/** Labels of the jobs that run in each registered database, by its name. */
export async function jobsByDatabase(control: Control): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await control.session.query<{ database: string; jobs: string[] }>(sql`
    select t.database, array_agg(yardmaster.job_label(t.job_id) order by t.job_id) as jobs
    from yardmaster.job_targets t
    where t.in_scope and t.kind <> 'replication' and t.database is not null and t.status in ('active', 'unverified') group by t.database`)
  return new Map(rows.map(({ database, jobs }) => [database, jobs.map(printable)]))
}

const troubles = sql`
  with mine as (
    select j.*, yardmaster.job_label(j.job_id) as label, to_char(j.paused_at, 'YYYY-MM-DD HH24:MI') as since
    from yardmaster.jobs j where j.kind <> 'replication')
  select 'job_unverified' as code, 'WARNING' as level, m.job_id, m.label as object, to_char(m.created_at, 'YYYY-MM-DD HH24:MI') as detail,
    null as other
  from mine m where m.status = 'unverified' and m.databases > 0 and m.created_at < clock_timestamp() - make_interval(mins => ${patience})
  union all
  select case m.paused_by when 'max_retries' then 'job_stopped' else 'job_unfit' end, 'CRITICAL', m.job_id, m.label, coalesce(m.pause_note, ''), null
  from mine m where m.status = 'paused' and m.paused_by in ('max_retries', 'verification')
  union all
  select 'job_stopped_there', 'CRITICAL', m.job_id, m.label, coalesce((select r.message from yardmaster.runs r
      where r.job_id = m.job_id and r.database = s.database and r.status = 'CRITICAL' order by r.id desc limit 1), ''), s.database
  from mine m join yardmaster.job_stats s on s.job_id = m.job_id and s.paused_at is not null where m.status <> 'paused'
  union all
  select 'job_orphaned', 'CRITICAL', m.job_id, m.label, m.owner_name, null
  from mine m where m.owner is null
  union all
  select 'job_owner_without_right', 'WARNING', m.job_id, m.label, m.owner_name, min(t.database)
  from mine m join yardmaster.job_targets t on t.job_id = m.job_id and t.in_scope and t.database is not null
  where m.owner is not null and m.status <> 'paused'
    and not pg_has_role(m.owner, (select nspowner from pg_namespace where nspname = 'yardmaster'), 'MEMBER')
    and not exists (select from yardmaster.database_right w left join pg_roles r on r.rolname = w.role
      where w.database_id = t.database_id and (w.may_author or m.kind <> 'sql') and pg_has_role(m.owner, r.oid, 'MEMBER'))
  group by m.job_id, m.label, m.owner_name
  union all
  select 'paused_long', 'WARNING', m.job_id, m.label, format('%s by %s%s', m.since, m.paused_by, coalesce(': ' || m.pause_note, '')), null
  from mine m where m.status = 'paused' and m.owner is not null and m.paused_by not in ('max_retries', 'verification')
    and m.paused_at < clock_timestamp() - make_interval(days => ${longPause})
  union all
  select 'dependency_paused', 'WARNING', m.job_id, m.label, yardmaster.job_label(p.job_id),
    case p.status when 'paused' then format('paused by %s%s', p.paused_by, coalesce(': ' || p.pause_note, '')) else p.status end
  from mine m join yardmaster.job_dependency y on y.job_id = m.job_id join yardmaster.jobs p on p.job_id = y.after_job_id
  where m.status = 'active' and p.status in ('paused', 'broken')
  union all
  select 'tag_unused', 'WARNING', m.job_id, m.label, substr(m.database, 5), null
  from mine m where m.database like 'tag:%' and m.databases = 0
  union all
  select 'task_unknown_to_workers', 'WARNING', m.job_id, m.label, min(r.id)::text,
    to_char(min(r.due_at), 'YYYY-MM-DD HH24:MI:SS TZ')
  from mine m join yardmaster.runs r on r.job_id = m.job_id and r.status = 'WAITING' and r.queued
  where m.kind = 'task' and r.due_at < clock_timestamp() - make_interval(mins => ${patience})
    and exists (select from yardmaster.workers w where w.alive and w.slots > w.running)
  group by m.job_id, m.label
  order by level, job_id, code`

/** Ends with one period. */
function sentence(text: string): string {
  return `${text.replace(/[.\s]+$/, '')}.`
}

interface ZoneRow {
  readonly timezone: string
  readonly jobs: number[]
  readonly at: Date[]
  /** Seconds from UTC at each of these times, by the control server. */
  readonly offsets: number[]
}

/** Time zones of schedules that this program does not know, or knows otherwise than the control server in the months to come. */
async function zoneTroubles(control: Control): Promise<JobTrouble[]> {
  const zones = await control.perform(
    (session) =>
      session.query<ZoneRow>(sql`
        select z.timezone, z.jobs, array_agg(t.at order by t.at) as at,
          array_agg(extract(epoch from (t.at at time zone z.timezone) - (t.at at time zone 'UTC'))::float8 order by t.at) as offsets
        from (select timezone, array_agg(job_id order by job_id) as jobs from yardmaster.jobs group by timezone) z
        cross join (select date_trunc('day', clock_timestamp()) + make_interval(days => n) as at from generate_series(0, 360, 30) n) t
        group by z.timezone, z.jobs order by z.timezone`),
    0,
  )
  return zones.flatMap((row) => zoneTrouble(row) ?? [])
}

/** Pure. */
export function zoneTrouble({ timezone, jobs, at, offsets }: ZoneRow): JobTrouble | undefined {
  const some = jobs.slice(0, 5).join(', ') + (jobs.length > 5 ? ` and ${jobs.length - 5} more` : '')
  const object = `time zone ${printable(timezone)}`
  const remedy = 'Give workers and control server time zone data of the same age: update Node.js or PostgreSQL.'
  try {
    checkTimeZone(timezone)
  } catch {
    const message = `Jobs go by it that do not start, as this program does not know it: ${some}.`
    return { code: 'zone_unknown', level: 'CRITICAL', object, message, remedy }
  }
  const wrong = at.find((time, index) => {
    const ours = (wallClock(timezone, time.getTime()) - time.getTime()) / 1000
    return ours !== offsets[index]
  })
  if (wrong === undefined) return undefined
  const day = wrong.toISOString().slice(0, 10)
  const message = `On ${day} its clocks stand otherwise for this program than for the control server; jobs go by it: ${some}.`
  return { code: 'zone_differs', level: 'WARNING', object, message, remedy }
}
