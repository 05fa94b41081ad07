import { formatBytes, formatDuration } from '../base/duration.ts'
import type { RunResult } from '../worker/run-outcome.ts'
import type { CommandContext } from './command-context.ts'

/** The run's result as JSON or as one sentence; exit 1 when it is CRITICAL. */
export function reportRun(context: CommandContext, result: RunResult, more: object = {}): number {
  const { failure, ...figures } = result
  if (context.terminal.json) context.terminal.document({ ...figures, ...more, ...(failure ? { error: failure } : {}) })
  else if (failure) throw failure
  else {
    const size = result.bytes > 0 ? `${formatBytes(result.bytes)} in ` : ''
    context.terminal.line(
      `${context.terminal.level(result.status)} ${result.message} (${size}${formatDuration(result.seconds)}, run ${result.run_id})`,
    )
  }
  return result.status === 'CRITICAL' ? 1 : 0
}
