import { readFileSync, writeFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { readHdbpp } from '../../src/compat/hdbpp-import.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { runCli } from '../support/process.ts'
import { FakeTerminal } from './fake-terminal.ts'
import {
  addJob,
  counted,
  deploymentFile,
  installHdbpp,
  postprocess,
  procedure,
  stats,
} from './postprocess-deployment.ts'

let database: TestDatabase
let file: string

beforeEach(async () => {
  database = await createDatabase('hdb')
  await installHdbpp(database)
  file = deploymentFile({ accelerator: database.url })
})

const calls = () => database.query('select job_id, config from calls order by n')

/** A role whose search_path is this, and a file that logs in as it. */
async function roleWith(path: string, place: TestDatabase): Promise<{ role: string; file: string }> {
  const role = `${place.name}_role`
  await place.query(`create role ${role} login password 'canary-7'`)
  await place.query(`alter role ${role} set search_path = ${path}`)
  await place.query(`grant all on all tables in schema public to ${role}`)
  const url = new URL(place.url)
  url.username = role
  url.password = 'canary-7'
  return { role, file: deploymentFile({ accelerator: url.href }) }
}

describe('a pass of postprocess', () => {
  it('calls every job in its order, whatever becomes of the others, and counts each', async () => {
    await procedure(
      database,
      'commits',
      'insert into calls (job_id) values (id); commit; insert into calls (job_id) values (id); rollback;',
    )
    await procedure(database, '"Odd.Name; x"', 'insert into public.calls (job_id) values (id);')
    const add = (name: string | null, config: object | null = {}) => addJob(database, name, config)
    const a = await add('works', { text: `it's "odd" \\ ü\n` })
    const b = await add('fails')
    const c = await add('Commits')
    const d = await add('public."Odd.Name; x"', null)
    const e = await add('no_such_procedure')
    const f = await add("works(1, '{}'); drop table calls; --")
    const g = await add(null)
    const h = await add('works', null)
    await addJob(database, 'works', {}, 'something else')
    const { code, err, out } = await postprocess(file)
    expect(code).toBe(1)
    expect(out).toBe('')
    expect(await calls()).toEqual([
      { job_id: a, config: { text: `it's "odd" \\ ü\n` } },
      { job_id: c, config: null },
      { job_id: d, config: null },
      { job_id: h, config: null },
    ])
    const [last] = await database.query('select config is null as sql_null from calls order by n desc limit 1')
    expect(last).toEqual({ sql_null: true })
    const good = [a, c, d, h]
    const wanted = [a, b, c, d, e, f, g, h].map((id) => counted(id, good.includes(id), [1, good.includes(id) ? 1 : 0]))
    expect(await stats(database)).toEqual(wanted)
    expect(err).toContain('accelerator: 8 jobs to run.')
    expect(err).toContain(`job ${b} (fails) failed: [sql_failed] as it should (SQLSTATE P0001)`)
    expect(err).toContain(`job ${f} (works(1, '{}'); drop table calls; --) failed: [name_invalid] proc_name is`)
    expect(err).toContain(`job ${g} (NULL) failed: [name_invalid] proc_name is NULL`)
    expect(err).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d hdbpp_postprocessing\[\d+\]: accelerator: 8 jobs/)
  })

  it('adds to the totals that are there, and keeps the last success of a job that fails now', async () => {
    const id = await addJob(database, 'works')
    const other = await addJob(database, 'works')
    await database.query('insert into postprocessing_jobs_stats (job_id) values ($1)', [other])
    expect((await postprocess(file)).code).toBe(0)
    const finish = () =>
      database.query(
        'select last_successful_finish as at, last_run_started_at as began from postprocessing_jobs_stats order by job_id',
      )
    const [before] = await finish()
    await database.query('alter procedure works rename to elsewhere')
    expect((await postprocess(file)).code).toBe(1)
    const [after] = await finish()
    expect(after?.at).toEqual(before?.at)
    expect(after?.began.getTime()).toBeGreaterThan(before?.at.getTime())
    expect(await stats(database)).toEqual([counted(id, false, [2, 1]), counted(other, false, [2, 1])])
  })

  it('measures by the server’s clock and in fractions of a second', async () => {
    await procedure(database, 'waits', 'perform pg_sleep(0.2);')
    await addJob(database, 'waits')
    await database.query(`alter database ${database.name} set timezone = 'Australia/Lord_Howe'`)
    await database.query(`alter database ${database.name} set datestyle = 'German'`)
    expect((await postprocess(file)).code).toBe(0)
    const [row] = await database.query(`select extract(epoch from last_run_duration)::float as took,
      extract(epoch from last_successful_finish - last_run_started_at)::float as apart,
      clock_timestamp() - last_successful_finish between '0' and '20 seconds' as just_now from postprocessing_jobs_stats`)
    expect(row.took).toBeGreaterThanOrEqual(0.2)
    expect(row.took).toBeLessThan(10)
    expect(row.apart).toBeCloseTo(row.took, 4)
    expect(row.just_now).toBe(true)
  })

  it('finds procedures that take the id and the config as other types, as the script did', async () => {
    await procedure(database, 'takes_int', 'insert into calls (job_id) values (id);', 'id int, config jsonb')
    await procedure(database, 'takes_json', 'insert into calls (job_id) values (id);', 'id numeric, config json')
    await procedure(
      database,
      'takes_text',
      'insert into calls (job_id) values (id);',
      'id bigint, config text default null',
    )
    await procedure(
      database,
      'gives_back',
      'insert into calls (job_id) values (id); config = null;',
      'id int, inout config jsonb',
    )
    await procedure(database, 'takes_int', `raise exception 'the other one';`, 'id bigint, config jsonb')
    for (const name of ['takes_int', 'takes_json', 'takes_text', 'gives_back']) await addJob(database, name)
    expect((await postprocess(file)).code).toBe(0)
    expect(await calls()).toHaveLength(4)
  })

  it('does nothing where there is no job', async () => {
    const { code, err } = await postprocess(file)
    expect(code).toBe(0)
    expect(err).toContain('accelerator: 0 jobs to run.')
    expect(await stats(database)).toEqual([])
  })

  it('goes on with the other deployments where one is down, and ends with 1', async () => {
    const other = await createDatabase('hdb other')
    await installHdbpp(other)
    await addJob(database, 'works')
    await addJob(other, 'works')
    const gone = new URL(database.url)
    gone.port = '1'
    const several = deploymentFile({
      one: database.url,
      down: gone.href,
      empty: new URL('/postgres', database.url).href,
      two: other.url,
    })
    const { code, err, out } = await postprocess(several, '--json')
    expect(code).toBe(1)
    expect(err).toContain('down: [database_unreachable] ')
    expect(err).toContain('Check host and port in the file')
    expect(err).toContain('sees no table postprocessing_jobs and postprocessing_jobs_stats in the database postgres')
    expect(JSON.parse(out)).toMatchObject({
      deployments: [
        { deployment: 'one', jobs: [{ proc_name: 'works', ok: true }], error: null },
        { deployment: 'down', jobs: [], error: { code: 'database_unreachable' } },
        { deployment: 'empty', jobs: [], error: { code: 'hdbpp_tables_missing' } },
        { deployment: 'two', jobs: [{ ok: true }], error: null },
      ],
    })
    expect((await stats(database)).concat(await stats(other))).toHaveLength(2)
  })

  it('works on PostgreSQL 14', async () => {
    const old = await (await postgres14()).createDatabase('hdb 14')
    await installHdbpp(old)
    await procedure(old, 'commits', 'insert into calls (job_id) values (id); commit;')
    await old.query(`create role ${old.name}_other`)
    await procedure(old, 'litters', `set role ${old.name}_other;`)
    const ids = [await addJob(old, 'litters'), await addJob(old, 'commits'), await addJob(old, 'fails')]
    expect((await postprocess(deploymentFile({ old: old.url }))).code).toBe(1)
    expect(await stats(old)).toEqual(ids.map((id, index) => counted(id, index < 2, [1, index < 2 ? 1 : 0])))
  })

  it('leaves no session behind', async () => {
    await addJob(database, 'works')
    expect((await postprocess(file)).code).toBe(0)
    const left = () =>
      database.query(
        `select from pg_stat_activity where datname = current_database() and application_name like 'yardmaster p%'`,
      )
    await expect.poll(left).toEqual([])
  })
})

