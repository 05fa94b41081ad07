import { describe, expect, it } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../../test/support/databases.ts'
import { startCli } from '../../test/support/process.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { knownMigrations, migrate, planMigration } from './migrate.ts'

const known = knownMigrations()

async function open(database: TestDatabase): Promise<Session> {
  return connect(parseConnectionUrl(database.url), { side: 'control', purpose: 'test', object: 'the control database' })
}

/** Brings a fresh database as far as a program would have that knew only the first `count` migrations. */
async function installOld(session: Session, count: number): Promise<void> {
  await session.script(`create schema yardmaster;
    create table yardmaster.migration (number integer primary key, name text not null, breaking boolean not null,
      api_hash text, api_version text, applied_at timestamptz not null default now());`)
  for (const { number, name, breaking, text } of known.slice(0, count)) {
    await session.script(text)
    await session.script(
      `insert into yardmaster.migration (number, name, breaking) values (${number}, '${name}', ${breaking})`,
    )
  }
}

/** Everything of the schema that has a definition, as text. */
async function catalog(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ line: string }>(`
    select format('column %s.%s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
      a.attidentity, pg_get_expr(d.adbin, d.adrelid)) as line
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'yardmaster'::regnamespace and c.relkind in ('r', 'v')
    union all select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
      where connamespace = 'yardmaster'::regnamespace
    union all select 'index ' || indexdef from pg_indexes where schemaname = 'yardmaster'
    union all select format('view %s %s', viewname, definition) from pg_views where schemaname = 'yardmaster'
    union all select format('function %s %s', pg_get_functiondef(oid), proacl) from pg_proc
      where pronamespace = 'yardmaster'::regnamespace and prokind <> 'a'
    union all select format('sequence %s %s %s', sequencename, data_type, start_value) from pg_sequences where schemaname = 'yardmaster'
    union all select format('rights %s %s %s', relname, relkind, relacl) from pg_class where relnamespace = 'yardmaster'::regnamespace
      and relkind in ('r', 'v', 'S')
    union all select format('rights of the schema %s', nspacl) from pg_namespace where nspname = 'yardmaster'
    union all select format('trigger %s', pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
    union all select format('migration %s %s %s %s', number, name, breaking, api_hash) from yardmaster.migration
    order by line`)
  return rows.map((row) => row.line)
}

