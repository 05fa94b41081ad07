import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { runCli, startCli } from '../support/process.ts'
import { FakeTerminal } from './fake-terminal.ts'
import { type Shape, shapeOf } from './json-shape.ts'
import { deploymentFile } from './postprocess-deployment.ts'

let control: TestDatabase
let source: TestDatabase
let destination: TestDatabase
let terminal: FakeTerminal
/** The same for the program in this process and for those that are started. */
let environment: Record<string, string>

beforeAll(async () => {
  control = await createDatabase('shapes control')
  source = await createDatabase('shapes source')
  destination = await createDatabase('shapes destination')
  await source.query('create table public.orders (id int primary key, total numeric)')
  await source.query('insert into public.orders select g, g from generate_series(1, 10) g')
  await source.query('create table public."Odd.Name" (id int)')
  environment = { YARDMASTER_CONTROL_URL: control.url, YARDMASTER_KEY: '5e'.repeat(32) }
  terminal = new FakeTerminal({ terminal: false, environment })
})

afterAll(async () => {
  await source.query('drop role if exists shapes_reader')
})

/** Runs with --json: one document on stdout, nothing on stderr but progress, which takes 5 s to come. */
async function run(...args: string[]): Promise<{ code: number; document: unknown }> {
  terminal.out = ''
  terminal.err = ''
  const code = await terminal.run(...args, '--json')
  expect(terminal.err).toBe('')
  expect(terminal.out).toMatch(/^[^\n]+\n$/)
  return { code, document: JSON.parse(terminal.out) }
}

const database = {
  id: 'string',
  name: 'string',
  tags: ['string'],
  url: 'string',
  has_stored_password: 'boolean',
  version: 'number',
}
const finding = { code: 'string', level: 'string', object: 'string', message: 'string', remedy: 'string' }
const result = {
  run_id: 'string',
  status: 'string',
  reason: 'null',
  rows: 'number',
  bytes: 'number',
  seconds: 'number',
  message: 'string',
}
const replication = {
  job_id: 'number',
  type: 'string',
  source: { database: 'string', table: 'string' },
  destination: { database: 'string', table: 'string' },
  status: 'string',
  last_run: { id: 'string', status: 'string', finished_at: 'time' },
  next_start: 'null',
  lag_seconds: 'number',
  late: 'boolean',
  idle: 'boolean',
  position: 'null',
  note: 'null',
  site: 'null',
}
const options = {
  columns: 'null',
  where: 'null',
  index: 'boolean',
  post_script: [],
  sequences: [],
  truncate_cascade: 'boolean',
  swap_wait_seconds: 'number',
  site: 'null',
  pool: 'null',
  column: 'null',
  by: 'null',
  boundary: 'null',
  key: 'null',
  limit: 'null',
  control_timezone: 'null',
  dst_window: 'null',
  every: 'null',
  cron: 'null',
  timezone: 'string',
  lag_target_seconds: 'null',
}
/** What `show` knows beyond the list and the options. */
const details = {
  version: 'number',
  schedule: 'string',
  next_starts: [],
  late_after_seconds: 'null',
  as_of: 'time',
  paused: 'null',
}
const checkFigures = {
  jobs: 'number',
  late: 'number',
  failed: 'number',
  paused: 'number',
  running: 'number',
  waiting: 'number',
  workers: 'number',
}
const alert = { alert_code: 'number', alert_status: 'string', job_name: 'string', alert_text: 'string' }
const runOfList = {
  id: 'string',
  job_id: 'number',
  operation: 'string',
  kind: 'string',
  object: 'string',
  site: 'null',
  status: 'string',
  reason: 'null',
  started_at: 'time',
  finished_at: 'time',
  message: 'string',
  worker: 'string',
  host: 'string',
  attempt: 'number',
  slot: 'time',
  placement: 'null',
  waits_for: 'null',
  rows: 'number',
  bytes: 'number',
}
const waitingRun = {
  ...runOfList,
  reason: 'string',
  started_at: 'null',
  finished_at: 'null',
  message: 'null',
  worker: 'null',
  host: 'null',
  attempt: 'null',
  waits_for: 'string',
}
const host = {
  host: 'string',
  addresses: ['string'],
  slots: 'number',
  site_slots: {},
  workers: 'number',
  worker_slots: 'number',
  running: 'number',
  active: 'boolean',
  drained: 'boolean',
  drained_by: 'null',
  drained_at: 'null',
  last_seen: 'null',
}
const hostOfSite = { ...host, site_slots: { CEO: 'number' } }
const drained = { ...hostOfSite, drained_by: 'string', drained_at: 'time' }
const site = {
  site: 'string',
  label: 'string',
  fallback_after_seconds: 'number',
  fallback_inherited: 'boolean',
  jobs: 'number',
  bindings: 'number',
  waiting_since: 'null',
  may_run_on: [],
}
const limit = { key: 'string', limit: 'number', running: 'number', waiting: 'number' }
const check = { check: 'string', ok: 'boolean', code: 'string', why: 'string' }
const shownRun = {
  run_id: 'string',
  job_id: 'number',
  kind: 'string',
  operation: 'string',
  object: 'string',
  site: 'null',
  status: 'string',
  slot: 'time',
  placement: 'null',
  call: 'null',
}
const shownAttempt = {
  ...{ attempt: 'number', status: 'string', worker: 'string', host: 'string', target_pid: 'null', is_left: 'boolean' },
  ...{ started_at: 'time', finished_at: 'time', blocked_since: 'null', blocked_by: 'null' },
}
/** One host of a site, as explain and simulate have it. */
const verdict = { host: 'string', binding: 'string', may_run: 'boolean', code: 'string', why: 'string' }
const placed = { hosts: [{ host: 'string', active: 'boolean', drained: 'boolean' }] }
const bindingChange = {
  op: 'string',
  site: 'string',
  host: 'string',
  before: 'null',
  after: 'string',
  effects: [{ what: 'string' }],
}
const changed = {
  applied: 'boolean',
  changes: [bindingChange],
  shifts: [],
  unknown_hosts: [{ host: 'string', nearest: 'null' }],
  refusals: [],
}
const examples = 'test/placement/worked-examples'
const nobodyThere = deploymentFile({ hdb: 'postgresql://nobody@127.0.0.1:1/hdb' })
const ceoPrefers = `${examples}/workers-1-dedicated-with-fallback.csv`
const queued = { run_id: 'string', status: 'string' }
const figures = { rows: 'number', bytes: 'number' }