describe('names and settings', () => {
  it('are those of the user: tables and procedures are found by the role’s search_path, settings hold in the procedure', async () => {
    await database.query('create schema "Hdb++"')
    await database.query('alter table postprocessing_jobs set schema "Hdb++"')
    await database.query('alter table postprocessing_jobs_stats set schema "Hdb++"')
    const { role, file: own } = await roleWith('"Hdb++", public', database)
    await database.query(`alter role ${role} set work_mem = '7MB'`)
    await procedure(
      database,
      '"Hdb++".mine',
      `insert into calls (job_id, config) values (id, to_jsonb(array[current_setting('search_path'), current_setting('work_mem')]));`,
    )
    await database.query(`grant all on schema "Hdb++" to ${role}`)
    await database.query(`grant all on all tables in schema "Hdb++" to ${role}`)
    await database.query(`set search_path = "Hdb++", public`)
    const id = await addJob(database, 'mine')
    const ran = await postprocess(own)
    expect(ran.code, ran.err).toBe(0)
    expect(await calls()).toEqual([{ job_id: id, config: ['"Hdb++", public', '7MB'] }])
    expect(await stats(database)).toEqual([counted(id, true, [1, 1])])
  })

  it('of others in front of the catalog’s change nothing of what we ask and count', async () => {
    await database.query('create schema trap')
    for (const lie of [
      'to_regclass(text)',
      'set_config(text, text, boolean)',
      'clock_timestamp()',
      'pg_advisory_lock(bigint)',
      'make_interval(secs double precision)',
    ])
      await database.query(
        `create function trap.${lie} returns text language plpgsql as $f$ begin raise exception 'trapped'; end $f$`,
      )
    const { role, file: own } = await roleWith('trap, pg_catalog, public', database)
    await database.query(`grant usage on schema trap to ${role}`)
    const id = await addJob(database, 'works')
    const ran = await postprocess(own)
    expect(ran.code, ran.err).toBe(0)
    expect(await stats(database)).toEqual([counted(id, true, [1, 1])])
  })

  it('that a procedure leaves behind hold neither for the next one nor for the stats', async () => {
    const role = `${database.name}_other`
    await database.query(`create role ${role}`)
    await procedure(
      database,
      'litters',
      `create temp table postprocessing_jobs_stats (job_id bigint); create temp table calls (job_id bigint, config jsonb);
       set search_path = pg_temp; set default_transaction_read_only = on; set timezone = 'Asia/Tokyo';
       execute 'prepare left_over as select 1'; execute 'declare left_over cursor with hold for select 1';
       set role ${role};`,
    )
    await procedure(database, 'plain', 'insert into calls (job_id) values (id);')
    const names = ['litters', 'litters', 'plain']
    const ids = []
    for (const name of names) ids.push(await addJob(database, name))
    const ran = await postprocess(file)
    expect(ran.code, ran.err).toBe(0)
    expect(await stats(database)).toEqual(ids.map((id) => counted(id, true, [1, 1])))
    expect(await calls()).toHaveLength(1)
  })

  it('may lack rights: the message has the grants', async () => {
    const { role, file: own } = await roleWith('public', database)
    await database.query(`revoke all on postprocessing_jobs from ${role}`)
    const { code, err } = await postprocess(own)
    expect(code).toBe(1)
    expect(err).toContain('[permission_denied]')
    expect(err).toContain(
      `GRANT SELECT ON "public"."postprocessing_jobs" TO "${role}"; GRANT SELECT, INSERT, UPDATE ON`,
    )
  })

  it('of a procedure that raises notices without end are no answer that is too long', async () => {
    await procedure(database, 'talks', `for i in 1 .. 70000 loop raise notice '%', repeat('x', 1000); end loop;`)
    await addJob(database, 'talks')
    const ran = await postprocess(file)
    expect(ran.code, ran.err).toBe(0)
  })
})

