import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { decideStart, type StartPolicy } from './next-start.ts'
import type { Schedule } from './schedule.ts'

/** States that are decided at once. */
const batch = 500

/** A job in one of its databases, whose next start is to be decided, as the SQL function `undecided_states` has it. */
interface UndecidedState {
  job_id: number
  database_id: string
  facts: string
  now: Date
  kind: string
  months: number | null
  days: number | null
  milliseconds: number | null
  cron: string | null
  timezone: string
  fixed: boolean
  origin: Date
  since: Date
  last_slot: Date | null
  last_start: Date | null
  last_finish: Date | null
  failures: number
  crashed: boolean
  /** Seconds. */
  retry_period: number
  crash_pause: number
  overlap: StartPolicy['overlap']
  catch_up: number | null
  jitter: number
  open: boolean
}

/** As the SQL function `set_next_starts` takes it. */
type Decision = Readonly<Record<string, unknown>>

/**
 * Decides the next start of every job that has a schedule and none yet, in each database that it runs in: after each run, and when
 * a schedule was made or changed, also by SQL. Any process may do so; a decision is written only while nothing that it rests on has
 * changed. A job whose schedule makes no sense is paused, with the reason as its note. Returns how many were decided.
 */
export async function decideNextStarts(control: Control, patience = 0): Promise<number> {
  let written = 0
  for (;;) {
    const states = await control.perform(
      (session) => session.query<UndecidedState>(sql`select * from yardmaster.undecided_states(${batch})`),
      patience,
    )
    const decisions: Decision[] = []
    for (const state of states) {
      try {
        decisions.push(decide(state))
      } catch (error) {
        // Nothing is asked there: whatever goes wrong lies in this job, and must not stand in the way of the others.
        const why =
          error instanceof Failure ? error.message : `no next start can be told (${(error as Error).message}).`
        await pause(control, state, why)
      }
    }
    if (decisions.length > 0) written += await write(control, decisions, patience)
    if (states.length < batch) return written
  }
}

function decide(state: UndecidedState): Decision {
  const history = {
    since: state.since,
    lastStart: state.last_start,
    lastFinish: state.last_finish,
    lastSlot: state.last_slot,
    failures: state.failures,
    crashed: state.crashed,
    retryPeriod: state.retry_period * 1000,
    crashPause: state.crash_pause * 1000,
    open: state.open,
  }
  const policy: StartPolicy = {
    overlap: state.overlap,
    catchUp: state.catch_up === null ? null : state.catch_up * 1000,
    jitter: state.jitter * 1000,
    // A copy is made when it is added; its first refresh is a slot later.
    first: state.kind === 'replication' ? 'after' : 'origin',
  }
  const { slot, start, catchUp, skipped, period } = decideStart(
    scheduleOf(state),
    history,
    policy,
    state.now,
    Math.random(),
  )
  const { job_id, database_id, facts } = state
  return { job_id, database_id, facts, start, slot, period, catch_up: catchUp, skipped }
}

function scheduleOf(state: UndecidedState): Schedule {
  if (state.cron !== null) return { kind: 'cron', expression: state.cron, timezone: state.timezone }
  const interval = { months: state.months ?? 0, days: state.days ?? 0, milliseconds: state.milliseconds ?? 0 }
  return { kind: 'interval', interval, fixed: state.fixed, origin: state.origin, timezone: state.timezone }
}

async function write(control: Control, decisions: readonly Decision[], patience: number): Promise<number> {
  const row = await control.perform(
    (session) =>
      session.one<{ written: number }>(
        sql`select yardmaster.set_next_starts(${JSON.stringify(decisions)}::jsonb) as written`,
      ),
    patience,
  )
  return row.written
}

async function pause(control: Control, state: UndecidedState, why: string): Promise<void> {
  await control.perform(
    (session) => session.query(sql`select yardmaster.pause_job(${state.job_id}, ${`Its schedule: ${why}`})`),
    0,
  )
}