/** In the order in which they are run; keys may be added, none is taken away or changes its type without a major version. */
const golden: readonly (readonly [command: readonly string[], code: number, shape: Shape])[] = [
  [['migrate', '--dry-run'], 0, { from: 'number', applied: [], pending: ['string'], functions_replaced: 'boolean' }],
  [['migrate'], 0, { from: 'number', applied: ['string'], pending: [], functions_replaced: 'boolean' }],
  [['database', 'list'], 0, []],
  [['replication', 'list'], 0, []],
  [['run', 'list'], 0, []],
  [['host', 'list'], 0, []],
  [['site', 'list'], 0, []],
  [['limit', 'list'], 0, []],
  [['host', 'set', 'h2', '--address', '10.0.0.7', '--slots', '8'], 0, host],
  [['host', 'set', 'h2', '--site', 'CEO', '--slots', '2'], 0, hostOfSite],
  [['host', 'list'], 0, [hostOfSite]],
  [['host', 'drain', '10.0.0.7'], 0, { ...drained, moves: [], stranded: [] }],
  [['host', 'undrain', 'h2'], 0, hostOfSite],
  [
    ['site', 'set', 'CEO', '--fallback-after', '10 minutes'],
    0,
    { site: 'string', fallback_after_seconds: 'number', fallback_inherited: 'boolean' },
  ],
  [
    ['site', 'set', '--default', '--fallback-after', 'never'],
    0,
    { site: 'null', fallback_after_seconds: 'null', fallback_inherited: 'boolean' },
  ],
  [['site', 'list'], 0, [site]],
  [['limit', 'set', 'a pool', '3'], 0, limit],
  [['limit', 'list'], 0, [limit]],
  [['limit', 'remove', 'a pool'], 0, { removed: 'string', limit: 'number' }],
  [['host', 'remove', 'h2'], 0, { removed: 'string', bindings: 'number', was_drained: 'boolean' }],
  [['binding', 'list'], 0, []],
  [['binding', 'history'], 0, []],
  [['binding', 'apply', ceoPrefers, '--dry-run'], 0, changed],
  [['import', 'palette', '--csv', ceoPrefers, '--dry-run'], 0, changed],
  [
    ['import', 'hdbpp', '-c', nobodyThere, '--dry-run'],
    1,
    {
      dry_run: 'boolean',
      deployments: [
        {
          ...{ deployment: 'string', database: 'string', registered: 'boolean', jobs: [] },
          error: { code: 'string', message: 'string', object: 'string', remedy: 'string' },
        },
      ],
    },
  ],
  [['binding', 'apply', ceoPrefers], 0, changed],
  [
    ['binding', 'list'],
    0,
    [{ site: 'string', host: 'string', binding: 'string', active: 'boolean', drained: 'boolean', known: 'boolean' }],
  ],
  [
    ['binding', 'explain', 'CEO'],
    0,
    {
      ...placed,
      sites: [{ site: 'string', hosts: [verdict], stranded: 'boolean' }],
      ...{ known: 'boolean', nearest: 'null', waiting: [] },
    },
  ],
  [
    ['binding', 'explain', '--no-site'],
    0,
    {
      ...placed,
      sites: [{ site: 'null', hosts: [verdict], stranded: 'boolean' }],
      ...{ known: 'boolean', nearest: 'null', waiting: [] },
    },
  ],
  [
    ['binding', 'simulate', `${examples}/workers-4-one-way-fallback.csv`, '--up', 'ceo.local'],
    0,
    {
      ...placed,
      sites: [{ site: 'string', hosts: [verdict], stranded: 'boolean' }],
      changes: [{ site: 'string', before: [], after: ['string'] }],
      bindings: [{ ...bindingChange, effects: [{ what: 'string' }] }],
      unknown_hosts: [{ host: 'string', nearest: 'null' }],
      refusals: [],
    },
  ],
  [['binding', 'set', 'QA', 'qa.local', 'prefer'], 0, changed],
  [
    ['binding', 'history', '--limit', '1'],
    0,
    [
      {
        ...{
          id: 'string',
          at: 'time',
          actor: 'string',
          face: 'string',
          forced: 'boolean',
          undoes: 'null',
          undone_by: 'null',
        },
        changes: [{ site: 'string', host: 'string', before: 'null', after: 'string' }],
      },
    ],
  ],
  [
    ['binding', 'undo'],
    0,
    {
      ...{ ...changed, undoes: 'string', unknown_hosts: [] },
      changes: [{ ...bindingChange, before: 'string', after: 'null', effects: [] }],
    },
  ],
  [
    ['binding', 'undo'],
    0,
    {
      ...{ ...changed, undoes: 'string', unknown_hosts: [] },
      changes: [{ ...bindingChange, before: 'string', after: 'null', effects: [] }],
    },
  ],
  [['database', 'add', 'crm', 'SOURCE', '--tag', 'prod'], 0, database],
  [['database', 'add', 'dwh', 'DESTINATION', '--tag', 'prod'], 0, database],
  [['database', 'set', 'crm', '--tag', 'prod', '--tag', 'eu'], 0, database],
  [['database', 'list'], 0, [database]],
  [
    ['database', 'test', 'crm'],
    0,
    {
      name: 'string',
      version: 'string',
      role: 'string',
      round_trip_ms: 'number',
      in_recovery: 'boolean',
      encrypted: 'boolean',
      findings: [finding],
    },
  ],
  [
    ['database', 'prepare', 'crm', 'public.orders', '--for', 'snapshot', '--role', 'shapes_reader', '--dry-run'],
    0,
    { role: 'string', statements: ['string'], by_hand: ['string'], ran: 'boolean' },
  ],
  [
    ['database', 'prepare', 'crm', 'public.orders', '--for', 'updater'],
    0,
    { role: 'string', statements: ['string'], by_hand: [], ran: 'boolean' },
  ],
  [
    ['replication', 'add', 'snapshot', 'public.orders', '--from', 'crm', '--to', 'dwh', '--dry-run'],
    0,
    {
      existed: 'boolean',
      creates: ['string'],
      columns: [{ name: 'string', type: 'string' }],
      source_rows: 'number',
      source_bytes: 'number',
    },
  ],
  [
    ['replication', 'add', 'snapshot', 'public.orders', '--from', 'crm', '--to', 'dwh'],
    0,
    { ...result, job_id: 'number', destination: 'string' },
  ],
  [['replication', 'refresh', 'public.orders', '--force'], 0, result],
  [['replication', 'resync', 'public.orders'], 0, result],
  [['replication', 'list'], 0, [replication]],
  [['replication', 'show', 'public.orders'], 0, { ...replication, ...options, ...details }],
  [['replication', 'set', 'public.orders', 'swap-wait=5min'], 0, { job_id: 'number', version: 'number', ...options }],
  [
    ['replication', 'validate', 'public.orders'],
    0,
    { match: 'boolean', source_count: 'number', dest_count: 'number', min: 'null', max: 'null' },
  ],
  [['run', 'list'], 0, [runOfList]],
  [
    ['run', 'show', '2'],
    0,
    {
      ...shownRun,
      reason: 'null',
      attempts: [shownAttempt],
      checks: [],
      started_at: 'time',
      finished_at: 'time',
      worker: 'string',
      host: 'string',
      attempt: 'number',
      ...figures,
      message: 'string',
      steps: [
        {
          ordinal: 'number',
          action: 'string',
          status: 'string',
          started_at: 'time',
          elapsed_seconds: 'number',
          rows: 'null',
          bytes: 'null',
          message: 'string',
        },
      ],
    },
  ],
  [['check'], 0, { level: 'number', alerts: [alert], ...checkFigures }],
  [['check', '--job', 'dwh:public.*'], 0, { level: 'number', alerts: [alert], ...checkFigures }],
  [
    ['replication', 'lag'],
    0,
    [
      {
        job_id: 'number',
        destination: 'string',
        type: 'string',
        status: 'string',
        lag_seconds: 'number',
        late_after_seconds: 'null',
        late: 'boolean',
        idle: 'boolean',
        as_of: 'time',
        position: 'null',
      },
    ],
  ],
  [
    ['replication', 'set', 'public.orders', 'every=1 hour', 'lag-target=2 hours'],
    0,
    { job_id: 'number', version: 'number', ...options, every: 'string', lag_target_seconds: 'number' },
  ],
  [
    ['replication', 'show', 'public.orders'],
    0,
    {
      ...{ ...replication, ...options, ...details, next_start: 'time', next_starts: ['time'] },
      ...{ every: 'string', lag_target_seconds: 'number', late_after_seconds: 'number' },
    },
  ],
  [['replication', 'pause', 'public.orders', '--note', 'why not'], 0, { job_id: 'number', status: 'string' }],
  [
    ['replication', 'show', 'public.orders'],
    0,
    {
      ...{ ...replication, ...options, ...details, note: 'string' },
      ...{ every: 'string', lag_target_seconds: 'number', late_after_seconds: 'number' },
      paused: { since: 'time', by: 'string', note: 'string' },
    },
  ],
  [['replication', 'resume', 'public.orders'], 0, { job_id: 'number', status: 'string' }],
  [['replication', 'refresh', 'public.orders', '--queue'], 0, queued],
  [['run', 'list', '--status', 'waiting'], 0, [waitingRun]],
  [
    ['run', 'show', '4'],
    0,
    {
      ...shownRun,
      reason: 'string',
      attempts: [],
      checks: [check],
      ...{ started_at: 'null', finished_at: 'null', worker: 'null', host: 'null', attempt: 'null' },
      ...{ rows: 'null', bytes: 'null', message: 'null', steps: [] },
    },
  ],
  [['run', 'cancel', '4'], 0, { ...queued, was_running: 'boolean' }],
  [['replication', 'resync', 'public.orders', '--queue'], 0, queued],
  [['run-due'], 0, [{ destination: 'string', ...result, job_id: 'number' }]],
  [['run-due'], 0, []],
  [
    [
      'replication',
      'add',
      'table',
      'public.orders',
      '--from',
      'crm',
      '--to',
      'dwh',
      '--dest',
      'public.later',
      '--queue',
    ],
    0,
    { ...queued, job_id: 'number', destination: 'string' },
  ],
  [['replication', 'remove', 'public.later'], 0, result],
  [['doctor'], 0, { findings: [finding] }],
  [['help', 'error', 'disk_full'], 0, { code: 'string', meaning: 'string', remedy: 'string' }],
  [['replication', 'remove', 'public.orders', '--dry-run'], 0, { drops: ['string'], keeps: ['string'] }],
  [['replication', 'remove', 'public.orders'], 0, result],
  [['database', 'remove', 'crm', '--yes'], 0, { removed: 'string' }],
]

