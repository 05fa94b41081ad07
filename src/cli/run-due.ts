import { hostname } from 'node:os'
import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { printable } from '../postgres/identifier.ts'
import { replicationTypes } from '../replication/definition.ts'
import { type DuePass, type DueResult, runDue } from '../worker/run-due.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'
import { resultJson } from './run-result.ts'
import { readCount } from './usage.ts'

/** `yardmaster run-due` */
export const runDueGroup: Group = (program) => {
  program
    .command('run-due')
    .description('one pass over what is due, in this process: for cron, in place of workers')
    .option('--type <type>', `only replications of this type: ${replicationTypes.join(', ')}`)
    .option('--max <n>', 'at most so many runs (default: all that are due)')
    .option('--parallel <n>', 'runs at once', '1')
    .addHelpText('after', '\nExample:\n  yardmaster run-due --type inserter --parallel 4')
    .action(action(pass))
}

interface DueFlags {
  readonly type?: string
  readonly max?: string
  readonly parallel: string
}

async function pass(context: CommandContext, flags: DueFlags): Promise<number> {
  const asked = readFlags(flags)
  const identity = { name: `run-due#${process.pid}`, host: hostname(), slots: asked.parallel }
  const body = (place: Parameters<Parameters<typeof withWorkplace>[1]>[0]) =>
    runDue({ ...place, givesBack: true }, asked, (result) => report(context, result))
  const results = await withWorkplace(context, body, identity)
  if (context.terminal.json)
    context.terminal.document(results.map(({ object, ...result }) => ({ destination: object, ...resultJson(result) })))
  // Cron mails what a command says.
  else if (results.length === 0 && context.terminal.isTerminal) context.terminal.say('Nothing is due.')
  return results.some(({ status }) => status === 'CRITICAL') ? 1 : 0
}

function readFlags({ type = null, max, parallel }: { type?: string | null; max?: string; parallel: string }): DuePass {
  if (type !== null && !replicationTypes.some((known) => known === type)) {
    throw new Failure('wrong_usage', {
      message: `'${printable(type)}' is not a type of replication.`,
      object: '--type',
      remedy: `The types are ${replicationTypes.join(', ')}.`,
    })
  }
  return {
    type,
    most: max === undefined ? null : readCount(max, '--max', 1_000_000),
    parallel: readCount(parallel, '--parallel', 100),
  }
}

/** Each run as it ends. */
function report({ terminal }: CommandContext, { run_id: id, status, message, seconds }: DueResult): void {
  if (!terminal.json)
    terminal.line(`${terminal.level(status)} ${printable(message)} (${formatDuration(seconds)}, run ${id})`)
}
