import type { QualifiedName } from '../postgres/identifier.ts'
import { type ControlColumn, definitionDefaults } from '../replication/definition.ts'
import type { NewReplication } from '../replication/store.ts'

/** Names of the demo's databases, as registered and as on the server. */
export const sourceDatabase = 'operations'
export const destinationDatabase = 'warehouse'
/** A tag that both have. */
export const demoTag = 'demo'

/** Zone of the one that goes by cron. */
const cronZone = 'America/Chicago'

/** Schema with an odd name, on both sides. */
const oddSchema = 'Odd "Names".Ünïcode'

/** An unchanged snapshot holds as of 60 s before it was looked at; the rest is the schedule and a moment. */
const wholeLagTarget = 120_000
/** A transaction that is open for long at the source holds back what may be read. */
const incrementLagTarget = 30_000

/** Whom the work belongs to. Which host may do it, the demo's bindings say; nothing is said about Sales. */
const [marketing, qa, ceo, sales] = ['Marketing', 'QA', 'CEO', 'Sales']

/**
 * Six of type snapshot, four of type table: filters, conditions, a view and a partitioned parent as sources, odd names. Two
 * inserters and two updaters, by time and by serial, one of them from a view. Of four sites, and two of none.
 */
export const demoReplications: readonly NewReplication[] = [
  snapshot('travel.flights', { every: '20 seconds', site: marketing }),
  snapshot('travel.flights', {
    every: '15 seconds',
    site: qa,
    destination: { schema: 'reports', name: 'late_flights' },
    columns: ['id', 'departs', 'delay'],
    condition: 'WHERE delay >= 120 AND departs < 22',
  }),
  snapshot('travel.delays_by_hour', {
    cron: '*/15 * * * * *',
    site: ceo,
    destination: { schema: 'reports', name: 'delays_by_hour' },
  }),
  snapshot('nature.earthquakes', {
    every: '10 seconds',
    site: qa,
    postScript: [
      'GRANT USAGE ON SCHEMA nature TO analyst',
      'GRANT SELECT ON nature.earthquakes TO analyst',
      `COMMENT ON VIEW nature.earthquakes IS 'Copied from ${sourceDatabase}.'`,
    ],
  }),
  snapshot('travel.stocks', { every: '10 seconds', site: ceo, destination: { schema: 'market', name: 'stocks' } }),
  snapshot({ schema: oddSchema, name: 'Straße "6".東京 🚂' }, { every: '10 seconds' }),
  table('travel.airports', { every: '10 seconds', site: marketing }),
  table('travel.zip_codes', { every: '15 seconds', site: sales, sequences: ['travel.zip_codes_number_seq'] }),
  table('nature.species', {
    every: '15 seconds',
    site: sales,
    destination: { schema: 'nature', name: 'habitats' },
    columns: ['item', 'county', 'habitat'],
    condition: 'WHERE habitat > 0.25',
  }),
  table(
    { schema: oddSchema, name: "Ordres d'été" },
    {
      every: '10 seconds',
      condition: `, travel.regions AS r WHERE r.state = "Ordres d'été".state AND r.region = 'West'`,
    },
  ),
  inserter('shop.events', serial('id'), { site: marketing }),
  inserter('shop.payments', time('paid_at'), { site: sales }),
  // Of a view nothing tells when its rows came: a fixed boundary, longer than the writer's longest transaction.
  updater('shop.order_totals', { ...time('changed_at'), boundary: '6 seconds' }, { key: ['number'], site: ceo }),
  updater('shop.stock', serial('version'), { site: qa }),
]

type Wish = Partial<NewReplication> & { every?: string; cron?: string }

function snapshot(source: string | QualifiedName, wish: Wish): NewReplication {
  return replication('snapshot', source, wish)
}

function table(source: string | QualifiedName, wish: Wish): NewReplication {
  return replication('table', source, wish)
}

function inserter(source: string, control: ControlColumn, wish: Wish): NewReplication {
  return replication('inserter', source, { control, every: '3 seconds', lagTarget: incrementLagTarget, ...wish })
}

function updater(source: string, control: ControlColumn, wish: Wish): NewReplication {
  return replication('updater', source, { control, every: '3 seconds', lagTarget: incrementLagTarget, ...wish })
}

function time(column: string): ControlColumn {
  return { column, by: 'time', boundary: 'auto', timezone: null, dstWindow: null }
}

function serial(column: string): ControlColumn {
  return { column, by: 'serial', boundary: 'auto', timezone: null, dstWindow: null }
}

function replication(
  type: NewReplication['type'],
  from: string | QualifiedName,
  { every, cron, ...wish }: Wish,
): NewReplication {
  const [schema = '', name = ''] = typeof from === 'string' ? from.split('.') : []
  const source = typeof from === 'string' ? { schema, name } : from
  return {
    ...definitionDefaults,
    type,
    sourceDatabase,
    source,
    destinationDatabase,
    destination: source,
    schedule: { every: every ?? null, cron: cron ?? null, timezone: cron === undefined ? 'UTC' : cronZone },
    lagTarget: wholeLagTarget,
    ...wish,
  }
}
