import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { queueRun } from '../jobs/claim.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { destinationLabel } from '../replication/definition.ts'
import type { Demo } from './demo.ts'
import { demoReplications, destinationDatabase } from './demo-replications.ts'
import { type Finding, HeldCall } from './held-call.ts'
import type { Absence } from './placed-runs.ts'
import type { DemoServices } from './run-demo.ts'
import type { WorkerProcess } from './worker-process.ts'
import { type WorkerRun, waitForRuns } from './worker-runs.ts'

/** The site whose host is killed, and the only other host that may run it. */
const [site, fallback] = ['Marketing', 'qa']
/** A copy of that site whose source nobody else reads, so that the lock below holds up nobody else. */
const table = 'travel.airports'
/** Seconds within which new work has moved to the fallback host, and back. */
const patience = 5

type Jobs = ReadonlyMap<string, number>
type Services = Pick<DemoServices, 'workers' | 'writer'>

/**
 * Kills the host that a site prefers with SIGKILL in the middle of a run and of a call of the job `called`, watches what it ran and what is asked for from
 * then on move to the fallback host, starts it again and watches new work come back. `jobs`: by destination.
 */
export async function checkTakeOver(
  demo: Demo,
  services: Services,
  jobs: Jobs,
  called: number,
): Promise<{ findings: readonly Finding[]; away: Absence }> {
  const call = await HeldCall.begin(demo, called)
  const held = await holdRun(demo, services, jobs).catch(async (error: unknown) => {
    await call.end()
    throw error
  })
  try {
    const victim = services.workers.find((worker) => worker.host === held.host)
    if (victim === undefined)
      throw new Failure('internal_error', { message: `Run ${held.id} is carried out by ${held.host}.` })
    const from = await now(demo)
    await victim.kill()
    const asked = await askFor(demo, jobs, (label) => !label.endsWith(`:${table}`))
    await held.release()
    const again = await call.finding(victim.host)
    const findings = [
      again,
      await takenOver(demo, held.id, victim, from),
      await movedTo(demo, asked, fallback, from, victim),
    ]
    const { finding, to } = await comesBack(demo, victim, jobs)
    return { findings: [...findings, finding], away: { host: victim.host, from, to } }
  } finally {
    await Promise.all([held.release(), call.end()])
  }
}

interface HeldRun {
  readonly id: string
  readonly host: string | null
  /** Twice is fine. */
  release(): Promise<void>
}

/** Begins a run that stays where it is: a lock on the source's table holds it. */
async function holdRun(demo: Demo, { writer }: Services, jobs: Jobs): Promise<HeldRun> {
  const jobId = jobs.get(`${destinationDatabase}:${table}`) ?? 0
  const holder = await demo.connect('source', 'hold')
  try {
    await holder.script(`begin; lock table ${table} in access exclusive mode`)
    const id = await queueRun(demo.place.control, jobId, 'refresh', { force: true })
    const [begun] = await waitForRuns(demo, [id], (run) => run.status === 'RUNNING')
    await waitUntilHeld(holder, writer.pids, demo.place.signal)
    return { id, host: begun?.host ?? null, release: () => holder.end() }
  } catch (error) {
    await holder.end()
    throw error
  }
}

