import { randomUUID } from 'node:crypto'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import type { SecretKey } from '../control/secret-key.ts'
import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { parseWebhookUrl } from './webhook-address.ts'

/** Runs a short statement on a session of the control database that nobody waits for. */
export type Ask = <Result>(work: (session: Session) => Promise<Result>) => Promise<Result>

/** Somebody who is told of alerts, and what became of the messages. */
export interface Webhook {
  readonly id: number
  /** What stands behind its question mark is not shown. */
  readonly url: string
  readonly allow_private: boolean
  readonly created_at: Date
  readonly created_by: string
  readonly waiting: number
  readonly delivered: string
  readonly given_up: string
  /** Of the newest message that was tried. */
  readonly last_event: 'opened' | 'changed' | 'closed' | null
  readonly last_status: 'waiting' | 'delivered' | 'given_up' | null
  /** An HTTP status, or why there was no answer; null until it is known. */
  readonly last_outcome: string | null
  readonly last_attempts: number | null
  readonly next_try: Date | null
}

/** A message that this process is to send. */
export interface Delivery {
  readonly id: string
  readonly message_id: string
  readonly attempt: number
  readonly body: string
  readonly webhook_id: number
  readonly url: string
  readonly allow_private: boolean
  readonly secret_id: string
  readonly key_id: string
  readonly ciphertext: Buffer
}

export async function listWebhooks(control: Control): Promise<Webhook[]> {
  return control.session.query<Webhook>(sql`
    select id, url, allow_private, created_at, created_by, waiting, delivered, given_up, last_event, last_status, last_outcome,
      last_attempts, next_try from yardmaster.webhooks order by id`)
}

/** Its secret is encrypted before it leaves this process. Throws `webhook_refused`. */
export async function addWebhook(
  control: Control,
  text: string,
  secret: string,
  allowPrivate: boolean,
): Promise<Webhook> {
  const url = parseWebhookUrl(text, allowPrivate).href
  const secretId = randomUUID()
  const ciphertext = control.key.encrypt(secret, secretOwner(secretId, url))
  const { id } = await control.session.one<{ id: number }>(sql`
    select yardmaster.add_webhook(${url}, ${secretId}::uuid, ${control.key.id}, ${ciphertext}::bytea, ${allowPrivate}) as id`)
  return getWebhook(control, String(id))
}

/** Throws `webhook_unknown`. */
export async function getWebhook(control: Control, id: string): Promise<Webhook> {
  const found = (await listWebhooks(control)).find((webhook) => String(webhook.id) === id)
  if (found) return found
  throw new Failure('webhook_unknown', { message: `There is no webhook ${printable(id)}.`, object: printable(id) })
}

export async function removeWebhook(control: Control, id: number): Promise<void> {
  await control.session.query(sql`select yardmaster.remove_webhook(${id})`)
}

/** Takes due messages, at most so many of each webhook, and counts an attempt of each. */
export async function claimDeliveries(ask: Ask, most: number): Promise<Delivery[]> {
  return ask((session) => session.query<Delivery>(sql`select * from yardmaster.claim_deliveries(${most})`))
}

/** Throws `key_wrong`. */
export function secretOf(
  key: SecretKey,
  { secret_id: id, url, key_id: keyId, ciphertext, webhook_id: hook }: Delivery,
): string {
  return key.decrypt(ciphertext, secretOwner(id, url), keyId, `webhook ${hook}`)
}

export async function recordDelivery(
  ask: Ask,
  { id, attempt }: Delivery,
  { delivered, outcome }: { delivered: boolean; outcome: string },
): Promise<void> {
  await ask((session) =>
    session.query(sql`select yardmaster.record_delivery(${id}::bigint, ${attempt}, ${delivered}, ${outcome})`),
  )
}

/** What a ciphertext opens for, as of a database's password. */
function secretOwner(secretId: string, url: string): string {
  return `${secretId} ${url}`
}
