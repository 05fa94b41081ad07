import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

/** A row of the view `jobs`. Intervals as PostgreSQL writes them; `infinity` where a start never comes. */
export interface Job {
  readonly job_id: number
  readonly application_name: string
  readonly schedule_interval: string | null
  readonly max_runtime: string
  readonly max_retries: number
  readonly retry_period: string
  readonly proc_schema: string | null
  readonly proc_name: string | null
  readonly owner: string | null
  readonly scheduled: boolean
  readonly fixed_schedule: boolean
  readonly config: unknown
  readonly next_start: Date | number | null
  readonly initial_start: Date | null
  readonly hypertable_schema: null
  readonly hypertable_name: null
  readonly check_schema: string | null
  readonly check_name: string | null
  readonly timezone: string
  readonly cron: string | null
  /** A registered one, or `tag:T`; null where a task has none. */
  readonly database: string | null
  readonly site: string | null
  readonly kind: 'replication' | 'procedure' | 'sql' | 'task'
  readonly name: string | null
  readonly status: 'setting_up' | 'unverified' | 'active' | 'paused' | 'broken' | 'removing'
  readonly paused_at: Date | null
  readonly paused_by: string | null
  readonly pause_note: string | null
  readonly statements: string[] | null
  readonly task: string | null
  readonly retry_on_crash: string | null
  readonly overlap: 'skip' | 'buffer' | 'allow' | 'cancel'
  readonly catch_up: string | null
  readonly jitter: string
  readonly priority: number
  readonly pool: string | null
  /** `1001`, or `1001:done`. */
  readonly after: string[]
  readonly databases: number
  readonly paused_databases: number
  readonly version: number
  readonly created_at: Date
  readonly created_by: string
  /** From when the slots of an interval are counted. */
  readonly schedule_origin: Date
  /** The table that a replication keeps, with its database; null for every other kind. */
  readonly destination: string | null
  /** jsonb as text, so that no digit is lost. */
  readonly config_text: string | null
}

const selection = sql`
  select j.job_id, j.application_name, j.schedule_interval::text, j.max_runtime::text, j.max_retries, j.retry_period::text, j.proc_schema,
    j.proc_name, j.owner::text, j.scheduled, j.fixed_schedule, j.config, j.next_start, j.initial_start, j.hypertable_schema, j.hypertable_name,
    j.check_schema, j.check_name, j.timezone, j.cron, j.database, j.site, j.kind, j.name, j.status, j.paused_at, j.paused_by, j.pause_note,
    j.statements, j.task, j.retry_on_crash, j.overlap, j.catch_up::text, j.jitter::text, j.priority, j.pool, j.after::text[] as after, j.databases,
    j.paused_databases, j.version, j.created_at, j.created_by, j.schedule_origin, j.config::text as config_text,
    j.database || ':' || yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name) as destination
  from yardmaster.jobs j left join yardmaster.replications r on r.job_id = j.job_id`

export async function listJobs(control: Control): Promise<Job[]> {
  return control.session.query<Job>(sql`${selection} order by j.job_id`)
}

/** By a session of the caller's own, which may be within a transaction. Throws `job_unknown`. */
export async function readJob(session: Session, id: number): Promise<Job> {
  const row = await session.first<Job>(sql`${selection} where j.job_id = ${id}`)
  if (row) return row
  throw new Failure('job_unknown', { message: `There is no job ${id}.`, object: String(id) })
}

interface Names {
  readonly job_id: number
  readonly name: string | null
  readonly action: string | null
  readonly bare: string | null
  readonly placed: string | null
  readonly application_name: string
}

/**
 * The job that is meant by its number, its name, or what it calls or copies to (`schema.name`, `database:schema.name`). Throws
 * `job_unknown`, `job_ambiguous`.
 */
export async function findJob(control: Control, text: string): Promise<Job> {
  if (/^\d{1,9}$/.test(text)) return readJob(control.session, Number(text))
  const all = await control.session.query<Names>(sql`
    select j.job_id, j.name, j.application_name, n.action, coalesce(j.proc_name::text, r.destination_name) as bare,
      j.database || ':' || n.action as placed
    from yardmaster.jobs j left join yardmaster.replications r on r.job_id = j.job_id
    cross join lateral (select coalesce(yardmaster.display_name(j.proc_schema) || '.' || yardmaster.display_name(j.proc_name), j.task,
      yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name)) as action) n
    order by j.job_id`)
  // A name that somebody gave stands before one that a procedure has.
  for (const names of [
    (one: Names) => [one.name],
    (one: Names) => [one.action, one.placed, one.application_name],
    (one: Names) => [one.bare],
  ]) {
    const found = all.filter((one) => names(one).includes(text))
    const [only] = found
    if (only && found.length === 1) return readJob(control.session, only.job_id)
    if (only) throw ambiguous(text, found)
  }
  throw unknown(text, all)
}

function ambiguous(text: string, found: readonly Names[]): Failure {
  const shown = found
    .slice(0, 8)
    .map(({ job_id, name, placed }) => `${job_id} (${printable(name ?? placed ?? 'task')})`)
  const more = found.length > 8 ? ` and ${found.length - 8} more` : ''
  return new Failure('job_ambiguous', {
    message: `Several jobs are called ${printable(text)}: ${shown.join(', ')}${more}.`,
    object: printable(text),
  })
}

