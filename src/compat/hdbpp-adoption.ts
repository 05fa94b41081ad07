import { resolve } from 'node:path'
import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { addDatabase, listDatabases, type ManagedDatabase } from '../control/databases.ts'
import { type ConnectionParts, displayUrl, parseConnectionUrl } from '../postgres/connection-url.ts'
import { parseNameParts, type QualifiedName } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { procedureOf } from './hdbpp-call.ts'
import type { HdbppInstallation, HdbppPastJob } from './hdbpp-import.ts'

/** How jobs are taken over. */
export interface HdbppWish {
  /** Checked, and as PostgreSQL reads it. */
  readonly schedule: { readonly every: string | null; readonly cron: string | null; readonly timezone: string }
  /** Their runs are counted in the script's table still; undefined: as it is now, and not for new ones. */
  readonly keepTables: boolean | undefined
}

/** What becomes of one row of `postprocessing_jobs`. */
export interface JobAdoption {
  readonly row: HdbppPastJob
  /** In quotes; null where it is refused. */
  readonly procedure: string | null
  /** `none`: it is a job already, and stays as it is. */
  readonly change: 'create' | 'count' | 'stop counting' | 'none' | 'refused'
  /** null where it is none yet. */
  readonly jobId: number | null
  readonly refusal: string | null
}

/** What becomes of one deployment. */
export interface HdbppAdoption {
  readonly deployment: string
  /** With its password. */
  readonly parts: ConnectionParts
  readonly stats: QualifiedName | null
  /** The registered database that it is, or will be. */
  readonly database: string
  readonly isNew: boolean
  /** Its jobs run one after the other, as the script ran them: a pool with a limit of 1. */
  readonly pool: string
  readonly jobs: readonly JobAdoption[]
  /** Why nothing of it can be taken over. */
  readonly failure: Failure | null
}

interface KnownJob {
  readonly job_id: number
  readonly database: string
  readonly number: string
  readonly stats_name: string | null
}

/** What taking these over would do, in the order of the file. Changes nothing. */
export async function planAdoption(
  control: Control,
  installations: readonly HdbppInstallation[],
  { keepTables }: HdbppWish,
): Promise<HdbppAdoption[]> {
  const databases: Pick<ManagedDatabase, 'name' | 'url'>[] = await listDatabases(control)
  const known = await control.session.query<KnownJob>(
    sql`select job_id, database, number::text as number, stats_name from yardmaster.job_origins where program = 'hdbpp'`,
  )
  const planned = new Set<string>()
  return installations.map((installation) => {
    try {
      const parts = movable(installation.connection)
      const url = displayUrl(parts)
      const found = databases.find((database) => database.url === url)
      const database = found?.name ?? freeName(installation.name, new Set(databases.map(({ name }) => name)))
      if (!found && installation.failure === null) databases.push({ name: database, url })
      const jobs = installation.jobs.map((row): JobAdoption => {
        const key = JSON.stringify([database, row.job_id])
        // Two deployments that are one database have the same jobs.
        if (planned.has(key)) return { row, procedure: null, change: 'none', jobId: null, refusal: null }
        planned.add(key)
        const job = known.find((one) => one.database === database && one.number === row.job_id)
        return adoptionOf(row, job, keepTables)
      })
      return {
        ...{ deployment: installation.name, parts, stats: installation.tables?.stats ?? null, database, jobs },
        ...{ isNew: !found, pool: `hdbpp-${database}`, failure: installation.failure },
      }
    } catch (error) {
      const failure = toFailure(error, { side: 'database', object: installation.name })
      const nothing = { stats: null, database: '', isNew: false, pool: '', jobs: [] }
      return { deployment: installation.name, parts: installation.connection, ...nothing, failure }
    }
  })
}

/** Workers run in other folders than this command. Throws `url_invalid` for what no URL can say. */
function movable(parts: ConnectionParts): ConnectionParts {
  const { sslRootCert } = parts
  const whole = sslRootCert === undefined ? parts : { ...parts, sslRootCert: resolve(sslRootCert) }
  return { ...parseConnectionUrl(displayUrl(whole)), password: parts.password }
}

/** The nearest that a registered database can be called. */
function freeName(deployment: string, taken: ReadonlySet<string>): string {
  const plain = deployment
    .toLowerCase()
    .replaceAll(/[^a-z0-9_.-]+/g, '-')
    .replaceAll(/^[^a-z0-9]+|-+$/g, '')
  const stem = plain === '' ? 'hdb' : plain
  for (let number = 1; ; number += 1) {
    const tail = number === 1 ? '' : `-${number}`
    const name = `${stem.slice(0, 63 - tail.length)}${tail}`
    if (!taken.has(name)) return name
  }
}

