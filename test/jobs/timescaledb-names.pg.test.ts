import { beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { JobsDesk } from './timescaledb-desk.ts'

/** Columns and types as TimescaleDB 2.30 has them. */
const views = {
  jobs: `job_id integer, application_name name, schedule_interval interval, max_runtime interval, max_retries integer, retry_period interval,
    proc_schema name, proc_name name, owner regrole, scheduled boolean, fixed_schedule boolean, config jsonb,
    next_start timestamp with time zone, initial_start timestamp with time zone, hypertable_schema name, hypertable_name name,
    check_schema name, check_name name`,
  job_stats: `hypertable_schema name, hypertable_name name, job_id integer, last_run_started_at timestamp with time zone,
    last_successful_finish timestamp with time zone, last_run_status text, job_status text, last_run_duration interval,
    next_start timestamp with time zone, total_runs bigint, total_successes bigint, total_failures bigint`,
  job_errors: `job_id integer, proc_schema text, proc_name text, pid integer, start_time timestamp with time zone,
    finish_time timestamp with time zone, sqlerrcode text, err_message text`,
  job_history: `id bigint, job_id integer, succeeded boolean, proc_schema text, proc_name text, pid integer,
    start_time timestamp with time zone, finish_time timestamp with time zone, config jsonb, sqlerrcode text, err_message text`,
}

/** As somebody has it in a file, from the manual's pages; nothing of it says Yardmaster. */
const script = [
  `CREATE TABLE conditions (time timestamptz NOT NULL, device int)`,
  `INSERT INTO conditions VALUES (now() - interval '2 years', 1), (now(), 2)`,
  `CREATE OR REPLACE PROCEDURE drop_old(job_id int, config jsonb) LANGUAGE PLPGSQL AS $$
  DECLARE drop_after interval;
  BEGIN
    SELECT jsonb_object_field_text(config, 'drop_after')::interval INTO STRICT drop_after;
    IF drop_after IS NULL THEN RAISE EXCEPTION 'Config must have drop_after'; END IF;
    DELETE FROM public.conditions WHERE time < now() - drop_after;
    COMMIT;
  END $$`,
  `CREATE OR REPLACE FUNCTION check_drop_after(config jsonb) RETURNS void LANGUAGE PLPGSQL AS $$
  BEGIN
    IF config->>'drop_after' IS NULL THEN RAISE EXCEPTION 'drop_after is needed'; END IF;
  END $$`,
  `SELECT add_job('drop_old', '1d', config => '{"drop_after": "12 months"}', initial_start => '2031-01-01 00:00:00+00',
    fixed_schedule => true, timezone => 'Europe/Berlin', check_config => 'check_drop_after'::regproc)`,
  `SELECT add_job('public.drop_old'::regproc, interval '1h', '{"drop_after": "1 year"}', NULL, false)`,
  `SELECT alter_job(1000, schedule_interval => INTERVAL '2 days', max_retries => 5, retry_period => '10 min')`,
  `SELECT job_id, next_start FROM alter_job(1000, scheduled => false)`,
  `SELECT * FROM alter_job(1000, scheduled => true, next_start => '2031-03-15 00:00:00+00')`,
  `SELECT alter_job(job_id, config => '{"drop_after": "6 months"}') FROM timescaledb_information.jobs WHERE proc_name = 'drop_old'`,
  `SELECT alter_job(1001, check_config => 'check_drop_after')`,
  `SELECT alter_job(1001, check_config => 0)`,
  `SELECT alter_job(4711, if_exists => true)`,
  `SELECT job_id, application_name, schedule_interval, owner::text, scheduled FROM timescaledb_information.jobs ORDER BY job_id`,
  `SELECT job_id, last_run_status, job_status, total_runs FROM timescaledb_information.job_stats`,
  `SELECT job_id, err_message FROM timescaledb_information.job_errors WHERE start_time > now() - interval '1 day'`,
  `SELECT * FROM timescaledb_information.job_history ORDER BY start_time DESC LIMIT 10`,
]

async function columnsOf(database: TestDatabase, schema: string, view: string): Promise<string> {
  const rows = await database.query(
    `select attname || ' ' || format_type(atttypid, atttypmod) as column from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [`${schema}.${view}`],
  )
  return rows.map(({ column }) => column).join(', ')
}

const asOneLine = (columns: string) => columns.replaceAll(/\s+/g, ' ')

/** Every object outside of our schema and PostgreSQL's. */
const strangers = `select pg_describe_object(d.classid, d.objid, 0) as what from (
    select 'pg_proc'::regclass as classid, oid as objid from pg_proc where pronamespace = 'public'::regnamespace
    union all select 'pg_class'::regclass, oid from pg_class where relnamespace = to_regnamespace('timescaledb_information')
    union all select 'pg_namespace'::regclass, oid from pg_namespace where nspname = 'timescaledb_information') d order by 1`

describe.each(['18', '14'])("TimescaleDB's names in PostgreSQL %s", (version) => {
  let desk: JobsDesk
  let database: TestDatabase

  beforeAll(async () => {
    const given = version === '14' ? await (await postgres14()).createDatabase('names') : await createDatabase('names')
    desk = await JobsDesk.open('names', { database: given, shared: true })
    database = desk.database
    await database.query('drop procedure public.works, public.fails')
    await database.query('select yardmaster.install_timescaledb_names()')
  })

  it.each(Object.entries(views))('%s has exactly its columns; ours has more behind them', async (view, columns) => {
    expect(await columnsOf(database, 'timescaledb_information', view)).toBe(asOneLine(columns))
    const ours = await columnsOf(database, 'yardmaster', view)
    expect(ours.slice(0, asOneLine(columns).length + 1)).toBe(`${asOneLine(columns)},`)
  })

  it('the functions have its arguments and results', async () => {
    expect(
      await database.query(`select proname || '(' || pg_get_function_arguments(oid) || ')' || coalesce(' ' || pg_get_function_result(oid), '') as is
        from pg_proc where pronamespace = 'public'::regnamespace and pg_get_function_arguments(oid) not like 'proc text%' order by 1`),
    ).toEqual(
      [
        'add_job(proc regproc, schedule_interval interval, config jsonb DEFAULT NULL::jsonb, initial_start timestamp with time zone DEFAULT NULL::timestamp with time zone, scheduled boolean DEFAULT true, check_config regproc DEFAULT NULL::regproc, fixed_schedule boolean DEFAULT true, timezone text DEFAULT NULL::text, job_name text DEFAULT NULL::text) integer',
        'alter_job(job_id integer, schedule_interval interval DEFAULT NULL::interval, max_runtime interval DEFAULT NULL::interval, max_retries integer DEFAULT NULL::integer, retry_period interval DEFAULT NULL::interval, scheduled boolean DEFAULT NULL::boolean, config jsonb DEFAULT NULL::jsonb, next_start timestamp with time zone DEFAULT NULL::timestamp with time zone, if_exists boolean DEFAULT false, check_config regproc DEFAULT NULL::regproc, fixed_schedule boolean DEFAULT NULL::boolean, initial_start timestamp with time zone DEFAULT NULL::timestamp with time zone, timezone text DEFAULT NULL::text, job_name text DEFAULT NULL::text, config_merge jsonb DEFAULT NULL::jsonb) TABLE(job_id integer, schedule_interval interval, max_runtime interval, max_retries integer, retry_period interval, scheduled boolean, config jsonb, next_start timestamp with time zone, check_config text, fixed_schedule boolean, initial_start timestamp with time zone, timezone text, application_name name)',
        'delete_job(job_id integer) void',
        'run_job(IN job_id integer)',
      ].map((is) => ({ is })),
    )
  })

  it('a script for TimescaleDB runs unchanged, and its jobs run', async () => {
    const client = await database.client()
    await client.query('set search_path = public')
    const notices: (string | undefined)[] = []
    client.on('notice', (notice) => notices.push(notice.message))
    for (const statement of script) await client.query(statement)
    expect(notices).toEqual(['job 4711 not found, skipping'])
    expect(
      await database.query(
        'select proc_schema, proc_name, check_name, timezone, config, status, next_start from yardmaster.jobs order by job_id',
      ),
    ).toEqual([
      {
        proc_schema: 'public',
        proc_name: 'drop_old',
        check_name: 'check_drop_after',
        timezone: 'Europe/Berlin',
        config: { drop_after: '6 months' },
        status: 'unverified',
        next_start: new Date('2031-03-15T00:00:00Z'),
      },
      {
        proc_schema: 'public',
        proc_name: 'drop_old',
        check_name: null,
        timezone: 'UTC',
        config: { drop_after: '6 months' },
        status: 'paused',
        next_start: null,
      },
    ])
    await desk.startWorker()
    await desk.settle(1000)
    await client.query('CALL run_job(1001)')
    await client.query('call run_job(1000)')
    expect(await database.query('select device from public.conditions')).toEqual([{ device: 2 }])
    expect(
      await database.query(
        'select job_id, succeeded, proc_schema, proc_name, sqlerrcode, err_message from timescaledb_information.job_history order by id',
      ),
    ).toEqual([
      {
        job_id: 1001,
        succeeded: true,
        proc_schema: 'public',
        proc_name: 'drop_old',
        sqlerrcode: null,
        err_message: null,
      },
      {
        job_id: 1000,
        succeeded: true,
        proc_schema: 'public',
        proc_name: 'drop_old',
        sqlerrcode: null,
        err_message: null,
      },
    ])
    // What somebody asked for changes neither that nor when the next slot is.
    expect((await desk.job(1000)).next_start).toEqual(new Date('2031-03-15T00:00:00Z'))
    await client.query('SELECT delete_job(1000), delete_job(1001), delete_job(NULL)')
    expect(await database.query('select job_id from timescaledb_information.jobs')).toEqual([])
  })

  it('are made again without harm, and taken away without a trace', async () => {
    await database.query('drop procedure public.drop_old')
    await database.query('drop function public.check_drop_after')
    const made = await database.query(strangers)
    expect(made).toHaveLength(10)
    await database.query('select yardmaster.install_timescaledb_names()')
    expect(await database.query(strangers)).toEqual(made)
    await database.query('select yardmaster.uninstall_timescaledb_names()')
    expect(await database.query(strangers)).toEqual([])
    await database.query('select yardmaster.uninstall_timescaledb_names()')
  })

  it.each([
    [
      'create function public.add_job(text) returns int language sql as $$ select 1 $$',
      'add_job(text)',
      'drop function public.add_job(text)',
    ],
    [
      'create procedure public.run_job(int, int) language sql as $$ select 1 $$',
      'run_job(integer,integer)',
      'drop procedure public.run_job',
    ],
    [
      'create schema timescaledb_information',
      'the schema timescaledb_information',
      'drop schema timescaledb_information',
    ],
  ])('are refused where somebody has one of them: %s', async (made, what, dropped) => {
    await database.query(made)
    const before = await database.query(strangers)
    await expect(database.query('select yardmaster.install_timescaledb_names()')).rejects.toMatchObject({
      code: 'YM002',
      message: expect.stringMatching(
        `^In database ${database.name} somebody else has (public\\.)?${what.replaceAll(/[()]/g, '\\$&')} already\\.$`,
      ),
    })
    await database.query('select yardmaster.uninstall_timescaledb_names()')
    expect(await database.query(strangers)).toEqual(before)
    await database.query(dropped)
  })
})

it('are refused where TimescaleDB is', async () => {
  const { database } = await JobsDesk.open('extension')
  // As if it were there: its files are not on this machine.
  await database.query(
    `insert into pg_extension select 99999, 'timescaledb', extowner, extnamespace, false, '2.30.0', null, null from pg_extension limit 1`,
  )
  try {
    await expect(database.query('select yardmaster.install_timescaledb_names()')).rejects.toMatchObject({
      code: 'YM002',
      message: `The extension timescaledb is in database ${database.name}: the names are its own.`,
    })
  } finally {
    await database.query('delete from pg_extension where oid = 99999')
  }
})
