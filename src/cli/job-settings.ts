import { intervalInWords, nominalLength, parseInterval } from '../jobs/interval.ts'
import { type Schedule, scheduleInWords } from '../jobs/schedule.ts'
import { actionLabel, type Job } from '../jobs/store.ts'
import { displayName, displayQualified } from '../postgres/identifier.ts'

/** undefined: it has none. */
export function scheduleOf(job: Job): Schedule | undefined {
  const { timezone } = job
  if (job.cron !== null) return { kind: 'cron', expression: job.cron, timezone }
  if (job.schedule_interval === null) return undefined
  const interval = parseInterval(job.schedule_interval)
  return { kind: 'interval', interval, fixed: job.fixed_schedule, origin: job.schedule_origin, timezone }
}

/** `every 10 minutes`; of one without a schedule, what it starts by. */
export function scheduleText(job: Job): string {
  const schedule = scheduleOf(job)
  const after = job.after.length > 0 ? `after ${job.after.length === 1 ? 'job' : 'jobs'} ${job.after.join(', ')}` : ''
  if (schedule) return [scheduleInWords(schedule), after].filter((part) => part !== '').join(', ')
  return after || 'no schedule: run when somebody asks for it'
}

/** What a job is, by the flags of `alter` and as a shell hands them to it; null where it has none. */
export function settings(job: Job): [key: string, value: string | null][] {
  const { check_schema: schema, check_name: check, initial_start: start } = job
  const length = (text: string | null) => (text === null ? null : lengthText(text))
  const name = (text: string | null) => (text === null ? null : displayName(text))
  return [
    ['name', job.name],
    ['action', actionLabel(job)],
    ['statements', job.statements?.join('\n--\n') ?? null],
    ['database', job.database],
    ['every', job.fixed_schedule ? length(job.schedule_interval) : null],
    ['every, from the end of each run', job.fixed_schedule ? null : length(job.schedule_interval)],
    ['cron', job.cron],
    ['timezone', job.timezone],
    ['initial-start', start === null ? null : start.toISOString()],
    ['config', job.config_text],
    ['check', check === null ? null : schema === null ? name(check) : displayQualified({ schema, name: check })],
    ['after', job.after.join(', ') || null],
    ['site', job.site === '' ? "''" : job.site],
    ['max-runtime', length(job.max_runtime)],
    ['max-retries', job.max_retries < 0 ? null : String(job.max_retries)],
    ['retry-period', lengthText(job.retry_period) ?? '0 seconds'],
    ['retry-on-crash', job.retry_on_crash],
    ['overlap', job.overlap],
    ['catch-up', job.catch_up === null ? null : (lengthText(job.catch_up) ?? '0 seconds')],
    ['jitter', length(job.jitter)],
    ['priority', String(job.priority)],
    ['pool', job.pool],
  ]
}

/** `10 minutes`; null where it is nothing. */
function lengthText(interval: string): string | null {
  const read = parseInterval(interval)
  return nominalLength(read) === 0 ? null : intervalInWords(read, 'counted')
}

/** Settings that two states of a job differ in. */
export function changesBetween(before: Job, after: Job) {
  const was = new Map(settings(before))
  return settings(after)
    .map(([key, value]) => ({ op: 'update' as const, key, before: was.get(key) ?? null, after: value }))
    .filter((change) => change.before !== change.after)
}

/** A row as the SQL view has it: `infinity` as a word, and nothing that only this program asks for. */
export function jobJson({ config_text: _text, ...row }: Job) {
  return { ...row, next_start: startJson(row.next_start) }
}

export function startJson(start: Date | number | null): Date | string | null {
  return typeof start === 'number' ? 'infinity' : start
}