function adoptionOf(row: HdbppPastJob, job: KnownJob | undefined, keepTables: boolean | undefined): JobAdoption {
  const jobId = job?.job_id ?? null
  try {
    const procedure = procedureOf(row)
    const counts = job !== undefined && job.stats_name !== null
    if (!job) return { row, procedure, change: 'create', jobId, refusal: null }
    const change = keepTables === undefined || keepTables === counts ? 'none' : keepTables ? 'count' : 'stop counting'
    return { row, procedure, change, jobId, refusal: null }
  } catch (error) {
    if (job) return { row, procedure: null, change: 'none', jobId, refusal: null }
    const refusal = toFailure(error, { side: 'database' }).message.replace(/; nothing was called\.$/, '')
    return { row, procedure: null, change: 'refused', jobId, refusal }
  }
}

/**
 * Does what the plan says: registers the database, then adds all its jobs in one transaction. What is broken off between the
 * two is completed by planning anew. Returns the new jobs' numbers by the rows' own.
 */
export async function adopt(control: Control, plan: HdbppAdoption, wish: HdbppWish): Promise<Map<string, number>> {
  const { parts, database, isNew, pool, jobs } = plan
  if (isNew) await addDatabase(control, database, urlOf(parts), [])
  crashPoint('import-after-database')
  const made = new Map<string, number>()
  if (!jobs.some(({ change }) => change !== 'none' && change !== 'refused')) return made
  const session = await control.open('import jobs')
  try {
    await inTransaction(session, 'begin', async () => {
      const creates = jobs.some(({ change }) => change === 'create')
      // A limit that somebody set otherwise, or took away, stays so.
      if (creates && (await isUnused(control, pool)))
        await session.query(sql`select yardmaster.set_limit(${pool}, 1) where not exists (
          select from yardmaster.limits l where l.key = ${pool})`)
      for (const job of jobs) {
        if (job.change === 'create') made.set(job.row.job_id, await session.one(adoption(plan, job, wish)).then(idOf))
        const table = job.change === 'count' ? statsOf(plan) : null
        if (job.change === 'count' || job.change === 'stop counting')
          await session.query(sql`select yardmaster.count_for_hdbpp(${job.jobId}, ${table}::text[])`)
      }
    })
    return made
  } catch (error) {
    throw toFailure(error, { side: 'control', object: plan.deployment })
  } finally {
    await session.end()
  }
}

const idOf = (row: object) => (row as { id: number }).id

/** Whether no job is in the pool yet. */
async function isUnused(control: Control, pool: string): Promise<boolean> {
  const row = await control.session.one<{ unused: boolean }>(
    sql`select not exists (select from yardmaster.jobs j where j.pool = ${pool}) as unused`,
  )
  return row.unused
}

function statsOf({ stats, deployment }: HdbppAdoption): string[] {
  if (stats) return [stats.schema, stats.name]
  throw new Failure('internal_error', { message: 'Tables were not looked for.', object: deployment })
}

/** The parts as a URL with the password, which is taken off and encrypted by whoever stores it. */
function urlOf(parts: ConnectionParts): string {
  const plain = displayUrl(parts)
  return parts.password === undefined ? plain : plain.replace('@', `:${encodeURIComponent(parts.password)}@`)
}

function adoption(plan: HdbppAdoption, { row, procedure }: JobAdoption, { schedule, keepTables }: HdbppWish) {
  const definition = JSON.stringify({
    proc: procedure,
    name: jobName(procedure ?? ''),
    database: plan.database,
    pool: plan.pool,
    timezone: schedule.timezone,
    ...(schedule.cron === null ? { schedule_interval: schedule.every } : { cron: schedule.cron }),
  })
  const table = keepTables ? statsOf(plan) : null
  return sql`select yardmaster.adopt_hdbpp_job(${definition}::jsonb || jsonb_build_object('config', ${row.config}::jsonb), ${row.job_id}::bigint,
    ${table}::text[], ${pastOf(row)}::jsonb) as id`
}

/** What people call it: its procedure, without the schema; as much of it as goes into an application_name with a number. */
function jobName(procedure: string): string {
  let name = parseNameParts(procedure).at(-1) ?? ''
  while (Buffer.byteLength(name) > 48) name = [...name].slice(0, -1).join('')
  return name
}

/** What was counted so far, as `adopt_hdbpp_job` takes it. */
function pastOf({ stats }: HdbppPastJob): string | null {
  if (!stats) return null
  return JSON.stringify({
    runs: stats.total_runs,
    successes: stats.total_successes,
    failures: stats.total_failures,
    ok: stats.last_run_status === null ? null : stats.last_run_status === 'Job run ok',
    started: stats.last_run_started_at,
    took: stats.last_run_duration,
    // The script filled it with the first failure.
    succeeded: stats.total_successes === '0' ? null : stats.last_successful_finish,
  })
}
