import { beforeAll, describe, expect, it } from 'vitest'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('job alerts')
  await desk.destination.query(`
    create procedure public.fails_with_advice(job_id int, config jsonb) language plpgsql as
      $$ begin raise exception 'the disk is full' using detail = 'no byte is left', hint = 'Buy one,\n at postgresql://u:secret@h/d'; end $$`)
})

/** What check says of jobs: nothing where nothing is wrong. */
const failed = async (...args: string[]) =>
  (await desk.run('check', ...args, '--json')).json.alerts
    .filter(({ alert_status }: { alert_status: string }) => alert_status === 'FAILED_RUN')
    .map(({ alert_code, job_name, alert_text }: { alert_code: number; job_name: string; alert_text: string }) =>
      [alert_code, job_name, alert_text].join(' '),
    )

async function fail(job: number): Promise<void> {
  await desk.done('job', 'run', String(job))
  await desk.run('run-due')
}

describe('a job that paused itself is an alert until somebody sees to it:', () => {
  it('at max_retries, whatever the sensitivity', async () => {
    const job = await desk.addJob('fails', '--database', 'dwh', '--max-retries', '2', '--name', 'nightly')
    await desk.done('alert', 'set', 'nightly', '--sensitivity', '9')
    await fail(job)
    expect(await failed()).toEqual([])
    await fail(job)
    const text = `3 dwh:nightly [${job}] it has paused itself: It reached max_retries (2) after 2 consecutive failures. Go on with: yardmaster job resume ${job}`
    expect(await failed()).toEqual([text])
    expect(await failed('--job', 'other*')).toEqual([])
    await desk.control.query('select yardmaster.evaluate_alerts()')
    expect((await desk.done('alert', 'list', '--json')).json).toMatchObject([{ job_name: `dwh:nightly [${job}]` }])
    // Who pauses it by hand has seen it.
    await desk.done('job', 'pause', 'nightly', '--note', 'the disk is on its way')
    expect(await failed()).toEqual([])
    await desk.done('job', 'resume', 'nightly')
    expect(await failed()).toEqual([])
    await desk.done('job', 'delete', 'nightly', '--yes')
  })

  it('in one of its databases', async () => {
    const job = await desk.addJob('fails', '--database', 'tag:prod', '--max-retries', '1', '--name', 'everywhere')
    await desk.done('job', 'run', String(job), '--database', 'crm')
    await desk.run('run-due')
    expect(await failed()).toEqual([
      `3 crm:everywhere [${job}] it has paused itself: It reached max_retries (1) after 1 consecutive failures. Go on with: yardmaster job resume ${job}`,
    ])
    await desk.done('job', 'resume', 'everywhere')
    expect(await failed()).toEqual([])
    await desk.done('job', 'delete', 'everywhere', '--yes')
  })

  it('for want of what it calls', async () => {
    await desk.control.query(`select yardmaster.add_job('public.nothing', '1 day', database => 'dwh')`)
    await desk.run('run-due')
    const [alert, ...more] = await failed()
    expect(alert).toMatch(
      /^3 dwh:public\.nothing \[\d+\] it has paused itself: function or procedure "public\.nothing\(integer, jsonb\)" does not exist in dwh\. Custom job actions must accept \(integer, jsonb\) arguments\. Go on with: yardmaster job resume \d+$/,
    )
    expect(more).toEqual([])
    await desk.done('job', 'delete', 'public.nothing', '--yes')
  })
})

it('a rule is for the job that is meant: by number, name, application name, or what it calls', async () => {
  const job = await desk.addJob('note', '--database', 'dwh', '--name', 'one')
  const other = await desk.addJob('note', '--database', 'dwh', '--name', 'public.note')
  const set = async (name: string) => (await desk.done('alert', 'set', name, '--json')).json.job_id
  for (const name of [String(job), 'one', `one [${job}]`, `dwh:one [${job}]`]) expect(await set(name)).toBe(job)
  expect(await set('public.note')).toBe(other)
  await desk.done('job', 'alter', String(other), '--name', 'one')
  for (const name of ['one', 'public.note'])
    expect(await desk.refused('alert', 'set', name, '--warn', '1 hour')).toMatchObject({
      ...{ exit: 1, code: 'job_ambiguous', remedy: 'Name it by its number.' },
      message: `${name} may be dwh:one [${job}] (job ${job}), dwh:one [${other}] (job ${other}).`,
    })
  expect(await desk.refused('alert', 'set', 'two')).toMatchObject({ exit: 1, code: 'job_unknown' })
  expect(await desk.control.query('select from yardmaster.alert_rule where job_id in ($1, $2)', [job, other])).toEqual(
    [],
  )
})

it('a failure is told with the advice of the database, without passwords', async () => {
  const job = await desk.addJob('fails_with_advice', '--database', 'dwh')
  await fail(job)
  expect((await desk.done('job', 'errors', '--json')).json[0]).toMatchObject({
    job_id: job,
    sqlerrcode: 'P0001',
    err_message: expect.stringMatching(
      /^the disk is full; no byte is left; .*; hint: Buy one, at postgresql:\/\/u:\S*@h\/d$/,
    ),
  })
  expect(JSON.stringify((await desk.done('job', 'errors', '--json')).json)).not.toContain('secret')
})

it('a copy that a job starts after is not removed, and the message says which job', async () => {
  await desk.add('orders', 'table')
  const copy = (await desk.shown('dwh:public.orders')).job_id
  const job = await desk.addJob('note', '--database', 'dwh', '--after', 'public.orders')
  expect(await desk.refused('replication', 'remove', 'public.orders', '--yes')).toEqual({
    ...{ exit: 1, code: 'job_refused', object: 'dwh:public.orders', message: `Job ${job} starts after job ${copy}.` },
    remedy: `Have it start after something else first, or after nothing: yardmaster job alter ${job} --after none`,
  })
  expect((await desk.shown('dwh:public.orders')).status).toBe('active')
  await desk.done('job', 'alter', String(job), '--after', 'none')
  await desk.done('replication', 'remove', 'public.orders', '--yes')
})

it('a limit counts jobs, and a database that they run in is in use', async () => {
  const job = await desk.addJob('note', '--database', 'crm', '--pool', 'night')
  for (const key of ['night', 'database:crm']) {
    expect((await desk.done('limit', 'set', key, '2')).err).toBe('')
    await desk.done('limit', 'remove', key)
  }
  expect((await desk.done('limit', 'set', 'day', '2')).err).toBe('No job counts for day yet.\n')
  await desk.done('limit', 'remove', 'day')
  expect(await desk.refused('database', 'remove', 'crm', '--yes')).toMatchObject({
    ...{ exit: 1, code: 'database_in_use', message: expect.stringContaining(`(job ${job})`) },
    remedy: expect.stringContaining('yardmaster job delete JOB'),
  })
})
