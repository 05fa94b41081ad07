import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { requestRuns } from '../jobs/requests.ts'
import { readJob } from '../jobs/store.ts'
import { listAlerts, type OpenAlert } from '../monitoring/alerts.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Demo } from './demo.ts'
import { type DemoJobs, martSources } from './demo-jobs.ts'
import { destinationDatabase, sourceDatabase } from './demo-replications.ts'
import type { Finding } from './held-call.ts'
import { type EndedRun, premature, type TriggeredRun } from './job-order.ts'
import { waitForRuns } from './worker-runs.ts'

/** Milliseconds between two looks. */
const lookEvery = 100
/** Milliseconds within which an alert opens and closes, workers look, and a mart follows its copies. */
const patience = 30_000
/** Failures in a row that alert. */
const failuresThatAlert = 3

/** The job over all databases with a tag: one run in each, and each has noted its own size. */
export async function checkTagged(demo: Demo, { note_sizes: jobId }: DemoJobs): Promise<Finding> {
  const { control } = demo.place
  const job = await until(demo, 'note_sizes is looked at', async () => {
    const one = await readJob(control.session, jobId)
    return one.status === 'active' ? one : undefined
  })
  const ids = await requestRuns(control, job, null, null)
  const runs = await waitForRuns(demo, ids, ({ status }) => status !== 'WAITING' && status !== 'RUNNING')
  const bad = runs.filter((run) => run.status !== 'OK').map((run) => `run ${run.id} of ${run.object}: ${run.message}`)
  const missing = [sourceDatabase, destinationDatabase].filter(
    (name) => !runs.some((run) => run.object.startsWith(`${name}:`)),
  )
  const empty: string[] = []
  for (const side of ['source', 'destination'] as const) {
    const noted = await rowsOf(demo, side, (session) =>
      session.one<{ count: number }>(sql`select count(*)::int as count from upkeep.sizes where bytes > 0`),
    )
    if (noted.count === 0) empty.push(`the ${side} has no size`)
  }
  const problems = [...bad, ...missing.map((name) => `it did not run in ${name}`), ...empty]
  const good = `one run in each of ${sourceDatabase} and ${destinationDatabase}, which have the tag`
  return finding('job note_sizes', problems, good)
}

/** The job that fails is tried again, and alerts after the third failure in a row. */
export async function checkAlert(demo: Demo, { send_invoices: jobId }: DemoJobs): Promise<Finding> {
  const alert = await until(demo, 'the alert of send_invoices', () => alertOf(demo, jobId))
  const runs = await runsOfJob(demo, jobId)
  const failed = runs.filter((run) => run.status === 'CRITICAL').length
  const problems = [
    ...(failed < failuresThatAlert ? [`it alerted after ${failed} failed runs`] : []),
    ...(runs.some((run) => run.status === 'OK') ? ['a run of it ended well, though its gateway is down'] : []),
    ...(alert.level === 'CRITICAL' ? [] : [`its alert is ${alert.level}`]),
  ]
  return finding(
    'job send_invoices',
    problems,
    `it failed and was tried again; ${alert.level} ${alert.alert_status}: ${alert.alert_text}`,
  )
}

/** Once its gateway is up it ends well by its next try, and the alert is over. */
export async function checkMended(demo: Demo, { send_invoices: jobId }: DemoJobs): Promise<Finding> {
  const run = await until(demo, 'send_invoices ends well', async () =>
    (await runsOfJob(demo, jobId)).find((one) => one.status === 'OK'),
  )
  await until(demo, 'the alert of send_invoices is over', async () =>
    (await alertOf(demo, jobId)) === undefined ? true : undefined,
  )
  return finding('job send_invoices, mended', [], `run ${run.id} ended well by its own retry, and the alert is over`)
}

