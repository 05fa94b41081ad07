import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import { connectionParts } from '../control/databases.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { runningRun } from '../monitoring/run-history.ts'
import type { RunLog } from '../monitoring/run-log.ts'
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
import { cancellable } from './cancellation.ts'
import { carryOut, controlPatience, type RunResult } from './run-outcome.ts'
import type { Workplace } from './workplace.ts'

/** Milliseconds that undoing a failed set-up may take; it goes on after Ctrl-C too. */
const undoPatience = 30_000

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
 * Opens sessions on a replication's two databases. What leads to both is read once, when the first is opened: a control
 * database that is away afterwards holds nothing up.
 */
export function connectorOf(
  place: Pick<Workplace, 'control' | 'environment' | 'sessions'>,
  replication: Pick<Replication, 'sourceDatabase' | 'destinationDatabase'>,
): Connector {
  const known = new Map<string, Promise<ConnectionParts>>()
  const partsOf = (object: string) => {
    const parts = known.get(object) ?? connectionParts(place.control, object, place.environment, controlPatience)
    known.set(object, parts)
    parts.catch(() => known.delete(object))
    return parts
  }
  return async (side, purpose) => {
    const { sourceDatabase, destinationDatabase } = replication
    const [object, other] =
      side === 'source' ? [sourceDatabase, destinationDatabase] : [destinationDatabase, sourceDatabase]
    const parts = partsOf(object)
    // Whoever opens a session there hears of a failure.
    void partsOf(other).catch(() => undefined)
    const options = { side, purpose, object }
    return place.sessions ? place.sessions.open(await parts, options) : connect(await parts, options)
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
  // Before what a broken-off set-up left is cleared away.
  await place.recorder.refuseForbidden(wanted.site, destinationLabel(wanted))
  await releaseLostWorkers(place.control)
  await clearLeftover(place, wanted)
  await planNewReplication(place, wanted)
  let replication: Replication | undefined
  const result = await record(
    place,
    { ...wanted, operation: 'setup' },
    (session) => addReplication(session, wanted),
    async (here, log, jobId) => {
      crashPoint('setup-after-register')
      replication = await getReplicationByJob(place.control, jobId)
      try {
        return await refreshAndActivate(here, replication, log, { force: true, wait: 10_000, takeOver: false })
      } catch (error) {
        throw await undoSetup(place, replication, log.token, error)
      }
    },
  )
  return { replication: await findReplication(place.control, destinationLabel(wanted)), result }
}

/** A claimed run of a replication: what was asked for when it was queued. */
interface ClaimedRefresh {
  readonly runId: string
  readonly jobId: number
  readonly operation: 'setup' | 'refresh'
  /** What it works on, as people know it. */
  readonly object: string
  readonly token: string
  readonly options: RefreshOptions
}

/** Carries out a run that was claimed: a refresh, or a set-up that was left to the workers. */
export async function claimedRefresh(place: Workplace, claimed: ClaimedRefresh): Promise<RunResult> {
  const { object } = claimed
  const log = place.recorder.record(claimed, place.onStep && ((step) => place.onStep?.(object, step)))
  crashPoint('claim-after-commit')
  return cancellable(place, claimed.token, (here) => {
    const work = async () => {
      const replication = await getReplicationByJob(here.control, claimed.jobId, controlPatience)
      refuseRemoved(replication)
      try {
        return await refreshAndActivate(here, replication, log, claimed.options)
      } catch (error) {
        const goesOn = here.givesBack === true && here.signal.aborted
        if (claimed.operation !== 'setup' || replication.status !== 'setting_up' || goesOn) throw error
        throw await undoSetup(here, replication, log.token, error)
      }
    }
    return carryOut(here, object, log, work, Number.POSITIVE_INFINITY)
  })
}

function refuseRemoved(replication: Replication): void {
  if (replication.status !== 'removing') return
  throw new Failure('replication_broken_off', {
    message: `The removal of ${destinationLabel(replication)} was broken off.`,
    object: destinationLabel(replication),
    remedy: `Finish it: yardmaster replication remove ${destinationLabel(replication)}`,
  })
}

/** Refreshes a replication, or finishes its set-up. */
export async function refreshRun(
  place: Workplace,
  replication: Replication,
  options: RefreshOptions,
): Promise<RunResult> {
  await releaseLostWorkers(place.control)
  const current = await getReplicationByJob(place.control, replication.jobId)
  refuseRemoved(current)
  return record(place, { ...current, operation: 'refresh' }, current.jobId, (here, log) =>
    refreshAndActivate(here, current, log, options),
  )
}

/** Takes a replication away, destination first; what is broken off is finished by calling it again. */
export async function removeReplicationRun(
  place: Workplace,
  replication: Replication,
  mode: RemovalMode,
): Promise<RunResult> {
  await releaseLostWorkers(place.control)
  return record(place, { ...replication, operation: 'remove' }, replication.jobId, async ({ signal }) => {
    const chosen = replication.status === 'setting_up' ? 'undo' : mode
    if (replication.status !== 'setting_up') await setReplicationStatus(place.control, replication, 'removing')
    crashPoint('remove-after-mark')
    try {
      const connector = connectorOf(place, replication)
      await removeFromDestination(replication, place.control.id, chosen, connector, signal, (token) =>
        place.recorder.isOver(token),
      )
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
  })
}

/** A removal that failed leaves a replication that goes on as before, if the destination says that nothing was removed. */
async function withdrawRemoval(place: Workplace, replication: Replication): Promise<void> {
  if (!['active', 'paused', 'broken'].includes(replication.status)) return
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
    isOver: (token) => place.recorder.isOver(token),
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
  register: number | ((session: Session) => Promise<number>),
  work: (here: Workplace, log: RunLog, jobId: number) => Promise<RefreshResult>,
): Promise<RunResult> {
  const object = destinationLabel(about)
  let jobId = typeof register === 'number' ? register : 0
  const log = await place.recorder.begin(
    { database: about.destinationDatabase, operation: about.operation, object, site: about.site },
    typeof register === 'number' ? register : async (session) => (jobId = await register(session)),
    place.onStep && ((step) => place.onStep?.(object, step)),
  )
  crashPoint('refresh-after-run-recorded')
  return cancellable(place, log.token, (here) =>
    carryOut(here, object, log, () => work(here, log, jobId), controlPatience),
  )
}

async function undoSetup(place: Workplace, replication: Replication, token: string, error: unknown): Promise<Failure> {
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
    await place.control.revive(controlPatience)
    // Given up while it hung, it hears first of all that its session is gone: somebody may have finished the set-up by now.
    if (await place.recorder.isOver(token)) return failure
    const connector = connectorOf(place, replication)
    const signal = AbortSignal.timeout(undoPatience)
    await removeFromDestination(replication, place.control.id, 'undo', connector, signal, undefined, token)
    await place.control.revive(controlPatience)
    await forgetReplication(place.control, replication)
    crashPoint('undo-after-control')
    return said('The set-up was undone; nothing is left of it.', failure.remedy)
  } catch (second) {
    const last = toFailure(second, { side: 'database' })
    if (last.code === 'fenced') return last
    const reason = last.message
    return said(
      `Undoing the set-up failed too (${reason}); it is shown as setting_up.`,
      `${failure.remedy} Then go on with: yardmaster replication refresh ${destinationLabel(replication)}; or undo it with: yardmaster replication remove ${destinationLabel(replication)}.`,
    )
  }
}

/** A set-up or removal of the same destination that was broken off is undone first. One that runs holds its lock, and stays. */
export async function clearLeftover(place: Workplace, wanted: NewReplication): Promise<void> {
  const leftover = await findReplication(place.control, destinationLabel(wanted))
  if (!leftover) return
  if (['active', 'paused', 'broken'].includes(leftover.status)) throw replicationExists(wanted)
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
