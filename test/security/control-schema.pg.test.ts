import { readFileSync } from 'node:fs'
import pg from 'pg'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'

import { displayName } from '../../src/postgres/identifier.ts'
import { FakeTerminal } from '../cli/fake-terminal.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { openTestControl } from './control-database.ts'

const destinationSql = readFileSync(new URL('../../control/destination/000001_position.sql', import.meta.url), 'utf8')

/** SQLSTATE, message and hint of a statement that must fail. */
async function refusal(database: TestDatabase, statement: string, values?: unknown[]): Promise<pg.DatabaseError> {
  try {
    await database.query(statement, values)
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error
    throw error
  }
  throw new Error(`${statement} was accepted`)
}

async function controlOn(label: string): Promise<TestDatabase> {
  const database = await createDatabase(label)
  await openTestControl(database.url)
  return database
}

async function addPair(database: TestDatabase): Promise<number> {
  await database.query(`select yardmaster.add_database('crm', 'postgresql://ym@crm.example.org:5432/crm', '{prod}'),
    yardmaster.add_database('dwh', 'env:DWH_URL')`)
  const [row] = await database.query<{ id: number }>(
    `select yardmaster.add_replication('snapshot', 'crm', 'public', 'orders', 'dwh', 'public', 'Orders') as id`,
  )
  return row?.id ?? 0
}

const definers = [
  'add_job',
  'alter_job',
  'backfill_slots',
  'cancel_job_runs',
  'change_job',
  'define_job',
  'delete_job',
  'pause_job',
  'request_run',
  'resume_job',
  'retry_run',
  'run_state',
  'try_lock_destination',
  'unlock_destination',
]

describe.each(['18', '14'])(
  'the schema yardmaster on PostgreSQL %s, control and destination in one database',
  (version) => {
    let database: TestDatabase

    beforeAll(async () => {
      database = await (version === '14'
        ? (await postgres14()).createDatabase('schema rights')
        : createDatabase('schema rights'))
      const client = await database.client()
      await client.query(`create schema yardmaster; ${destinationSql}`)
      const { openControl } = await import('../../src/control/control.ts')
      const { SecretKey } = await import('../../src/control/secret-key.ts')
      const { parseConnectionUrl } = await import('../../src/postgres/connection-url.ts')
      const key = new SecretKey(Buffer.alloc(32), 'test')
      const control = await openControl({ parts: parseConnectionUrl(database.url), actor: 'a', face: 'CLI', key })
      await control.close()
    })

    test('every function sets pg_catalog, pg_temp as its search_path, where its body is not bound once and for all', async () => {
      const functions = await database.query<{ name: string; config: string[] | null; definer: boolean }>(
        `select p.proname::text as name, p.proconfig as config, p.prosecdef as definer
       from pg_proc p where p.pronamespace = 'yardmaster'::regnamespace and p.prosqlbody is null order by 1`,
      )
      expect(functions.length).toBeGreaterThan(20)
      // Procedures that commit may have no settings; they spell every name out.
      const committing = ['run_job', 'wait']
      expect(
        functions
          .filter((row) => !row.config?.includes('search_path=pg_catalog, pg_temp'))
          .map((row) => row.name)
          .filter((name) => !committing.includes(name)),
      ).toEqual([])
      // What owners of jobs may call, and what a destination lets any role of its readers do.
      expect(functions.filter((row) => row.definer).map((row) => row.name)).toEqual(definers)
    })

    test('PUBLIC has no right on the schema, its functions, tables, views and sequences', async () => {
      const open = await database.query(
        `select n.nspname::text as name from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
         where n.nspname = 'yardmaster' and a.grantee = 0
       union all
       select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.pronamespace = 'yardmaster'::regnamespace and a.grantee = 0
       union all
       select c.oid::regclass::text from pg_class c,
         aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 'S' else 'r' end::"char", c.relowner))) a
         where c.relnamespace = 'yardmaster'::regnamespace and c.relkind in ('r', 'v', 'S') and a.grantee = 0`,
      )
      expect(open).toEqual([])
    })

    test('no function of ours is dynamic SQL, and no SECURITY DEFINER one has an operator of unknown origin', async () => {
      const sources = await database.query<{ name: string; source: string; definer: boolean }>(
        `select p.oid::regprocedure::text as name, p.prosrc as source, p.prosecdef as definer
       from pg_proc p where p.pronamespace = 'yardmaster'::regnamespace`,
      )
      // They grant and make what roles and names decide, each name quoted.
      const named = ['install_timescaledb_names()', 'renew_grants()', 'uninstall_timescaledb_names()']
      expect(
        sources
          .filter((row) => /\bexecute\b/i.test(row.source))
          .map((row) => row.name)
          .filter((name) => !named.includes(name)),
      ).toEqual([])
      // Nobody trusts a destination's owner to be the only one there; in a control database the search path is enough.
      for (const row of sources.filter((one) => /destination/.test(one.name) && one.definer))
        expect(row.source.replaceAll(/OPERATOR\(pg_catalog\.[=<>]+\)/g, '')).not.toMatch(/[=<>]|\bin\b|\blike\b/i)
    })

    test('a role without rights can neither look nor call, also when it shadows our names in pg_temp', async () => {
      await database.query(`create role "no-body ""x""" login password 'nobody'`)
      const url = Object.assign(new URL(database.url), {
        username: encodeURIComponent('no-body "x"'),
        password: 'nobody',
      })
      const client = new pg.Client({ connectionString: url.href })
      await client.connect()
      onTestFinished(async () => {
        await client.end()
        await database.query('drop role "no-body ""x"""')
      })
      for (const statement of [
        'select * from yardmaster.databases',
        'select * from yardmaster.secret',
        'select * from yardmaster.audit',
        'select * from yardmaster.position',
        `select yardmaster.add_database('a', 'env:A')`,
        `select yardmaster.try_lock_destination('pg_class')`,
      ])
        await expect(client.query(statement), statement).rejects.toMatchObject({ code: '42501' })
    })
  },
)

