import { beforeAll, describe, expect, it } from 'vitest'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('job misuse')
  await desk.addJob('note', '--database', 'dwh', '--name', 'nightly', '--cron', '@daily')
  await desk.addJob('note', '--database', 'crm', '--name', 'twin')
  await desk.addJob('note', '--database', 'dwh', '--name', 'twin')
  await desk.addJob('fails', '--database', 'dwh', '--name', 'drifting', '--every', '1 hour', '--drifting')
  for (const name of ['nightly', 'drifting']) await desk.done('job', 'pause', name)
})

const add = (...args: string[]) => ['job', 'add', 'note', '--database', 'dwh', ...args]

describe('a mistake names what is wrong and the way out', () => {
  it.each<[string[], number, string, string | RegExp]>([
    [['job', 'add'], 2, 'wrong_usage', 'Nothing to run was named.'],
    [['job', 'add', 'note', '--task', 't'], 2, 'wrong_usage', "one of them only; these are 'note' and 't'."],
    [['job', 'add', 'note'], 2, 'wrong_usage', 'A job needs --database, where it runs; registered are crm, dwh.'],
    [['job', 'add', 'note', '--database', 'dhw'], 1, 'database_unknown', "There is no database 'dhw'"],
    [
      ['job', 'add', 'note', '--database', 'tag:prodd'],
      1,
      'database_unknown',
      "No database has the tag 'prodd'; did you mean 'prod'?",
    ],
    [['job', 'add', 'public.noet', '--database', 'dwh'], 1, 'action_missing', 'did you mean public.note?'],
    [
      ['job', 'add', 'pg_sleep', '--database', 'dwh'],
      1,
      'action_missing',
      '"pg_sleep(integer, jsonb)" does not exist in dwh',
    ],
    [
      ['job', 'add', 'two_arguments', '--database', 'dwh'],
      1,
      'action_missing',
      'there is public.two_arguments(text,text)',
    ],
    [
      ['job', 'add', 'a.b.c', '--database', 'dwh'],
      2,
      'name_invalid',
      "'a.b.c' is not the name of a function or procedure.",
    ],
    [['job', 'add', 'note(1)', '--database', 'dwh'], 2, 'name_invalid', 'note(1)'],
    [
      ['job', 'add', '--sql', '/nowhere/x.sql', '--database', 'dwh'],
      2,
      'wrong_usage',
      'The file /nowhere/x.sql cannot be read: ENOENT.',
    ],
    [add('--check', 'wants_dais'), 1, 'action_missing', 'did you mean public.wants_days?'],
    [add('--every', '10 minuts'), 2, 'interval_invalid', 'did you mean minutes?'],
    [add('--every', '1 month 2 days'), 2, 'interval_invalid', 'has months and also days or time'],
    [add('--every', '-5 minutes'), 2, 'interval_invalid', 'is not an interval'],
    [add('--every', '1 hour', '--cron', '@daily'), 2, 'wrong_usage', 'A schedule is --every or --cron, not both'],
    [add('--cron', '99 * * * *'), 2, 'cron_invalid', "has '99' as its minute"],
    [add('--cron', '@dayly'), 2, 'cron_invalid', 'did you mean @daily?'],
    [add('--cron', '0 0 30 2 *'), 2, 'cron_never_comes', 'names a day that never comes'],
    [add('--cron', '@daily', '--drifting'), 2, 'wrong_usage', 'only an interval can drift'],
    [add('--timezone', 'Europe/Lodnon'), 2, 'timezone_unknown', 'did you mean Europe/London?'],
    [add('--initial-start', 'tomorrow'), 2, 'wrong_usage', "--initial-start is 'tomorrow', which is not a time."],
    [add('--initial-start', '2026-02-30'), 2, 'wrong_usage', 'which is not a time'],
    [add('--config', '{days: 1}'), 2, 'wrong_usage', '--config is not JSON'],
    [add('--overlap', 'bufer'), 2, 'wrong_usage', "did you mean 'buffer'?"],
    [
      add('--max-retries', 'many'),
      2,
      'wrong_usage',
      "--max-retries is 'many'; it must be a whole number of 0 or more, or none.",
    ],
    [add('--priority', '5000'), 2, 'wrong_usage', 'from -1000 to 1000'],
    [add('--pool', 'a:b'), 2, 'wrong_usage', '--pool'],
    [add('--name', '1001'), 2, 'wrong_usage', 'digits alone would be taken for the number of a job'],
    [add('--name', 'x'.repeat(63)), 2, 'wrong_usage', 'application name too long.'],
    [add('--after', 'nihgtly'), 1, 'job_unknown', 'There is no job nihgtly; did you mean nightly?'],
    [['job', 'show', '4711'], 1, 'job_unknown', 'There is no job 4711.'],
    [['job', 'show', 'twin'], 1, 'job_ambiguous', /Several jobs are called twin: \d+ \(twin\), \d+ \(twin\)\./],
    [['job', 'run', 'note'], 1, 'job_ambiguous', 'Several jobs are called note'],
    [['job', 'alter', 'nightly'], 2, 'wrong_usage', 'Nothing to change was named.'],
    [['job', 'alter', 'nightly', '--drifting'], 2, 'wrong_usage', "A cron expression ('@daily') names its times"],
    [
      ['job', 'alter', 'nightly', '--sql', 'package.json'],
      2,
      'wrong_usage',
      'is of the kind procedure, and that does not change',
    ],
    [['job', 'alter', 'nightly', '--after', 'nightly'], 1, 'dependency_cycle', 'in a circle'],
    [
      ['job', 'alter', 'drifting', '--fixed', '--every', '1 month 1 day'],
      2,
      'interval_invalid',
      'has months and also days',
    ],
    [['job', 'run', 'nightly', '--params', '[1]'], 2, 'wrong_usage', 'the parameters of a run are a JSON object'],
    [['job', 'run', 'nightly', '--database', 'crm'], 1, 'job_refused', /Job \d+ runs in no database named crm\./],
    [['job', 'backfill', 'nightly'], 2, 'wrong_usage', "Required option '--start <time>' not specified."],
    [
      ['job', 'backfill', 'nightly', '--start', '2026-02-02', '--end', '2026-02-01'],
      2,
      'wrong_usage',
      'is not before --end',
    ],
    [
      ['job', 'backfill', 'drifting', '--start', '2026-01-01', '--end', '2026-02-01'],
      1,
      'job_refused',
      'no slots that could be made up for',
    ],
    [['job', 'history', 'nightly', '--limit', '0'], 2, 'wrong_usage', "--limit is '0'"],
    [['job', 'lst'], 2, 'wrong_usage', "Unknown command 'lst'; did you mean list?"],
    [['run', 'retry', 'x'], 1, 'run_unknown', 'There is no run x.'],
  ])('%j', async (args, exit, code, message) => {
    const refused = await desk.refused(...args)
    expect(refused).toMatchObject({ exit, code })
    if (message instanceof RegExp) expect(refused.message).toMatch(message)
    else expect(refused.message).toContain(message)
    expect(refused.remedy).toMatch(/\S/)
  })

  it('and changes nothing', async () => {
    expect(await desk.control.query('select count(*)::int from yardmaster.job')).toEqual([{ count: 4 }])
    expect(await desk.control.query('select from yardmaster.run')).toEqual([])
  })

  it('also where the role owns neither the job nor the schema', async () => {
    await desk.control.query(`create role job_stranger login password 'x'`)
    const url = new URL(desk.control.url)
    Object.assign(url, { username: 'job_stranger', password: 'x' })
    try {
      await desk.control.query(
        'grant usage on schema yardmaster to job_stranger; grant select on all tables in schema yardmaster to job_stranger',
      )
      await desk.control.query('grant execute on all functions in schema yardmaster to job_stranger')
      const { exit, code, message } = await desk.refused('job', 'pause', 'nightly', '--control', url.href)
      expect([exit, code]).toEqual([1, 'permission_denied'])
      expect(message).toMatch(/^insufficient permissions to pause job \d+$/)
    } finally {
      await desk.control.query('drop owned by job_stranger; drop role job_stranger')
    }
  })
})

