import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import { connect } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import { displayQualified } from '../../src/postgres/identifier.ts'
import { FakeTerminal } from '../cli/fake-terminal.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

const pill = '\u001b[2J\u001b]0;owned\u0007\u009b31m\u202e'
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`
const literal = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Names that people should not give; each as table, column, type, label, index and comment. */
const names = [
  `"; '); DROP TABLE public.victim; --`,
  '$$ /* back\\slash\n\\! touch /tmp/owned\n\\q',
  `esc${pill}`,
  '__proto__',
]

let control: TestDatabase
let source: TestDatabase
let destination: TestDatabase
let data: string

function terminal(tty = true): FakeTerminal {
  const environment = {
    YARDMASTER_CONTROL_URL: control.url,
    YARDMASTER_DATA_DIR: data,
    PGPASSFILE: '/nonexistent/pgpass',
  }
  return new FakeTerminal({ terminal: tty, columns: 200, environment })
}

/** What our own colours of levels are, and the redrawing of a line of progress. */
const own = new RegExp(`${'\u001b'}\\[\\d+m|\\r?${'\u001b'}\\[2K|\\r`, 'g')

/** Runs a command on a terminal; what it prints must do nothing to one. */
async function run(exit: number, ...args: string[]): Promise<string> {
  const screen = terminal()
  expect(await screen.run(...args), screen.err + screen.out).toBe(exit)
  const shown = (screen.out + screen.err).replaceAll(own, '')
  expect(shown, args.join(' ')).not.toMatch(/[^\P{Cc}\n]|[\u202a-\u202e\u2066-\u2069]/u)
  return screen.out + screen.err
}

async function victims(): Promise<void> {
  for (const database of [source, destination])
    expect(await database.query('select * from public.victim')).toEqual([{ here: true }])
}

beforeAll(async () => {
  control = await createDatabase('hostile control')
  source = await createDatabase('hostile source')
  destination = await createDatabase('hostile destination')
  data = mkdtempSync(join(inject('runDirectory'), 'data-'))
  for (const database of [source, destination]) {
    await database.query('create table public.victim (here boolean)')
    await database.query('insert into public.victim values (true)')
  }
  await run(0, 'database', 'add', 'crm', source.url)
  await run(0, 'database', 'add', 'dwh', destination.url)
})

