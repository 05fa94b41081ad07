import { z } from 'zod'

/**
 * A bound that was seen, and what it has to wait for. It holds once every transaction has ended that was open then: what
 * begins later has a later time, or takes a later number.
 */
export interface Sample {
  /** Time: microseconds since 1970. Serial: the value, as the source prints it. */
  readonly value: string
  /** The source's clock, microseconds since 1970. */
  readonly clock: number
  /** Virtual ids of transactions. */
  readonly open: readonly string[]
  /** Prepared transactions, by what tells one from all others. */
  readonly prepared: readonly string[]
}

export const sampleSchema = z.object({
  value: z.string(),
  clock: z.number(),
  open: z.array(z.string()),
  prepared: z.array(z.string()),
})

/** What is open at the source at some moment. The prepared ones were read after the others: PREPARE moves between the two. */
export interface Running {
  readonly open: ReadonlySet<string>
  readonly prepared: ReadonlySet<string>
}

function isRipe(sample: Sample): boolean {
  return sample.open.length === 0 && sample.prepared.length === 0
}

/**
 * The sample after another look. Nothing tells a transaction that was prepared from one that has ended, so once one is
 * gone, all that are prepared by then count.
 */
export function ripen(sample: Sample, now: Running): Sample {
  const open = sample.open.filter((id) => now.open.has(id))
  const kept = sample.prepared.filter((id) => now.prepared.has(id))
  const prepared = open.length < sample.open.length ? [...new Set([...kept, ...now.prepared])] : kept
  return { ...sample, open, prepared }
}

/** The newest that holds; `samples` are in the order in which they were taken. */
export function newestRipe(samples: readonly Sample[]): Sample | undefined {
  return samples.findLast(isRipe)
}

/**
 * What is worth remembering behind the newest ripe one: the oldest, which ripens first, and the newest. One for each look
 * would grow for as long as a transaction stays open, and say little more.
 */
export function worthKeeping(samples: readonly Sample[]): Sample[] {
  const unripe = samples.slice(samples.findLastIndex(isRipe) + 1)
  const [oldest, newest] = [unripe[0], unripe.at(-1)]
  return oldest && newest && oldest !== newest ? [oldest, newest] : oldest ? [oldest] : []
}

/** What lasts longer than a moment is not waited for: what an older sample waits for already does. */
export function isWorthWaiting(samples: readonly Sample[]): boolean {
  const newest = samples.at(-1)
  if (!newest || isRipe(newest)) return false
  const lasting = new Set(samples.slice(0, -1).flatMap((sample) => [...sample.open, ...sample.prepared]))
  return ![...newest.open, ...newest.prepared].some((id) => lasting.has(id))
}
