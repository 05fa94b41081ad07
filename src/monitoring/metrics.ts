import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Every metric, with its help. The SQL function `metrics` gives the values; one without a value is left out. */
const metrics = {
  runs_total: 'Runs that have ended; a WARNING counts as a success. Totals survive the clearing of history.',
  runs_running: 'Runs that are being carried out.',
  runs_waiting: 'Runs that wait: for their time, a predecessor, a limit, a host or a slot.',
  oldest_waiting_seconds: 'For how long the run that waits longest could have begun; 0 where none waits.',
  jobs: 'Jobs by kind and state.',
  workers: 'Workers that are alive.',
  worker_slots: 'Runs that those workers may carry out at once.',
  alerts: 'Open alerts.',
  alert_evaluation_age_seconds: 'Seconds since a worker last looked what is wrong.',
  webhook_messages_total: 'Messages about alerts that have come to their end.',
  webhook_messages_waiting: 'Messages about alerts that are on their way.',
  replication_lag_seconds: 'Seconds by which a copy may be behind its source.',
  replication_lag_series_dropped: 'Copies left out of yardmaster_replication_lag_seconds, those least behind.',
  replications_late: 'Copies further behind than they may be.',
} as const satisfies Record<string, string>

/** The media type of the text. */
export const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

/** All metrics in Prometheus' text form. */
export async function readMetrics(control: Control, version: string): Promise<string> {
  const samples = await control.perform(
    (session) => session.query<Sample>(sql`select name, labels, value from yardmaster.metrics()`),
    0,
  )
  const build = [{ name: 'build_info', labels: { version }, value: 1 }]
  return [
    family('build_info', 'The version that answers.', build),
    ...Object.entries(metrics).map(([name, help]) =>
      family(
        name,
        help,
        samples.filter((one) => one.name === name),
      ),
    ),
  ].join('')
}

function family(name: string, help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return ''
  const full = `yardmaster_${name}`
  const lines = samples.map(({ labels, value }) => `${full}${labelText(labels)} ${value}\n`)
  return `# HELP ${full} ${help}\n# TYPE ${full} ${name.endsWith('_total') ? 'counter' : 'gauge'}\n${lines.join('')}`
}

/** `{kind="sql",outcome="success"}`. A name may hold anything. */
function labelText(labels: Sample['labels']): string {
  const escaped = (value: string) => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}
