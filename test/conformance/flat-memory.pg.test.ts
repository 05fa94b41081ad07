import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { type RunningCli, startCli } from '../support/process.ts'
import { CopyPair } from './copy-pair.ts'
import { conformingTypes } from './replication-types.ts'

const megabyte = 1024 * 1024

let pair: CopyPair

beforeAll(async () => {
  pair = await CopyPair.between(await createDatabase('memory from'), await createDatabase('memory to'))
  // Large values that compress: the copy sends them in full, and neither server has much to store.
  await pair.source.query(`
    create view public.large_rows as
      select g as n, g as "row number", timestamptz '2020-01-01' as "came at", repeat(chr(97 + g % 26), 200000) as body from generate_series(1, 2750) g`)
  await pair.source.query(
    `create view public.small_rows as select g as n, g as "row number", timestamptz '2020-01-01' as "came at", g::text from generate_series(1, 600000) g`,
  )
})

/** The most memory that a process ever had, in bytes, as Linux counts it; asked for until the process is gone. */
async function peakMemory(cli: RunningCli): Promise<number> {
  let ended = false
  void cli.ended.then(() => {
    ended = true
  })
  let peak = 0
  while (!ended) {
    try {
      const status = readFileSync(`/proc/${cli.pid}/status`, 'utf8')
      peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024)
    } catch {
      // Gone between two looks.
    }
    await delay(20)
  }
  return peak
}

describe.each(conformingTypes)('$type', ({ type, definition }) => {
  const given = definition
    ? ['--column', '"came at"', '--by', 'time', '--boundary', '1 minute', '--key', '"row number"']
    : []

  test.each([
    ['large_rows', 2750, 500 * megabyte],
    ['small_rows', 600_000, 0],
  ])('%s in a process of its own: under 150 MB', async (view, rows, atLeast) => {
    const where = ['--from', 'crm', '--to', 'dwh', '--dest', `${type}.${view}`, ...given]
    const cli = startCli(['replication', 'add', type, `public.${view}`, ...where, '--json'], { env: pair.environment })
    const peak = await peakMemory(cli)
    const result = await cli.ended
    expect(result.exitCode, result.stderr + result.stdout).toBe(0)
    expect(result.json().rows).toBe(rows)
    expect(result.json().bytes).toBeGreaterThan(atLeast)
    expect(peak).toBeGreaterThan(30 * megabyte)
    expect(peak).toBeLessThan(150 * megabyte)
    const [arrived] = await pair.destination.query(`select count(*)::int as rows from "${type}".${view}`)
    expect(arrived.rows).toBe(rows)
  })
})