/** Resolves when somebody other than the writer waits for the table. */
async function waitUntilHeld(holder: Session, writers: readonly number[], signal: AbortSignal): Promise<void> {
  for (;;) {
    const row = await holder.one<{ held: boolean }>(sql`
      select exists (select from pg_locks where not granted and relation = ${table}::regclass
        and pid <> all(${[...writers]}::int[])) as held`)
    if (row.held) return
    if (signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
    await delay(20)
  }
}

/** Hands refreshes of the site's copies to the workers. */
async function askFor(demo: Demo, jobs: Jobs, wanted: (label: string) => boolean = () => true): Promise<string[]> {
  const labels = demoReplications.filter((one) => one.site === site).map(destinationLabel)
  const ids: string[] = []
  for (const label of labels.filter(wanted))
    ids.push(await queueRun(demo.place.control, jobs.get(label) ?? 0, 'refresh', {}))
  return ids
}

const hasBegun = (run: WorkerRun) => run.status !== 'WAITING'
const hasEnded = (run: WorkerRun) => hasBegun(run) && run.status !== 'RUNNING'

async function takenOver(demo: Demo, id: string, victim: WorkerProcess, since: Date): Promise<Finding> {
  await waitForRuns(demo, [id], (run) => hasBegun(run) && (run.attempt ?? 0) > 1)
  const seconds = secondsBetween(since, await now(demo))
  const [ended] = await waitForRuns(demo, [id], hasEnded)
  const good = `${victim.host} was killed in the middle of run ${id}; ${ended?.host} went on with it ${seconds.toFixed(1)} s later`
  const fine = ended?.status === 'OK' && ended.host === fallback && seconds <= patience
  return {
    name: 'take-over',
    problem: fine ? undefined : `${good}; it ended ${ended?.status}: ${ended?.message}`,
    good,
  }
}

/** What was asked for behind the death of `victim` has begun on the fallback host, in time. */
async function movedTo(
  demo: Demo,
  ids: readonly string[],
  host: string,
  since: Date,
  victim: WorkerProcess,
): Promise<Finding> {
  const runs = await waitForRuns(demo, ids, hasEnded)
  const seconds = firstBegin(runs, since)
  const good = `new work of ${site} went to ${host} ${seconds.toFixed(1)} s after ${victim.host} was killed: ${runs.length} runs`
  return { name: 'fall-back', problem: problemOf(runs, host, 'allowed', seconds), good }
}

/** Starts the host again; what is asked for from then on is its own. */
async function comesBack(demo: Demo, victim: WorkerProcess, jobs: Jobs): Promise<{ finding: Finding; to: Date }> {
  await victim.start(demo.place.signal)
  const to = await now(demo)
  const runs = await waitForRuns(demo, await askFor(demo, jobs), hasEnded)
  const seconds = firstBegin(runs, to)
  const good = `${victim.host} is there again, and new work of ${site} came back to it after ${seconds.toFixed(1)} s: ${runs.length} runs`
  return { finding: { name: 'return', problem: problemOf(runs, victim.host, 'prefers', seconds), good }, to }
}

/** Seconds until the first of these runs began, by the control server's clock. */
function firstBegin(runs: readonly WorkerRun[], since: Date): number {
  return Math.min(...runs.map((run) => secondsBetween(since, run.started_at ?? since)))
}

function problemOf(runs: readonly WorkerRun[], host: string, code: string, seconds: number): string | undefined {
  const wrong = runs
    .filter((run) => run.host !== host || run.placement !== code || run.status !== 'OK')
    .map(
      (run) =>
        `run ${run.id} of ${run.object} ended ${run.status} on ${run.host} (${run.placement}), not on ${host} (${code})`,
    )
  const late = seconds > patience ? [`the first run began after ${seconds.toFixed(1)} s, later than ${patience} s`] : []
  const problems = [...(runs.length === 0 ? ['there was nothing to run'] : []), ...wrong, ...late]
  return problems.length > 0 ? problems.join('; ') : undefined
}

const secondsBetween = (from: Date, to: Date) => (to.getTime() - from.getTime()) / 1000

/** By the control server's clock. */
export async function now({ place }: Demo): Promise<Date> {
  const row = await place.control.perform(
    (session) => session.one<{ now: Date }>(sql`select clock_timestamp() as now`),
    0,
  )
  return row.now
}

/** Runs that a dead worker left as running; undefined where there is none. */
export async function findStrandedRuns(demo: Demo): Promise<string | undefined> {
  const rows = await demo.place.control.session.query<{ id: string; object: string; worker: string }>(sql`
    select r.id, r.object, r.worker from yardmaster.runs r where r.status = 'RUNNING'
      and not exists (select from yardmaster.workers w where w.name = r.worker and w.alive)`)
  if (rows.length === 0) return undefined
  return rows.map((row) => `run ${row.id} of ${row.object} is RUNNING by ${row.worker}, which is dead`).join('; ')
}
