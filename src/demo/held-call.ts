import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { requestRuns } from '../jobs/requests.ts'
import { readJob } from '../jobs/store.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Demo } from './demo.ts'
import { destinationDatabase } from './demo-replications.ts'
import { waitForRuns } from './worker-runs.ts'

/** Milliseconds between two looks. */
const lookEvery = 20
/** Milliseconds for which something may be waited for: far more than it takes. */
const patience = 30_000

/** What one check found. */
export interface Finding {
  readonly name: string
  readonly problem: string | undefined
  readonly good: string
}

/** A call of `sum_up_flights`, by its own word. */
interface Call {
  readonly id: string
  readonly pid: number
  /** As text: JavaScript's times have no microseconds. */
  readonly session_began: string
  readonly met: number | null
}

/**
 * A call of `sum_up_flights` that stays where it is, inside the procedure: a lock on the table that it writes to holds it.
 */
export class HeldCall {
  readonly #demo: Demo
  readonly #holder: Session
  /** Looks at the server while the holder's transaction is open. */
  readonly #witness: Session
  readonly #run: string
  readonly #call: Call

  private constructor(demo: Demo, holder: Session, witness: Session, run: string, call: Call) {
    this.#demo = demo
    this.#holder = holder
    this.#witness = witness
    this.#run = run
    this.#call = call
  }

  static async begin(demo: Demo, jobId: number): Promise<HeldCall> {
    const [holder, witness] = [
      await demo.connect('destination', 'hold a call'),
      await demo.connect('destination', 'look'),
    ]
    try {
      await holder.script('begin; lock table marts.flights_by_distance in access exclusive mode')
      const { control } = demo.place
      await requestRuns(control, await readJob(control.session, jobId), null, null)
      const call = await waitFor(demo, 'a call', () => blockedCall(witness, holder.pid))
      const row = await control.session.one<{ id: string }>(
        sql`select id from yardmaster.runs where job_id = ${jobId} and status = 'RUNNING'`,
      )
      return new HeldCall(demo, holder, witness, row.id, call)
    } catch (error) {
      await Promise.all([holder.end(), witness.end()])
      throw error
    }
  }

  /** After its worker was killed: whether the next attempt began only when the session of the first one was gone. */
  async finding(killed: string): Promise<Finding> {
    const outlived = (await sessionOf(this.#witness, this.#call)) !== undefined
    const next = await waitFor(this.#demo, 'the next attempt', () => callAfter(this.#witness, this.#call.id))
    const left = await sessionOf(this.#witness, this.#call)
    await this.release()
    const [ended] = await waitForRuns(
      this.#demo,
      [this.#run],
      ({ status }) => status !== 'WAITING' && status !== 'RUNNING',
    )
    const was = `${killed} was killed inside sum_up_flights (run ${this.#run}); its session in ${destinationDatabase}, process ${this.#call.pid}, `
    const good = `${was}${outlived ? 'went on without it, was ended, and only then' : 'was gone, and then'} ${ended?.host} began it anew`
    const problems = [
      ...(next.met === null ? [] : [`${was}was still there when the next attempt began`]),
      ...(left === undefined ? [] : [`${was}is there beside that of the next attempt`]),
      ...(ended?.status === 'OK' && (ended.attempt ?? 0) > 1
        ? []
        : [`${good}; it ended ${ended?.status}: ${ended?.message}`]),
    ]
    return { name: 'killed in a procedure', problem: problems.length > 0 ? problems.join('; ') : undefined, good }
  }

  /** Twice is fine. */
  async release(): Promise<void> {
    await this.#holder.end()
  }

  /** Releases it, and looks no more. */
  async end(): Promise<void> {
    await Promise.all([this.release(), this.#witness.end()])
  }
}

/** The call that the holder holds up. */
async function blockedCall(witness: Session, holder: number): Promise<Call | undefined> {
  return witness.first<Call>(sql`
    select c.id, c.pid, c.session_began::text, c.met from marts.calls c
    where c.ended_at is null and ${holder}::int = any(pg_blocking_pids(c.pid))`)
}

async function callAfter(witness: Session, id: string): Promise<Call | undefined> {
  return witness.first<Call>(
    sql`select id, pid, session_began::text, met from marts.calls where id > ${id}::bigint order by id limit 1`,
  )
}

async function sessionOf(witness: Session, { pid, session_began: began }: Call): Promise<object | undefined> {
  return witness.first(
    sql`select pid from pg_stat_activity where pid = ${pid}::int and backend_start = ${began}::text::timestamptz`,
  )
}

async function waitFor<Found>(demo: Demo, what: string, look: () => Promise<Found | undefined>): Promise<Found> {
  for (const deadline = Date.now() + patience; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (demo.place.signal.aborted) throw new Failure('cancelled', { message: 'Cancelled.' })
    if (Date.now() > deadline)
      throw new Failure('internal_error', { message: `${what} of sum_up_flights did not begin in time.` })
    await delay(lookEvery)
  }
}