describe('a replication is a job', () => {
  it('where that makes sense, and says which command is for it where not', async () => {
    await desk.add('orders', 'table', '--every', '1 hour')
    const { json } = await desk.done('job', 'list', '--json')
    const copy = json.find((one: { kind: string }) => one.kind === 'replication')
    expect(copy).toMatchObject({ destination: 'dwh:public.orders', status: 'active', schedule_interval: '01:00:00' })
    for (const name of ['public.orders', 'dwh:public.orders', 'orders', String(copy.job_id)])
      expect(await desk.shown(name)).toMatchObject({
        job_id: copy.job_id,
        kind: 'replication',
        next_starts: { length: 5 },
      })
    expect((await desk.done('job', 'show', 'orders')).out).toContain(
      'more: yardmaster replication show dwh:public.orders',
    )
    await desk.done('job', 'pause', 'orders', '--note', 'moving')
    expect((await desk.done('replication', 'show', 'public.orders', '--json')).json).toMatchObject({
      status: 'paused',
      note: 'moving',
    })
    await desk.done('job', 'resume', 'orders')
    const { json: queued } = await desk.done('job', 'run', 'orders', '--json')
    await desk.done('run-due')
    expect((await desk.done('job', 'history', 'orders', '--json')).json[0]).toMatchObject({
      id: queued.run_id,
      succeeded: true,
      proc_name: null,
    })
    for (const [command, instead] of [
      [['alter', 'orders', '--every', '2 hours'], 'yardmaster replication set dwh:public.orders key=value'],
      [['delete', 'orders', '--yes'], 'yardmaster replication remove dwh:public.orders'],
      [
        ['backfill', 'orders', '--start', '2026-01-01', '--end', '2026-01-02'],
        'yardmaster replication refresh dwh:public.orders --repull',
      ],
    ] as const)
      expect(await desk.refused('job', ...command)).toMatchObject({
        ...{ exit: 1, code: 'job_refused', message: `Job ${copy.job_id} (dwh:public.orders) is a replication.` },
        remedy: expect.stringContaining(instead),
      })
    expect(await desk.refused('job', 'run', 'orders', '--params', '{}')).toMatchObject({
      exit: 2,
      message: 'A job of the kind replication takes no parameters.',
    })
  })

  it('and a job that starts after one does so when it has brought something', async () => {
    await desk.done('run-due')
    const id = await desk.addJob(
      'note',
      '--database',
      'dwh',
      '--config',
      '"after orders"',
      '--after',
      'dwh:public.orders',
    )
    await desk.done('replication', 'refresh', 'public.orders')
    await expect.poll(async () => (await desk.shown(id)).last_runs).toHaveLength(1)
    await desk.done('run-due')
    expect((await desk.calls()).at(-1)).toBe('note "after orders"')
  })
})
