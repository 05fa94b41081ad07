import pg from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { JobsDesk } from './timescaledb-desk.ts'

let desk: JobsDesk

beforeAll(async () => {
  desk = await JobsDesk.open('definitions')
})

async function refusal(statement: string): Promise<pg.DatabaseError> {
  try {
    await desk.database.query(statement)
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error
    throw error
  }
  throw new Error(`${statement} was accepted`)
}

const one = async (statement: string) => (await desk.database.query(statement))[0]
const row = (id: number) => one(`select * from yardmaster.jobs where job_id = ${id}`)

describe('the arguments', () => {
  it.each([
    [
      'add_job',
      `proc text, schedule_interval interval, config jsonb DEFAULT NULL::jsonb, initial_start timestamp with time zone DEFAULT NULL::timestamp with time zone, scheduled boolean DEFAULT true, check_config text DEFAULT NULL::text, fixed_schedule boolean DEFAULT true, timezone text DEFAULT NULL::text, job_name text DEFAULT NULL::text`,
    ],
    [
      'alter_job',
      `job_id integer, schedule_interval interval DEFAULT NULL::interval, max_runtime interval DEFAULT NULL::interval, max_retries integer DEFAULT NULL::integer, retry_period interval DEFAULT NULL::interval, scheduled boolean DEFAULT NULL::boolean, config jsonb DEFAULT NULL::jsonb, next_start timestamp with time zone DEFAULT NULL::timestamp with time zone, if_exists boolean DEFAULT false, check_config text DEFAULT NULL::text, fixed_schedule boolean DEFAULT NULL::boolean, initial_start timestamp with time zone DEFAULT NULL::timestamp with time zone, timezone text DEFAULT NULL::text, job_name text DEFAULT NULL::text, config_merge jsonb DEFAULT NULL::jsonb`,
    ],
    ['delete_job', 'job_id integer'],
    ['run_job', 'IN job_id integer'],
  ])("of %s are TimescaleDB's, ours behind them", async (name, expected) => {
    const { args } = await one(
      `select pg_get_function_arguments(oid) as args from pg_proc where pronamespace = 'yardmaster'::regnamespace and proname = '${name}'`,
    )
    expect(name === 'add_job' ? args.slice(0, expected.length + 1) : args).toBe(
      name === 'add_job' ? `${expected},` : expected,
    )
  })

  it('are VOLATILE and not STRICT, but for delete_job', async () => {
    expect(
      await desk.database.query(`select proname::text as name, provolatile::text as volatile, proisstrict as strict, format_type(prorettype, null) as returns
        from pg_proc where pronamespace = 'yardmaster'::regnamespace and proname in ('add_job', 'alter_job', 'delete_job') order by 1`),
    ).toEqual([
      { name: 'add_job', volatile: 'v', strict: false, returns: 'integer' },
      { name: 'alter_job', volatile: 'v', strict: false, returns: 'altered_job' },
      { name: 'delete_job', volatile: 'v', strict: true, returns: 'void' },
    ])
  })

  it('alter_job answers with 13 columns', async () => {
    const columns = await desk.database.query(`select attname || ' ' || format_type(atttypid, atttypmod) as is
      from pg_attribute where attrelid = 'yardmaster.altered_job'::regclass order by attnum`)
    expect(columns.map(({ is }) => is)).toEqual([
      'job_id integer',
      'schedule_interval interval',
      'max_runtime interval',
      'max_retries integer',
      'retry_period interval',
      'scheduled boolean',
      'config jsonb',
      'next_start timestamp with time zone',
      'check_config text',
      'fixed_schedule boolean',
      'initial_start timestamp with time zone',
      'timezone text',
      'application_name name',
    ])
  })
})

