import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { nextStart, nextStarts, type Schedule } from './schedule.ts'

/** Jobs that are decided at once. */
const batch = 500
/** TimescaleDB's default, in milliseconds. */
const retryPeriod = 300_000

/** A job whose next start is to be decided, as the SQL function `undecided_jobs` has it. */
interface UndecidedJob {
  job_id: number
  facts: string
  months: number | null
  days: number | null
  milliseconds: number | null
  cron: string | null
  timezone: string
  origin: Date
  last_slot: Date | null
  last_finish: Date | null
  failures: number
}

interface Decision {
  readonly jobId: number
  readonly facts: string
  readonly start: Date
  /** Seconds from this start to the one after it. */
  readonly period: number
}

/**
 * Decides the next start of every job that has a schedule and none yet: after each run, and when a schedule was made or
 * changed, also by SQL. Any process may do so; a decision is written only while nothing that it rests on has changed. A job
 * whose schedule makes no sense is paused, with the reason as its note. Returns how many were decided.
 */
export async function decideNextStarts(control: Control, patience = 0): Promise<number> {
  let written = 0
  for (;;) {
    const jobs = await control.perform(
      (session) => session.query<UndecidedJob>(sql`select * from yardmaster.undecided_jobs(${batch})`),
      patience,
    )
    const decisions: Decision[] = []
    for (const job of jobs) {
      try {
        decisions.push(decide(job))
      } catch (error) {
        if (!(error instanceof Failure)) throw error
        await pause(control, job, error.message)
      }
    }
    if (decisions.length > 0) written += await write(control, decisions, patience)
    if (jobs.length < batch) return written
  }
}

function decide(job: UndecidedJob): Decision {
  const schedule = scheduleOf(job)
  const history = {
    since: job.origin,
    lastFinish: job.last_finish,
    lastSlot: job.last_slot,
    failures: job.failures,
    retryPeriod,
  }
  const start = nextStart(schedule, history, Math.random())
  const [first, second] = nextStarts(schedule, start, 2)
  const period = first && second ? (second.getTime() - first.getTime()) / 1000 : 0
  return { jobId: job.job_id, facts: job.facts, start, period }
}

function scheduleOf(job: UndecidedJob): Schedule {
  if (job.cron !== null) return { kind: 'cron', expression: job.cron, timezone: job.timezone }
  const interval = { months: job.months ?? 0, days: job.days ?? 0, milliseconds: job.milliseconds ?? 0 }
  return { kind: 'interval', interval, fixed: true, origin: job.origin, timezone: job.timezone }
}

async function write(control: Control, decisions: readonly Decision[], patience: number): Promise<number> {
  const row = await control.perform(
    (session) =>
      session.one<{ written: number }>(sql`
        select yardmaster.set_next_starts(${decisions.map((one) => one.jobId)}::int[], ${decisions.map((one) => one.facts)}::text[],
          ${decisions.map((one) => one.start.toISOString())}::timestamptz[], ${decisions.map((one) => one.period)}::float8[]) as written`),
    patience,
  )
  return row.written
}

async function pause(control: Control, job: UndecidedJob, why: string): Promise<void> {
  await control.perform(
    (session) => session.query(sql`select yardmaster.pause_replication(${job.job_id}, ${`Its schedule: ${why}`})`),
    0,
  )
}
