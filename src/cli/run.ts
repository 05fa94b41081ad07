import { formatBytes, formatCount, formatDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { cancelRun, getRun, listRuns, listSteps, whyWaiting } from '../monitoring/run-history.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { follow } from './run-follow.ts'
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

async function show(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const run = await getRun(control, id)
    const steps = await listSteps(control, run)
    const { terminal } = context
    if (terminal.json) {
      terminal.document({
        run_id: run.id,
        job_id: run.job_id,
        kind: run.kind,
        operation: run.operation,
        object: run.object,
        status: run.status,
        reason: run.reason,
        started_at: run.started_at,
        finished_at: run.finished_at,
        worker: run.worker,
        host: run.host,
        attempt: run.attempt,
        rows: run.rows === null ? null : Number(run.rows),
        bytes: run.bytes === null ? null : Number(run.bytes),
        message: run.message,
        steps: steps.map((step) => ({
          ...step,
          rows: step.rows === null ? null : Number(step.rows),
          bytes: step.bytes === null ? null : Number(step.bytes),
        })),
      })
      return 0
    }
    const took =
      run.started_at && run.finished_at
        ? ` in ${formatDuration((run.finished_at.getTime() - run.started_at.getTime()) / 1000)}`
        : ''
    terminal.line(
      `Run ${run.id}, ${run.operation} of ${run.object}: ${terminal.level(run.status)}${run.reason ? ` (${run.reason})` : ''}${took}, by ${run.worker ?? 'nobody'} on ${run.host ?? 'no host'}.`,
    )
    const waits = (await whyWaiting(control, [run.id])).get(run.id)
    if (waits) terminal.line(`It waits: ${waits.why}`)
    if (run.message) terminal.line(run.message)
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
    return 0
  })
}