describe('hostile names', () => {
  test.each(names)('%j: dry run, add, refresh, list, show, validate, set, run show, remove', async (name) => {
    const type = quoted(`t${name}`.slice(0, 30))
    const [table, column] = [quoted(name), quoted(name)]
    const label = quoted(name.slice(0, 30))
    for (const database of [source, destination]) {
      await database.query(`create schema if not exists ${label}`)
      await database.query(`create type ${label}.${type} as enum (${literal(name.slice(0, 30))}, 'x')`)
    }
    await source.query(
      `create table ${label}.${table} (id int primary key, ${column} ${label}.${type}, e text check (e <> ''))`,
    )
    await source.query(`comment on column ${label}.${table}.${column} is ${literal(`${name}${pill}`)}`)
    await source.query(
      `create index ${quoted(`i${name}`.slice(0, 30))} on ${label}.${table} (${column}, lower(e)) where ${column} is not null`,
    )
    await source.query(
      `insert into ${label}.${table} values (1, ${literal(name.slice(0, 30))}, ${literal(pill)}), (2, null, null)`,
    )
    const target = displayQualified({ schema: name.slice(0, 30), name })
    const between = ['--from', 'crm', '--to', 'dwh']
    await run(0, 'replication', 'add', 'snapshot', target, ...between, '--dry-run')
    await run(0, 'replication', 'add', 'snapshot', target, ...between, '--columns', `id,${column},e`)
    await run(0, 'replication', 'refresh', target, '--force')
    await run(0, 'replication', 'list')
    await run(0, 'replication', 'list', '--json')
    await run(0, 'replication', 'show', target)
    await run(0, 'replication', 'validate', target)
    await run(0, 'replication', 'set', target, `site=${pill.replaceAll('\u001b', '')}`)
    await run(0, 'replication', 'show', target, '--json')
    await run(0, 'run', 'list')
    const [last] = await control.query<{ id: string }>('select max(id)::text as id from yardmaster.run')
    await run(0, 'run', 'show', last?.id ?? '')
    await run(0, 'run', 'show', last?.id ?? '', '--json')
    const rows = `select * from ${label}.${table} order by id`
    expect(await destination.query(rows)).toEqual(await source.query(rows))
    await run(0, 'replication', 'remove', target, '--dry-run')
    await run(0, 'replication', 'remove', target, '--drop-table', '--yes')
    await run(0, 'replication', 'add', 'table', target, ...between)
    expect(await destination.query(rows)).toEqual(await source.query(rows))
    await run(0, 'replication', 'remove', target)
    await run(1, 'replication', 'refresh', target)
    await victims()
  })

  test('of types that the destination lacks are printed as SQL that can be run as it is', async () => {
    const evil = `int); DROP TABLE public.victim; --\n\\! x`
    await source.query(`create type ${quoted(evil)} as enum ('a', ${literal(`b'${pill}`)})`)
    await source.query(`create domain public.${quoted(`d${evil}`)} as text check (value <> ${literal(pill)})`)
    await source.query(
      `create type public.${quoted(`c${evil}`)} as (${quoted(evil)} ${quoted(evil)}, "b" public.${quoted(`d${evil}`)})`,
    )
    await source.query(
      `create table public.typed (id int primary key, v ${quoted(evil)}, c public.${quoted(`c${evil}`)})`,
    )
    await source.query(`insert into public.typed values (1, 'a', row('a', 'x'))`)
    const screen = terminal(false)
    const args = ['replication', 'add', 'snapshot', 'public.typed', '--from', 'crm', '--to', 'dwh']
    expect(await screen.run(...args, '--json')).toBe(1)
    const { error } = JSON.parse(screen.out)
    expect(error).toMatchObject({ code: 'type_missing', object: 'crm:public.typed' })
    await run(1, ...args)
    await victims()
    const statements = error.remedy.slice(error.remedy.indexOf('CREATE'))
    await destination.query(statements)
    await victims()
    await run(0, ...args)
    expect(await destination.query('select v::text, c::text from public.typed')).toEqual(
      await source.query('select v::text, c::text from public.typed'),
    )
  })

  test('of roles are quoted where a grant is printed', async () => {
    const role = `odd-"role" ${process.pid}\n; drop`
    await source.query(`create role ${quoted(role)}`)
    const shown = await run(0, 'database', 'prepare', 'crm', 'public.victim', '--for', 'table', '--role', role)
    expect(shown).toContain(`GRANT SELECT ON "public"."victim" TO U&"odd-""role"" ${process.pid}\\000a; drop";`)
    const [may] = await source.query(`select has_table_privilege($1, 'public.victim', 'select') as may`, [role])
    expect(may).toEqual({ may: true })
    await source.query(`drop owned by ${quoted(role)}; drop role ${quoted(role)}`)
    await victims()
  })

  test('do nothing to a terminal when they are wrong', async () => {
    for (const text of names.map((name) => `${name}${pill}`)) {
      await run(1, 'replication', 'refresh', `public.${quoted(text.slice(0, 20))}`)
      await run(2, 'replication', 'refresh', text)
      await run(2, 'replication', 'add', text, 'public.victim', '--from', 'crm', '--to', 'dwh')
      await run(1, 'replication', 'add', 'table', 'public.victim', '--from', text, '--to', 'dwh')
      await run(
        1,
        'replication',
        'add',
        'table',
        'public.victim',
        '--from',
        'crm',
        '--to',
        'dwh',
        '--dest',
        'public.w',
        '--where',
        `WHERE here = '${text.replaceAll("'", '')}`,
      )
      await run(1, 'run', 'show', text)
      await run(1, 'database', 'test', text)
      await run(2, 'database', 'add', text, source.url)
      await run(2, text)
    }
    await victims()
  })
})

describe('code of others at the source', () => {
  test('finds a session that writes nothing, also outside of our transactions', async () => {
    const session = await connect(parseConnectionUrl(source.url), { side: 'source', purpose: 'test' })
    await expect(session.script('create table public.written ()')).rejects.toMatchObject({ sqlstate: '25006' })
    await session.end()
  })

  /** A role of ours without rights on anything but what it reads. */
  async function addReader(name: string): Promise<string> {
    const role = `reader ${name} ${process.pid}`
    await source.query(`create role ${quoted(role)} login password 'reader'`)
    const url = Object.assign(new URL(source.url), { username: encodeURIComponent(role), password: 'reader' }).href
    await run(0, 'database', 'add', name, url)
    return quoted(role)
  }

  test('in a view runs as us in a READ ONLY transaction with an empty search_path: add, refresh, validate', async () => {
    const reader = await addReader('viewer')
    await source.query(
      `
      create schema theirs;
      create table theirs.log (what text);
      grant all on schema theirs to public; grant all on theirs.log to public;
      create function theirs.look(int) returns text language plpgsql volatile security invoker as $$
      begin
        begin
          insert into theirs.log values (current_user);
        exception when read_only_sql_transaction then
          return current_user || ' ' || current_setting('transaction_read_only') || ' [' || current_setting('search_path') || ']';
        end;
        return 'wrote as ' || current_user;
      end $$;
      create view theirs.spy as select id, theirs.look(id) as seen from generate_series(1, 3) id where theirs.look(id) <> '';
      grant select on theirs.spy to ${reader}`,
    )
    const args = ['--from', 'viewer', '--to', 'dwh', '--dest', 'public.spied']
    await run(0, 'replication', 'add', 'snapshot', 'theirs.spy', ...args)
    await run(0, 'replication', 'refresh', 'public.spied', '--force')
    await run(0, 'replication', 'validate', 'public.spied')
    const seen = await destination.query<{ seen: string }>('select distinct seen from public.spied')
    expect(seen).toEqual([{ seen: `${reader.slice(1, -1)} on []` }])
    expect(await source.query('select * from theirs.log')).toEqual([])
  })

  test('in functions and operators that a search_path would find is not run by our own statements', async () => {
    const reader = await addReader('shadowed')
    await source.query(`
      create schema evil; grant usage on schema evil to public;
      create table evil.log (what text); grant all on evil.log to public;
      create function evil.hit() returns boolean language plpgsql as
        $$begin insert into evil.log values (current_user); return true; exception when others then return true; end$$;
      create function evil.current_setting(text) returns text language sql as 'select case when evil.hit() then ''1'' end';
      create function evil.count(text) returns bigint language sql as 'select case when evil.hit() then 1 end';
      create function evil.lower(text) returns text language sql as 'select case when evil.hit() then $1 end';
      create function evil.format_type(oid, integer) returns text language sql as 'select case when evil.hit() then ''int'' end';
      create function evil.same(text, text) returns boolean language sql as 'select evil.hit()';
      create operator evil.= (leftarg = text, rightarg = text, function = evil.same);
      create table evil.pg_class as select * from pg_catalog.pg_class;
      create view evil.pg_settings as select *, evil.hit() as hit from pg_catalog.pg_settings;
      grant select on evil.pg_class, evil.pg_settings to public;
      create table public.plain (id int primary key, t text); insert into public.plain values (1, 'a');
      grant select on public.plain to ${reader};
      alter role ${reader} set search_path = evil, pg_catalog;
      alter role ${reader} set default_transaction_read_only = off;
      alter database ${source.name} set search_path = evil, pg_catalog`)
    await run(0, 'replication', 'add', 'table', 'public.plain', '--from', 'shadowed', '--to', 'dwh')
    await run(0, 'replication', 'refresh', 'public.plain', '--force')
    await run(0, 'database', 'test', 'shadowed')
    await run(0, 'replication', 'validate', 'public.plain')
    await source.query(`alter database ${source.name} reset search_path`)
    expect(await source.query('select * from evil.log')).toEqual([])
  })

  test('with a domain whose CHECK writes: nothing of it runs at the source, and it is printed, not made', async () => {
    await source.query(`
      create table public.domain_log (what text);
      create function public.evil_check(text) returns boolean language plpgsql as
        $$begin insert into public.domain_log values ('checked'); return true; end$$;
      create domain public.evil_domain as text check (public.evil_check(value));
      create table public.with_domain (id int primary key, d public.evil_domain);
      insert into public.with_domain values (1, 'a');
      truncate public.domain_log`)
    const shown = await run(1, 'replication', 'add', 'snapshot', 'public.with_domain', '--from', 'crm', '--to', 'dwh')
    expect(shown).toContain('CREATE DOMAIN "public"."evil_domain" AS text CHECK')
    expect(await source.query('select * from public.domain_log')).toEqual([])
    expect(await destination.query(`select 1 from pg_type where typname = 'evil_domain'`)).toEqual([])
  })
})