describe('JSON that scripts rely on', () => {
  // One after the other on one control database: each finds what those before it made.
  it.each(golden)('%j', async (command, code, shape) => {
    const args = command.map((word) =>
      word === 'SOURCE' ? source.url : word === 'DESTINATION' ? destination.url : word,
    )
    const ran = await run(...args)
    expect(ran.code, terminal.out).toBe(code)
    expect(shapeOf(ran.document)).toEqual(shape)
  })

  it('counts rows, not what the stream ends with', async () => {
    const { document } = await run('run', 'show', '1')
    const { rows, steps } = document as { rows: number; steps: { action: string; rows: number | null }[] }
    expect([rows, steps.find((step) => step.action === 'load')?.rows]).toEqual([10, 10])
  })

  it('is a document a line where a run is followed', async () => {
    terminal.out = ''
    expect(await terminal.run('run', 'follow', '1', '--json')).toBe(0)
    const lines = terminal.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string })
    expect(lines.map(({ event }) => event)).toEqual(['started', ...lines.slice(1, -1).map(() => 'step'), 'end'])
    const about = { event: 'string', run_id: 'string', attempt: 'number' }
    expect(shapeOf(lines[0])).toEqual({ ...about, worker: 'string', host: 'string' })
    expect(lines.filter(({ event }) => event === 'step').length).toBeGreaterThan(2)
    expect(shapeOf(lines.at(-1))).toEqual({ event: 'string', ...result, reason: 'null' })
  })

  it('covers every command that prints a result', async () => {
    const { buildProgram } = await import('../../src/cli/program.ts')
    const covered = new Set(golden.map(([command]) => command.slice(0, 2).join(' ')))
    const names = buildProgram().commands.flatMap((group) =>
      group.commands.length === 0
        ? [group.name()]
        : group.commands.map((command) => `${group.name()} ${command.name()}`),
    )
    const missing = names.filter((name) => ![...covered].some((one) => one === name || one.split(' ')[0] === name))
    // Those that go on until they are stopped, what prints a document a line (below), and what has a test of its own: jobs
    // (job-shapes.pg.test.ts), alerts, history and hdbpp (watch-shapes.pg.test.ts).
    const others = [
      'demo',
      'worker',
      'up',
      'serve',
      'run follow',
      'run retry',
      'run clear',
      'run keep',
      'postprocess',
      'import hdbpp',
    ]
    expect(missing.filter((name) => !others.includes(name) && !/^(job|alert) /.test(name))).toEqual([])
  })
})

