import { setTimeout as delay } from 'node:timers/promises'
import { formatCount, formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { StatusDocument } from '../http/status-document.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel } from '../replication/definition.ts'
import { listReplications } from '../replication/store.ts'
import { compareRows } from './comparison.ts'
import { type Demo, type DemoOptions, setUpReplications, withDemo } from './demo.ts'
import { demoBindings, demoHosts } from './demo-bindings.ts'
import { addDemoJobs, mendInvoices } from './demo-jobs.ts'
import { demoReplications } from './demo-replications.ts'
import type { Finding } from './held-call.ts'
import { checkAlert, checkMarts, checkMended, checkSteps, checkTagged } from './job-checks.ts'
import { type Absence, listPlacedRuns, misplacedRuns } from './placed-runs.ts'
import { type DemoServices, demoServices, startWorkers, stopServices } from './run-demo.ts'
import { addColumn, ordinaryChanges, reloadStocks } from './source-writer.ts'
import { checkTakeOver, findStrandedRuns, now } from './take-over-check.ts'
import { runByWorkers } from './worker-runs.ts'

/** Rounds of changes and refreshes before the comparison. */
const rounds = 2
/** Milliseconds between two transactions of the writer, which writes each kind once in a round. */
const writePause = 100
/** Milliseconds after which the bound of every incremental copy is past the last row, fixed boundaries included. */
const boundPatience = 15_000
/** Milliseconds within which the page says that all is well again. */
const pagePatience = 15_000

/** One thing that was looked at. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export interface CheckOptions extends DemoOptions {
  /** Hears of each check when it is done. */
  readonly done: (check: Check) => void
}

/** `--exit-after-checks`: the whole demo with its writer, then everything compared row by row. */
export async function checkDemo(options: CheckOptions): Promise<readonly Check[]> {
  const checks: Check[] = []
  const check = (name: string, problem: string | undefined, good: string) => {
    const one: Check = { name, ok: problem === undefined, detail: problem ?? good }
    checks.push(one)
    options.done(one)
  }
  const report = ({ name, problem, good }: Finding) => check(name, problem, good)
  await withDemo(options, async (demo) => {
    const services = demoServices(demo, options, { host: '127.0.0.1', port: 0, orNext: false }, writePause)
    try {
      await services.page.start()
      await checkSetUp(demo, check)
      await services.writer.start()
      await startWorkers(services, options.signal)
      const began = await now(demo)
      const jobs = await jobIdsOf(demo)
      const called = await addDemoJobs(demo)
      for (let round = 1; round <= rounds; round++) await checkRound(demo, services, jobs, round, check)
      report(await checkTagged(demo, called))
      report(await checkAlert(demo, called))
      await mendInvoices(demo, called)
      const { findings, away } = await checkTakeOver(demo, services, jobs, called.sum_up_flights)
      for (const one of findings) report(one)
      report(await checkSteps(demo, called))
      await stopWriter(demo, services)
      await refreshAll(demo, jobs, 'last refresh', check)
      check('runs', await findStrandedRuns(demo), 'none is left behind by the worker that was killed')
      await checkRows(demo, jobs, check)
      report(await checkMarts(demo, called))
      report(await checkMended(demo, called))
      await checkPlacement(demo, began, away, check)
      await checkPage(demo, services, check)
    } finally {
      await stopServices(services)
    }
  })
  return checks
}

type Report = (name: string, problem: string | undefined, good: string) => void

async function checkSetUp(demo: Demo, check: Report): Promise<void> {
  const began = Date.now()
  const results = await setUpReplications(demo)
  const rows = results.reduce((sum, result) => sum + result.rows, 0)
  const bad = results.filter((result) => result.status !== 'OK').map((result) => result.message)
  const good = `${demoReplications.length} replications, ${formatCount(rows)} rows in ${formatDuration((Date.now() - began) / 1000)}`
  check('set-up', bad.length > 0 ? bad.join('; ') : undefined, good)
}

/** Job ids by the name of the destination. */
async function jobIdsOf(demo: Demo): Promise<ReadonlyMap<string, number>> {
  const replications = await listReplications(demo.place.control)
  return new Map(replications.map((one) => [destinationLabel(one), one.jobId]))
}

type Jobs = Awaited<ReturnType<typeof jobIdsOf>>

