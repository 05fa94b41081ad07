import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { startNode } from '../../test/support/process.ts'
import { parseCsv, shippedDatasets } from './datasets.ts'

const root = new URL('../../', import.meta.url)

describe('CSV', () => {
  it('reads quoted values, empty ones and either line end', () => {
    const text = 'a,b,c\r\n1,"x, ""y""",\n,é,"two words"\n'
    expect(parseCsv(text)).toEqual([
      { a: '1', b: 'x, "y"', c: null },
      { a: null, b: 'é', c: 'two words' },
    ])
  })

  it('refuses what it cannot read', () => {
    expect(() => parseCsv('a\n"open')).toThrow('line 2 is not CSV: a quote that is never closed')
    expect(() => parseCsv('a\n"x"y')).toThrow('line 2 is not CSV')
  })
})

describe('the extract that the package ships', () => {
  it('is what its script writes from vega-datasets', async () => {
    const script = new URL('data/write-extract.ts', root).href
    const print = `import { extract } from ${JSON.stringify(script)}; process.stdout.write(JSON.stringify(extract()))`
    const files = (await startNode(['--input-type=module', '-e', print]).ended).json() as Record<string, string>
    expect(Object.keys(files)).toHaveLength(6)
    for (const [name, text] of Object.entries(files))
      expect([name, readFileSync(new URL(`data/extract/${name}`, root), 'utf8') === text]).toEqual([name, true])
  })

  it('is listed with source and terms, file by file', () => {
    const readme = readFileSync(new URL('data/README.md', root), 'utf8')
    for (const name of [
      'flights.json',
      'airports.csv',
      'zipcodes.csv',
      'earthquakes.json',
      'species.csv',
      'stocks.csv',
    ])
      expect(readme).toMatch(new RegExp(`^\\| \`${name}\` \\|( [^|]+ \\|){3}$`, 'm'))
  })

  it('has all data sets', async () => {
    const { origin, ...texts } = await shippedDatasets()
    expect(origin).toContain('extract')
    const counts = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, JSON.parse(text).length]))
    expect(counts).toEqual({
      flights: 3000,
      airports: 600,
      zipCodes: 1500,
      earthquakes: 250,
      species: 800,
      stocks: 600,
    })
  })
})