describe('our functions', () => {
  test('do not run what the caller put into pg_temp or the search path', async () => {
    const database = await controlOn('hijack')
    const client = await database.client()
    await client.query(`
      create table public.hit(what text);
      create schema evil;
      create function evil.hijack(text, text) returns boolean language plpgsql as
        $$begin insert into public.hit values ('operator'); return true; end$$;
      create operator evil.= (leftarg = text, rightarg = text, function = evil.hijack);
      create operator evil.~ (leftarg = text, rightarg = text, function = evil.hijack);
      create function evil.current_setting(text, boolean) returns text language plpgsql as
        $$begin insert into public.hit values ('function'); return null; end$$;
      create function evil.now() returns timestamptz language plpgsql as
        $$begin insert into public.hit values ('now'); return null; end$$;
      create temp table managed_database (like yardmaster.managed_database);
      create temp table pg_stat_activity (pid integer, backend_start timestamptz);
      create function pg_temp.record_change(text, text, text, jsonb, jsonb) returns void language plpgsql as
        $$begin insert into public.hit values ('pg_temp'); end$$;
      set search_path = evil, pg_temp, pg_catalog, yardmaster;`)
    await client.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
    await client.query(`select yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', 't')`)
    await client.query(`select yardmaster.alter_database('crm', url => 'env:C')`)
    await client.query(`select yardmaster.alter_replication(1000, '{"site": "x"}')`)
    await client.query(`select yardmaster.register_worker('w', 'h', 3)`)
    await client.query(`select * from yardmaster.begin_run(1000, 2, 'refresh', 's.t', null, 1)`)
    await client.query('select yardmaster.beat_worker(1), yardmaster.release_lost_workers()')
    await client.query(
      `select yardmaster.set_replication_status(1000, 'active'), yardmaster.pause_replication(1000, 'x')`,
    )
    await client.query(`select yardmaster.resume_replication(1000), yardmaster.queue_run(1000)`)
    await client.query(`select * from yardmaster.claim_runs(1, '{replication}', 3), yardmaster.undecided_states(3)`)
    await client.query(
      `select yardmaster.record_progress('[]', '[]'), yardmaster.held_runs(1), yardmaster.seconds_until_due('{replication}')`,
    )
    await client.query(`select yardmaster.remove_replication(1000), yardmaster.remove_database('crm')`)
    expect(await database.query('select * from public.hit')).toEqual([])
    expect(await database.query('select name from yardmaster.databases')).toEqual([{ name: 'dwh' }])
    expect(await database.query(`select status from yardmaster.runs order by id`)).toEqual([
      { status: 'RUNNING' },
      { status: 'CRITICAL' },
    ])
  })

  test('of a destination find the table that was named, not one in pg_temp', async () => {
    const database = await createDatabase('definer')
    const client = await database.client()
    await client.query(`create schema yardmaster; ${destinationSql}
      create table public.orders(id int);
      insert into yardmaster.position (replication_id, control_id, type, schema_name, table_name)
        values (gen_random_uuid(), gen_random_uuid(), 'table', 'public', 'orders');
      create temp table pg_class (like pg_catalog.pg_class);
      create function pg_temp.pg_try_advisory_lock(int, int) returns boolean language sql as 'select false';
      set search_path = pg_temp, pg_catalog;`)
    const { rows } = await client.query(`select yardmaster.try_lock_destination('public.orders') as got,
      yardmaster.unlock_destination('public.orders') as released`)
    expect(rows).toEqual([{ got: true, released: true }])
  })

  test('write names as the program does', async () => {
    const database = await controlOn('names')
    for (const name of [
      'orders',
      'Odd "Name"',
      'a.b',
      'line\nbreak\\',
      '\u001b[2J',
      'evil\u202etxt',
      'é😀',
      '1st',
      '\u009b1m',
    ]) {
      const [row] = await database.query<{ shown: string }>('select yardmaster.display_name($1) as shown', [name])
      expect(row?.shown).toBe(displayName(name))
    }
  })
})

