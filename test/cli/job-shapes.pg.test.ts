import { beforeAll, describe, expect, it } from 'vitest'
import { buildProgram } from '../../src/cli/program.ts'
import { type JobDesk, openJobDesk } from './job-desk.ts'
import { type Shape, shapeOf } from './json-shape.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('job shapes')
})

/** The view `jobs`, TimescaleDB's columns first, in its order. */
const job = {
  ...{
    job_id: 'number',
    application_name: 'string',
    schedule_interval: 'string',
    max_runtime: 'string',
    max_retries: 'number',
  },
  ...{ retry_period: 'string', proc_schema: 'string', proc_name: 'string', owner: 'string', scheduled: 'boolean' },
  ...{
    fixed_schedule: 'boolean',
    config: { days: 'number' },
    next_start: 'time',
    initial_start: 'null',
    hypertable_schema: 'null',
  },
  ...{
    hypertable_name: 'null',
    check_schema: 'null',
    check_name: 'null',
    timezone: 'string',
    cron: 'null',
    database: 'string',
  },
  ...{
    site: 'null',
    kind: 'string',
    name: 'string',
    status: 'string',
    paused_at: 'null',
    paused_by: 'null',
    pause_note: 'null',
  },
  ...{
    statements: 'null',
    task: 'null',
    retry_on_crash: 'null',
    overlap: 'string',
    catch_up: 'null',
    jitter: 'string',
  },
  ...{
    priority: 'number',
    pool: 'null',
    after: [],
    databases: 'number',
    paused_databases: 'number',
    version: 'number',
  },
  ...{ created_at: 'time', created_by: 'string', schedule_origin: 'time', destination: 'null' },
} as const
/** The view `job_stats`. */
const stats = {
  ...{
    hypertable_schema: 'null',
    hypertable_name: 'null',
    job_id: 'number',
    last_run_started_at: 'time',
    last_successful_finish: 'null',
  },
  ...{
    last_run_status: 'string',
    job_status: 'string',
    last_run_duration: 'string',
    next_start: 'null',
    total_runs: 'string',
  },
  ...{
    total_successes: 'string',
    total_failures: 'string',
    database: 'string',
    consecutive_failures: 'number',
    last_level: 'string',
  },
  ...{ last_run_finished_at: 'time', paused_at: 'null' },
} as const
/** The view `job_history`. */
const past = {
  ...{
    id: 'string',
    job_id: 'number',
    succeeded: 'boolean',
    proc_schema: 'string',
    proc_name: 'string',
    pid: 'number',
    start_time: 'time',
  },
  ...{
    finish_time: 'time',
    config: 'null',
    sqlerrcode: 'string',
    err_message: 'string',
    database: 'string',
    status: 'string',
  },
  ...{ reason: 'string', message: 'string', slot: 'time', attempt: 'number', host: 'string', requested: 'boolean' },
} as const
const failed = {
  ...{
    job_id: 'number',
    proc_schema: 'string',
    proc_name: 'string',
    pid: 'number',
    start_time: 'time',
    finish_time: 'time',
  },
  ...{
    sqlerrcode: 'string',
    err_message: 'string',
    run_id: 'string',
    database: 'string',
    reason: 'string',
    attempt: 'number',
  },
} as const
const shownRun = {
  run_id: 'string',
  status: 'string',
  reason: 'string',
  object: 'string',
  slot: 'time',
  started_at: 'time',
  finished_at: 'time',
  message: 'string',
}
const queued = { run_id: 'string', run_ids: ['string'], status: 'string' }