describe('--init', () => {
  it('makes the tables as their schema has them, and only where they are absent', async () => {
    const empty = await createDatabase('hdb empty')
    const where = deploymentFile({ empty: empty.url })
    const first = await postprocess(where, '--init')
    expect(first.code).toBe(0)
    expect(first.err).toContain('empty: public.postprocessing_jobs was made.')
    expect(first.err).toContain('empty: public.postprocessing_jobs_stats was made.')
    const shape = (place: TestDatabase) =>
      place.query(`select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attidentity, attnotnull,
        (select string_agg(pg_get_constraintdef(c.oid), ' ' order by c.oid) from pg_constraint c where c.conrelid = attrelid and attnum = any(c.conkey) and c.contype in ('p', 'f'))
        from pg_attribute where attrelid in ('postprocessing_jobs'::regclass, 'postprocessing_jobs_stats'::regclass) and attnum > 0 order by attrelid::regclass::text, attnum`)
    expect(await shape(empty)).toEqual(await shape(database))
    await empty.query('drop table postprocessing_jobs_stats')
    await empty.query(
      `insert into postprocessing_jobs (application_name, proc_name) values ('HDB++ postprocessing', 'none')`,
    )
    const again = await postprocess(where, '--init')
    expect(again.code).toBe(0)
    expect(again.err).toContain('public.postprocessing_jobs is there already.')
    expect(again.err).toContain('public.postprocessing_jobs_stats was made.')
    // It runs no job.
    expect(await stats(empty)).toEqual([])
  })

  it('makes them in the first schema of the search_path, and says where there is none', async () => {
    const empty = await createDatabase('hdb path')
    await empty.query('create schema inner_one')
    const { role, file: own } = await roleWith('absent, inner_one, public', empty)
    await empty.query(`grant all on schema inner_one to ${role}`)
    expect((await postprocess(own, '--init')).err).toContain('inner_one.postprocessing_jobs was made')
    await empty.query(`alter role ${role} set search_path = absent`)
    const { code, err } = await postprocess(own, '--init')
    expect(code).toBe(1)
    expect(err).toContain('there is nowhere to make the tables')
  })
})

