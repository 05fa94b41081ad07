import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { leavePlace, livingPlaces, takePlace } from './place.ts'

/** What the work under the mutex takes at most: a first start on a slow disk, or a recovery; then waiters give up. */
const waitMs = 330_000

/**
 * Runs `work` while no other process (and no other call in this one) runs any under the same directory.
 *
 * Whoever takes a place looks afterwards whether somebody else has one, and gives way if so. Of two who take one at the
 * same time, at least one sees the other: a name that was there before `readdir` began is always listed.
 *
 * Errors: `embedded_busy` after 330 s; the reason of `signal`.
 */
export async function withMutex<T>(directory: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const places = join(directory, 'mutex')
  const deadline = Date.now() + waitMs
  for (;;) {
    signal?.throwIfAborted()
    let others = await livingPlaces(places)
    if (others.length === 0) {
      const own = await takePlace(places)
      try {
        others = await livingPlaces(places, own)
        if (others.length === 0) return await work()
      } finally {
        await leavePlace(own)
      }
    }
    if (Date.now() > deadline) throw busy(directory, others[0]?.pid)
    await delay(10 + Math.random() * 40)
  }
}

function busy(directory: string, pid: number | undefined): Failure {
  return new Failure('embedded_busy', {
    message: `Process ${pid} has been starting or stopping the embedded PostgreSQL in ${directory} for ${waitMs / 1000} s.`,
    object: directory,
    remedy: `Look what process ${pid} is doing (ps -fp ${pid}); end it if it hangs, then run the command again.`,
  })
}
