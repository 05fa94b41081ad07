import { formatDuration } from '../base/duration.ts'
import type { AttemptRow, CallDetails } from '../monitoring/run-details.ts'
import type { RunRow, StepRow } from '../monitoring/run-history.ts'

/** What is told of a run, in sentences: where it stands, what it was, what was kept, what comes next, whether that is new. */
export interface RunStory {
  readonly run: Pick<RunRow, 'status' | 'slot' | 'message'>
  readonly steps: readonly Pick<StepRow, 'action' | 'status' | 'message'>[]
  readonly attempts: readonly AttemptRow[]
  /** undefined for a replication's. */
  readonly call: CallDetails | undefined
  readonly now: Date
  readonly time: (at: Date) => string
}

/** What a call leaves behind when it fails, as `callJob` says it. */
const left = /(nothing of it took effect|what it had committed stays)\.?(?: |$)/

/** As JSON: an infinite time is the word. */
export function callJson(call: CallDetails | undefined) {
  if (!call) return null
  const { next_attempt: next } = call
  return { ...call, next_attempt: typeof next === 'number' ? 'infinity' : next }
}

export function followUp(story: RunStory): string[] {
  const { call } = story
  return [...waitingForLock(story), ...(call ? [...circumstances(story, call), ...consequences(story, call)] : [])]
}

function waitingForLock({ run, attempts, now, time }: RunStory): string[] {
  const newest = attempts.at(-1)
  if (run.status !== 'RUNNING' || !newest?.blocked_by || !newest.blocked_since) return []
  const waited = formatDuration(Math.max(0, (now.getTime() - newest.blocked_since.getTime()) / 1000))
  return [
    `It has been waiting for a lock since ${time(newest.blocked_since)} (${waited}); it is held by ${newest.blocked_by}.`,
  ]
}

function circumstances({ run, attempts, time }: RunStory, { config }: CallDetails): string[] {
  const newest = attempts.at(-1)
  const process = newest?.target_pid == null ? '' : ` Process ${newest.target_pid} of its database worked for it.`
  const given = config === null ? 'without a config' : `with the config ${JSON.stringify(config)}`
  return newest ? [`It was due for ${time(run.slot)}, and called ${given}.${process}`] : []
}

function consequences(story: RunStory, call: CallDetails): string[] {
  const { run, steps, attempts } = story
  const newest = attempts.at(-1)
  const lines: string[] = []
  const broken = steps.find(({ status }) => status === 'CRITICAL')
  if (run.status === 'CRITICAL' && broken) {
    const state = call.sqlstate === null ? '' : ` with ${call.sqlstate}`
    const kept = left.exec(`${broken.message ?? ''} `)?.[1] ?? left.exec(`${run.message ?? ''} `)?.[1]
    lines.push(`It ended in step ${broken.action}${state}${kept === undefined ? '' : `; ${kept}`}.`)
  }
  if (run.status === 'WAITING' && newest?.is_left)
    lines.push(
      `What it had committed stays. Its session (process ${newest.target_pid}) is ended by the next attempt before that begins, should it still be there.`,
    )
  return [...lines, ...repetition(story, call), ...whatIsNext(story, call)]
}

/** Whether this is new. */
function repetition(
  { time }: RunStory,
  { failures, max_retries: most, same_failures: same, same_since: since }: CallDetails,
) {
  const lines: string[] = []
  if (failures !== null && failures > 0)
    lines.push(`Failure ${failures} in a row${most < 0 ? '' : `; at ${most} its job is paused`}.`)
  if (same !== null && same > 1 && since)
    lines.push(`The same failure ${same >= 1000 ? '1,000 or more' : same} times since ${time(since)}.`)
  return lines
}

function whatIsNext({ now, time }: RunStory, { next_attempt: next, pause }: CallDetails): string[] {
  if (pause !== null) return [`${pause} It will not be tried again by itself.`]
  if (next === null) return []
  if (typeof next === 'number') return ['It will not be tried again by itself: its next start is never.']
  const wait = (next.getTime() - now.getTime()) / 1000
  return [
    `Next attempt: ${time(next)}${wait > 0 ? ` (in ${formatDuration(wait)})` : ', as soon as a worker takes it'}.`,
  ]
}