describe('the audit', () => {
  test('has a row for each change by plain SQL: role, face, before and after', async () => {
    const database = await controlOn('audit')
    const job = await addPair(database)
    await database.query(`select yardmaster.alter_replication($1, '{"columns": ["id"], "swap_wait": "5 minutes"}')`, [
      job,
    ])
    await database.query(`select yardmaster.set_replication_status($1, 'active')`, [job])
    await database.query(`select yardmaster.set_replication_status($1, 'active')`, [job])
    await database.query(`select yardmaster.alter_database('crm', tags => '{a,b}')`)
    await database.query('select yardmaster.remove_replication($1)', [job])
    await database.query('select yardmaster.remove_replication($1)', [job])
    await database.query(`select yardmaster.remove_database('crm')`)
    const rows = await database.query(
      `select actor, face, role, action, object_kind as kind, object, before ->> 'version' as before, after ->> 'version' as after
       from yardmaster.audit_log order by id`,
    )
    const caller = { actor: 'yardmaster', face: 'SQL', role: 'yardmaster' }
    const label = 'dwh:public."Orders"'
    expect(rows).toEqual([
      { ...caller, action: 'create', kind: 'database', object: 'crm', before: null, after: '1' },
      { ...caller, action: 'create', kind: 'database', object: 'dwh', before: null, after: '1' },
      { ...caller, action: 'create', kind: 'replication', object: label, before: null, after: '1' },
      { ...caller, action: 'update', kind: 'replication', object: label, before: '1', after: '2' },
      { ...caller, action: 'update', kind: 'replication', object: label, before: '2', after: '3' },
      { ...caller, action: 'update', kind: 'database', object: 'crm', before: '1', after: '2' },
      { ...caller, action: 'delete', kind: 'replication', object: label, before: '3', after: null },
      { ...caller, action: 'delete', kind: 'database', object: 'crm', before: '2', after: null },
    ])
    const [change] = await database.query(
      `select before -> 'columns' as before, after -> 'columns' as after, after ->> 'swap_wait' as wait
       from yardmaster.audit_log where action = 'update' order by id limit 1`,
    )
    expect(change).toEqual({ before: null, after: ['id'], wait: '00:05:00' })
  })

  test('keeps the role that logged in, whatever the session says of itself', async () => {
    const database = await controlOn('forged')
    await database.query(
      `select set_config('yardmaster.actor', 'root@console', false), set_config('yardmaster.face', 'HTTP', false)`,
    )
    await database.query(`select yardmaster.add_database('crm', 'env:A')`)
    expect(await database.query('select actor, face, role from yardmaster.audit_log')).toEqual([
      { actor: 'root@console', face: 'HTTP', role: 'yardmaster' },
    ])
  })

  test('is only added to', async () => {
    const database = await controlOn('append')
    await addPair(database)
    for (const statement of [
      `update yardmaster.audit set actor = 'x'`,
      'delete from yardmaster.audit',
      'truncate yardmaster.audit',
    ])
      expect((await refusal(database, statement)).code).toBe('YM004')
    expect(await database.query('select count(*)::int as n from yardmaster.audit')).toEqual([{ n: 3 }])
  })
})

