import { beforeAll, describe, expect, it } from 'vitest'
import { startCli } from '../support/process.ts'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('job definition')
})

describe('job add', () => {
  it('finds the procedure by the search path, keeps each option, and says the first start', async () => {
    const ran = await desk.done(
      ...[
        'job',
        'add',
        'note',
        '--database',
        'dwh',
        '--every',
        '1 day',
        '--timezone',
        'Europe/London',
        '--name',
        'marts',
      ],
      ...[
        '--initial-start',
        '2026-03-28 02:30',
        '--config',
        '{"days": 12345678901234567890.50}',
        '--check',
        'wants_days',
      ],
      ...['--max-runtime', '2 hours', '--max-retries', '3', '--retry-period', '90s', '--retry-on-crash', 'never'],
      ...[
        '--overlap',
        'buffer',
        '--catch-up',
        '1 day',
        '--jitter',
        '30s',
        '--priority',
        '-5',
        '--pool',
        'heavy',
        '--site',
        'CEO',
      ],
    )
    expect(ran.out).toMatch(/^Added job \d+ \(marts\): every day in Europe\/London\. First start: \S+\.\n$/)
    const [row] =
      await desk.control.query(`select j.*, config::text as text, schedule_interval::text, max_runtime::text, retry_period::text,
      catch_up::text, jitter::text from yardmaster.jobs j where name = 'marts'`)
    expect(row).toMatchObject({
      ...{
        proc_schema: 'public',
        proc_name: 'note',
        check_schema: null,
        check_name: 'wants_days',
        status: 'active',
        database: 'dwh',
      },
      ...{
        schedule_interval: '1 day',
        timezone: 'Europe/London',
        initial_start: new Date('2026-03-28T02:30Z'),
        fixed_schedule: true,
      },
      ...{
        max_runtime: '02:00:00',
        max_retries: 3,
        retry_period: '00:01:30',
        retry_on_crash: 'never',
        overlap: 'buffer',
      },
      ...{ catch_up: '1 day', jitter: '00:00:30', priority: -5, pool: 'heavy', site: 'CEO' },
    })
    // No digit of the config is lost on the way.
    expect(row.text).toBe('{"days": 12345678901234567890.50}')
  })

  it('takes statements from files: each file is one transaction, and the files are not needed again', async () => {
    const files = [
      desk.file("insert into public.calls (what) values ('one')", 'a.sql'),
      desk.file('select 1; select 2', 'b.sql'),
    ]
    const id = await desk.addJob('--sql', ...files, '--database', 'dwh', '--cron', '0 0 1 1 *')
    expect(await desk.shown(id)).toMatchObject({
      ...{
        kind: 'sql',
        status: 'active',
        statements: ["insert into public.calls (what) values ('one')", 'select 1; select 2'],
      },
      schedule: 'cron 0 0 1 1 * in UTC',
    })
  })

  it('takes a task with or without a database; a worker that knows it will run it', async () => {
    const id = await desk.addJob('--task', 'tidy', '--every', '1 hour', '--drifting')
    expect(await desk.shown(id)).toMatchObject({
      ...{
        kind: 'task',
        task: 'tidy',
        database: null,
        fixed_schedule: false,
        status: 'active',
        schedule: '1 hour after each run',
      },
    })
    expect(await desk.shown(await desk.addJob('--task', 'tidy', '--database', 'crm'))).toMatchObject({
      database: 'crm',
    })
  })

  it('without a schedule runs on demand, or after others, which are named or numbered', async () => {
    const first = await desk.addJob('note', '--database', 'dwh', '--name', 'first')
    const second = await desk.addJob('note', '--database', 'tag:prod', '--after', 'first', '--after', 'marts:done')
    expect(await desk.shown(first)).toMatchObject({
      ...{ schedule: 'no schedule: run when somebody asks for it', next_starts: [] },
      starts_before: [{ job_id: second, needs: 'succeeded' }],
    })
    const marts = await desk.shown('marts')
    expect(await desk.shown(second)).toMatchObject({
      ...{ databases: 2, after: expect.arrayContaining([`${marts.job_id}:done`, String(first)]) },
      per_database: [{ database: 'crm' }, { database: 'dwh' }],
      starts_after: expect.arrayContaining([
        { job_id: marts.job_id, needs: 'done', label: expect.stringContaining('marts') },
      ]),
    })
  })

  it('as a dry run shows the job and makes none', async () => {
    const count = () => desk.control.query('select count(*) from yardmaster.job')
    const before = await count()
    const { out } = await desk.done('job', 'add', 'note', '--database', 'dwh', '--every', '1 hour', '--dry-run')
    expect(out).toMatch(
      /^\+ create\n\+ job: public\.note, every hour\n(?: {4}[a-z-]+: .+\n)+Plan: 1 to create, 0 to change, 0 to replace, 0 to delete\.\n$/,
    )
    expect(await count()).toEqual(before)
  })

  it('looks in every database that it is for, and adds nothing where one of them lacks it', async () => {
    await desk.source.query('drop procedure public.sleeps')
    const refused = await desk.refused('job', 'add', 'public.sleeps', '--database', 'tag:prod', '--every', '1 hour')
    expect(refused).toMatchObject({
      exit: 1,
      code: 'action_missing',
      message: expect.stringContaining('does not exist in crm'),
    })
    await desk.source.query(
      'create schema other; create procedure other.sleeps(job_id int, config jsonb) language sql as $$ select $$',
    )
    await desk.source.query(`alter role current_user in database ${desk.source.name} set search_path = other`)
    const differs = await desk.refused('job', 'add', 'sleeps', '--database', 'tag:prod', '--every', '1 hour')
    expect(differs.message).toBe('sleeps is other.sleeps in crm, but public.sleeps in dwh.')
    await desk.source.query(`alter role current_user in database ${desk.source.name} reset search_path`)
    expect(await desk.control.query(`select from yardmaster.jobs where proc_name = 'sleeps'`)).toEqual([])
  })

  it('adds nothing where the check refuses, or cannot be asked', async () => {
    const add = ['job', 'add', 'note', '--every', '1 hour', '--name', 'refused']
    expect(await desk.refused(...add, '--database', 'dwh', '--check', 'wants_days', '--config', '{}')).toMatchObject({
      ...{ exit: 1, code: 'config_refused', message: expect.stringContaining('days is missing') },
    })
    await desk.done('database', 'add', 'away', 'postgresql://nobody@127.0.0.1:1/away', '--force')
    expect(await desk.refused(...add, '--database', 'away')).toMatchObject({ exit: 1, code: 'database_unreachable' })
    expect(await desk.control.query(`select from yardmaster.jobs where name = 'refused'`)).toEqual([])
    await desk.done('database', 'remove', 'away', '--yes')
  })
})