describe('the command', () => {
  it('only checks the file with --validate, and says all that is wrong', async () => {
    await addJob(database, 'fails')
    const good = await postprocess(file, '--validate')
    expect(good.code).toBe(0)
    expect(good.err).toContain('one deployment, no fault.')
    expect(await stats(database)).toEqual([])
    writeFileSync(file, 'a: {connection: {port: x}}\nb: 1\n')
    const bad = await postprocess(file, '--validate')
    expect(bad.code).toBe(1)
    expect(bad.err).toContain(`${file}:1: a.connection.user: found nothing`)
    expect(bad.err).toContain(`${file}:2: b: found a number`)
    const { error } = JSON.parse((await postprocess(file, '--json')).out)
    expect(error.code).toBe('hdbpp_file_invalid')
    expect(error.errors).toHaveLength(3)
  })

  it.each([['--version'], ['-v']])('prints the version with %s', async (flag) => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
    const { exitCode, stdout } = await runCli(['postprocess', flag])
    expect([exitCode, stdout]).toEqual([0, `${version}\n`])
  })

  it('shows what is called with --debug, and no password', async () => {
    await addJob(database, 'works', { a: 1 })
    const { role, file: own } = await roleWith('public', database)
    const { err } = await postprocess(own, '--debug')
    expect(err).toContain(`accelerator: connects to ${database.name}`)
    await database.query(`alter role ${role} password 'another'`)
    expect(err + (await postprocess(own, '--debug')).err).not.toContain('canary-7')
    const plain = await postprocess(file, '-d')
    expect(plain.err).toContain(`call "works"(1, '{"a": 1}')`)
    expect((await postprocess(file)).err).not.toContain('call "works"')
    expect((await postprocess(file, '--log-level', 'error')).err).toBe('')
  })

  it.each([
    [['--bogus'], "Unknown option '--bogus'"],
    [['--init', '--validate'], '--init and --validate cannot both be given'],
    [['x'], 'Too many arguments'],
  ])('with %j is wrong usage', async (flags, said) => {
    const { code, err } = await postprocess(file, ...flags)
    expect(code).toBe(2)
    expect(err).toContain(said)
  })

  it('reads /etc/hdb/hdbpp_postprocessing.conf unless it is told otherwise', async () => {
    const { stdout } = await runCli(['postprocess', '--help'])
    expect(stdout).toMatch(/--config <file>.*\(default:\s+"\/etc\/hdb\/hdbpp_postprocessing\.conf"\)/s)
  })
})

describe('the file for cron', () => {
  it('starts it at 22:00 every day, with options that there are', async () => {
    const lines = readFileSync('deploy/hdbpp/hdbpp_postprocessing', 'utf8').split('\n')
    const entries = lines.filter((line) => /^[\d*]/.test(line))
    expect(entries).toHaveLength(1)
    const [, time, user, command] = /^((?:\S+ ){5})(\S+) yardmaster (.*)$/.exec(entries[0] ?? '') ?? []
    expect([time, user]).toEqual(['0 22 * * * ', 'root'])
    // cron takes no file that does not end with a line's end.
    expect(lines.at(-1)).toBe('')
    const terminal = new FakeTerminal({ terminal: false, environment: { YARDMASTER_SYSLOG_SOCKET: '/nonexistent' } })
    expect(await terminal.run(...(command ?? '').replace('/etc/hdb/', 'deploy/hdbpp/').split(' '), '--validate')).toBe(
      0,
    )
    expect(terminal.err).toContain('deploy/hdbpp/hdbpp_postprocessing.conf: one deployment, no fault.')
  })
})

describe('what is read for the import', () => {
  it('has the jobs of each deployment with their stats, as texts where numbers are large', async () => {
    const id = await addJob(database, 'works', { a: 1 })
    await addJob(database, 'fails', null)
    await postprocess(file)
    await database.query(
      `update postprocessing_jobs_stats set total_runs = 9007199254740993, last_run_duration = '1 mon 2 days' where job_id = $1`,
      [id],
    )
    const gone = new URL(database.url)
    gone.port = '1'
    const found = await readHdbpp(deploymentFile({ one: database.url, down: gone.href }))
    expect(found).toMatchObject([
      {
        name: 'one',
        connection: { host: new URL(database.url).hostname, database: database.name },
        failure: null,
        jobs: [
          {
            job_id: id,
            proc_name: 'works',
            config: '{"a": 1}',
            stats: {
              total_runs: '9007199254740993',
              total_failures: '0',
              last_run_duration: '1 mon 2 days',
              last_run_status: 'Job run ok',
            },
          },
          { proc_name: 'fails', config: null, stats: { total_failures: '1', last_successful_finish: null } },
        ],
      },
      { name: 'down', jobs: [], failure: { code: 'database_unreachable' } },
    ])
  })
})
