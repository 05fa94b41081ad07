import { createHmac, randomBytes } from 'node:crypto'
import { Failure } from '../base/failure.ts'

const prefix = 'whsec_'

/** A secret of 32 bytes, as the Standard Webhooks specification writes one. */
export function makeWebhookSecret(): string {
  return prefix + randomBytes(32).toString('base64')
}

/** Reads a secret that was given: `whsec_` and 24 to 64 bytes as base64. Throws `webhook_refused`. */
export function requireWebhookSecret(text: string): string {
  const digits = text.startsWith(prefix) ? text.slice(prefix.length) : ''
  const bytes = Buffer.from(digits, 'base64')
  const isBase64 =
    /^[A-Za-z0-9+/]+={0,2}$/.test(digits) && bytes.toString('base64').replace(/=+$/, '') === digits.replace(/=+$/, '')
  if (isBase64 && bytes.length >= 24 && bytes.length <= 64) return text
  throw new Failure('webhook_refused', {
    message: `The secret is not '${prefix}' and 24 to 64 bytes as base64.`,
    object: '--secret',
    remedy: `Leave --secret out, and one is made; or: echo "${prefix}$(openssl rand -base64 32)"`,
  })
}

/** Headers that let a receiver see who sent a message, and that it is not an old one (Standard Webhooks 1.0.0). `at`: seconds. */
export function messageHeaders(id: string, at: number, body: string, secret: string): Record<string, string> {
  const key = Buffer.from(secret.slice(prefix.length), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')
  return {
    'content-type': 'application/json',
    'user-agent': 'yardmaster',
    'webhook-id': id,
    'webhook-timestamp': String(at),
    'webhook-signature': `v1,${signature}`,
  }
}