describe('failures as JSON', () => {
  const failure = { error: { code: 'string', message: 'string', object: 'string', remedy: 'string' } }

  beforeAll(async () => {
    expect((await run('database', 'add', 'crm', source.url)).code).toBe(0)
  })

  it.each([
    ['database_unknown', ['database', 'test', 'nowhere']],
    ['database_unknown', ['replication', 'add', 'table', 'public.orders', '--from', 'nowhere', '--to', 'dwh']],
    ['database_exists', ['database', 'add', 'crm', 'postgresql://u@h/d']],
    ['replication_unknown', ['replication', 'show', 'public.nothing']],
    ['table_unknown', ['replication', 'add', 'table', 'public.nothing', '--from', 'crm', '--to', 'dwh']],
    ['run_unknown', ['run', 'show', '4711']],
  ])('%s: on stdout, exit 1', async (code, args) => {
    const ran = await run(...args)
    expect(ran.code).toBe(1)
    expect(shapeOf(ran.document)).toEqual(failure)
    expect(ran.document).toMatchObject({ error: { code } })
  })

  it('of a refresh stand beside its result', async () => {
    await run('replication', 'add', 'table', 'public.orders', '--from', 'crm', '--to', 'dwh')
    await source.query('alter table public.orders rename to elsewhere')
    const ran = await run('replication', 'refresh', 'public.orders')
    await source.query('alter table public.elsewhere rename to orders')
    expect(ran.code).toBe(1)
    expect(shapeOf(ran.document)).toEqual({ ...result, reason: 'string', ...failure })
    expect(ran.document).toMatchObject({ status: 'CRITICAL', reason: 'failed', error: { code: 'table_unknown' } })
  })

  it('of a mistyped destination or database name the nearest', async () => {
    for (const typed of ['public.order', 'publik.orders', 'dwh:public.ordres', 'Public."Orders"']) {
      const ran = await run('replication', 'show', typed)
      expect(ran.document, typed).toMatchObject({
        error: { code: 'replication_unknown', message: expect.stringContaining('; there is dwh:public.orders.') },
      })
    }
    const ran = await run('database', 'test', 'crn')
    expect(ran.document).toMatchObject({ error: { message: expect.stringContaining('crm') } })
  })

  it('tell a difference from a failure: validate exits 1 without an error', async () => {
    await source.query('insert into public.orders values (1000, 1)')
    const ran = await run('replication', 'validate', 'public.orders')
    expect(ran).toEqual({ code: 1, document: { match: false, source_count: 11, dest_count: 10, min: null, max: null } })
  })

  it('of an ambiguous destination name the candidates', async () => {
    const other = await createDatabase('shapes other destination')
    await run('database', 'add', 'mart', other.url)
    await run('replication', 'add', 'table', 'public.orders', '--from', 'crm', '--to', 'mart')
    const ran = await run('replication', 'show', 'public.orders')
    expect(ran.code).toBe(1)
    expect(ran.document).toMatchObject({
      error: {
        code: 'replication_ambiguous',
        message: 'Several databases have public.orders: dwh:public.orders, mart:public.orders.',
        remedy: "Write one of: 'dwh:public.orders', 'mart:public.orders'.",
      },
    })
    expect((await run('replication', 'show', 'mart:public.orders')).code).toBe(0)
  })
})

