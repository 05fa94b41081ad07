import { formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { retryRun } from '../jobs/requests.ts'
import { cancelRun, getRun, listRuns, whyWaiting } from '../monitoring/run-history.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { clear, keep } from './run-clear.ts'
import { follow } from './run-follow.ts'
import { reportQueued } from './run-result.ts'
import { show } from './run-show.ts'
import { readCount } from './usage.ts'

const statuses = ['WAITING', 'RUNNING', 'OK', 'WARNING', 'CRITICAL']

/** `yardmaster run …` */
export const runGroup: Group = (program) => {
  const group = program.command('run').description('what happened')
  group
    .command('list')
    .option('--job <id>', 'only runs of this job')
    .option('--status <status>', statuses.join(', '))
    .option('--limit <n>', 'at most so many', '50')
    .description('runs, newest first')
    .addHelpText('after', '\nExample:\n  yardmaster run list --status CRITICAL')
    .action(action(list))
  group
    .command('show')
    .argument('<run>', 'id of the run')
    .description('one run with its steps')
    .addHelpText('after', '\nExample:\n  yardmaster run show 17')
    .action(action(show))
  group
    .command('follow')
    .argument('<run>', 'id of the run')
    .description('what a run does, until it has ended; exit 1 when it ends CRITICAL; with --json a document a line')
    .addHelpText('after', '\nExample:\n  yardmaster run follow 17')
    .action(action(follow))
  group
    .command('cancel')
    .argument('<run>', 'id of the run')
    .description('call a run off: one that waits at once, one that is under way within a second or two')
    .addHelpText('after', '\nExample:\n  yardmaster run cancel 17')
    .action(action(cancel))
  group
    .command('retry')
    .argument('<run>', 'id of the run')
    .description('hand what a run did that has ended to the workers once more, as it was asked for')
    .addHelpText('after', '\nExample:\n  yardmaster run retry 17')
    .action(action(retry))
  group
    .command('clear')
    .requiredOption('--older-than <interval>', 'what ended before that; open runs and the newest of each job stay')
    .option('--dry-run', 'only show what would be deleted', false)
    .description('delete ended runs with their steps, behind a question')
    .addHelpText('after', "\nExample:\n  yardmaster run clear --older-than '90 days'")
    .action(action(clear))
  group
    .command('keep')
    .option('--age <interval>', 'delete ended runs that are older')
    .option('--successes <n>', 'keep at most so many of each job in each database that went well')
    .option('--failures <n>', 'keep at most so many of each job in each database that failed')
    .description('how long workers keep ended runs (30 days, 1,000 and 1,000); without an option, shows it')
    .addHelpText('after', "\nExample:\n  yardmaster run keep --age '60 days' --failures 5000")
    .action(action(keep))
}

async function list(context: CommandContext, flags: { job?: string; status?: string; limit: string }): Promise<number> {
  const status = flags.status?.toUpperCase()
  if (status !== undefined && !statuses.includes(status)) {
    throw new Failure('wrong_usage', {
      message: `'${flags.status}' is not a status of a run.`,
      object: '--status',
      remedy: `One of ${statuses.join(', ')}.`,
    })
  }
  const jobId = flags.job === undefined ? undefined : readCount(flags.job, '--job', 2_147_483_647)
  const limit = readCount(flags.limit, '--limit')
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const rows = await listRuns(control, { jobId, status, limit })
    const why = await whyWaiting(
      control,
      rows.filter((row) => row.status === 'WAITING').map((row) => row.id),
    )
    if (context.terminal.json) {
      context.terminal.document(
        rows.map(({ attempt_id: _attempt, rows: count, bytes, ...run }) => ({
          ...run,
          reason: why.get(run.id)?.code ?? run.reason,
          rows: Number(count ?? 0),
          bytes: Number(bytes ?? 0),
          waits_for: why.get(run.id)?.why ?? null,
        })),
      )
    } else {
      context.terminal.table(
        rows,
        [
          { head: 'LEVEL', kind: 'level', value: (row) => row.status },
          { head: 'RUN', kind: 'number', value: (row) => row.id },
          { head: 'JOB', kind: 'number', value: (row) => row.job_id },
          { head: 'OBJECT', value: (row) => row.object },
          { head: 'OPERATION', value: (row) => row.operation },
          { head: 'STARTED', value: (row) => context.terminal.time(row.started_at) },
          {
            head: 'TOOK',
            kind: 'number',
            value: (row) =>
              row.started_at && row.finished_at
                ? formatDuration((row.finished_at.getTime() - row.started_at.getTime()) / 1000)
                : null,
          },
          { head: 'SLOT', value: (row) => context.terminal.time(row.slot) },
          { head: 'REASON', value: (row) => why.get(row.id)?.code ?? row.reason },
          { head: 'MESSAGE', value: (row) => why.get(row.id)?.why ?? row.message },
        ],
        'No run yet.',
      )
    }
    return 0
  })
}

async function cancel(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const before = await getRun(control, id)
    const status = await cancelRun(control, before.id)
    const { terminal } = context
    const was = before.status === 'WAITING' || before.status === 'RUNNING' ? status : before.status
    if (terminal.json) terminal.document({ run_id: before.id, status: was, was_running: before.status === 'RUNNING' })
    else if (before.status !== 'WAITING' && before.status !== 'RUNNING')
      terminal.line(`Run ${before.id} has ended already: ${before.status}. Nothing was changed.`)
    else if (status === 'RUNNING')
      terminal.line(`Run ${before.id} is being broken off; see its end: yardmaster run follow ${before.id}`)
    else terminal.line(`Run ${before.id} is cancelled; it had not begun.`)
    return 0
  })
}

async function retry(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const { id: ended } = await getRun(control, id)
    return reportQueued(context, await retryRun(control, ended), { retries: ended })
  })
}
