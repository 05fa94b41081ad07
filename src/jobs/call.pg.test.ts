import { beforeAll, describe, expect, it } from 'vitest'
import { CallDesk } from '../../test/jobs/call-desk.ts'
import { createDatabase, postgres14, type TestDatabase } from '../../test/support/databases.ts'
import { noticeLength } from './notices.ts'

describe.each(['18', '14'])('a job in PostgreSQL %s', (version) => {
  let target: TestDatabase
  let desk: CallDesk

  beforeAll(async () => {
    target = version === '14' ? await (await postgres14()).createDatabase('call') : await createDatabase('call')
    desk = new CallDesk(target.url)
    await target.query(`create table public.done (id int, what text)`)
  })

  const done = async () => (await target.query(`select what from public.done order by id`)).map((row) => row.what)
  const make = async (text: string) => {
    await target.query('truncate public.done')
    await target.query(text)
  }

  it('a procedure commits inside, and what it committed stays when it fails', async () => {
    await make(`create or replace procedure public.halves(job_id int, config jsonb) language plpgsql as $$
      begin insert into done values (1, 'first'); commit; insert into done values (2, 'second'); raise 'no further' using errcode = 'ZZ001', hint = 'stop it'; end $$`)
    const failed = desk.proc('halves')
    await expect(failed).rejects.toMatchObject({ code: 'job_failed', sqlstate: 'ZZ001', remedy: 'stop it' })
    await expect(failed).rejects.toThrow(/no further \(SQLSTATE ZZ001\)/)
    expect(await done()).toEqual(['first'])
  })

  it('a function is one transaction', async () => {
    await make(`create or replace function public.whole(job_id int, config jsonb) returns void language plpgsql as $$
      begin insert into done values (1, 'first'); if config ? 'fail' then raise 'no further'; end if; end $$`)
    await expect(desk.proc('whole', { config: '{"fail": 1}' })).rejects.toMatchObject({ sqlstate: 'P0001' })
    expect(await done()).toEqual([])
    expect(await desk.proc('whole')).toMatchObject({ level: 'OK', message: 'public.whole ended.' })
    expect(await done()).toEqual(['first'])
  })

  it.each([
    ['int', null, null, '1000 <NULL>'],
    ['bigint', '{"big": 12345678901234567890}', null, '1000 {"big": 12345678901234567890}'],
    ['int', '{"a": 1, "b": {"c": 2}}', '{"b": 3}', '1000 {"a": 1, "b": 3}'],
    ['int', null, '{"b": 3}', '1000 {"b": 3}'],
    ['int', 'null', null, '1000 null'],
  ])('%s id, config %s, params %s', async (type, config, params, expected) => {
    await make(`drop procedure if exists public.args; create procedure public.args(job_id ${type}, config jsonb) language plpgsql as $$
      begin insert into done values (1, job_id || ' ' || coalesce(config::text, '<NULL>')), (2, current_setting('yardmaster.params')); end $$`)
    await desk.proc('args', { config, params })
    expect(await done()).toEqual([expected, params ?? '{}'])
    await target.query('drop procedure public.args')
  })

  it('of several by one name, the one that takes (integer, jsonb), in any case of letters', async () => {
    await make(`create schema if not exists "Odd ""Schema"; 
      create or replace procedure "Odd ""Schema"."Do It"(job_id text, config jsonb) language sql as $$ select 1/0 $$;
      create or replace procedure "Odd ""Schema"."Do It"(job_id bigint, config jsonb) language sql as $$ select 1/0 $$;
      create or replace procedure "Odd ""Schema"."Do It"(job_id int, config jsonb, more int default 3) language sql as $$ insert into public.done values (1, 'int ' || more) $$`)
    await desk.call({ procSchema: 'Odd "Schema', procName: 'Do It' })
    expect(await done()).toEqual(['int 3'])
  })

  it('one that is not there, or takes something else', async () => {
    await target.query(`create or replace procedure public.other(x text) language sql as 'select 1'`)
    await expect(desk.proc('nothing')).rejects.toMatchObject({
      code: 'action_missing',
      message: 'function or procedure "public.nothing(integer, jsonb)" does not exist in warehouse',
      remedy: 'Custom job actions must accept (integer, jsonb) arguments.',
    })
    await expect(desk.proc('other')).rejects.toThrow(/does not exist in warehouse; there is public.other\(text\)/)
  })

  it('finds the settings of its role and database, and who calls it', async () => {
    const role = `ym_call_${version}`
    await target.query(`drop role if exists ${role}`)
    await target.query(`create role ${role} login password 'geheim'; grant usage on schema public to ${role}; grant insert on public.done to ${role};
      alter role ${role} set search_path = public, pg_catalog; alter role ${role} set timezone = 'Asia/Tokyo'; alter role ${role} set datestyle = 'German';
      alter role ${role} set client_min_messages = error; alter role ${role} set synchronous_commit = off; alter role ${role} set statement_timeout = '50ms';
      alter role ${role} set lock_timeout = '7s'`)
    await make(`create or replace procedure public.looks(job_id int, config jsonb) language plpgsql as $$
      declare name text; begin
      perform pg_sleep(0.1);
      foreach name in array array['search_path', 'TimeZone', 'DateStyle', 'row_security', 'synchronous_commit', 'lock_timeout', 'client_connection_check_interval',
        'yardmaster.job_id', 'yardmaster.run_id', 'yardmaster.attempt', 'work_mem', 'application_name'] loop
        insert into done values (1, name || '=' || current_setting(name)); end loop;
      raise notice 'yardmaster: next_start infinity'; end $$`)
    const url = Object.assign(new URL(target.url), { username: role, password: 'geheim' }).href
    const name = `${'ä'.repeat(40)} [1000]`
    await desk.proc('looks', { url, runId: '77', attempt: 3, config: '{"work_mem": "9MB"}', applicationName: name })
    const looked = await done()
    expect(looked.find((line) => line.startsWith('application_name='))).toMatch(/.{20} \[1000\]$/)
    expect(looked.filter((line) => !line.startsWith('application_name=')).sort()).toEqual(
      [
        'search_path=public, pg_catalog',
        'TimeZone=Asia/Tokyo',
        'DateStyle=German, DMY',
        'row_security=on',
        'synchronous_commit=on',
        'lock_timeout=7s',
        'client_connection_check_interval=2s',
        'yardmaster.job_id=1000',
        'yardmaster.run_id=77',
        'yardmaster.attempt=3',
        'work_mem=9MB',
      ].sort(),
    )
    expect(desk.nextStarts.at(-1)).toEqual({ at: 'infinity' })
    await target.query(`drop owned by ${role}`)
    await target.query(`drop role ${role}`)
  })

  it('statements: each text alone, several in one are one transaction, VACUUM works, rows are counted and not kept', async () => {
    await make(`create table if not exists public.big (t text)`)
    const outcome = await desk.sql([
      `insert into done values (1, 'a'), (2, 'b')`,
      'vacuum public.done',
      `insert into public.big select 'x' from generate_series(1, 10); select repeat('x', 1000) from generate_series(1, 100000)`,
    ])
    expect(outcome.message).toBe('3 statements ended: 100012 rows.')
    expect(desk.steps.slice(-3).map((step) => `${step.action}: ${step.message}`)).toEqual([
      'statement 1 of 3: 2 rows',
      'statement 2 of 3: 0 rows',
      'statement 3 of 3: 100010 rows',
    ])
    await expect(desk.sql([`insert into done values (3, 'c'); select 1/0`])).rejects.toMatchObject({
      sqlstate: '22012',
    })
    expect(await done()).toEqual(['a', 'b'])
    await expect(desk.sql([`begin; insert into done values (4, 'd')`])).rejects.toThrow(/left a transaction open/)
    expect(await done()).toEqual(['a', 'b'])
    await expect(desk.sql(['copy public.big from stdin'])).rejects.toThrow(/no rows to copy from its client/)
  })

  it('what it does to its session is gone for the next, and is no way around the fence', async () => {
    await make(`create or replace procedure public.meddles(job_id int, config jsonb) language plpgsql as $$
      begin perform pg_advisory_unlock_all(); perform set_config('search_path', 'pg_temp', false); perform set_config('yardmaster.job_id', '1', false);
      reset role; set session characteristics as transaction read only; end $$`)
    const outcome = await desk.proc('meddles')
    expect(outcome.level).toBe('WARNING')
    expect(outcome.message).toMatch(/gave up its session’s advisory locks/)
    expect(await desk.proc('whole')).toMatchObject({ level: 'OK' })
  })

  it('a hundred thousand notices cost neither memory nor steps, and no character reaches a terminal', async () => {
    await make(`create or replace procedure public.talks(job_id int, config jsonb) language plpgsql as $$
      begin
        raise notice 'yardmaster: step count';
        for i in 1..100000 loop raise notice '% %', i, repeat('x', 700); end loop;
        raise notice E'yardmaster: end WARNING \\x1b[31mred\\nnext';
        for i in 1..600 loop raise notice 'yardmaster: step s%', i; end loop;
        raise notice 'yardmaster: frobnicate';
        raise notice 'yardmaster: level WARNING half of it';
      end $$`)
    desk.steps.length = 0
    const outcome = await desk.proc('talks')
    expect(outcome).toMatchObject({ level: 'WARNING', message: 'half of it · public.talks ended.' })
    expect(desk.steps.length).toBe(502)
    const [base, count] = desk.steps
    expect(base?.action).toBe('public.talks')
    expect(count).toMatchObject({ action: 'count', level: 'WARNING', message: '\\u{1b}[31mred next' })
    expect(count?.reports.length).toBeLessThan(300)
    for (const report of count?.reports ?? []) expect(report.message?.length).toBeLessThanOrEqual(noticeLength)
    expect(desk.steps.at(-2)).toMatchObject({
      level: 'WARNING',
      message: expect.stringMatching(/'yardmaster: frobnicate' was not understood/),
    })
    expect(desk.steps.at(-1)).toMatchObject({ message: '102 more steps were left out: a run keeps 500.' })
  })
})
