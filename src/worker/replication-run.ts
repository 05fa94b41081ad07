import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { connectionParts, type Environment } from '../control/databases.ts'
import { type LiveStep, markLostAttempts, type Outcome, RunLog, runningRun } from '../monitoring/run-log.ts'
import { connect, type Session } from '../postgres/connect.ts'
import type { ConnectionParts } from '../postgres/connection-url.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { destinationLabel, type Replication } from '../replication/definition.ts'
import type { Connector } from '../replication/link.ts'
import { findPosition, type Position } from '../replication/position.ts'
import { refreshReplication } from '../replication/refresh.ts'
import type { Repull } from '../replication/refresh-context.ts'
import { type RemovalMode, removeFromDestination } from '../replication/removal.ts'
import type { RefreshResult } from '../replication/reporter.ts'
import { planSetup, type SetupPlan } from '../replication/setup.ts'
import {
  addReplication,
  findReplication,
  forgetReplication,
  getReplicationByJob,
  type NewReplication,
  replicationExists,
  setReplicationStatus,
} from '../replication/store.ts'

/** Milliseconds that undoing a failed set-up may take; it goes on after Ctrl-C too. */
const undoPatience = 30_000
/** Milliseconds for which a control database that is away is waited for once the work in the destination is done. */
const controlPatience = 60_000

/** Where and for whom runs are carried out in this process. */
export interface Workplace {
  readonly control: Control
  readonly environment: Environment
  readonly signal: AbortSignal
  /** Name of this worker, e.g. `cli#4711`, and of its host. */
  readonly worker: string
  readonly host: string
  /** Streams that read a large source side by side. */
  readonly streams: number
  /** Hears of steps and progress as they happen. */
  readonly onStep?: ((object: string, step: LiveStep) => void) | undefined
}

export interface RunResult {
  readonly run_id: string
  readonly status: 'OK' | 'WARNING' | 'CRITICAL'
  readonly reason: string | null
  readonly rows: number
  readonly bytes: number
  readonly seconds: number
  readonly message: string
  /** What ended the run, when it is CRITICAL. */
  readonly failure: Failure | undefined
}

/** What a refresh may be asked for; as in `RefreshContext`. */
export interface RefreshOptions {
  readonly force?: boolean
  /** Milliseconds to wait for another refresh; Infinity for ever. Default: 0. */
  readonly wait?: number
  readonly takeOver?: boolean
  readonly limit?: number | null
  readonly repull?: Repull | null
}

/**
 * Opens sessions on a replication's two databases. What leads there is read once: a control database that is away
 * afterwards holds nothing up.
 */
export function connectorOf(
  place: Pick<Workplace, 'control' | 'environment'>,
  replication: Pick<Replication, 'sourceDatabase' | 'destinationDatabase'>,
): Connector {
  const known = new Map<string, ConnectionParts>()
  return async (side, purpose) => {
    const object = side === 'source' ? replication.sourceDatabase : replication.destinationDatabase
    const parts = known.get(object) ?? (await connectionParts(place.control, object, place.environment))
    known.set(object, parts)
    return connect(parts, { side, purpose, object })
  }
}

/** What `addReplicationRun` would do, checked on both sides. Changes nothing. */
export async function planNewReplication(place: Workplace, wanted: NewReplication): Promise<SetupPlan> {
  const draft: Replication = {
    ...wanted,
    jobId: 0,
    id: '00000000-0000-0000-0000-000000000000',
    status: 'setting_up',
    version: 0,
  }
  return planSetup(draft, place.control.id, connectorOf(place, wanted), place.signal)
}

/**
 * Sets a replication up: checks, registers, makes its objects, pulls the data. One that fails is undone on both sides; one
 * that dies half-way stays as `setting_up`, and is finished by `refresh`, or undone by `remove` or by adding it again.
 */
export async function addReplicationRun(
  place: Workplace,
  wanted: NewReplication,
): Promise<{ replication: Replication | undefined; result: RunResult }> {
  await place.control.revive(0)
  await markLostAttempts(place.control)
  await clearLeftover(place, wanted)
  await planNewReplication(place, wanted)
  let replication: Replication | undefined
  const result = await record(
    place,
    { ...wanted, operation: 'setup' },
    (session) => addReplication(session, wanted),
    async (log, jobId) => {
      crashPoint('setup-after-register')
      replication = await getReplicationByJob(place.control, jobId)
      try {
        return await refreshAndActivate(place, replication, log, { force: true, wait: 10_000, takeOver: false })
      } catch (error) {
        throw await undoSetup(place, replication, error)
      }
    },
  )
  return { replication: await findReplication(place.control, destinationLabel(wanted)), result }
}