/** What the job said by notices is there as steps with rows, one after the other. */
export async function checkSteps(demo: Demo, { sum_up_flights: jobId }: DemoJobs): Promise<Finding> {
  const run = await until(demo, 'sum_up_flights ends well', async () =>
    (await runsOfJob(demo, jobId)).findLast((one) => one.status === 'OK'),
  )
  const steps = await demo.place.control.session.query<{ action: string; rows: string | null }>(
    sql`select action, rows from yardmaster.steps s where run_id = ${run.id}::bigint
      and attempt = (select max(attempt) from yardmaster.steps l where l.run_id = s.run_id) order by ordinal`,
  )
  const told = steps.filter((step) => step.action.startsWith('flights of '))
  const rows = told.reduce((sum, step) => sum + Number(step.rows ?? 0), 0)
  const problems = [
    ...(told.length === 4
      ? []
      : [`run ${run.id} has the steps ${steps.map((step) => step.action).join(', ') || 'none'}`]),
    ...(rows > 0 ? [] : [`run ${run.id} told of no rows`]),
  ]
  return finding(
    'job sum_up_flights',
    problems,
    `run ${run.id} told of ${told.length} steps and ${rows.toLocaleString('en-US')} rows, each step committed`,
  )
}

/** Each run came after both copies, and the mart holds what they hold. Nobody writes to the source any more. */
export async function checkMarts(demo: Demo, { refresh_marts: jobId }: DemoJobs): Promise<Finding> {
  const session = await demo.connect('destination', 'compare')
  try {
    const rows = await until(demo, 'marts.revenue holds what the copies hold', () => equalMart(session))
    const runs = (await runsOfJob(demo, jobId)).filter((run) => run.started_at !== null)
    const ended = await demo.place.control.session.query<EndedRun>(sql`
      select object, finished_at from yardmaster.runs where object = any(${martSources}) and status in ('OK', 'WARNING')`)
    const made = await demo.place.control.session.one<{ at: Date }>(
      sql`select created_at as at from yardmaster.jobs where job_id = ${jobId}`,
    )
    const problems = [
      ...premature(runs, martSources, ended, made.at),
      ...runs.filter((run) => run.status === 'CRITICAL').map((run) => `run ${run.id}: ${run.message}`),
      ...(runs.length === 0 ? ['it never ran'] : []),
    ]
    const good = `${runs.length} runs, each after ${martSources.join(' and ')}; ${rows} rows, all as in the copies`
    return finding('job refresh_marts', problems, good)
  } finally {
    await session.end()
  }
}

/** How many rows the mart has, where they are those of the copies. */
async function equalMart(session: Session): Promise<number | undefined> {
  const row = await session.one<{ rows: number; wrong: number }>(sql`
    select (select count(*)::int from marts.revenue) as rows, (select count(*)::int
      from (select * from marts.revenue) m full join marts.revenue_of_copies c using (status)
      where (m.orders, m.ordered, m.paid) is distinct from (c.orders, c.ordered, c.paid)) as wrong`)
  return row.rows > 0 && row.wrong === 0 ? row.rows : undefined
}

interface JobRun extends TriggeredRun {
  readonly status: string
  readonly message: string | null
}

async function runsOfJob(demo: Demo, jobId: number): Promise<JobRun[]> {
  return demo.place.control.session.query<JobRun>(sql`
    select id, slot, started_at, status, message from yardmaster.runs where job_id = ${jobId} order by id`)
}

async function alertOf(demo: Demo, jobId: number): Promise<OpenAlert | undefined> {
  const alerts = await listAlerts(demo.place.control, 0)
  return alerts.find((one) => one.alert_status === 'FAILED_RUN' && one.job_name.endsWith(` [${jobId}]`))
}

async function rowsOf<Row>(demo: Demo, side: 'source' | 'destination', look: (session: Session) => Promise<Row>) {
  const session = await demo.connect(side, 'look')
  return look(session).finally(() => session.end())
}

async function until<Found>(demo: Demo, what: string, look: () => Promise<Found | undefined>): Promise<Found> {
  for (const deadline = Date.now() + patience; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (demo.place.signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
    if (Date.now() > deadline) throw new Failure('internal_error', { message: `It takes too long until ${what}.` })
    await delay(lookEvery)
  }
}

function finding(name: string, problems: readonly string[], good: string): Finding {
  return { name, problem: problems.length > 0 ? problems.join('; ') : undefined, good }
}