describe('add_job', () => {
  it('numbers from 1000, with the defaults', async () => {
    const { id } = await one(`select yardmaster.add_job('works', '1 hour') as id`)
    expect(id).toBe(1000)
    expect(await row(1000)).toMatchObject({
      application_name: 'User-Defined Action [1000]',
      max_runtime: {},
      max_retries: -1,
      retry_period: { minutes: 5 },
      proc_name: 'works',
      scheduled: true,
      fixed_schedule: true,
      config: null,
      initial_start: null,
      check_schema: null,
      check_name: null,
      timezone: 'UTC',
      status: 'unverified',
    })
  })

  it('takes all nine by position', async () => {
    const { id } = await one(
      `select yardmaster.add_job('public.works', '2 days', '{"a": null}', '2031-01-01 00:00+00', false, 'public.looks', false, 'Europe/London', 'nightly') as id`,
    )
    expect(await row(id)).toMatchObject({
      application_name: `nightly [${id}]`,
      schedule_interval: { days: 2 },
      proc_schema: 'public',
      proc_name: 'works',
      // A null within is kept.
      config: { a: null },
      initial_start: new Date('2031-01-01T00:00:00Z'),
      scheduled: false,
      check_schema: 'public',
      check_name: 'looks',
      fixed_schedule: false,
      timezone: 'Europe/London',
    })
  })

  it('takes NULL for scheduled and fixed_schedule as true', async () => {
    const { id } = await one(
      `select yardmaster.add_job('works', '1 h', scheduled => null, fixed_schedule => null) as id`,
    )
    expect(await row(id)).toMatchObject({ scheduled: true, fixed_schedule: true })
  })

  it('whatever the session writes intervals and dates like', async () => {
    const client = await desk.database.client()
    await client.query(`set intervalstyle = sql_standard; set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'`)
    const { rows } = await client.query(
      `select yardmaster.add_job('works', '1 day 02:03:04.5', initial_start => '2031-03-02 00:00+00', fixed_schedule => false) as id`,
    )
    expect(await row(rows[0].id)).toMatchObject({
      schedule_interval: { days: 1, hours: 2, minutes: 3, seconds: 4, milliseconds: 500 },
      initial_start: new Date('2031-03-02T00:00:00Z'),
    })
  })

  it('finds what is named oddly', async () => {
    const { id } = await one(`select yardmaster.add_job('"Odd ""Schema"."Do.It"', '1 h') as id`)
    expect(await row(id)).toMatchObject({ proc_schema: 'Odd "Schema', proc_name: 'Do.It' })
  })

  it.each([
    ['function or procedure cannot be NULL', `select yardmaster.add_job(null, '1 h')`],
    ['schedule interval cannot be NULL', `select yardmaster.add_job('works', null)`],
    ['month intervals cannot have day or time component', `select yardmaster.add_job('works', '1 month 1 day')`],
    ['month intervals cannot have day or time component', `select yardmaster.add_job('works', '1 year 1 second')`],
    ['application name too long.', `select yardmaster.add_job('works', '1 h', job_name => repeat('x', 57))`],
    // 28 letters of two bytes, and the number.
    ['application name too long.', `select yardmaster.add_job('works', '1 h', job_name => repeat('é', 29))`],
    [
      'The option timezone must be a time zone, not "Mars/Olympus".',
      `select yardmaster.add_job('works', '1 h', timezone => 'Mars/Olympus')`,
    ],
    [
      'The option schedule_interval must be an interval above 0, not "-01:00:00".',
      `select yardmaster.add_job('works', '-1 h')`,
    ],
    [
      'The option initial_start must be a time from the year 1 to 9998, not "-infinity".',
      `select yardmaster.add_job('works', '1 h', initial_start => '-infinity')`,
    ],
    [
      `'works(); drop table x' is not the name of a function or procedure.`,
      `select yardmaster.add_job('works(); drop table x', '1 h')`,
    ],
    [`'a.b.c' is not the name of a function or procedure.`, `select yardmaster.add_job('a.b.c', '1 h')`],
    [`'' is not the name of a function or procedure.`, `select yardmaster.add_job('', '1 h')`],
    [`'c(' is not the name of a function.`, `select yardmaster.add_job('works', '1 h', check_config => 'c(')`],
  ])('%s: %s', async (message, statement) => {
    const before = await one('select count(*) from yardmaster.job')
    expect((await refusal(statement)).message).toBe(message)
    expect(await one('select count(*) from yardmaster.job')).toEqual(before)
  })

  it('a name of 56 bytes just fits, and months with days where the schedule drifts', async () => {
    const { id } = await one(
      `select yardmaster.add_job('works', '1 month 1 day', fixed_schedule => false, job_name => repeat('x', 56)) as id`,
    )
    expect((await row(id)).application_name).toBe(`${'x'.repeat(56)} [${id}]`)
  })
})