describe('SQL callers are told', () => {
  let database: TestDatabase
  let job: number

  beforeAll(async () => {
    database = await createDatabase('callers')
    await openTestControl(database.url)
    job = await addPair(database)
  })

  const add = (values: string) => `select yardmaster.add_replication(${values})`
  const alter = (changes: string) => `select yardmaster.alter_replication(1000, ${changes})`
  test.each([
    ['YM003', 'NULL is none', `select yardmaster.add_database(null, 'env:A')`],
    ['YM003', `'A B' is none`, `select yardmaster.add_database('A B', 'env:A')`],
    ['YM003', 'needs a url', `select yardmaster.add_database('a', null)`],
    ['YM003', 'tags', `select yardmaster.add_database('a', 'env:A', null)`],
    ['YM003', 'A tag is NULL', `select yardmaster.add_database('a', 'env:A', array[null])`],
    ['YM003', 'must hold no password', `select yardmaster.add_database('a', 'postgresql://u:secret@h/d')`],
    ['YM003', 'must hold no password', `select yardmaster.add_database('a', 'postgresql://u@h/d?password=secret')`],
    ['YM003', 'must hold no password', `select yardmaster.alter_database('crm', url => 'postgresql://u:secret@h/d')`],
    ['YM003', 'not one of YARDMASTER', `select yardmaster.add_database('a', 'env:YARDMASTER_KEY')`],
    ['YM003', 'The URL of a database is', `select yardmaster.add_database('a', 'http://h/d')`],
    ['YM003', 'belong together', `select yardmaster.add_database('a', 'env:A', '{}', gen_random_uuid())`],
    [
      'YM003',
      'is stored for the URL',
      `select yardmaster.alter_database('crm', null, null, gen_random_uuid(), 'k', 'x')`,
    ],
    ['23505', '"crm" is registered already', `select yardmaster.add_database('crm', 'env:A')`],
    ['YM001', 'There is no database "nope"', `select yardmaster.alter_database('nope', 'env:A')`],
    ['YM001', 'There is no database NULL', `select yardmaster.alter_database(null, 'env:A')`],
    ['YM001', 'There is no database "nope"', `select yardmaster.remove_database('nope')`],
    ['YM001', 'There is no database NULL', 'select yardmaster.remove_database(null)'],
    ['YM002', 'is used by public."Orders" (job 1000)', `select yardmaster.remove_database('crm')`],
    ['YM003', `'mirror' is none`, add(`'mirror', 'crm', 's', 't', 'dwh', 's', 't'`)],
    ['YM003', 'NULL is none', add(`null, 'crm', 's', 't', 'dwh', 's', 't'`)],
    ['YM001', 'There is no database "nope"', add(`'table', 'nope', 's', 't', 'dwh', 's', 't'`)],
    ['YM001', 'There is no database NULL', add(`'table', 'crm', 's', 't', null, 's', 't'`)],
    ['YM003', 'source_schema must be a name', add(`'table', 'crm', null, 't', 'dwh', 's', 't'`)],
    [
      'YM003',
      'destination_name must be a name of 1 to 63 bytes',
      add(`'table', 'crm', 's', 't', 'dwh', 's', repeat('é', 32)`),
    ],
    ['YM003', 'columns names no column', add(`'table', 'crm', 's', 't', 'dwh', 's', 't', '{"columns": []}'`)],
    [
      'YM003',
      'columns must be a list of texts',
      add(`'table', 'crm', 's', 't', 'dwh', 's', 't', '{"columns": [null]}'`),
    ],
    [
      'YM003',
      'build_indexes must be true or false',
      add(`'table', 'crm', 's', 't', 'dwh', 's', 't', '{"build_indexes": null}'`),
    ],
    [
      'YM003',
      'swap_wait must be an interval',
      add(`'table', 'crm', 's', 't', 'dwh', 's', 't', '{"swap_wait": "-1 s"}'`),
    ],
    [
      '23505',
      'has the destination dwh:public."Orders" already',
      add(`'table', 'crm', 's', 't', 'dwh', 'public', 'Orders'`),
    ],
    ['YM001', 'no replication with the job id 7', `select yardmaster.alter_replication(7, '{}')`],
    ['YM001', 'no replication with the job id NULL', `select yardmaster.alter_replication(null, '{}')`],
    ['YM003', 'are a JSON object', alter('null')],
    ['YM003', 'are a JSON object', alter(`'[]'`)],
    ['YM003', 'needs control_column', add(`'inserter', 'crm', 's', 't', 'dwh', 's', 't'`)],
    [
      'YM003',
      'no meaning for the type table',
      add(`'table', 'crm', 's', 't', 'dwh', 's', 't', '{"control_column": "id"}'`),
    ],
    [
      'YM003',
      'boundary must be auto or a whole number, not "1 day"',
      add(
        `'updater', 'crm', 's', 't', 'dwh', 's', 't', '{"control_column": "id", "control_by": "serial", "boundary": "1 day"}'`,
      ),
    ],
    ['YM003', 'row_limit', alter(`'{"row_limit": 5}'`)],
    ['YM003', 'timezone must be a time zone, not "Mars/Olympus"', alter(`'{"timezone": "Mars/Olympus"}'`)],
    ['YM003', 'schedule_interval must be an interval above 0', alter(`'{"schedule_interval": "-1 s"}'`)],
    ['YM003', 'not both', alter(`'{"schedule_interval": "1 s", "cron": "* * * * *"}'`)],
    ['YM002', 'setting_up cannot be paused', 'select yardmaster.pause_replication(1000)'],
    ['YM002', 'setting_up cannot be resumed', 'select yardmaster.resume_replication(1000)'],
    ['YM003', 'is a refresh, a setup or a call', `select yardmaster.queue_run(1000, 'remove')`],
    ['YM001', 'There is no job 7', 'select yardmaster.queue_run(7)'],
    ['YM001', 'There is no worker 7', 'select yardmaster.beat_worker(7)'],
    ['YM003', 'no changeable option colums', alter(`'{"colums": ["id"]}'`)],
    ['YM003', 'no changeable option load_data', alter(`'{"load_data": true}'`)],
    ['YM003', 'columns must be a list of texts, not "id"', alter(`'{"columns": "id"}'`)],
    ['YM003', 'columns must be a list of texts', alter(`'{"columns": [1]}'`)],
    ['YM003', 'columns names no column', alter(`'{"columns": []}'`)],
    ['YM003', 'post_script must be a list of texts', alter(`'{"post_script": null}'`)],
    ['YM003', 'build_indexes must be true or false, not "perhaps"', alter(`'{"build_indexes": "perhaps"}'`)],
    ['YM003', 'swap_wait must be an interval', alter(`'{"swap_wait": "soon"}'`)],
    ['YM003', 'swap_wait must be an interval', alter(`'{"swap_wait": "-5 minutes"}'`)],
    ['YM003', 'condition must be a text', alter(`'{"condition": ["x"]}'`)],
    ['YM003', "never 'gone'", `select yardmaster.set_replication_status(1000, 'gone')`],
    ['YM001', 'no replication with the job id 7', `select yardmaster.set_replication_status(7, 'active')`],
    ['YM001', 'no replication with the job id 7', 'select yardmaster.remove_replication(7)'],
  ])('%s "%s" for %s', async (code, said, statement) => {
    expect(job).toBe(1000)
    const before = await database.query('select count(*)::int as n from yardmaster.audit')
    const error = await refusal(database, statement)
    expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringContaining(said) })
    expect(`${error.message}${error.detail}${error.where}${error.hint}`).not.toContain('secret@')
    expect(await database.query('select count(*)::int as n from yardmaster.audit')).toEqual(before)
  })

  test('nothing of a password that was written into the table by hand: the table refuses it', async () => {
    const error = await refusal(
      database,
      `update yardmaster.managed_database set url = 'postgresql://u:canary@h/d' where name = 'crm'`,
    )
    expect(error.code).toBe('23514')
  })
})

