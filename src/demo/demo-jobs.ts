import { addJob, changeJob, readJob } from '../jobs/store.ts'
import { destinationLabel } from '../replication/definition.ts'
import { listReplications } from '../replication/store.ts'
import type { Demo } from './demo.ts'
import { demoTag, destinationDatabase } from './demo-replications.ts'
import { makeProcedures } from './source-data.ts'

/** The copies that `refresh_marts` waits for. */
export const martSources = ['shop.order_totals', 'shop.payments'].map((table) => `${destinationDatabase}:${table}`)

/** Numbers of the demo's jobs. */
export interface DemoJobs {
  /** Starts when both of its copies have been refreshed. */
  readonly refresh_marts: number
  /** Says its steps and commits between them. */
  readonly sum_up_flights: number
  /** Fails until its gateway is up. */
  readonly send_invoices: number
  /** Statements, in every database that has the tag. */
  readonly note_sizes: number
}

/** Adds the demo's jobs, as somebody does in SQL: the workers look whether the procedures are there. The copies must be there. */
export async function addDemoJobs(demo: Demo): Promise<DemoJobs> {
  const session = await demo.connect('destination', 'procedures')
  await makeProcedures(session).finally(() => session.end())
  const { control } = demo.place
  const copies = await listReplications(control)
  const after = copies.filter((one) => martSources.includes(destinationLabel(one))).map((one) => one.jobId)
  const add = (name: string, options: object, config?: string) =>
    addJob(control.session, { options: { name, retry_on_crash: 'now', ...options }, config })
  const call = (name: string, options: object, config?: string) =>
    add(name, { proc: `marts.${name}`, database: destinationDatabase, ...options }, config)
  return {
    refresh_marts: await call('refresh_marts', { after }),
    sum_up_flights: await call('sum_up_flights', { schedule_interval: '20 seconds', site: 'Marketing' }),
    send_invoices: await call(
      'send_invoices',
      { schedule_interval: '10 seconds', retry_period: '1 second', site: 'Sales' },
      '{"gateway": "down"}',
    ),
    note_sizes: await add('note_sizes', {
      statements: [
        'INSERT INTO upkeep.sizes (bytes) SELECT pg_database_size(current_database())',
        "DELETE FROM upkeep.sizes WHERE at < now() - interval '1 hour'",
      ],
      database: `tag:${demoTag}`,
      schedule_interval: '30 seconds',
    }),
  }
}

/** What lets `send_invoices` end well. */
export const gatewayUp = '{"gateway": "up"}'

/** Removes why `send_invoices` fails, as somebody does with `job alter`. */
export async function mendInvoices({ place }: Demo, jobs: DemoJobs): Promise<void> {
  const { session } = place.control
  await changeJob(session, await readJob(session, jobs.send_invoices), { options: {}, config: gatewayUp })
}
