import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Level } from '../monitoring/outbox.ts'
import type { RunLog } from '../monitoring/run-log.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import type { Reach } from '../replication/reporter.ts'
import { orCancellation } from './cancellation.ts'

/** Milliseconds for which a control database that is away is waited for once the work in the destination is done. */
export const controlPatience = 60_000

export interface RunResult {
  readonly run_id: string
  /** WAITING: it was broken off and went back to the queue. */
  readonly status: Level | 'WAITING'
  readonly reason: string | null
  readonly rows: number
  readonly bytes: number
  readonly seconds: number
  readonly message: string
  /** What ended the run, when it is CRITICAL. */
  readonly failure: Failure | undefined
  /** Of a task that did not heed its abort signal: resolves when its function has returned after all. */
  readonly lingers?: Promise<void>
}

/** What the work of a run came to. */
export interface WorkResult {
  readonly level: Level
  readonly reason: string | null
  readonly message: string
  readonly rows: number
  readonly bytes: number
  readonly reach?: Reach
}

/** What the work of a run says beside its result, also where it fails. */
export interface WorkRemarks {
  /** When its job is to start next: a time, `infinity`, or `in` an interval. */
  nextStart?: string
}

interface Conclusion {
  readonly status: Level | 'WAITING'
  readonly reason: string | null
  readonly message: string
  readonly rows: number
  readonly bytes: number
  readonly reach: Reach | undefined
  readonly failure: Failure | undefined
  /** Of a run that is given back: when it may begin again. */
  readonly again?: string
}

/**
 * Does the work of a run that has begun, and writes its end, whatever it comes to; a control database that is away is waited
 * for, `patience` milliseconds.
 */
export async function carryOut(
  place: {
    readonly signal: AbortSignal
    readonly givesBack?: boolean
    /** The same of a run of which nothing was begun. Default: `givesBack`. */
    readonly givesBackUnbegun?: boolean
  },
  object: string,
  log: RunLog,
  work: () => Promise<WorkResult>,
  patience: number,
  remarks: WorkRemarks = {},
): Promise<RunResult> {
  const started = Date.now()
  let conclusion: Conclusion
  try {
    conclusion = concluded(await work())
  } catch (error) {
    conclusion = failed(toFailure(orCancellation(error, place.signal), { side: 'database', object }))
  }
  if (conclusion.reason === 'cancelled' && place.givesBack && place.signal.aborted) {
    const message = 'The worker stopped before this ended; it goes on with the next one that is free.'
    conclusion = { ...conclusion, status: 'WAITING', reason: 'retry', message, failure: undefined }
  }
  const unbegun = conclusion.failure?.code === 'too_many_connections'
  if (unbegun && (place.givesBackUnbegun ?? place.givesBack) && !place.signal.aborted) {
    // It says nothing about the job: nothing of it was begun.
    const message = `${conclusion.message} It is tried again in 5 s.`
    conclusion = {
      ...conclusion,
      status: 'WAITING',
      reason: 'retry',
      message,
      failure: undefined,
      again: 'in 5 seconds',
    }
  }
  crashPoint('refresh-before-outcome')
  const { reach: _reach, again: _again, ...written } = await conclude(log, conclusion, remarks, patience)
  crashPoint('refresh-after-outcome')
  return { run_id: log.runId, ...written, seconds: (Date.now() - started) / 1000 }
}

function concluded(result: WorkResult): Conclusion {
  const { level: status, reason, message, rows, bytes, reach } = result
  return { status, reason, message, rows, bytes, reach, failure: undefined }
}

/** What is no failure of the job itself, by the code of what ended a run. */
const reasons: Readonly<Record<string, string>> = {
  cancelled: 'cancelled',
  // What somebody asked for amiss.
  range_invalid: 'refused',
  payload_refused: 'refused',
  job_timeout: 'timeout',
  job_locked: 'locked',
}

function failed(failure: Failure): Conclusion {
  const reason = reasons[failure.code] ?? 'failed'
  return { status: 'CRITICAL', reason, message: failure.message, rows: 0, bytes: 0, reach: undefined, failure }
}

/** Writes the run's end, and says so when the record could not be kept or belongs to somebody else by now. */
async function conclude(
  log: RunLog,
  conclusion: Conclusion,
  remarks: WorkRemarks,
  patience: number,
): Promise<Conclusion> {
  const { failure, reach, again, ...outcome } = conclusion
  const message = failure ? `[${failure.code}] ${failure.message}` : conclusion.message
  const lag = reach ? reach.behind + (performance.now() - reach.sampledAt) / 1000 : null
  try {
    const record = {
      ...outcome,
      message,
      lag,
      position: reach?.position ?? null,
      leaves_out: reach?.leavesOut ?? null,
      sqlstate: failure?.sqlstate ?? null,
      // What a run that is given back asked for is asked for again by its next attempt.
      next_start: again ?? (outcome.status === 'WAITING' ? undefined : remarks.nextStart) ?? null,
    }
    if (await log.finish(record, patience)) return conclusion
    const replaced = `${conclusion.message} The record of run ${log.runId} was closed before: another attempt took its place.`
    return { ...conclusion, message: replaced, status: conclusion.status === 'OK' ? 'WARNING' : conclusion.status }
  } catch (error) {
    const lost = toFailure(error, { side: 'control', object: 'the control database' })
    const unkept = new Failure(lost.code, {
      message: `${conclusion.message} This outcome could not be recorded as run ${log.runId}: ${lost.message}`,
      object: lost.object ?? undefined,
      cause: failure ?? lost,
    })
    return { ...conclusion, status: 'CRITICAL', failure: unkept }
  }
}