describe('changes at the same time', () => {
  test('of one replication come one after the other, each with the other one’s outcome as its before', async () => {
    const database = await controlOn('serial')
    const job = await addPair(database)
    const [first, second] = [await database.client(), await database.client()]
    await first.query('begin')
    await first.query(`select yardmaster.alter_replication($1, '{"site": "first"}')`, [job])
    const waiting = second.query(`select yardmaster.alter_replication($1, '{"site": "second"}')`, [job])
    await expect.poll(() => waitsForLock(database, second)).toBe(true)
    await first.query('commit')
    await waiting
    expect(
      await database.query(
        `select before ->> 'site' as before, after ->> 'site' as after, after ->> 'version' as version
         from yardmaster.audit_log where action = 'update' order by id`,
      ),
    ).toEqual([
      { before: null, after: 'first', version: '2' },
      { before: 'first', after: 'second', version: '3' },
    ])
  })

  test('an alteration and a removal never block each other for ever', async () => {
    const database = await controlOn('deadlock')
    const job = await addPair(database)
    const [first, second] = [await database.client(), await database.client()]
    await first.query('begin')
    await first.query('select 1 from yardmaster.job where id = $1 for update', [job])
    const removal = second.query('select yardmaster.remove_replication($1)', [job])
    await expect.poll(() => waitsForLock(database, second)).toBe(true)
    await first.query(`select yardmaster.alter_replication($1, '{"site": "x"}')`, [job])
    await first.query('commit')
    await removal
    expect(await database.query('select * from yardmaster.replications')).toEqual([])
  })

  test('a database that is being removed cannot get a replication any more', async () => {
    const database = await controlOn('removal')
    await database.query(`select yardmaster.add_database('crm', 'env:A'), yardmaster.add_database('dwh', 'env:B')`)
    const [first, second] = [await database.client(), await database.client()]
    await first.query('begin')
    await first.query(`select yardmaster.remove_database('crm')`)
    const late = second.query(`select yardmaster.add_replication('table', 'crm', 's', 't', 'dwh', 's', 't')`)
    const refused = expect(late).rejects.toMatchObject({ code: 'YM001' })
    await expect.poll(() => waitsForLock(database, second)).toBe(true)
    await first.query('commit')
    await refused
  })
})