/** Refreshes a replication, or finishes its set-up. */
export async function refreshRun(
  place: Workplace,
  replication: Replication,
  options: RefreshOptions,
): Promise<RunResult> {
  await place.control.revive(0)
  await markLostAttempts(place.control)
  const current = await getReplicationByJob(place.control, replication.jobId)
  if (current.status === 'removing') {
    throw new Failure('replication_broken_off', {
      message: `The removal of ${destinationLabel(current)} was broken off.`,
      object: destinationLabel(current),
      remedy: `Finish it: yardmaster replication remove ${destinationLabel(current)}`,
    })
  }
  return record(
    place,
    { ...current, operation: 'refresh' },
    async () => current.jobId,
    (log) => refreshAndActivate(place, current, log, options),
  )
}

/** Takes a replication away, destination first; what is broken off is finished by calling it again. */
export async function removeReplicationRun(
  place: Workplace,
  replication: Replication,
  mode: RemovalMode,
): Promise<RunResult> {
  await place.control.revive(0)
  await markLostAttempts(place.control)
  return record(
    place,
    { ...replication, operation: 'remove' },
    async () => replication.jobId,
    async () => {
      const chosen = replication.status === 'setting_up' ? 'undo' : mode
      if (replication.status !== 'setting_up') await setReplicationStatus(place.control, replication, 'removing')
      crashPoint('remove-after-mark')
      try {
        const connector = connectorOf(place, replication)
        await removeFromDestination(replication, place.control.id, chosen, connector, place.signal)
      } catch (error) {
        await withdrawRemoval(place, replication)
        throw error
      }
      await place.control.revive(controlPatience)
      await forgetReplication(place.control, replication)
      crashPoint('remove-after-control')
      return {
        level: 'OK',
        reason: null,
        tookEffect: true,
        message: `${destinationLabel(replication)} is removed.`,
        rows: 0,
        bytes: 0,
      }
    },
  )
}

/** A removal that failed leaves a replication that goes on as before, if the destination says that nothing was removed. */
async function withdrawRemoval(place: Workplace, replication: Replication): Promise<void> {
  if (replication.status !== 'active' && replication.status !== 'broken') return
  try {
    if (!(await findPositionOf(place, replication))) return
    await setReplicationStatus(place.control, replication, replication.status)
    crashPoint('remove-after-withdrawal')
  } catch {
    // It stays as `removing`, which the next command goes on with; what matters is the failure that came first.
  }
}

async function refreshAndActivate(
  place: Workplace,
  replication: Replication,
  log: RunLog,
  options: RefreshOptions,
): Promise<RefreshResult> {
  const result = await refreshReplication({
    replication,
    controlId: place.control.id,
    token: log.token,
    connector: connectorOf(place, replication),
    reporter: log,
    signal: place.signal,
    streams: place.streams,
    force: options.force ?? false,
    wait: options.wait ?? 0,
    takeOver: options.takeOver ?? false,
    limit: options.limit ?? null,
    repull: options.repull ?? null,
    isOver: async () => false,
  })
  if (replication.status === 'setting_up' && result.tookEffect) {
    crashPoint('setup-after-initial-load')
    await place.control.revive(controlPatience)
    await setReplicationStatus(place.control, replication, 'active')
    crashPoint('setup-after-activate')
  }
  return result
}

/** Runs `work` as a run with its record, whatever it comes to. */
async function record(
  place: Workplace,
  about: Pick<Replication, 'destination' | 'destinationDatabase' | 'site'> & {
    operation: 'setup' | 'refresh' | 'remove'
  },
  register: (session: Session) => Promise<number>,
  work: (log: RunLog, jobId: number) => Promise<RefreshResult>,
): Promise<RunResult> {
  const label = destinationLabel(about)
  const started = Date.now()
  let jobId = 0
  const log = await RunLog.begin(
    place.control,
    {
      database: about.destinationDatabase,
      operation: about.operation,
      object: label,
      site: about.site,
      worker: place.worker,
      host: place.host,
    },
    async (session) => {
      jobId = await register(session)
      return jobId
    },
    place.onStep && ((step) => place.onStep?.(label, step)),
  )
  crashPoint('refresh-after-run-recorded')
  let result: RefreshResult & { failure?: Failure }
  try {
    result = await work(log, jobId)
  } catch (error) {
    const failure = toFailure(error, { side: 'database', object: label })
    result = {
      level: 'CRITICAL',
      reason: null,
      tookEffect: false,
      message: failure.message,
      rows: 0,
      bytes: 0,
      failure,
    }
  }
  crashPoint('refresh-before-outcome')
  const outcome = await conclude(log, result)
  crashPoint('refresh-after-outcome')
  return {
    run_id: log.runId,
    status: outcome.level,
    reason: outcome.reason,
    rows: outcome.rows,
    bytes: outcome.bytes,
    seconds: (Date.now() - started) / 1000,
    message: outcome.message,
    failure: outcome.failure,
  }
}