describe('alter_job', () => {
  const full = `'works', '1 day', '{"a": 1, "b": {"c": 2}}', '2031-01-01 00:00+00', true, 'public.looks', false, 'Europe/London', 'nightly'`
  let id: number
  const alter = (args: string) => one(`select * from yardmaster.alter_job(${id}${args === '' ? '' : `, ${args}`})`)

  it('NULL keeps everything, the time zone too', async () => {
    id = await desk.add(full)
    const before = await row(id)
    expect(await alter('')).toMatchObject({
      job_id: id,
      schedule_interval: { days: 1 },
      max_runtime: {},
      max_retries: -1,
      retry_period: { minutes: 5 },
      scheduled: true,
      config: { a: 1, b: { c: 2 } },
      check_config: 'public.looks',
      fixed_schedule: false,
      initial_start: new Date('2031-01-01T00:00:00Z'),
      timezone: 'Europe/London',
      application_name: `nightly [${id}]`,
    })
    expect(await alter(`max_retries => 3`)).toMatchObject({ timezone: 'Europe/London', max_retries: 3 })
    expect(await row(id)).toEqual({ ...before, max_retries: 3, version: expect.any(Number) })
  })

  it('takes all fifteen by position', async () => {
    const answer = await alter(
      `'2 h', '1 min', 5, '7 s', false, '{"x": 1}', null, false, '-', true, '2032-01-01 00:00+00', 'UTC', 'hourly', null`,
    )
    expect(answer).toMatchObject({
      schedule_interval: { hours: 2 },
      max_runtime: { minutes: 1 },
      max_retries: 5,
      retry_period: { seconds: 7 },
      scheduled: false,
      config: { x: 1 },
      check_config: null,
      fixed_schedule: true,
      initial_start: new Date('2032-01-01T00:00:00Z'),
      timezone: 'UTC',
      application_name: `hourly [${id}]`,
    })
  })

  it('config is replaced, config_merge laid over it, and not both', async () => {
    expect(await alter(`config => '{"a": 1, "b": {"c": 2}}'`)).toMatchObject({ config: { a: 1, b: { c: 2 } } })
    expect(await alter(`config_merge => '{"b": {"d": 3}, "e": null}'`)).toMatchObject({
      config: { a: 1, b: { d: 3 }, e: null },
    })
    expect((await refusal(`select yardmaster.alter_job(${id}, config => '{}', config_merge => '{}')`)).message).toBe(
      'cannot use both config and config_merge',
    )
  })

  it('two merges at once are both kept', async () => {
    const [first, second] = [await desk.database.client(), await desk.database.client()]
    await alter(`config => '{}'`)
    await first.query('begin')
    await first.query(`select yardmaster.alter_job(${id}, config_merge => '{"first": 1}')`)
    const late = second.query(`select yardmaster.alter_job(${id}, config_merge => '{"second": 2}')`)
    const pid = (second as unknown as { processID: number }).processID
    await expect.poll(async () => (await one(`select cardinality(pg_blocking_pids(${pid})) as n`)).n).toBe(1)
    await first.query('commit')
    await late
    expect((await row(id)).config).toEqual({ first: 1, second: 2 })
  })

  it('a changed check, or config under a check, is looked at again', async () => {
    await alter(`scheduled => true, check_config => 'looks'`)
    expect(await row(id)).toMatchObject({ status: 'unverified', check_name: 'looks', scheduled: true })
    await desk.settle(id)
    await alter(`max_retries => 1`)
    expect((await row(id)).status).toBe('active')
    await alter(`config => '{"y": 1}'`)
    expect((await row(id)).status).toBe('unverified')
    await desk.settle(id, 'looks refuses the configuration: y')
    expect(await row(id)).toMatchObject({
      status: 'paused',
      pause_note: 'looks refuses the configuration: y',
      paused_by: 'verification',
    })
    await alter(`scheduled => true`)
    expect((await row(id)).status).toBe('unverified')
    await alter(`check_config => '-'`)
    await desk.settle(id)
    expect(await row(id)).toMatchObject({ status: 'active', check_name: null, pause_note: null })
  })

  it('what was found belongs to the job as it was: a job that was changed meanwhile is looked at again', async () => {
    const late = await desk.database.query(`select yardmaster.add_job('works', '1 h') as id`)
    const [asked] = await desk.database.query('select version from yardmaster.unverified_jobs(100) where job_id = $1', [
      late[0].id,
    ])
    await one(`select yardmaster.alter_job(${late[0].id}, check_config => 'looks')`)
    expect(
      await one(`select yardmaster.settle_verification(${late[0].id}, ${asked.version}, 'public', null) as done`),
    ).toEqual({ done: false })
    expect((await row(late[0].id)).status).toBe('unverified')
  })

  it.each([
    ['job ID cannot be NULL', `select yardmaster.alter_job(null)`],
    ['job ID cannot be NULL', `select yardmaster.alter_job(null, if_exists => true)`],
    ['job 999999 not found', `select yardmaster.alter_job(999999)`],
    ['job 999999 not found', `select yardmaster.delete_job(999999)`],
    ['job 999999 not found', `select yardmaster.request_run(999999)`],
    ['job ID cannot be NULL', `call yardmaster.run_job(null)`],
    ['job 999999 not found', `call yardmaster.run_job(999999)`],
    ['next_start cannot be -infinity', `select yardmaster.alter_job(1000, next_start => '-infinity')`],
    ['month intervals cannot have day or time component', `select yardmaster.alter_job(1000, '1 month 1 h')`],
    ['application name too long.', `select yardmaster.alter_job(1000, job_name => repeat('x', 57))`],
    [
      'The option max_retries must be a whole number of -1 (no end) or more, not -2.',
      `select yardmaster.alter_job(1000, max_retries => -2)`,
    ],
  ])('%s: %s', async (message, statement) => {
    const before = await row(1000)
    expect((await refusal(statement)).message).toBe(message)
    expect(await row(1000)).toEqual(before)
  })

  it('if_exists: a notice and a NULL row for what is not there', async () => {
    const client = await desk.database.client()
    const notices: (string | undefined)[] = []
    client.on('notice', (notice) => notices.push(notice.message))
    const { rows } = await client.query('select * from yardmaster.alter_job(999999, if_exists => true)')
    expect(rows).toHaveLength(1)
    expect(Object.values(rows[0])).toEqual(Array(13).fill(null))
    expect(notices).toEqual(['job 999999 not found, skipping'])
  })

  it('delete_job answers NULL for NULL, and what is deleted is not found again', async () => {
    const gone = await desk.add(`'works', '1 h'`)
    expect(await one('select yardmaster.delete_job(null) as is')).toEqual({ is: null })
    await one(`select yardmaster.delete_job(${gone})`)
    expect(await row(gone)).toBeUndefined()
    expect(await desk.stats(gone)).toBeUndefined()
    expect((await refusal(`select yardmaster.delete_job(${gone})`)).message).toBe(`job ${gone} not found`)
  })
})

describe('where the job runs', () => {
  it('the only database, the one that is named, or the one the session says; several must be told apart', async () => {
    const alone = await JobsDesk.open('place')
    const add = (more = '') => alone.database.query(`select yardmaster.add_job('works', '1 h'${more}) as id`)
    const place = async (id: number) =>
      (await alone.database.query('select database from yardmaster.jobs where job_id = $1', [id]))[0].database
    expect(await place((await add())[0].id)).toBe('dwh')
    await alone.database.query(`select yardmaster.add_database('crm', 'env:CRM')`)
    await expect(add()).rejects.toMatchObject({
      message: 'A job runs in a registered database, and there are several: crm and dwh.',
      hint: expect.stringContaining('set yardmaster.database = '),
    })
    expect(await place((await add(`, database => 'crm'`))[0].id)).toBe('crm')
    await alone.database.query(`set yardmaster.database = 'crm'`)
    expect(await place((await add())[0].id)).toBe('crm')
    await expect(add(`, database => 'cmr'`)).rejects.toMatchObject({ code: 'YM001' })
  })
})