async function waitsForLock(database: TestDatabase, client: pg.Client): Promise<boolean> {
  const pid = (client as unknown as { processID: number }).processID
  const [row] = await database.query<{ waits: boolean }>(`select cardinality(pg_blocking_pids($1)) > 0 as waits`, [pid])
  return row?.waits ?? false
}

describe('a schema yardmaster that somebody else made before us', () => {
  test.each([
    ['the schema', 'create schema yardmaster authorization stranger'],
    [
      'a table in it',
      'create schema yardmaster; create table yardmaster.migration (number int); alter table yardmaster.migration owner to stranger',
    ],
    [
      'a function in it',
      `create schema yardmaster; create function yardmaster.display_name(text) returns text language sql as 'select 1::text'; alter function yardmaster.display_name owner to stranger`,
    ],
  ])('is refused: %s', async (_what, statements) => {
    const database = await createDatabase('stranger')
    const suffix = database.name.slice(-20)
    const [stranger, ours] = [`stranger_${suffix}`, `ours_${suffix}`]
    const client = await database.client()
    await client.query(`create role ${stranger}; create role ${ours} login password 'ours';
      grant create, connect on database ${database.name} to ${ours}; ${statements.replaceAll('stranger', stranger)}`)
    onTestFinished(async () => {
      await client.query(
        `drop schema yardmaster cascade; drop owned by ${ours}, ${stranger}; drop role ${ours}, ${stranger}`,
      )
    })
    const url = Object.assign(new URL(database.url), { username: ours, password: 'ours' }).href
    await expect(openTestControl(url)).rejects.toMatchObject({
      code: 'permission_denied',
      message: expect.stringContaining(`belongs to the role ${stranger}`),
    })
    expect(await database.query(`select 1 from pg_proc where proname = 'add_replication'`)).toEqual([])
  })

  test('is taken from an ordinary role that may make it, and from the database’s owner', async () => {
    const database = await createDatabase('ordinary')
    const role = `owner_${database.name.slice(-20)}`
    const client = await database.client()
    await client.query(`create role ${role} login password 'ours'; alter database ${database.name} owner to ${role}`)
    onTestFinished(() =>
      client
        .query(`alter database ${database.name} owner to yardmaster; drop owned by ${role} cascade; drop role ${role}`)
        .then(() => undefined),
    )
    const url = Object.assign(new URL(database.url), { username: role, password: 'ours' }).href
    const control = await openTestControl(url)
    expect(control.id).toMatch(/^[0-9a-f-]{36}$/)
  })
})

