import { Failure } from '../base/failure.ts'
import { writeStats, writeStatsWithin } from '../compat/hdbpp-tables.ts'
import { connectionParts } from '../control/databases.ts'
import { callJob } from '../jobs/call.ts'
import type { CallEnd } from '../jobs/call-tally.ts'
import type { Claim, ClaimedCall } from '../jobs/claim.ts'
import type { RunLog } from '../monitoring/run-log.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import { cancellable } from './cancellation.ts'
import { carryOut, controlPatience, type RunResult, type WorkRemarks } from './run-outcome.ts'
import { targetClaims } from './target-claims.ts'
import type { Workplace } from './workplace.ts'

/** Carries out a run of a procedure, or of statements, that was claimed. */
export async function claimedCall(place: Workplace, claim: Claim): Promise<RunResult> {
  const { run_id: runId, object, token, call } = claim
  const log = place.recorder.record({ runId, token }, place.onStep && ((step) => place.onStep?.(object, step)))
  const remarks: WorkRemarks = {}
  return cancellable(place, token, (here) => {
    const giving = {
      signal: here.signal,
      givesBackUnbegun: here.givesBack === true,
      // Looked at when the run has ended: what somebody cancelled meanwhile does not go back.
      get givesBack() {
        return here.givesBack === true && call?.repeatable === true
      },
    }
    const work = async () => {
      const target = call?.database ?? undefined
      if (!call || target === undefined) {
        const message = `The database that run ${runId} is for is not registered any more.`
        throw new Failure('database_unknown', { message, object })
      }
      const outcome = await perform(here, claim, { ...call, database: target }, log, remarks)
      return { ...outcome, reason: null, rows: 0, bytes: 0 }
    }
    return carryOut(giving, object, log, work, Number.POSITIVE_INFINITY, remarks)
  })
}

async function perform(
  place: Workplace,
  claim: Claim,
  call: ClaimedCall & { database: string },
  log: RunLog,
  remarks: WorkRemarks,
) {
  const { control } = place
  const { run_id: runId, job_id: jobId, attempt, token } = claim
  const sessions = new TargetRecord(place, token)
  const parts = connectionParts(control, call.database, place.environment, controlPatience)
  const connector = async (purpose: string, signal?: AbortSignal) => {
    const options = { side: 'database' as const, purpose, object: call.database, signal }
    return place.sessions ? place.sessions.open(await parts, options) : connect(await parts, options)
  }
  let unwatch: (() => void) | undefined
  try {
    const outcome = await callJob(
      {
        controlId: control.id,
        jobId,
        runId,
        attempt,
        applicationName: call.application_name,
        kind: claim.kind === 'sql' ? 'sql' : 'procedure',
        procSchema: call.proc_schema,
        procName: call.proc_name,
        statements: call.statements,
        config: call.config,
        params: call.params,
        maxRuntime: call.max_runtime,
        overlaps: call.overlaps,
        number: call.origin_number ?? undefined,
      },
      {
        connector,
        reporter: log,
        claimSession: (pid, backendStart) => {
          const open = (signal: AbortSignal) => connector('look for locks', signal)
          unwatch = place.locks?.watch({ token, database: call.database, pid, backendStart, open })
          return sessions.claim(pid, backendStart)
        },
        unknown: (why) => sessions.unknown(why),
        nextStart: (start) => {
          remarks.nextStart = 'at' in start ? start.at : `in ${start.after}`
        },
        count: counting(place, call),
        signal: place.signal,
      },
    )
    await sessions.settle()
    return outcome
  } catch (error) {
    // Nobody has seen its session end: whoever follows looks for it.
    if ((error as Partial<Failure>).code === 'job_outcome_unknown') await sessions.abandon()
    throw error
  } finally {
    unwatch?.()
  }
}

/** Milliseconds for which a row of the stats is waited for that somebody holds. */
const statsPatience = 5000

/** Counts a call as the program did from which its job was taken over; undefined: nobody reads that any more. */
function counting(place: Workplace, { origin_number: number, stats_table: stats, repeatable }: ClaimedCall) {
  if (number === null || stats === null) return undefined
  return async (session: Session, { ok, startedAt, seconds, within }: CallEnd): Promise<void> => {
    // It goes back to the queue: the next attempt is the run's.
    if (!ok && repeatable && place.givesBack && place.signal.aborted) return
    const write = within ? writeStatsWithin : writeStats
    await write(session, { stats }, { job_id: number, startedAt, seconds, ok }, statsPatience)
  }
}

/** What the control database knows of the session that works for an attempt in its target. */
class TargetRecord {
  readonly #place: Workplace
  readonly #token: string
  #follows = false

  constructor(place: Workplace, token: string) {
    this.#place = place
    this.#token = token
  }

  /** A hint for whoever looks; the run goes on to wait for its target. */
  unknown(why: string): void {
    void this.#place.control
      .perform(
        (session) => session.query(sql`select yardmaster.set_run_reason(${this.#token}, 'target_unknown', ${why})`),
        0,
      )
      .catch(() => undefined)
  }

  async claim(pid: number, backendStart: string): ReturnType<ReturnType<typeof targetClaims>['claim']> {
    const claimed = await targetClaims(this.#place.control).claim(this.#token, pid, backendStart)
    this.#follows = claimed.earlier.length > 0
    return claimed
  }

  /** The sessions before are gone, as this one stood behind the fence: whoever comes next need not look for them. */
  async settle(): Promise<void> {
    if (!this.#follows) return
    await this.#place.control
      .perform((session) => session.query(sql`select yardmaster.settle_sessions(${this.#token})`), 0)
      .catch(() => undefined)
  }

  async abandon(): Promise<void> {
    await this.#place.control
      .perform((session) => session.query(sql`select yardmaster.abandon_session(${this.#token})`), controlPatience)
      .catch(() => undefined)
  }
}