/** A command, its exit code, its document. One after the other. */
const golden: [string[], number, Shape][] = [
  [['job', 'list'], 0, []],
  [
    [
      'job',
      'add',
      'note',
      '--database',
      'dwh',
      '--every',
      '1 hour',
      '--name',
      'nightly',
      '--config',
      '{"days": 1}',
      '--dry-run',
    ],
    0,
    {
      dry_run: 'boolean',
      definition: {
        ...{
          name: 'string',
          action: 'string',
          database: 'string',
          every: 'string',
          timezone: 'string',
          config: 'string',
        },
        ...{ 'retry-period': 'string', overlap: 'string', priority: 'string' },
      },
    },
  ],
  [
    ['job', 'add', 'note', '--database', 'dwh', '--every', '1 hour', '--name', 'nightly', '--config', '{"days": 1}'],
    0,
    { job_id: 'number' },
  ],
  [['job', 'list'], 0, [job]],
  [
    ['job', 'alter', 'nightly', '--priority', '3'],
    0,
    {
      ...{ job_id: 'number', version: 'number', next_start: 'time', dry_run: 'boolean' },
      changes: [{ op: 'string', key: 'string', before: 'string', after: 'string' }],
    },
  ],
  [['job', 'pause', 'nightly'], 0, { job_id: 'number', status: 'string', runs_cancelled: 'number' }],
  [['job', 'resume', 'nightly'], 0, { job_id: 'number', status: 'string', next_start: 'time' }],
  [['job', 'add', 'fails', '--database', 'dwh', '--name', 'failing', '--after', 'nightly'], 0, { job_id: 'number' }],
  [['job', 'run', 'failing'], 0, queued],
  [
    ['run-due', '--max', '2'],
    1,
    [
      {
        run_id: 'string',
        status: 'string',
        reason: 'null',
        rows: 'number',
        bytes: 'number',
        seconds: 'number',
        message: 'string',
        job_id: 'number',
        destination: 'string',
      },
    ],
  ],
  [['job', 'history', 'failing'], 0, [past]],
  [['job', 'errors'], 0, [failed]],
  [
    ['job', 'show', 'failing'],
    0,
    {
      ...job,
      ...{ schedule_interval: 'null', config: 'null', next_start: 'null', after: ['string'] },
      ...{ schedule: 'string', next_starts: [], per_database: [stats], skipped_slots: [], starts_before: [] },
      starts_after: [{ job_id: 'number', label: 'string', needs: 'string' }],
      last_runs: [{ ...shownRun, reason: 'null', started_at: 'null', finished_at: 'null', message: 'null' }],
      waiting: { run_id: 'string', code: 'string', why: 'string' },
    },
  ],
  [['job', 'cancel', 'failing'], 0, { job_id: 'number', runs_cancelled: 'number' }],
  [['run', 'retry', '1'], 0, { run_id: 'string', status: 'string', retries: 'string' }],
  [['job', 'cancel', 'failing'], 0, { job_id: 'number', runs_cancelled: 'number' }],
  [
    ['job', 'alter', 'nightly', '--initial-start', '2026-01-01'],
    0,
    {
      job_id: 'number',
      version: 'number',
      next_start: 'time',
      dry_run: 'boolean',
      changes: [{ op: 'string', key: 'string', before: 'null', after: 'time' }],
    },
  ],
  [
    ['job', 'backfill', 'nightly', '--start', '2026-01-02', '--end', '2026-01-03', '--yes'],
    0,
    { job_id: 'number', slots: ['time'], slots_left_alone: 'number', run_ids: ['string'] },
  ],
  [['job', 'delete', 'failing', '--yes'], 0, { deleted: 'number', runs_cancelled: 'number', runs_kept: 'number' }],
]

describe('JSON of jobs that scripts rely on', () => {
  it.each(golden)('%j', async (command, code, shape) => {
    const ran = await desk.run(...command, '--json')
    expect(ran.code, ran.out).toBe(code)
    expect(shapeOf(ran.json)).toEqual(shape)
  })

  it('names the columns of the views, in their order', async () => {
    const columns = async (view: string) =>
      (
        await desk.control.query<{ name: string }>(
          `select attname as name from pg_attribute where attrelid = $1::regclass and attnum > 0 order by attnum`,
          [`yardmaster.${view}`],
        )
      ).map(({ name }) => name)
    expect(Object.keys(past)).toEqual(await columns('job_history'))
    expect(Object.keys(failed)).toEqual(await columns('job_errors'))
    expect(Object.keys(stats)).toEqual(await columns('job_stats'))
    const jobs = await columns('jobs')
    expect(Object.keys(job).slice(0, 18)).toEqual(jobs.slice(0, 18))
    expect(Object.keys(job).filter((key) => !jobs.includes(key))).toEqual(['destination'])
  })

  it('covers every command of the group', () => {
    const covered = golden.map(([[, name]]) => name)
    const group = buildProgram().commands.find((one) => one.name() === 'job')
    expect(group?.commands.map((one) => one.name()).filter((name) => !covered.includes(name))).toEqual([])
  })
})