test('a table of positions that somebody else made in a destination is not used', async () => {
  const [control, source, destination] = [
    await controlOn('posed control'),
    await createDatabase('posed source'),
    await createDatabase('posed'),
  ]
  const suffix = destination.name.slice(-20)
  const [stranger, ours] = [`poser_${suffix}`, `worker_${suffix}`]
  const client = await destination.client()
  await client.query(`create role ${stranger}; create role ${ours} login password 'ours'; create table public.hit (who text);
    grant create on database ${destination.name} to ${ours}; grant create on schema public to ${ours};
    ${destinationSql.replaceAll('CREATE TABLE yardmaster.position', 'create schema yardmaster; CREATE TABLE yardmaster.position')};
    create function yardmaster.spy() returns trigger language plpgsql as
      $$begin insert into public.hit values (current_user); return new; end$$;
    create trigger spy before insert or update on yardmaster.position for each row execute function yardmaster.spy();
    grant all on schema yardmaster to public; grant all on yardmaster.position, public.hit to public;
    alter table yardmaster.position owner to ${stranger}; alter function yardmaster.spy owner to ${stranger}`)
  onTestFinished(async () => {
    await client.query(
      `drop schema yardmaster cascade; drop owned by ${ours}, ${stranger}; drop role ${ours}, ${stranger}`,
    )
  })
  await source.query('create table public.orders (id int primary key)')
  const screen = new FakeTerminal({ terminal: false, environment: { YARDMASTER_CONTROL_URL: control.url } })
  const url = Object.assign(new URL(destination.url), { username: ours, password: 'ours' }).href
  expect(await screen.run('database', 'add', 'crm', source.url), screen.err).toBe(0)
  expect(await screen.run('database', 'add', 'dwh', url), screen.err).toBe(0)
  expect(await screen.run('replication', 'add', 'table', 'public.orders', '--from', 'crm', '--to', 'dwh')).toBe(1)
  expect(screen.err).toContain(`belongs to the role ${stranger}`)
  expect(await destination.query('select * from public.hit')).toEqual([])
})
