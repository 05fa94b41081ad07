import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { buildProgram } from '../../src/cli/program.ts'
import { type Shape, shapeOf } from './json-shape.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop
const file = join(mkdtempSync(join(tmpdir(), 'shapes-')), 'hdbpp.conf')

beforeAll(async () => {
  shop = await openShop('watch shapes')
  const { hostname, port, username, password, pathname } = new URL(shop.destination.url)
  const connection = { user: username, password, host: hostname, port: Number(port), database: pathname.slice(1) }
  writeFileSync(file, JSON.stringify({ archive: { connection } }))
  await shop.add('stock', 'table')
  await shop.control.query(`update yardmaster.job_state set failures = 4, last_status = 'CRITICAL'`)
  await shop.control.query('select yardmaster.evaluate_alerts()')
})

const alert = {
  ...{ id: 'string', alert_code: 'number', level: 'string', alert_status: 'string', job_name: 'string' },
  ...{ alert_text: 'string', opened_at: 'time', changed_at: 'time', closed_at: 'null' },
  ...{ acknowledged_at: 'null', acknowledged_by: 'null', note: 'null', silenced_until: 'null', silenced_by: 'null' },
}
const webhook = {
  ...{ id: 'number', url: 'string', allow_private: 'boolean', created_at: 'time', created_by: 'string' },
  ...{ waiting: 'number', delivered: 'number', given_up: 'number', last_event: 'null', last_status: 'null' },
  ...{ last_outcome: 'null', last_attempts: 'null', next_try: 'null' },
}
const passed = { deployments: [{ deployment: 'string', jobs: [], error: 'null' }] }

const golden: readonly (readonly [command: readonly string[], shape: Shape])[] = [
  [['alert', 'list'], [alert]],
  [
    ['alert', 'ack', '1', '--note', 'seen'],
    { ...alert, acknowledged_at: 'time', acknowledged_by: 'string', note: 'string' },
  ],
  [
    ['alert', 'silence', '1', '--until', '2 hours'],
    {
      ...{ ...alert, acknowledged_at: 'time', acknowledged_by: 'string', note: 'string' },
      ...{ silenced_until: 'time', silenced_by: 'string' },
    },
  ],
  [
    ['alert', 'set', 'public.stock', '--warn', '1 hour'],
    { job_id: 'number', job_name: 'string', warn: 'string', error: 'null', sensitivity: 'null', escalate: 'null' },
  ],
  [['alert', 'webhook', 'add', 'http://127.0.0.1:9/x', '--allow-private'], { ...webhook, secret: 'string' }],
  [['alert', 'webhook', 'list'], [webhook]],
  [['alert', 'webhook', 'remove', '1'], { removed: 'number', url: 'string', dropped: 'number' }],
  [['run', 'keep', '--age', '20 days'], { keep_for: 'string', successes: 'number', failures: 'number' }],
  [
    ['run', 'clear', '--older-than', '1 day', '--yes'],
    {
      plan: { runs: 'number', jobs: 'number', failed: 'number', first_finished: 'null', last_finished: 'null' },
      dry_run: 'boolean',
      removed: 'number',
    },
  ],
  [['postprocess', '-c', file, '--validate'], { valid: 'boolean', deployments: ['string'] }],
  [['postprocess', '-c', file, '--init'], passed],
  [['postprocess', '-c', file], passed],
  [
    ['import', 'hdbpp', '-c', file, '--yes'],
    {
      dry_run: 'boolean',
      deployments: [{ deployment: 'string', database: 'string', registered: 'boolean', error: 'null', jobs: [] }],
    },
  ],
]

describe('JSON of alerts, history and hdbpp that scripts rely on', () => {
  it.each(golden)('%j', async (command, shape) => {
    const { json } = await shop.done(...command, '--json')
    expect(shapeOf(json)).toEqual(shape)
  })

  it('covers every command on alerts', () => {
    const covered = golden.map(([[group, name]]) => `${group} ${name}`)
    const alerts = buildProgram().commands.find((one) => one.name() === 'alert')
    expect(alerts?.commands.map((one) => `alert ${one.name()}`).filter((name) => !covered.includes(name))).toEqual([])
  })
})
