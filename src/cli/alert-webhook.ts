import type { Command } from 'commander'
import { Failure } from '../base/failure.ts'
import { makeWebhookSecret, requireWebhookSecret } from '../monitoring/webhook-message.ts'
import { addWebhook, getWebhook, listWebhooks, removeWebhook, type Webhook } from '../monitoring/webhooks.ts'
import { printable } from '../postgres/identifier.ts'
import { action } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'

const example = (text: string) => `\nExample:\n  yardmaster ${text}`

/** `yardmaster alert webhook …` */
export function webhookCommands(alert: Command): void {
  const group = alert.command('webhook').description('who is told when an alert opens, changes its level, closes')
  group
    .command('add')
    .argument('<url>', 'https://host/path')
    .option(
      '--secret <secret>',
      'what its messages are signed with: whsec_… or env:NAME (default: one is made, and shown once)',
    )
    .option('--allow-private', 'it may be on this host or in a private network, and speak plain HTTP', false)
    .description('tell a URL of every alert from now on, by signed messages (Standard Webhooks)')
    .addHelpText('after', example('alert webhook add https://example.org/hooks/yardmaster'))
    .action(action(add))
  group
    .command('list')
    .description('webhooks, and what became of their messages')
    .addHelpText('after', example('alert webhook list'))
    .action(action(list))
  group
    .command('remove')
    .argument('<id>', 'number of the webhook')
    .description('tell it nothing any more, also not what is on its way')
    .addHelpText('after', example('alert webhook remove 1'))
    .action(action(remove))
}

async function add(
  context: CommandContext,
  flags: { secret?: string; allowPrivate: boolean },
  url: string,
): Promise<number> {
  const given = flags.secret === undefined ? undefined : requireWebhookSecret(followReference(context, flags.secret))
  return withControl(context, async (control) => {
    const secret = given ?? makeWebhookSecret()
    const webhook = await addWebhook(control, url, secret, flags.allowPrivate)
    const { terminal } = context
    // One that was given is known to whoever gave it.
    if (terminal.json) terminal.document({ ...asJson(webhook), ...(given === undefined ? { secret } : {}) })
    else {
      terminal.line(`Webhook ${webhook.id} is told of every alert that opens from now on: ${webhook.url}`)
      if (given === undefined) terminal.line(`Its secret, which is shown only now: ${secret}`)
    }
    return 0
  })
}

function followReference(context: CommandContext, secret: string): string {
  const name = /^env:([A-Za-z_][A-Za-z0-9_]*)$/.exec(secret)?.[1]
  if (name === undefined) return secret
  const found = context.environment(name)
  if (found !== undefined && found !== '') return found
  throw new Failure('reference_unreadable', {
    message: `env:${name} is empty or not set in this process.`,
    object: '--secret',
  })
}

function asJson(webhook: Webhook) {
  return { ...webhook, delivered: Number(webhook.delivered), given_up: Number(webhook.given_up) }
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const webhooks = await listWebhooks(control)
    const { terminal } = context
    if (terminal.json) terminal.document(webhooks.map(asJson))
    else
      terminal.table(
        webhooks,
        [
          { head: 'WEBHOOK', kind: 'number', value: ({ id }) => id },
          { head: 'DELIVERED', kind: 'number', value: ({ delivered }) => delivered },
          { head: 'WAITING', kind: 'number', value: ({ waiting }) => waiting },
          { head: 'GIVEN UP', kind: 'number', value: ({ given_up: count }) => count },
          { head: 'LAST', value: (one) => lastInWords(one, (time) => terminal.time(time)) },
          { head: 'URL', value: ({ url }) => url },
        ],
        'No webhook yet. Add one: yardmaster alert webhook add https://host/path',
      )
    return 0
  })
}

/** `opened: 204`, `closed: nothing listens there (attempt 3, next 14:02:10)`. */
function lastInWords(
  { last_event: event, last_status: status, last_outcome: outcome, last_attempts: attempts, next_try: next }: Webhook,
  time: (at: Date | null) => string,
): string {
  if (event === null) return ''
  const what = `${event}: ${outcome ?? 'on its way'}`
  if (status === 'given_up') return `${what} (given up after ${attempts} attempts)`
  return status === 'waiting' ? `${what} (attempt ${attempts}, next ${time(next)})` : what
}

async function remove(context: CommandContext, _flags: object, id: string): Promise<number> {
  return withControl(context, async (control) => {
    const webhook = await getWebhook(control, id)
    await removeWebhook(control, webhook.id)
    const { terminal } = context
    if (terminal.json) terminal.document({ removed: webhook.id, url: webhook.url, dropped: webhook.waiting })
    else
      terminal.line(`Webhook ${webhook.id} (${printable(webhook.url)}) is gone; messages dropped: ${webhook.waiting}.`)
    return 0
  })
}