function unknown(text: string, all: readonly Names[]): Failure {
  const names = all.flatMap(({ name, action, bare }) => [name, action, bare].filter((one) => one !== null))
  const near = nearest(text, [...new Set(names)])
  return new Failure('job_unknown', {
    message: `There is no job ${printable(text)}${near === undefined ? '.' : `; did you mean ${printable(near)}?`}`,
    object: printable(text),
  })
}

/** What a job does: `public.refresh_marts`, `2 statements`, `dwh:public.orders`. */
export function actionLabel(job: Job): string {
  if (job.destination !== null) return job.destination
  if (job.task !== null) return job.task
  if (job.statements !== null)
    return job.statements.length === 1 ? '1 statement' : `${job.statements.length} statements`
  const name = job.proc_name ?? ''
  return job.proc_schema === null ? displayName(name) : displayQualified({ schema: job.proc_schema, name })
}

/** `job 1001 (nightly)` */
export function jobLabel(job: Job): string {
  return `job ${job.job_id} (${printable(job.name ?? actionLabel(job))})`
}

/** Keys as in the SQL function `job_option_kind`; `config` apart, as jsonb text, so that no digit is lost: undefined leaves it. */
export interface JobOptions {
  readonly options: Readonly<Record<string, unknown>>
  readonly config: string | null | undefined
}

function asJsonb({ options, config }: JobOptions) {
  const json = JSON.stringify(options)
  if (config === undefined) return sql`${json}::jsonb`
  return sql`${json}::jsonb || jsonb_build_object('config', ${config}::jsonb)`
}

/** Returns the new job's number. Throws `wrong_usage`, `dependency_cycle`, `job_unknown`, `permission_denied`. */
export async function addJob(session: Session, definition: JobOptions): Promise<number> {
  return refusing(session, 'job', async () => {
    const row = await session.one<{ id: number }>(sql`select yardmaster.define_job(${asJsonb(definition)}) as id`)
    return row.id
  })
}

/** What is not named stays. Throws what `addJob` throws, and `job_refused`. */
export async function changeJob(session: Session, job: Job, changes: JobOptions): Promise<void> {
  await refusing(session, jobLabel(job), () =>
    session.query(sql`select yardmaster.change_job(${job.job_id}, ${asJsonb(changes)})`),
  )
}

/** Throws `job_refused`, where other jobs start after it. */
export async function deleteJob(control: Control, job: Job): Promise<void> {
  const { session } = control
  await refusing(session, jobLabel(job), () => session.query(sql`select yardmaster.delete_job(${job.job_id})`))
}

/** `kills`: what of it is under way is broken off. Returns how many runs that are. */
export async function pauseJob(control: Control, job: Job, note: string | null, kills: boolean): Promise<number> {
  const { session } = control
  return refusing(session, jobLabel(job), async () => {
    await session.query(sql`select yardmaster.pause_job(${job.job_id}, ${note}::text)`)
    if (!kills) return 0
    const rows = await session.query(sql`
      select yardmaster.cancel_run(r.id) from yardmaster.runs r where r.job_id = ${job.job_id} and r.status = 'RUNNING'`)
    return rows.length
  })
}

export async function resumeJob(control: Control, job: Job): Promise<void> {
  const { session } = control
  await refusing(session, jobLabel(job), () => session.query(sql`select yardmaster.resume_job(${job.job_id})`))
}

/** Names of registered databases that a job runs in, or would. Throws `database_unknown` where no database has the tag. */
export async function databasesOf(control: Control, place: string): Promise<string[]> {
  if (!place.startsWith('tag:')) return [place]
  const rows = await control.session.query<{ name: string; tags: string[] }>(
    sql`select name, tags from yardmaster.databases order by name`,
  )
  const tag = place.slice(4)
  const found = rows.filter(({ tags }) => tags.includes(tag)).map(({ name }) => name)
  if (found.length > 0) return found
  const known = [...new Set(rows.flatMap(({ tags }) => tags))].sort()
  const near = nearest(tag, known)
  const others = known.length === 0 ? '; no database has any' : `; there are ${known.map(printable).join(', ')}`
  throw new Failure('database_unknown', {
    message: `No database has the tag '${printable(tag)}'${near === undefined ? `${others}.` : `; did you mean '${printable(near)}'?`}`,
    object: printable(place),
    remedy: `Give a database the tag: yardmaster database set NAME --tag ${printable(tag)}`,
  })
}

/** Does what functions of the control schema may refuse, and says whose refusal it is. */
export async function refusing<Result>(session: Session, object: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    const failure = session.failure(error)
    const code = (
      { YM001: 'job_unknown', YM002: 'job_refused', YM003: 'wrong_usage', YM007: 'dependency_cycle' } as const
    )[failure.sqlstate ?? '']
    const { hint, message } = (failure.cause ?? {}) as { hint?: string; message?: string }
    if (code)
      throw new Failure(code, {
        message: failure.message,
        object,
        cause: failure,
        ...(hint ? { remedy: printable(hint) } : {}),
      })
    if (failure.sqlstate === '42501')
      throw new Failure('permission_denied', {
        message: printable(message ?? failure.message),
        object,
        cause: failure,
        remedy: printable(
          hint ?? 'Log in to the control database as a role that owns the job, or as the owner of its schema.',
        ),
      })
    throw failure
  }
}
