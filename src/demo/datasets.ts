import { readFile } from 'node:fs/promises'
import { readCsv } from '../base/csv.ts'

/** The data that the demo begins with, as JSON texts of arrays, ready for `jsonb_to_recordset`. */
export interface Datasets {
  /** For people: which data these are. */
  readonly origin: string
  /** `delay, distance, time` */
  readonly flights: string
  /** `iata, name, city, state, latitude, longitude` */
  readonly airports: string
  /** `zip_code, latitude, longitude, city, state, county` */
  readonly zipCodes: string
  /** GeoJSON features. */
  readonly earthquakes: string
  /** `item_id, common_name, scientific_name, gap_species_code, county_id, habitat_yearround_pct` */
  readonly species: string
  /** `symbol, date, price` */
  readonly stocks: string
}

/** The full data of the development dependency `vega-datasets` where it is installed, else the extract that we ship. */
export async function installedDatasets(): Promise<Datasets> {
  const full = fullFolder()
  if (full === undefined) return shippedDatasets()
  return readFolder(full, 'flights-200k.json', 'the data of vega-datasets')
}

/** The extract that the package ships. */
export async function shippedDatasets(): Promise<Datasets> {
  return readFolder(new URL('../../data/extract/', import.meta.url), 'flights.json', 'an extract of vega-datasets')
}

function fullFolder(): URL | undefined {
  try {
    return new URL('../data/', import.meta.resolve('vega-datasets'))
  } catch {
    return undefined
  }
}

async function readFolder(folder: URL, flights: string, origin: string): Promise<Datasets> {
  const text = (name: string) => readFile(new URL(name, folder), 'utf8')
  const csv = async (name: string) => JSON.stringify(parseCsv(await text(name)))
  const { features } = JSON.parse(await text('earthquakes.json')) as { features: unknown[] }
  return {
    origin,
    flights: await text(flights),
    airports: await csv('airports.csv'),
    zipCodes: await csv('zipcodes.csv'),
    earthquakes: JSON.stringify(features),
    species: await csv('species.csv'),
    stocks: await csv('stocks.csv'),
  }
}

/** Rows of a CSV text by the names in its first line. Empty values become null. */
export function parseCsv(text: string): Record<string, string | null>[] {
  const [head, ...records] = [...readCsv(text)].map(({ fields, fault }) => {
    if (fault) throw new Error(`line ${fault.line} is not CSV: ${fault.found}`)
    return fields
  })
  return records.map((fields) => Object.fromEntries((head ?? []).map((name, index) => [name, fields[index] || null])))
}
