import { setTimeout as delay } from 'node:timers/promises'
import type { Session } from '../postgres/connect.ts'
import { isWorthWaiting, ripen, type Sample } from './bound-sample.ts'
import { readRunning } from './source-activity.ts'

/** Milliseconds. Most transactions are shorter than the first; a refresh should not take longer than the second for them. */
const pollMs = 20
const patienceMs = 1000

/** Looks again at what samples of earlier refreshes wait for. */
export async function ripenAll(session: Session, samples: readonly Sample[]): Promise<Sample[]> {
  if (samples.length === 0) return []
  const now = await readRunning(session, [...new Set(samples.flatMap((sample) => sample.open))])
  return samples.map((sample) => ripen(sample, now))
}

/** Waits a moment for the newest sample to ripen, where what it waits for has just begun. */
export async function waitForNewest(
  session: Session,
  samples: readonly Sample[],
  signal: AbortSignal,
): Promise<Sample[]> {
  let now = [...samples]
  const deadline = performance.now() + patienceMs
  while (isWorthWaiting(now) && performance.now() < deadline) {
    signal.throwIfAborted()
    await delay(pollMs)
    now = await ripenAll(session, now)
  }
  return now
}
