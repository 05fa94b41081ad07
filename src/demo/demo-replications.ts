import type { QualifiedName } from '../postgres/identifier.ts'
import { definitionDefaults } from '../replication/definition.ts'
import type { NewReplication } from '../replication/store.ts'

/** Names of the demo's databases, as registered and as on the server. */
export const sourceDatabase = 'operations'
export const destinationDatabase = 'warehouse'

/** Schema with an odd name, on both sides. */
const oddSchema = 'Odd "Names".Ünïcode'

/** One replication of the demo and how often the timer refreshes it. */
export interface DemoReplication {
  readonly wanted: NewReplication
  /** Milliseconds. */
  readonly every: number
}

const seconds = 1000

/** Six of type snapshot, four of type table: filters, conditions, a view and a partitioned parent as sources, odd names. */
export const demoReplications: readonly DemoReplication[] = [
  snapshot('travel.flights', { every: 20 * seconds }),
  snapshot('travel.flights', {
    every: 15 * seconds,
    destination: { schema: 'reports', name: 'late_flights' },
    columns: ['id', 'departs', 'delay'],
    condition: 'WHERE delay >= 120 AND departs < 22',
  }),
  snapshot('travel.delays_by_hour', {
    every: 15 * seconds,
    destination: { schema: 'reports', name: 'delays_by_hour' },
  }),
  snapshot('nature.earthquakes', {
    every: 10 * seconds,
    postScript: [
      'GRANT USAGE ON SCHEMA nature TO analyst',
      'GRANT SELECT ON nature.earthquakes TO analyst',
      `COMMENT ON VIEW nature.earthquakes IS 'Copied from ${sourceDatabase}.'`,
    ],
  }),
  snapshot('travel.stocks', { every: 10 * seconds, destination: { schema: 'market', name: 'stocks' } }),
  snapshot({ schema: oddSchema, name: 'Straße "6".東京 🚂' }, { every: 10 * seconds }),
  table('travel.airports', { every: 10 * seconds }),
  table('travel.zip_codes', { every: 15 * seconds, sequences: ['travel.zip_codes_number_seq'] }),
  table('nature.species', {
    every: 15 * seconds,
    destination: { schema: 'nature', name: 'habitats' },
    columns: ['item', 'county', 'habitat'],
    condition: 'WHERE habitat > 0.25',
  }),
  table(
    { schema: oddSchema, name: "Ordres d'été" },
    {
      every: 10 * seconds,
      condition: `, travel.regions AS r WHERE r.state = "Ordres d'été".state AND r.region = 'West'`,
    },
  ),
]

type Wish = Partial<NewReplication> & { every: number }

function snapshot(source: string | QualifiedName, wish: Wish): DemoReplication {
  return demoReplication('snapshot', source, wish)
}

function table(source: string | QualifiedName, wish: Wish): DemoReplication {
  return demoReplication('table', source, wish)
}

function demoReplication(
  type: NewReplication['type'],
  from: string | QualifiedName,
  { every, ...wish }: Wish,
): DemoReplication {
  const [schema = '', name = ''] = typeof from === 'string' ? from.split('.') : []
  const source = typeof from === 'string' ? { schema, name } : from
  const wanted: NewReplication = {
    ...definitionDefaults,
    type,
    sourceDatabase,
    source,
    destinationDatabase,
    destination: source,
    ...wish,
  }
  return { wanted, every }
}