describe('an upgrade', () => {
  it('step by step ends where a fresh install ends', async () => {
    const fresh = await createDatabase('migrate fresh')
    const session = await open(fresh)
    const plan = await migrate(session)
    expect(plan).toMatchObject({ current: 0, pending: known, api: true })
    const wanted = await catalog(fresh)
    await session.end()
    expect(wanted.length).toBeGreaterThan(80)
    for (let count = 0; count < known.length; count += 1) {
      const old = await createDatabase(`migrate from ${count}`)
      const upgrading = await open(old)
      if (count > 0) await installOld(upgrading, count)
      const done = await migrate(upgrading)
      expect(done.pending.map((one) => one.number)).toEqual(known.slice(count).map((one) => one.number))
      expect(await catalog(old)).toEqual(wanted)
      expect((await migrate(upgrading)).pending).toEqual([])
      await upgrading.end()
    }
  })

  it('gives the jobs and open runs of before placement their lanes', async () => {
    const database = await createDatabase('migrate lanes')
    const session = await open(database)
    await installOld(session, 4)
    await database.query(`
      insert into yardmaster.managed_database (name, url) values ('crm', 'env:A'), ('dwh', 'env:B');
      insert into yardmaster.job (kind, site, status, created_by) values ('replication', 'CEO', 'active', 'x'), ('replication', null, 'active', 'x'),
        ('replication', 'At work', 'active', 'x');
      insert into yardmaster.replication (job_id, type, source_database, source_schema, source_name, destination_database,
        destination_schema, destination_name, build_indexes, load_data, post_script, sequences, truncate_cascade, swap_wait)
      select id, 'table', 1, 'public', 't' || id, 2, 'copy', 't' || id, true, true, '{}', '{}', false, '1 minute' from yardmaster.job;
      insert into yardmaster.run (job_id, slot, database_id, operation, object, site, status, queued)
      select id, now(), 2, 'refresh', 'x', site, case site when 'At work' then 'RUNNING' else 'WAITING' end, true from yardmaster.job`)
    await migrate(session)
    await database.query(`select yardmaster.set_binding('CEO', 'h', 'prefer'), yardmaster.set_limit('database:dwh', 5)`)
    const client = await database.client()
    const { rows } = await client.query(`select yardmaster.register_worker('h', 'h', 4) as id`)
    await database.query(`select yardmaster.claim_runs($1, '{replication}', 4)`, [rows[0].id])
    expect(
      await database.query(
        `select r.site, r.placement, l.keys from yardmaster.runs r join yardmaster.run u on u.id = r.id
         join yardmaster.lane l on l.id = u.lane where r.status = 'RUNNING' order by r.site`,
      ),
    ).toEqual([
      { site: 'At work', placement: null, keys: ['database:crm', 'database:dwh', 'site:At work'] },
      { site: 'CEO', placement: 'prefers', keys: ['database:crm', 'database:dwh', 'site:CEO'] },
      { site: null, placement: 'no_site', keys: ['database:crm', 'database:dwh'] },
    ])
    await session.end()
  })

  it('keeps what replications remember and what waits, runs and works from before jobs', async () => {
    const database = await createDatabase('migrate jobs')
    const session = await open(database)
    await installOld(session, 5)
    const client = await database.client()
    await client.query(`
      insert into yardmaster.managed_database (name, url) values ('crm', 'env:A'), ('dwh', 'env:B');
      insert into yardmaster.lane (keys) values ('{database:crm,database:dwh}');
      insert into yardmaster.job (kind, status, created_by, schedule_interval, next_start, period, last_slot, last_finish, failures, lane)
      select 'replication', s, 'x', '1 hour', '2026-01-01 02:00Z', '1 hour', '2026-01-01 01:00Z', '2026-01-01 01:01Z', f, 1
      from (values ('active', 0), ('paused', 3), ('broken', 0), ('active', 0)) v(s, f);
      update yardmaster.job set next_start = null where id = 1003;
      insert into yardmaster.replication (job_id, type, source_database, source_schema, source_name, destination_database,
        destination_schema, destination_name, build_indexes, load_data, post_script, sequences, truncate_cascade, swap_wait)
      select id, 'table', 1, 'public', 't' || id, 2, 'copy', 't' || id, true, true, '{}', '{}', false, '1 minute' from yardmaster.job;
      insert into yardmaster.run (job_id, slot, database_id, operation, object, status, reason, queued, requested, lane, started_at, finished_at, options)
      values (1000, '2026-01-01 00:00Z', 2, 'refresh', 'x', 'OK', null, true, false, 1, '2026-01-01 00:00Z', '2026-01-01 00:02Z', '{}'),
        (1000, '2026-01-01 01:00Z', 2, 'refresh', 'x', 'CRITICAL', 'failed', true, false, 1, '2026-01-01 01:00Z', '2026-01-01 01:01Z', '{}'),
        (1001, '2026-01-01 01:00Z', 2, 'refresh', 'x', 'WAITING', null, true, true, 1, null, null, '{"force": true}'),
        (1003, '2026-01-01 01:00Z', 2, 'refresh', 'x', 'RUNNING', null, true, false, 1, '2026-01-01 01:00Z', null, '{}');
      insert into yardmaster.worker (name, host, slots, session_pid, session_start, lease_until)
      select 'w', 'w', 4, pid, backend_start, now() + interval '1 hour' from pg_stat_activity where pid = pg_backend_pid();
      insert into yardmaster.attempt (run_id, number, worker_id, worker, host, status) values (4, 1, 1, 'w', 'w', 'RUNNING')`)
    await migrate(session)
    const states = await database.query(
      `select job_id, scheduled, next_start = '2026-01-01 02:00Z' and next_slot = next_start and period = '1 hour' as planned,
         last_slot = '2026-01-01 01:00Z' and last_finish = '2026-01-01 01:01Z' as accounted, failures, total_runs::int as runs,
         total_failures::int as failed, last_run::int, last_good_run::int as good, lane
       from yardmaster.job_state where in_scope order by job_id`,
    )
    const none = {
      planned: true,
      accounted: true,
      failures: 0,
      runs: 0,
      failed: 0,
      last_run: null,
      good: null,
      lane: 1,
    }
    expect(states).toEqual([
      { ...none, job_id: 1000, scheduled: true, runs: 2, failed: 1, last_run: 2, good: 1 },
      { ...none, job_id: 1001, scheduled: false, failures: 3 },
      { ...none, job_id: 1002, scheduled: false },
      { ...none, job_id: 1003, scheduled: true, planned: null },
    ])
    // The worker that was at work goes on: its run ends, and what waits and what is due are its next ones.
    const { rows } = await client.query(
      `select yardmaster.finish_run(token, 'OK', null, 'done', 1, 1) as mine from yardmaster.attempt`,
    )
    expect(rows).toEqual([{ mine: true }])
    const claims = await client.query(
      `select job_id, options, attempt from yardmaster.claim_runs(1, '{replication}', 4) order by job_id`,
    )
    expect(claims.rows).toEqual([
      { job_id: 1000, options: {}, attempt: 1 },
      { job_id: 1001, options: { force: true }, attempt: 1 },
    ])
    await session.end()
  })

  it('works on PostgreSQL 14 as well', async () => {
    const session = await open(await (await postgres14()).createDatabase('migrate'))
    await migrate(session)
    expect(await planMigration(session)).toMatchObject({ current: known.length, pending: [], api: false })
    await session.end()
  })

  it('that fails leaves everything as it was', async () => {
    const database = await createDatabase('migrate failing')
    const session = await open(database)
    await migrate(session)
    const before = await catalog(database)
    const broken = {
      number: known.length + 1,
      name: 'broken',
      breaking: false,
      text: 'create table yardmaster.half (); select 1 / 0;',
    }
    await expect(migrate(session, [...known, broken])).rejects.toMatchObject({ sqlstate: '22012' })
    expect(await catalog(database)).toEqual(before)
    await session.end()
  })

  it('has migrations numbered without a gap', () => {
    expect(known.map((one) => one.number)).toEqual(known.map((_, index) => index + 1))
    expect(new Set(known.map((one) => one.name)).size).toBe(known.length)
  })
})

