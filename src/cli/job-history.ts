import { formatDuration } from '../base/duration.ts'
import { type ErrorRow, type HistoryRow, jobErrors, jobHistory } from '../jobs/past.ts'
import { findJob } from '../jobs/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { readCount } from './usage.ts'

/** `yardmaster job history` */
export async function history(context: CommandContext, flags: { limit: string }, name: string): Promise<number> {
  const limit = readCount(flags.limit, '--limit', 100_000)
  return withControl(context, async (control) => {
    const job = await findJob(control, name)
    const rows = await jobHistory(control, job.job_id, limit)
    const { terminal } = context
    if (terminal.json) terminal.document(rows)
    else
      terminal.table<HistoryRow>(
        rows,
        [
          { head: 'LEVEL', kind: 'level', value: ({ status }) => status },
          { head: 'RUN', kind: 'number', value: ({ id }) => id },
          { head: 'DATABASE', value: ({ database }) => database },
          { head: 'STARTED', value: ({ start_time: at }) => terminal.time(at) },
          { head: 'TOOK', kind: 'number', value: ({ start_time: from, finish_time: to }) => took(from, to) },
          { head: 'ATTEMPT', kind: 'number', value: ({ attempt }) => attempt },
          { head: 'HOST', value: ({ host }) => host },
          { head: 'REASON', value: ({ reason }) => reason },
          { head: 'MESSAGE', value: ({ message }) => message },
        ],
        `No run of it has begun yet. Run it now: yardmaster job run ${job.job_id}`,
      )
    return 0
  })
}

/** `yardmaster job errors` */
export async function errors(context: CommandContext, flags: { limit: string }): Promise<number> {
  const limit = readCount(flags.limit, '--limit', 100_000)
  return withControl(context, async (control) => {
    const rows = await jobErrors(control, limit)
    const { terminal } = context
    if (terminal.json) terminal.document(rows)
    else
      terminal.table<ErrorRow>(
        rows,
        [
          { head: 'JOB', kind: 'number', value: ({ job_id: id }) => id },
          { head: 'RUN', kind: 'number', value: ({ run_id: id }) => id },
          {
            head: 'PROCEDURE',
            value: ({ proc_schema: schema, proc_name: name }) => [schema, name].filter(Boolean).join('.'),
          },
          { head: 'DATABASE', value: ({ database }) => database },
          { head: 'FINISHED', value: ({ finish_time: at }) => terminal.time(at) },
          { head: 'SQLSTATE', value: ({ sqlerrcode: code }) => code },
          { head: 'REASON', value: ({ reason }) => reason },
          { head: 'MESSAGE', value: ({ err_message: message }) => message },
        ],
        'No run of a job has failed.',
      )
    return 0
  })
}

function took(from: Date | null, to: Date | null): string | null {
  return from && to ? formatDuration((to.getTime() - from.getTime()) / 1000) : null
}