describe('the process', () => {
  it('prints results on stdout and ends with 0, 1 or 2', async () => {
    const done = await runCli(['run', 'list', '--json'], { env: environment })
    expect([done.exitCode, done.stderr]).toEqual([0, ''])
    expect(done.json()).toBeInstanceOf(Array)
    const failed = await runCli(['run', 'show', '0', '--json'], { env: environment })
    expect([failed.exitCode, failed.stderr, failed.json().error.code]).toEqual([1, '', 'run_unknown'])
    const wrong = await runCli(['run', 'shwo', '--json'], { env: environment })
    expect([wrong.exitCode, wrong.stderr, wrong.json().error.code]).toEqual([2, '', 'wrong_usage'])
  })

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('ends with its own code after %s, and nothing is left half done', async (signal, code) => {
    const blocker = await source.client()
    await blocker.query('begin; lock table public.orders in access exclusive mode')
    const running = startCli(['replication', 'refresh', 'dwh:public.orders', '--json'], { env: environment })
    await waiting(source)
    const ended = await running.kill(signal)
    await blocker.query('rollback')
    expect(ended.exitCode, ended.stderr).toBe(code)
    expect(ended.json()).toMatchObject({ status: 'CRITICAL', reason: 'cancelled', error: { code: 'cancelled' } })
    const left = await destination.query(
      "select pid from pg_stat_activity where datname = current_database() and application_name like 'yardmaster load%'",
    )
    expect(left).toEqual([])
  })
})

/** Resolves when a session of the program waits for a lock of this database. */
async function waiting(database: TestDatabase): Promise<void> {
  await expect
    .poll(
      () =>
        database.query(`select pid from pg_stat_activity where datname = current_database()
          and application_name like 'yardmaster read%' and wait_event_type = 'Lock'`),
      { timeout: 20_000, interval: 20 },
    )
    .not.toEqual([])
}