/** Refreshes everything while the writer writes; TRUNCATE, reload and a new column come between. */
async function checkRound(
  demo: Demo,
  { writer }: DemoServices,
  jobs: Jobs,
  round: number,
  check: Report,
): Promise<void> {
  const session = await demo.connect('source', 'special changes')
  try {
    await reloadStocks(session)
    await addColumn(session, round)
  } finally {
    await session.end()
  }
  await writer.reached(writer.changes + ordinaryChanges.length, demo.place.signal)
  if (writer.refusal !== undefined) throw writer.refusal
  await refreshAll(demo, jobs, `round ${round}`, check, ` after ${writer.changes} transactions of the writer`)
}

/** Ends the writer and waits until the server has taken leave of its sessions: only then are its counters all told. */
async function stopWriter(demo: Demo, { writer }: DemoServices): Promise<void> {
  await writer.stop()
  const session = await demo.connect('source', 'look')
  try {
    while (await isConnected(session, writer.pids)) demo.place.signal.throwIfAborted()
  } finally {
    await session.end()
  }
}

async function isConnected(session: Session, pids: readonly number[]): Promise<boolean> {
  const row = await session.one<{ there: boolean }>(
    sql`select exists (select from pg_stat_activity where pid = any(${[...pids]}::int[])) as there from pg_sleep(0.01)`,
  )
  return row.there
}

/** Hands a refresh of every copy to the workers, beside those that their schedules bring. */
async function refreshAll(demo: Demo, jobs: Jobs, name: string, check: Report, after = ''): Promise<void> {
  const began = Date.now()
  const runs = await runByWorkers(demo, [...jobs.values()])
  const bad = runs.filter((run) => run.status !== 'OK').map((run) => `${run.object}: ${run.message}`)
  const unchanged = runs.filter((run) => run.reason === 'skipped' || run.reason === 'nothing_new').length
  const rows = runs.reduce((sum, run) => sum + Number(run.rows ?? 0), 0)
  const took = formatDuration((Date.now() - began) / 1000)
  const good = `${runs.length - unchanged} refreshed, ${unchanged} unchanged, ${formatCount(rows)} rows in ${took}${after}`
  check(name, bad.length > 0 ? bad.join('; ') : undefined, good)
}

async function checkRows(demo: Demo, jobs: Jobs, check: Report): Promise<void> {
  const [source, destination] = [await demo.connect('source', 'compare'), await demo.connect('destination', 'compare')]
  const deadline = Date.now() + boundPatience
  try {
    for (const wanted of demoReplications) {
      const label = destinationLabel(wanted)
      if (demo.place.signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
      let { rows, difference } = await compareRows(source, destination, wanted)
      // A bound goes past the last row when nothing can come before it any more, or when its boundary is over.
      while (difference !== undefined && wanted.control !== null && Date.now() < deadline) {
        await runByWorkers(demo, [jobs.get(label) ?? 0])
        ;({ rows, difference } = await compareRows(source, destination, wanted))
      }
      const problem = difference ?? (rows === 0 ? 'both sides are empty, which proves nothing' : undefined)
      check(`rows of ${label}`, problem, `${formatCount(rows)} rows, all equal`)
    }
  } finally {
    await Promise.all([source.end(), destination.end()])
  }
}

/** Every run of the demo was on a host that its binding let run it then. */
async function checkPlacement(demo: Demo, began: Date, away: Absence, check: Report): Promise<void> {
  const runs = await listPlacedRuns(demo.place.control)
  const wrong = misplacedRuns(runs, demoBindings, { began, away: [away] })
  const idle = demoHosts.filter((host) => !runs.some((run) => run.host === host)).map((host) => `${host} ran nothing`)
  const problems = [...wrong, ...idle]
  const by = demoHosts.map((host) => `${runs.filter((run) => run.host === host).length} on ${host}`).join(', ')
  check(
    'placement',
    problems.length > 0 ? problems.join('; ') : undefined,
    `all ${runs.length} runs agree with the bindings: ${by}`,
  )
}

/** Says that everything is fine, once the alert of the host that was away is over too. */
async function checkPage({ place }: Demo, { page }: DemoServices, check: Report): Promise<void> {
  let status = await readPage(page.url)
  for (const deadline = Date.now() + pagePatience; status.level !== 'OK' && Date.now() < deadline; ) {
    place.signal.throwIfAborted()
    await delay(500)
    status = await readPage(page.url)
  }
  check('status page', status.level === 'OK' ? undefined : `${status.level}: ${status.answer}`, status.answer)
}

async function readPage(url: string): Promise<StatusDocument> {
  const answer = await fetch(new URL('status.json', url), { signal: AbortSignal.timeout(10_000) })
  return (await answer.json()) as StatusDocument
}