type Conclusion = Outcome & { readonly failure: Failure | undefined }

/** Writes the run's end, and says so when the record could not be kept or belongs to somebody else by now. */
async function conclude(log: RunLog, result: RefreshResult & { failure?: Failure }): Promise<Conclusion> {
  const { failure } = result
  const reason = failure ? (failure.code === 'cancelled' ? 'cancelled' : 'failed') : result.reason
  const outcome = { ...result, reason, failure }
  try {
    const said = failure ? `[${failure.code}] ${failure.message}` : result.message
    if (await log.finish({ ...outcome, message: said })) return outcome
    const message = `${result.message} The record of run ${log.runId} was closed before: another attempt took its place.`
    return { ...outcome, message, level: result.level === 'OK' ? 'WARNING' : result.level }
  } catch (error) {
    const lost = toFailure(error, { side: 'control', object: 'the control database' })
    const unkept = new Failure(lost.code, {
      message: `${result.message} This outcome could not be recorded as run ${log.runId}: ${lost.message}`,
      object: lost.object ?? undefined,
      cause: failure ?? lost,
    })
    return { ...outcome, level: 'CRITICAL', failure: unkept }
  }
}

async function undoSetup(place: Workplace, replication: Replication, error: unknown): Promise<Failure> {
  const failure = toFailure(error, { side: 'database', object: destinationLabel(replication) })
  // A run that was replaced has nothing to undo: its successor works with these objects.
  if (failure.code === 'fenced') return failure
  const said = (what: string, remedy: string) =>
    new Failure(failure.code, {
      message: `${failure.message.replace(/\.$/, '')}. ${what}`,
      object: failure.object ?? undefined,
      remedy,
      sqlstate: failure.sqlstate,
      cause: failure,
    })
  try {
    const connector = connectorOf(place, replication)
    await removeFromDestination(replication, place.control.id, 'undo', connector, AbortSignal.timeout(undoPatience))
    await place.control.revive(controlPatience)
    await forgetReplication(place.control, replication)
    crashPoint('undo-after-control')
    return said('The set-up was undone; nothing is left of it.', failure.remedy)
  } catch (second) {
    const reason = toFailure(second, { side: 'database' }).message
    return said(
      `Undoing the set-up failed too (${reason}); it is shown as setting_up.`,
      `${failure.remedy} Then go on with: yardmaster replication refresh ${destinationLabel(replication)}; or undo it with: yardmaster replication remove ${destinationLabel(replication)}.`,
    )
  }
}

/** A set-up or removal of the same destination that was broken off is undone first. One that runs holds its lock, and stays. */
async function clearLeftover(place: Workplace, wanted: NewReplication): Promise<void> {
  const leftover = await findReplication(place.control, destinationLabel(wanted))
  if (!leftover) return
  if (leftover.status === 'active' || leftover.status === 'broken') throw replicationExists(wanted)
  const running = await runningRun(place.control, leftover.jobId)
  if (running) {
    throw new Failure('replication_exists', {
      message: `${destinationLabel(wanted)} is being worked on by ${running.worker} (run ${running.id}, ${running.operation}).`,
      object: destinationLabel(wanted),
      remedy: `Wait for it: yardmaster run show ${running.id}`,
    })
  }
  const result = await removeReplicationRun(place, leftover, leftover.status === 'setting_up' ? 'undo' : 'keep')
  if (result.failure) throw result.failure
  place.onStep?.(destinationLabel(wanted), {
    action: `cleared away what a broken-off ${leftover.status === 'setting_up' ? 'set-up' : 'removal'} had left`,
    figures: undefined,
  })
}

/** The position as the destination has it; undefined where it knows nothing of the replication. */
export async function findPositionOf(place: Workplace, replication: Replication): Promise<Position | undefined> {
  const session = await connectorOf(place, replication)('destination', 'look at the position')
  return findPosition(session, replication.id).finally(() => session.end())
}
