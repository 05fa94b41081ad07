import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Level } from '../monitoring/outbox.ts'
import type { RunLog } from '../monitoring/run-log.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import type { Reach, RefreshResult } from '../replication/reporter.ts'
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
}

interface Conclusion {
  readonly status: Level | 'WAITING'
  readonly reason: string | null
  readonly message: string
  readonly rows: number
  readonly bytes: number
  readonly reach: Reach | undefined
  readonly failure: Failure | undefined
}

/**
 * Does the work of a run that has begun, and writes its end, whatever it comes to; a control database that is away is waited
 * for, `patience` milliseconds.
 */
export async function carryOut(
  place: { readonly signal: AbortSignal; readonly givesBack?: boolean },
  object: string,
  log: RunLog,
  work: () => Promise<RefreshResult>,
  patience: number,
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
  crashPoint('refresh-before-outcome')
  const { reach: _reach, ...written } = await conclude(log, conclusion, patience)
  crashPoint('refresh-after-outcome')
  return { run_id: log.runId, ...written, seconds: (Date.now() - started) / 1000 }
}

function concluded(result: RefreshResult): Conclusion {
  const { level: status, reason, message, rows, bytes, reach } = result
  return { status, reason, message, rows, bytes, reach, failure: undefined }
}

function failed(failure: Failure): Conclusion {
  // What somebody asked for amiss says nothing about the job.
  const reason = failure.code === 'cancelled' ? 'cancelled' : failure.code === 'range_invalid' ? 'refused' : 'failed'
  return { status: 'CRITICAL', reason, message: failure.message, rows: 0, bytes: 0, reach: undefined, failure }
}

/** Writes the run's end, and says so when the record could not be kept or belongs to somebody else by now. */
async function conclude(log: RunLog, conclusion: Conclusion, patience: number): Promise<Conclusion> {
  const { failure, reach, ...outcome } = conclusion
  const message = failure ? `[${failure.code}] ${failure.message}` : conclusion.message
  const lag = reach ? reach.behind + (performance.now() - reach.sampledAt) / 1000 : null
  try {
    const record = { ...outcome, message, lag, position: reach?.position ?? null, leaves_out: reach?.leavesOut ?? null }
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