describe('two programs at once', () => {
  it('migrate one after the other: sessions', async () => {
    const database = await createDatabase('migrate together')
    const sessions = await Promise.all(Array.from({ length: 5 }, () => open(database)))
    const plans = await Promise.all(sessions.map((session) => migrate(session)))
    expect(plans.map((plan) => plan.pending.length).sort()).toEqual([0, 0, 0, 0, known.length])
    await Promise.all(sessions.map((session) => session.end()))
  })

  it('migrate one after the other: processes', async () => {
    const database = await createDatabase('migrate processes')
    const env = { YARDMASTER_CONTROL_URL: database.url }
    const processes = [
      ['migrate', '--json'],
      ['migrate', '--json'],
      ['database', 'list', '--json'],
    ].map((args) => startCli(args, { env, input: '' }).ended)
    const results = await Promise.all(processes)
    expect(results.map((result) => [result.exitCode, result.stderr])).toEqual(results.map(() => [0, '']))
    expect(await database.query('select number from yardmaster.migration order by number')).toEqual(
      known.map(({ number }) => ({ number })),
    )
  })
})

describe('an older program', () => {
  /** A schema that a program of the future has migrated: one migration more, one function of its own making. */
  async function newer(breaking: boolean): Promise<{ database: TestDatabase; session: Session }> {
    const database = await createDatabase(`migrate newer ${breaking}`)
    const session = await open(database)
    await migrate(session)
    await database.query(`insert into yardmaster.migration (number, name, breaking, api_hash)
      values (${known.length + 1}, 'of_the_future', ${breaking}, 'of the future')`)
    await database.query("alter table yardmaster.job add column of_the_future text default 'x'")
    await database.query("comment on view yardmaster.databases is 'of the future'")
    await database.query(`create or replace function yardmaster.text_array(list jsonb) returns text[] language sql immutable
      as $$ select array['of the future'] $$`)
    return { database, session }
  }

  it('works on with a newer schema, and leaves its functions as they are', async () => {
    const { database, session } = await newer(false)
    expect(await planMigration(session)).toEqual({ current: known.length + 1, pending: [], api: false })
    const before = await catalog(database)
    for (const args of [['migrate'], ['database', 'add', 'crm', database.url], ['database', 'list'], ['doctor']]) {
      const ended = await startCli(args, { env: { YARDMASTER_CONTROL_URL: database.url }, input: '' }).ended
      expect([ended.exitCode, ended.stderr], args.join(' ')).toEqual([0, ''])
    }
    expect(await catalog(database)).toEqual(before)
    expect(await database.query("select yardmaster.text_array('[]') as made_by")).toEqual([
      { made_by: ['of the future'] },
    ])
    await session.end()
  })

  it('leaves the functions of a newer one that brought no migration, and replaces those of an older one', async () => {
    const database = await createDatabase('migrate versions')
    const session = await open(database)
    await migrate(session)
    await database.query(
      "update yardmaster.migration set api_hash = 'another', api_version = '0.9.0' where api_hash is not null",
    )
    for (const [version, api] of [
      ['0.8.9', false],
      ['0.9.0', true],
      ['0.10.0', true],
      ['1.0.0', true],
    ] as const) {
      expect((await planMigration(session, known, version)).api, version).toBe(api)
    }
    await session.end()
  })

  it('stops before a breaking migration that it does not know, and changes nothing', async () => {
    const { database, session } = await newer(true)
    const before = await catalog(database)
    await expect(migrate(session)).rejects.toMatchObject({ code: 'control_newer' })
    for (const args of [
      ['migrate'],
      ['migrate', '--dry-run'],
      ['database', 'list'],
      ['database', 'add', 'crm', database.url],
    ]) {
      const ended = await startCli([...args, '--json'], { env: { YARDMASTER_CONTROL_URL: database.url }, input: '' })
        .ended
      expect(ended.exitCode).toBe(1)
      expect(ended.json()).toMatchObject({
        error: {
          code: 'control_newer',
          message: `The control schema has the breaking migration ${known.length + 1} (of_the_future); this program knows migrations up to ${known.length}.`,
          object: 'the control database',
          remedy: 'Use the newer version of Yardmaster.',
        },
      })
    }
    expect(await catalog(database)).toEqual(before)
    await session.end()
  })
})

describe('the schema', () => {
  it('gives PUBLIC no right on anything', async () => {
    const database = await createDatabase('migrate rights')
    const session = await open(database)
    await migrate(session)
    const open_to_all = await database.query(`
      select c.relname as name from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        where c.relnamespace = 'yardmaster'::regnamespace and c.relkind in ('r', 'v') and a.grantee = 0
      union all select p.proname from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace = 'yardmaster'::regnamespace and a.grantee = 0
      union all select 'schema' from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
        where n.nspname = 'yardmaster' and a.grantee = 0`)
    expect(open_to_all).toEqual([])
    await session.end()
  })

  it('has functions that set their own search_path', async () => {
    const database = await createDatabase('migrate paths')
    const session = await open(database)
    await migrate(session)
    const unset = await database.query(`select proname from pg_proc where pronamespace = 'yardmaster'::regnamespace
      and prosqlbody is null and not coalesce(proconfig::text like '%search_path=%', false)
      -- A procedure with settings of its own may not commit.
      and proname not in ('run_job', 'wait')`)
    expect(unset).toEqual([])
    await session.end()
  })
})
