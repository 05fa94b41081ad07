import { formatBytes, formatCount, formatDuration } from '../base/duration.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { type AttemptRow, callDetails, listAttempts, serverNow } from '../monitoring/run-details.ts'
import {
  getRun,
  listSteps,
  type RunRow,
  type StepRow,
  type WaitingCheck,
  waitingChecks,
} from '../monitoring/run-history.ts'
import { siteLabel } from '../placement/sites.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { callJson, followUp } from './run-sequel.ts'
import type { Terminal } from './terminal.ts'

/** `yardmaster run show` */
export async function show(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const run = await getRun(control, id)
    const steps = await listSteps(control, run)
    const checks = await waitingChecks(control, run.id)
    const attempts = await listAttempts(control, run.id)
    const call = await callDetails(control, run.id)
    if (context.terminal.json) {
      context.terminal.document({ ...runJson(run, steps, checks), attempts, call: callJson(call) })
      return 0
    }
    describe(context, run, checks)
    const now = await serverNow(control)
    for (const line of followUp({ run, steps, attempts, call, now, time: (at) => context.terminal.time(at) }))
      context.terminal.line(line)
    if (attempts.length > 1) attemptsTable(context.terminal, attempts)
    if (checks.length === 0 || steps.length > 0) stepsTable(context.terminal, steps)
    return 0
  })
}

function runJson(run: RunRow, steps: readonly StepRow[], checks: readonly WaitingCheck[]) {
  return {
    run_id: run.id,
    job_id: run.job_id,
    kind: run.kind,
    operation: run.operation,
    object: run.object,
    site: run.site,
    status: run.status,
    reason: checks.length > 0 ? firstFailed(checks).code : run.reason,
    slot: run.slot,
    started_at: run.started_at,
    finished_at: run.finished_at,
    worker: run.worker,
    host: run.host,
    placement: run.placement,
    attempt: run.attempt,
    ...figures(run),
    message: run.message,
    checks,
    steps: steps.map((step) => ({ ...step, ...figures(step) })),
  }
}

function figures({ rows, bytes }: { rows: string | null; bytes: string | null }) {
  return { rows: rows === null ? null : Number(rows), bytes: bytes === null ? null : Number(bytes) }
}

/** What a run waits for; the last check where each is met, and a worker is about to take it. */
function firstFailed(checks: readonly WaitingCheck[]): WaitingCheck {
  const found = checks.find(({ ok }) => !ok) ?? checks.at(-1)
  if (!found) throw new Error('A run that does not wait has no checks.')
  return found
}

function describe({ terminal }: CommandContext, run: RunRow, checks: readonly WaitingCheck[]): void {
  const took =
    run.started_at && run.finished_at
      ? ` in ${formatDuration((run.finished_at.getTime() - run.started_at.getTime()) / 1000)}`
      : ''
  const site = run.site === null ? '' : `, for ${siteLabel(run.site)}`
  const how = run.placement === null ? '' : ` (${run.placement})`
  const by = run.worker === null ? '' : `, by ${run.worker} on ${run.host}${how}`
  const reason = checks.length > 0 ? firstFailed(checks).code : run.reason
  terminal.line(
    `Run ${run.id}, ${run.operation} of ${run.object}${site}: ${terminal.level(run.status)}${reason ? ` (${reason})` : ''}${took}${by}.`,
  )
  if (checks.length > 0) {
    terminal.line(`It waits: ${firstFailed(checks).why}`)
    if (run.message) terminal.line(run.message)
    terminal.table(
      checks,
      [
        { head: 'OK', value: ({ ok }) => (ok ? 'yes' : 'no') },
        { head: 'CHECK', value: ({ check }) => check },
        { head: 'CODE', value: ({ code }) => code },
        { head: 'WHY', value: ({ why }) => why },
      ],
      '',
    )
  } else if (run.message) terminal.line(run.message)
}

function attemptsTable(terminal: Terminal, attempts: readonly AttemptRow[]): void {
  terminal.table(
    attempts,
    [
      { head: 'LEVEL', kind: 'level', value: ({ status }) => status },
      { head: 'ATTEMPT', kind: 'number', value: ({ attempt }) => attempt },
      { head: 'WORKER', value: ({ worker }) => worker },
      { head: 'HOST', value: ({ host }) => host },
      { head: 'PROCESS', kind: 'number', value: ({ target_pid: pid }) => pid },
      { head: 'STARTED', value: ({ started_at: at }) => terminal.time(at) },
      { head: 'ENDED', value: ({ finished_at: at }) => terminal.time(at) },
    ],
    '',
  )
}

function stepsTable(terminal: Terminal, steps: readonly StepRow[]): void {
  terminal.table(
    steps,
    [
      { head: 'LEVEL', kind: 'level', value: (step) => step.status },
      { head: 'STEP', value: (step) => step.action },
      { head: 'STARTED', value: (step) => terminal.time(step.started_at) },
      { head: 'TOOK', kind: 'number', value: (step) => formatDuration(step.elapsed_seconds) },
      { head: 'ROWS', kind: 'number', value: (step) => (step.rows === null ? null : formatCount(Number(step.rows))) },
      {
        head: 'BYTES',
        kind: 'number',
        value: (step) => (step.bytes === null ? null : formatBytes(Number(step.bytes))),
      },
      { head: 'MESSAGE', value: (step) => step.message },
    ],
    'No steps.',
  )
}
