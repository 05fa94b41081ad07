import { setTimeout as delay } from 'node:timers/promises'
import { formatBytes, formatCount, formatDuration } from '../base/duration.ts'
import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { getRun, listSteps, type RunRow, type StepRow, whyWaiting } from '../monitoring/run-history.ts'
import { printable } from '../postgres/identifier.ts'
import { type CommandContext, withControl } from './command-context.ts'
import type { Terminal } from './terminal.ts'

/** Milliseconds between two looks. */
const lookEvery = 500
/** Looks between two lines of progress of a step, where nothing else happens. */
const looksPerProgress = 4

/** What a run is seen to do; with --json a line each. */
type RunEvent =
  | { event: 'waiting'; run_id: string; code: string; why: string }
  | { event: 'started'; run_id: string; attempt: number; worker: string | null; host: string | null }
  | ({ event: 'step' | 'progress'; run_id: string; attempt: number } & StepJson)
  | {
      event: 'end'
      run_id: string
      status: string
      reason: string | null
      message: string | null
      rows: number
      bytes: number
      seconds: number | null
    }

type StepJson = Omit<StepRow, 'rows' | 'bytes'> & { rows: number | null; bytes: number | null }

/** `yardmaster run follow`: until the run has ended; exit 1 when it is CRITICAL. */
export async function follow(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    const { status } = await followRun(context, control, id)
    return status === 'CRITICAL' ? 1 : 0
  })
}

/** Tells what a run does until it has ended, and returns it as it is then. */
export async function followRun(context: CommandContext, control: Control, id: string): Promise<RunRow> {
  const follower = new Follower(control, (event) => tell(context.terminal, event))
  for (;;) {
    await releaseLostWorkers(control)
    const run = await getRun(control, id)
    await follower.look(run)
    if (!isOpen(run)) return run
    await delay(lookEvery, undefined, { signal: context.signal })
  }
}

function isOpen({ status }: RunRow): boolean {
  return status === 'WAITING' || status === 'RUNNING'
}

/** Remembers what was told, so that each thing is told once. */
class Follower {
  readonly #control: Control
  readonly #tell: (event: RunEvent) => void
  #waiting: string | undefined
  #attempt: number | undefined
  #steps = new Map<number, string>()
  #looks = 0

  constructor(control: Control, tell: (event: RunEvent) => void) {
    this.#control = control
    this.#tell = tell
  }

  async look(run: RunRow): Promise<void> {
    if (run.status === 'WAITING') {
      const found = (await whyWaiting(this.#control, [run.id])).get(run.id)
      if (found && found.why !== this.#waiting)
        this.#tell({ event: 'waiting', run_id: run.id, code: found.code, why: found.why })
      this.#waiting = found?.why
      return
    }
    this.#waiting = undefined
    if (run.attempt !== null) await this.#lookAtSteps(run, run.attempt)
    if (!isOpen(run)) this.#tell(endOf(run))
  }

  async #lookAtSteps(run: RunRow, attempt: number): Promise<void> {
    if (attempt !== this.#attempt) {
      this.#attempt = attempt
      this.#steps.clear()
      this.#tell({ event: 'started', run_id: run.id, attempt, worker: run.worker, host: run.host })
    }
    this.#looks += 1
    for (const step of await listSteps(this.#control, run)) {
      const shown = { ...step, rows: numberOrNull(step.rows), bytes: numberOrNull(step.bytes) }
      if (this.#steps.get(step.ordinal) !== step.status)
        this.#tell({ event: 'step', run_id: run.id, attempt, ...shown })
      else if (step.status === 'RUNNING' && step.rows !== null && this.#looks % looksPerProgress === 0)
        this.#tell({ event: 'progress', run_id: run.id, attempt, ...shown })
      this.#steps.set(step.ordinal, step.status)
    }
  }
}

function endOf(run: RunRow): RunEvent {
  const { id: run_id, status, reason, message, started_at: from, finished_at: to } = run
  const seconds = from && to ? (to.getTime() - from.getTime()) / 1000 : null
  return { event: 'end', run_id, status, reason, message, rows: Number(run.rows), bytes: Number(run.bytes), seconds }
}

function numberOrNull(text: string | null): number | null {
  return text === null ? null : Number(text)
}

function tell(terminal: Terminal, event: RunEvent): void {
  if (terminal.json) terminal.jsonLine(event)
  else terminal.line(inWords(terminal, event))
}

function inWords(terminal: Terminal, event: RunEvent): string {
  if (event.event === 'waiting') return `Run ${event.run_id} waits: ${printable(event.why)}`
  if (event.event === 'started')
    return `Run ${event.run_id}, attempt ${event.attempt}, by ${printable(event.worker ?? 'somebody')} on ${printable(event.host ?? 'some host')}.`
  if (event.event === 'end') {
    const took = event.seconds === null ? '' : ` (${formatDuration(event.seconds)})`
    return `Run ${event.run_id}: ${terminal.level(event.status)} ${printable(event.message ?? '')}${took}`
  }
  const figures = event.rows === null ? '' : `  ${formatCount(event.rows)} rows  ${formatBytes(event.bytes ?? 0)}`
  const message = event.message === null ? '' : `  ${printable(event.message)}`
  return `  ${terminal.level(event.status)}  ${event.action}${figures}${message}`
}
