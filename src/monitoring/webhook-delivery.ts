import { crashPoint } from '../base/crash-point.ts'
import { Failure } from '../base/failure.ts'
import type { SecretKey } from '../control/secret-key.ts'
import { messageHeaders } from './webhook-message.ts'
import { post, type Resolve } from './webhook-post.ts'
import { type Ask, claimDeliveries, type Delivery, recordDelivery, secretOf } from './webhooks.ts'

/** Messages of one webhook that are sent at once. */
const atOnce = 5

/** What came of an attempt. */
interface Result {
  readonly delivered: boolean
  /** An HTTP status, or why there was no answer. */
  readonly outcome: string
}

/**
 * Sends what is due, at least once: a process that ends between an answer and the record of it leaves the message to be sent again
 * with the same id. Resolves to the number of messages that were tried.
 */
export async function deliverDue(ask: Ask, key: SecretKey, resolve?: Resolve): Promise<number> {
  const deliveries = await claimDeliveries(ask, atOnce)
  crashPoint('webhook-after-claim')
  await Promise.all(deliveries.map((delivery) => deliver(ask, delivery, () => attempt(key, delivery, resolve))))
  return deliveries.length
}

async function deliver(ask: Ask, delivery: Delivery, tryIt: () => Promise<Result>): Promise<void> {
  const result = await tryIt()
  crashPoint('webhook-after-post')
  await recordDelivery(ask, delivery, result)
}

async function attempt(key: SecretKey, delivery: Delivery, resolve: Resolve | undefined): Promise<Result> {
  const { body, url, message_id: id, allow_private: allowPrivate } = delivery
  try {
    // Its age is counted by the receiver's clock: that of the process that sends it.
    const at = Math.floor(Date.now() / 1000)
    const headers = messageHeaders(`msg_${id}`, at, body, secretOf(key, delivery))
    const status = await post({ url, headers, body, allowPrivate }, resolve)
    if (status >= 300 && status < 400) return { delivered: false, outcome: `${status}: redirects are not followed` }
    return { delivered: status >= 200 && status < 300, outcome: String(status) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { delivered: false, outcome: error.message }
  }
}
