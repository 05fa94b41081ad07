import { Failure } from '../base/failure.ts'
import type { Claim } from '../jobs/claim.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { cancellable } from './cancellation.ts'
import { carryOut, type RunResult, type WorkRemarks } from './run-outcome.ts'
import type { TaskContext } from './tasks.ts'
import type { Workplace } from './workplace.ts'

const severity = ['OK', 'WARNING', 'CRITICAL'] as const

/** Carries out a run of a task that was claimed. */
export async function claimedTask(place: Workplace, claim: Claim): Promise<RunResult> {
  const { run_id: runId, object, token, call } = claim
  const name = call?.task ?? ''
  const handler = place.tasks?.get(name)
  if (!call || !handler) throw new Error(`A worker that does not know the task ${name} was given run ${runId}.`)
  const log = place.recorder.record({ runId, token }, place.onStep && ((step) => place.onStep?.(object, step)))
  const remarks: WorkRemarks = {}
  return cancellable(place, token, (here) => {
    const givesBack = here.givesBack === true && call.repeatable
    const work = async () => {
      let level: (typeof severity)[number] = 'OK'
      let said: string | undefined
      let step = log.step(name)
      const overtime = new AbortController()
      const timer = call.max_runtime > 0 ? setTimeout(() => overtime.abort(), call.max_runtime) : undefined
      const context: TaskContext = {
        jobId: claim.job_id,
        runId,
        attempt: claim.attempt,
        slot: new Date(call.slot),
        database: call.database,
        signal: AbortSignal.any([here.signal, overtime.signal]),
        step: (action) => {
          step.done()
          step = log.step(action)
        },
        progress: ({ rows = 0, bytes = 0, message }) => step.progress({ rows, bytes, message }),
        level: (wanted, message) => {
          if (severity.indexOf(wanted) > severity.indexOf(level)) level = wanted
          said = message ?? said
        },
        nextStart: (at) => {
          remarks.nextStart = at === 'infinity' ? at : at.toISOString()
        },
      }
      try {
        await handler(payloadOf(call.config, call.params), context)
      } catch (error) {
        throw failureOf(error, { object, name, overtime: overtime.signal.aborted, aborted: here.signal.aborted })
      } finally {
        clearTimeout(timer)
      }
      step.done()
      return { level, reason: null, message: said ?? `Task ${name} ended.`, rows: 0, bytes: 0 }
    }
    return carryOut({ signal: here.signal, givesBack }, object, log, work, Number.POSITIVE_INFINITY, remarks)
  })
}

/** The job's config with the parameters of the run laid over it. */
function payloadOf(config: string | null, params: string | null): unknown {
  const payload: unknown = config === null ? null : JSON.parse(config)
  if (params === null) return payload
  return { ...(payload as object | null), ...(JSON.parse(params) as object) }
}

interface Circumstances {
  readonly object: string
  readonly name: string
  readonly overtime: boolean
  readonly aborted: boolean
}

function failureOf(error: unknown, { object, name, overtime, aborted }: Circumstances): Failure {
  const message = error instanceof Error ? error.message : String(error)
  if (aborted) return new Failure('cancelled', { message: `Cancelled while task ${name} ran.`, object, cause: error })
  if (overtime) {
    return new Failure('job_timeout', {
      message: `Task ${name} ran longer than its max_runtime.`,
      object,
      cause: error,
    })
  }
  const known = error instanceof Failure ? toFailure(error, { side: 'database', object }) : undefined
  return known ?? new Failure('job_failed', { message, object, cause: error })
}
