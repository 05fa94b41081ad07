import { formatDuration, parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import {
  type AlertRule,
  acknowledgeAlert,
  evaluationAge,
  getAlertRule,
  listAlerts,
  type OpenAlert,
  setAlertRule,
  silenceAlert,
  watchedJob,
} from '../monitoring/alerts.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { webhookCommands } from './alert-webhook.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { readCount } from './usage.ts'

/** Seconds without a look by any worker after which the list says so. */
const staleAfter = 60
const idArgument = ['<id>', 'number of the alert'] as const
const example = (text: string) => `\nExample:\n  yardmaster ${text}`

/** `yardmaster alert …` */
export const alertGroup: Group = (program) => {
  const group = program.command('alert').description('what somebody should look at, and who is told')
  group
    .command('list')
    .option('--closed <n>', 'also the newest that are over, so many', '0')
    .description('open alerts, worst and oldest first; workers look for them every few seconds')
    .addHelpText('after', example('alert list --closed 20'))
    .action(action(list))
  group
    .command('set')
    .argument('<job>', 'number or name of the job, or the destination of the replication')
    .option('--warn <interval>', 'no run completed, or one running or locked out for so long: WARNING; none')
    .option('--error <interval>', 'the same: CRITICAL; none')
    .option('--sensitivity <n>', 'bad runs in a row before an alert (default: 3); none')
    .option('--escalate <n>', 'bad runs more before a WARNING becomes CRITICAL; none')
    .description('rules of one job in place of those of all; without an option, shows them')
    .addHelpText('after', example("alert set public.orders --warn '2 hours' --error '6 hours' --sensitivity 1"))
    .action(action(set))
  group
    .command('ack')
    .argument(...idArgument)
    .option('--note <text>', 'what is being done about it')
    .description('say that somebody looks after it: nobody else is told again until its level rises')
    .addHelpText('after', example("alert ack 17 --note 'the disk is being replaced'"))
    .action(action(acknowledge))
  group
    .command('silence')
    .argument(...idArgument)
    .requiredOption(
      '--until <time>',
      'a time (2026-11-30T08:00Z), an interval from now (2 hours), or none: hear it again',
    )
    .description('hear nothing of it for some time, nor if it goes and comes back, unless its level rises')
    .addHelpText('after', example("alert silence 17 --until '2 hours'"))
    .action(action(silence))
  webhookCommands(group)
}

async function list(context: CommandContext, flags: { closed: string }): Promise<number> {
  const closed = flags.closed === '0' ? 0 : readCount(flags.closed, '--closed', 10_000)
  return withControl(context, async (control) => {
    const alerts = await listAlerts(control, closed)
    const { terminal } = context
    if (terminal.json) terminal.document(alerts)
    else
      terminal.table(
        alerts,
        [
          { head: 'LEVEL', kind: 'level', value: ({ level }) => level },
          { head: 'ALERT', kind: 'number', value: ({ id }) => id },
          { head: 'RULE', value: ({ alert_status: status }) => status },
          { head: 'JOB', value: ({ job_name: name }) => name },
          { head: 'SINCE', value: ({ opened_at: at }) => terminal.time(at) },
          ...(closed > 0 ? [{ head: 'OVER', value: (one: OpenAlert) => terminal.time(one.closed_at) }] : []),
          { head: 'CARE', value: careOf },
          { head: 'TEXT', value: ({ alert_text: text }) => text },
        ],
        'No alert is open.',
      )
    await sayWhenStale(context, control)
    return 0
  })
}

/** Who looks after an alert, or silenced it. */
function careOf({ acknowledged_by: by, note, silenced_until: until, silenced_by: silencer }: OpenAlert): string {
  const silent = until === null ? [] : [`silenced by ${silencer} until ${until.toISOString()}`]
  const cared = by === null ? [] : [`acknowledged by ${by}${note === null ? '' : `: ${note}`}`]
  return [...silent, ...cared].join('; ')
}

/** A list that nobody keeps is no proof that nothing is wrong. */
async function sayWhenStale({ terminal }: CommandContext, control: Control): Promise<void> {
  const age = await evaluationAge(control)
  if (age !== null && age < staleAfter) return
  const when =
    age === null ? 'Nobody has looked for alerts yet' : `Nobody has looked for alerts for ${formatDuration(age)}`
  terminal.say(`${when}: workers do. Start one: yardmaster worker; what is wrong now says: yardmaster check`)
}

interface RuleFlags {
  readonly warn?: string
  readonly error?: string
  readonly sensitivity?: string
  readonly escalate?: string
}

async function set(context: CommandContext, flags: RuleFlags, name: string): Promise<number> {
  const changes = readRule(flags)
  return withControl(context, async (control) => {
    const job = await watchedJob(control, name)
    const isChange = Object.keys(changes).length > 0
    const rule = isChange ? await setAlertRule(control, job.id, changes) : await getAlertRule(control, job.id)
    if (context.terminal.json) context.terminal.document({ job_id: job.id, job_name: job.name, ...rule })
    else context.terminal.line(`${printable(job.name)}: ${inWords(rule)}.`)
    return 0
  })
}

function readRule({ warn, error, sensitivity, escalate }: RuleFlags): Partial<Record<keyof AlertRule, string | null>> {
  const interval = (text: string, flag: string) =>
    text === 'none' ? null : `${parseDuration(text, flag) / 1000} seconds`
  const count = (text: string, flag: string) => (text === 'none' ? null : String(readCount(text, flag, 1000)))
  return {
    ...(warn === undefined ? {} : { warn: interval(warn, '--warn') }),
    ...(error === undefined ? {} : { error: interval(error, '--error') }),
    ...(sensitivity === undefined ? {} : { sensitivity: count(sensitivity, '--sensitivity') }),
    ...(escalate === undefined ? {} : { escalate: count(escalate, '--escalate') }),
  }
}

function inWords({ warn, error, sensitivity, escalate }: AlertRule): string {
  const late = [
    warn === null ? [] : [`WARNING after ${warn}`],
    error === null ? [] : [`CRITICAL after ${error}`],
  ].flat()
  return [
    late.length === 0
      ? 'late as its schedule says'
      : `without a completed run, or with one that goes on: ${late.join(', ')}`,
    sensitivity === 1 ? 'an alert from the first bad run on' : `an alert from ${sensitivity ?? 3} bad runs in a row on`,
    ...(escalate === null ? [] : [`a WARNING becomes CRITICAL after ${escalate} more`]),
  ].join('; ')
}

async function acknowledge(context: CommandContext, flags: { note?: string }, id: string): Promise<number> {
  return withControl(context, async (control) => {
    const alert = await acknowledgeAlert(control, id, flags.note ?? null)
    if (context.terminal.json) context.terminal.document(alert)
    else context.terminal.line(`Alert ${alert.id} is acknowledged; nobody is told of it again until its level rises.`)
    return 0
  })
}

async function silence(context: CommandContext, flags: { until: string }, id: string): Promise<number> {
  const until = readUntil(flags.until)
  return withControl(context, async (control) => {
    const alert = await silenceAlert(control, id, until)
    const { terminal } = context
    if (terminal.json) terminal.document(alert)
    else if (until === null) terminal.line(`Alert ${alert.id} is heard again.`)
    else terminal.line(`Alert ${alert.id} is silent until ${terminal.time(until)}, unless its level rises.`)
    return 0
  })
}

/** A time, an interval from now, or none. Without a zone, a time is this machine's. */
function readUntil(text: string): Date | null {
  if (text === 'none') return null
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text.trim()) : Date.now() + parseDuration(text, '--until')
  if (Number.isFinite(time) && Math.abs(time) <= 8.64e15) return new Date(time)
  throw new Failure('wrong_usage', {
    message: `--until is '${printable(text)}', which is neither a time nor an interval.`,
    object: '--until',
    remedy: "Write it as 2026-11-30T08:00Z, or '2 hours'.",
  })
}