describe('a check that takes for ever', () => {
  it('is broken off by Ctrl-C, and nothing is added', async () => {
    await desk.destination.query(
      'create function public.hangs(config jsonb) returns void language sql as $$ select pg_sleep(600) $$',
    )
    const adding = startCli(
      ['job', 'add', 'note', '--database', 'dwh', '--check', 'hangs', '--name', 'hanging', '--json'],
      { env: desk.environment },
    )
    const sleeping = () =>
      desk.destination.query(
        `select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
      )
    await expect.poll(sleeping, { interval: 20 }).toHaveLength(1)
    const { exitCode, stdout } = await adding.kill('SIGINT')
    expect(exitCode).toBe(130)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'cancelled' } })
    expect(await sleeping()).toEqual([])
    expect(await desk.control.query(`select from yardmaster.jobs where name = 'hanging'`)).toEqual([])
  })
})

describe('job alter', () => {
  it('says what changes, from what to what, and leaves the rest', async () => {
    const id = await desk.addJob(
      'note',
      '--database',
      'dwh',
      '--every',
      '1 hour',
      '--name',
      'altered',
      '--timezone',
      'Asia/Tokyo',
    )
    const { out } = await desk.done(
      'job',
      'alter',
      'altered',
      '--cron',
      '@hourly',
      '--max-runtime',
      '5 minutes',
      '--config',
      '{"a": 1}',
    )
    expect(out.split('\n').slice(0, -2)).toEqual([
      ...[
        '~ change',
        '~ every: 1 hour → none',
        '~ cron: none → @hourly',
        '~ config: none → {"a": 1}',
        '~ max-runtime: none → 5 minutes',
      ],
    ])
    expect(out).toMatch(/\nChanged job \d+ \(altered\)\. Next start: /)
    expect(await desk.shown(id)).toMatchObject({
      cron: '@hourly',
      schedule_interval: null,
      timezone: 'Asia/Tokyo',
      status: 'active',
    })
  })

  it('takes away what is none', async () => {
    const names = [
      '--name',
      'bare',
      '--check',
      'wants_days',
      '--config',
      '{"days": 1}',
      '--pool',
      'p',
      '--catch-up',
      '1 hour',
    ]
    const id = await desk.addJob(
      'note',
      '--database',
      'dwh',
      '--every',
      '1 hour',
      ...names,
      '--site',
      'CEO',
      '--after',
      'altered',
    )
    const none = ['--check', '--config', '--pool', '--catch-up', '--after', '--every', '--name'].flatMap((flag) => [
      flag,
      'none',
    ])
    await desk.done('job', 'alter', 'bare', ...none, '--no-site')
    expect(await desk.shown(id)).toMatchObject({
      ...{
        name: null,
        check_name: null,
        config: null,
        pool: null,
        catch_up: null,
        after: [],
        site: null,
        schedule_interval: null,
      },
      schedule: 'no schedule: run when somebody asks for it',
    })
  })

  it('as a dry run changes nothing', async () => {
    const before = await desk.shown('altered')
    const { json } = await desk.done(
      'job',
      'alter',
      'altered',
      '--every',
      '2 hours',
      '--priority',
      '7',
      '--dry-run',
      '--json',
    )
    expect(json).toMatchObject({
      dry_run: true,
      changes: [
        { op: 'update', key: 'every', before: null, after: '2 hours' },
        { op: 'update', key: 'cron', before: '@hourly', after: null },
        { op: 'update', key: 'priority', before: '0', after: '7' },
      ],
    })
    expect(await desk.shown('altered')).toEqual(before)
  })

  it('looks again where that which is called, or what its check looks at, changes', async () => {
    const id = await desk.addJob(
      'note',
      '--database',
      'dwh',
      '--config',
      '{"days": 1}',
      '--check',
      'wants_days',
      '--name',
      'looked',
    )
    const before = await desk.shown(id)
    expect(await desk.refused('job', 'alter', 'looked', '--config', '{}')).toMatchObject({
      exit: 1,
      code: 'config_refused',
    })
    expect(await desk.refused('job', 'alter', 'looked', '--proc', 'noet')).toMatchObject({
      ...{ exit: 1, code: 'action_missing', message: expect.stringMatching(/; did you mean public\.note\?$/) },
    })
    expect(await desk.shown(id)).toEqual(before)
    await desk.done('job', 'alter', 'looked', '--proc', 'fails', '--database', 'crm')
    expect(await desk.shown(id)).toMatchObject({
      proc_schema: 'public',
      proc_name: 'fails',
      database: 'crm',
      status: 'active',
    })
  })

  it('sets the next start, also to never', async () => {
    await desk.done('job', 'alter', 'altered', '--next-start', '2030-01-01 09:00')
    // Nine in the morning by Tokyo's clock.
    expect((await desk.shown('altered')).next_start).toBe('2030-01-01T00:00:00.000Z')
    await desk.done('job', 'alter', 'altered', '--next-start', 'infinity')
    expect((await desk.shown('altered')).next_start).toBe('infinity')
    expect((await desk.done('job', 'list')).out).toMatch(/\taltered\t.*\tnever\t/)
    expect((await desk.done('job', 'show', 'altered')).out).toContain('Next start: never')
  })

  it('shows a circle of dependencies, and changes nothing', async () => {
    await desk.addJob('note', '--database', 'dwh', '--name', 'a')
    await desk.addJob('note', '--database', 'dwh', '--name', 'b', '--after', 'a')
    const refused = await desk.refused('job', 'alter', 'a', '--after', 'b', '--priority', '9')
    expect(refused).toMatchObject({ exit: 1, code: 'dependency_cycle' })
    expect(refused.message).toMatch(/a \[\d+\] → dwh:b \[\d+\] → dwh:a \[\d+\]/)
    expect(await desk.shown('a')).toMatchObject({ after: [], priority: 0 })
  })
})

describe('job pause, resume, delete', () => {
  it('pauses with a note, says by whom, and goes on', async () => {
    const id = await desk.addJob('note', '--database', 'dwh', '--every', '1 hour', '--name', 'paused')
    expect((await desk.done('job', 'pause', 'paused', '--note', 'the disk is full')).out).toBe(
      `Job ${id} (paused) is paused: nothing of it starts by itself, what runs goes on. Go on with: yardmaster job resume ${id}\n`,
    )
    expect(await desk.shown(id)).toMatchObject({
      status: 'paused',
      pause_note: 'the disk is full',
      paused_by: expect.stringContaining('@'),
      next_starts: [],
    })
    expect((await desk.done('job', 'show', 'paused')).out).toMatch(
      /\nPaused since \S+ by \S+@\S+: the disk is full\nGo on with: yardmaster job resume /,
    )
    expect((await desk.done('job', 'pause', 'paused')).out).toContain('was paused already; nothing was changed.')
    expect((await desk.done('job', 'resume', 'paused')).out).toMatch(
      /^Job \d+ \(paused\) is active again\. Next start: /,
    )
    expect((await desk.done('job', 'resume', 'paused')).out).toMatch(/was not paused\.\n$/)
    expect(await desk.shown(id)).toMatchObject({ status: 'active', pause_note: null })
  })

  it('deletes behind a question that names what goes with it, and asks nobody who is not there', async () => {
    const id = await desk.addJob('note', '--database', 'dwh', '--every', '1 hour', '--name', 'gone')
    await desk.done('job', 'run', 'gone')
    expect(await desk.refused('job', 'delete', 'gone')).toMatchObject({ exit: 2, code: 'confirmation_needed' })
    const terminal = desk.terminal()
    const asking = terminal.run('job', 'delete', 'gone')
    await terminal.asked('Delete 1 job? [y/N]')
    expect(terminal.out).toContain(`job ${id} (gone): public.note in dwh, every hour`)
    expect(terminal.out).toContain('0 runs under way are broken off, 1 run that waits is called off')
    terminal.type('n\r')
    expect(await asking).toBe(1)
    expect((await desk.shown('gone')).status).toBe('active')
    expect((await desk.done('job', 'delete', 'gone', '--yes', '--json')).json).toEqual({
      deleted: id,
      runs_cancelled: 1,
      runs_kept: 0,
    })
    expect(await desk.refused('job', 'show', 'gone')).toMatchObject({ exit: 1, code: 'job_unknown' })
    expect(
      await desk.control.query('select from yardmaster.run where job_id = $1 and status = $2', [id, 'WAITING']),
    ).toEqual([])
  })

  it('deletes none that others start after', async () => {
    const b = await desk.shown('b')
    const refused = await desk.refused('job', 'delete', 'a', '--yes')
    expect(refused).toMatchObject({
      exit: 1,
      code: 'job_refused',
      remedy: expect.stringContaining(`yardmaster job alter ${b.job_id} --after none`),
    })
    await desk.done('job', 'alter', String(b.job_id), '--after', 'none')
    await desk.done('job', 'delete', 'a', '--yes')
  })
})
