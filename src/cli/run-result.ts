import { formatBytes, formatDuration } from '../base/duration.ts'
import type { RunResult } from '../worker/run-outcome.ts'
import type { CommandContext } from './command-context.ts'

/** The run's result as JSON or as one sentence; exit 1 when it is CRITICAL. */
export function reportRun(context: CommandContext, result: RunResult, more: object = {}): number {
  const { failure } = result
  if (context.terminal.json) context.terminal.document({ ...resultJson(result), ...more })
  else if (failure) throw failure
  else {
    const size = result.bytes > 0 ? `${formatBytes(result.bytes)} in ` : ''
    context.terminal.line(
      `${context.terminal.level(result.status)} ${result.message} (${size}${formatDuration(result.seconds)}, run ${result.run_id})`,
    )
  }
  return result.status === 'CRITICAL' ? 1 : 0
}

/** The figures of a run that has ended, and the failure that ended it, where one did. */
export function resultJson({ failure, ...figures }: RunResult): object {
  return { ...figures, ...(failure ? { error: failure } : {}) }
}

/** A run that the workers carry out. */
export function reportQueued(context: CommandContext, runId: string, more: object = {}): number {
  if (context.terminal.json) context.terminal.document({ run_id: runId, status: 'WAITING', ...more })
  else context.terminal.line(`Run ${runId} waits for a worker; follow it: yardmaster run follow ${runId}`)
  return 0
}
