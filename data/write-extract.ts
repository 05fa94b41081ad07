import { readFileSync, writeFileSync } from 'node:fs'

/**
 * `npm run extract`: writes `data/extract/`, what the published package's demo copies, from the development dependency
 * `vega-datasets`. Where the data come from, and under which terms, is in `data/README.md`.
 */
const full = new URL('../data/', import.meta.resolve('vega-datasets'))
const read = (name: string) => readFileSync(new URL(name, full), 'utf8')

/** Every n-th of a list, from its first one on: a smaller picture of the same thing. */
function thin<Item>(items: readonly Item[], count: number): Item[] {
  const step = items.length / count
  return Array.from({ length: count }, (_, index) => items[Math.floor(index * step)] as Item)
}

function thinCsv(name: string, count: number): string {
  const [head, ...lines] = read(name).trimEnd().split(/\r?\n/)
  return [head, ...thin(lines, count), ''].join('\n')
}

interface Earthquakes {
  features: { id: string; properties: Record<string, unknown>; geometry: { coordinates: number[] } }[]
}

function thinEarthquakes(count: number): string {
  const kept = ['mag', 'place', 'time', 'magType', 'sources', 'status', 'tsunami', 'type']
  const { features } = JSON.parse(read('earthquakes.json')) as Earthquakes
  const lines = thin(features, count).map(({ id, properties, geometry }) =>
    JSON.stringify({
      id,
      properties: Object.fromEntries(kept.map((name) => [name, properties[name]])),
      geometry: { coordinates: geometry.coordinates },
    }),
  )
  return `{"features":[\n${lines.join(',\n')}\n]}\n`
}

function thinFlights(count: number): string {
  const lines = thin(JSON.parse(read('flights-200k.json')) as object[], count).map((one) => JSON.stringify(one))
  return `[\n${lines.join(',\n')}\n]\n`
}

/** The real prices in `vega-datasets` name neither source nor terms, so these are made up. */
function inventedStocks(): string {
  const months = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')
  const lines = ['ACME', 'GLOBEX', 'INITECH', 'UMBRELLA', 'HOOLI'].flatMap((symbol, company) =>
    Array.from({ length: 120 }, (_, month) => {
      const price = 40 + 25 * company + month / 3 + 12 * Math.sin(month / 7 + company)
      return `${symbol},${months[month % 12]} 1 ${2000 + Math.floor(month / 12)},${price.toFixed(2)}`
    }),
  )
  return ['symbol,date,price', ...lines, ''].join('\n')
}

/** Every file of the extract, as it has to be. */
export function extract(): Readonly<Record<string, string>> {
  return {
    'flights.json': thinFlights(3000),
    'airports.csv': thinCsv('airports.csv', 600),
    'zipcodes.csv': thinCsv('zipcodes.csv', 1500),
    'earthquakes.json': thinEarthquakes(250),
    'species.csv': thinCsv('species.csv', 800),
    'stocks.csv': inventedStocks(),
  }
}

if (import.meta.main) {
  for (const [name, text] of Object.entries(extract())) {
    writeFileSync(new URL(`extract/${name}`, import.meta.url), text)
    console.log(`data/extract/${name}: ${text.length} bytes`)
  }
}
