import { beforeAll, describe, expect, it } from 'vitest'
import { claimRuns } from '../../src/jobs/claim.ts'
import { RunRecorder } from '../../src/monitoring/run-recorder.ts'
import { runDue } from '../../src/worker/run-due.ts'
import { JobsDesk } from './timescaledb-desk.ts'

let desk: JobsDesk

beforeAll(async () => {
  desk = await JobsDesk.open('runs')
  await desk.target.query(`
    create procedure public.holds(job_id int, config jsonb) language plpgsql as
      $$ begin perform pg_advisory_lock(4711); perform pg_advisory_unlock(4711); end $$;
    create procedure public.takes(job_id int, config jsonb) language plpgsql as $$ begin perform pg_sleep(600); end $$;
    create procedure public.sets(job_id int, config jsonb) language plpgsql as $$ begin
      raise notice 'yardmaster: next_start 2031-05-05 05:05:05+00'; if config ? 'fail' then raise exception 'no'; end if; end $$;
    create function public.counts(job_id int, config jsonb) returns void language sql as
      $$ insert into public.done (job_id, config) values ($1, $2) $$;
    create function public.looks(config jsonb) returns void language plpgsql as
      $$ begin if config is null then raise exception 'no config'; end if; end $$;
    create procedure public.asks(config jsonb) language sql as 'select';
    create function public.other(job_id text) returns void language sql as 'select'`)
  await desk.startWorker()
})

/** Has no run but those that are asked for: its first slot is years away. */
const idle = (args: string) =>
  desk.add(`${args.replace(/^'(\w+)'/, "'public.$1', '1 day'")}, initial_start => '2031-01-01 00:00+00'`)
const history = (id: number) =>
  desk.database.query('select * from yardmaster.job_history where job_id = $1 order by id', [id])

/** Holds what `holds` waits for, until the returned function is called. */
async function hold(): Promise<() => Promise<void>> {
  const holder = await desk.target.client()
  await holder.query('select pg_advisory_lock(4711)')
  return () => holder.end()
}

const status = (id: number) => expect.poll(async () => (await desk.stats(id)).job_status, { interval: 20 })

describe('job_stats', () => {
  it('before the first run, while it runs, after it, and never -infinity', async () => {
    const id = await idle(`'holds'`)
    expect(await desk.stats(id)).toMatchObject({
      hypertable_schema: null,
      hypertable_name: null,
      last_run_started_at: null,
      last_successful_finish: null,
      last_run_status: null,
      job_status: 'Scheduled',
      last_run_duration: null,
      total_runs: '0',
      total_successes: '0',
      total_failures: '0',
    })
    const letGo = await hold()
    await desk.request(id)
    await status(id).toBe('Running')
    expect(await desk.stats(id)).toMatchObject({
      last_run_started_at: expect.any(Date),
      last_successful_finish: null,
      last_run_status: null,
      last_run_duration: null,
      total_runs: '1',
      total_successes: '0',
      total_failures: '0',
    })
    await expect
      .poll(() => history(id), { interval: 20 })
      .toMatchObject([{ succeeded: null, finish_time: null, pid: expect.any(Number) }])
    expect(await desk.database.query('select 1 from yardmaster.job_errors where job_id = $1', [id])).toEqual([])
    await letGo()
    await desk.ended(id)
    const stats = await desk.stats(id)
    expect(stats).toMatchObject({
      last_run_status: 'Success',
      job_status: 'Scheduled',
      total_runs: '1',
      total_successes: '1',
      total_failures: '0',
    })
    const [run] = await history(id)
    expect(run).toMatchObject({
      succeeded: true,
      proc_schema: 'public',
      proc_name: 'holds',
      config: null,
      sqlerrcode: null,
      err_message: null,
    })
    expect([stats.last_run_started_at, stats.last_successful_finish]).toEqual([run.start_time, run.finish_time])
    await desk.database.query('select yardmaster.pause_job($1)', [id])
    expect(await desk.stats(id)).toMatchObject({ job_status: 'Paused', next_start: null, last_run_status: 'Success' })
  })

  it('after a failure; the last success stays, and job_errors has what the server said', async () => {
    const id = await idle(`'works'`)
    await desk.request(id)
    await desk.ended(id)
    const before = await desk.stats(id)
    await desk.target.query('alter procedure public.works rename to hidden')
    await desk.target.query('alter procedure public.fails rename to works')
    await desk.request(id)
    await desk.ended(id, 2)
    await desk.target.query('alter procedure public.works rename to fails')
    await desk.target.query('alter procedure public.hidden rename to works')
    const after = await desk.stats(id)
    expect(after).toMatchObject({
      last_run_status: 'Failed',
      total_runs: '2',
      total_successes: '1',
      total_failures: '1',
    })
    expect(after.last_successful_finish).toEqual(before.last_successful_finish)
    expect(after.last_run_started_at.getTime()).toBeGreaterThan(before.last_run_started_at.getTime())
    const errors = await desk.database.query('select * from yardmaster.job_errors where job_id = $1', [id])
    expect(errors).toMatchObject([
      {
        proc_schema: 'public',
        proc_name: 'works',
        pid: expect.any(Number),
        sqlerrcode: 'P0123',
        err_message: expect.stringMatching(/^no luck/),
      },
    ])
  })

  it('no session of another can make a job look as if it ran', async () => {
    const id = await idle(`'works'`)
    const faker = await desk.target.client()
    await faker.query(`set application_name = 'User-Defined Action [${id}]'`)
    expect((await desk.stats(id)).job_status).toBe('Scheduled')
  })
})

describe('the action', () => {
  it('gets its number and config; NULL is NULL; a function will do', async () => {
    const ids = [await idle(`'works', config => '{"a": 1}'`), await idle(`'counts'`)]
    for (const id of ids) {
      await desk.request(id)
      await desk.ended(id)
    }
    expect(
      await desk.target.query('select job_id, config from public.done where job_id = any($1) order by 1', [ids]),
    ).toEqual([
      { job_id: ids[0], config: { a: 1 } },
      { job_id: ids[1], config: null },
    ])
  })

  it.each([
    ['absent', 'function or procedure "public.absent(integer, jsonb)" does not exist', null],
    ['other', 'function or procedure "public.other(integer, jsonb)" does not exist', null],
    ['works', 'looks refuses the configuration', 'public.looks'],
    ['works', 'function or procedure "public.absent(jsonb)" does not exist', 'public.absent'],
    ['works', 'Only functions are allowed as custom configuration checks', 'public.asks'],
  ])('%s: %s is found by a worker at once, and the job is paused with it', async (name, message, check) => {
    const [{ id }] = await desk.database.query(`select yardmaster.add_job($1, '1 day', check_config => $2) as id`, [
      `public.${name}`,
      check,
    ])
    await expect.poll(async () => (await desk.job(id)).status, { interval: 20 }).toBe('paused')
    expect(await desk.job(id)).toMatchObject({ scheduled: false, pause_note: expect.stringContaining(message) })
    expect(await history(id)).toEqual([])
  })

  it('is looked at by a pass of run-due as well, which runs it', async () => {
    const alone = await JobsDesk.open('pass')
    await alone.database.query(`select yardmaster.add_job('works', '1 day'), yardmaster.add_job('absent', '1 day')`)
    const recorder = new RunRecorder(alone.control, { name: 'pass', host: 'here', slots: 1 })
    const place = {
      control: alone.control,
      environment: () => undefined,
      recorder,
      streams: 1,
      signal: new AbortController().signal,
    }
    const done = await runDue(place, { type: null, most: null, parallel: 1 }, () => undefined)
    await recorder.stop()
    expect(done).toMatchObject([{ job_id: 1000, status: 'OK' }])
    expect([(await alone.job(1000)).status, (await alone.job(1001)).status]).toEqual(['active', 'paused'])
  })

  it('sets its own next start, which wins after a success and after a failure', async () => {
    for (const config of ['{}', '{"fail": 1}']) {
      const id = await idle(`'sets', config => '${config}'`)
      await desk.request(id)
      await desk.ended(id)
      expect((await desk.job(id)).next_start).toEqual(new Date('2031-05-05T05:05:05Z'))
    }
  })
})

describe('max_retries', () => {
  const failTimes = async (id: number, times: number) => {
    for (let run = 1; run <= times; run += 1) {
      await desk.request(id)
      await desk.ended(id, run)
    }
  }

  it.each([
    [0, 1],
    [1, 1],
    [3, 3],
  ])(
    'of %i pauses after %i failures in a row, and alter_job(scheduled => true) forgets none',
    async (most, failures) => {
      const id = await idle(`'fails', max_retries => ${most}`)
      if (failures > 1) await failTimes(id, failures - 1)
      expect((await desk.job(id)).status).toBe('active')
      await desk.request(id)
      await desk.ended(id, failures)
      expect(await desk.job(id)).toMatchObject({
        status: 'paused',
        scheduled: false,
        paused_by: 'max_retries',
        pause_note: `It reached max_retries (${most}) after ${failures} consecutive failures.`,
      })
      expect(await desk.stats(id)).toMatchObject({ job_status: 'Paused', consecutive_failures: failures })
      await desk.database.query('select yardmaster.alter_job($1, scheduled => true)', [id])
      expect((await desk.job(id)).status).toBe('active')
      await desk.request(id)
      await desk.ended(id, failures + 1)
      expect((await desk.job(id)).pause_note).toBe(
        `It reached max_retries (${most}) after ${failures + 1} consecutive failures.`,
      )
    },
  )

  it('of -1 never pauses, and a success counts from none', async () => {
    const endless = await idle(`'fails'`)
    await failTimes(endless, 4)
    expect((await desk.job(endless)).status).toBe('active')
    const id = await idle(`'fails', max_retries => 2`)
    await failTimes(id, 1)
    await desk.target.query(
      'alter procedure public.fails rename to hidden; alter procedure public.works rename to fails',
    )
    await desk.request(id)
    await desk.ended(id, 2)
    await desk.target.query(
      'alter procedure public.fails rename to works; alter procedure public.hidden rename to fails',
    )
    expect((await desk.stats(id)).consecutive_failures).toBe(0)
    await desk.request(id)
    await desk.ended(id, 3)
    expect((await desk.job(id)).status).toBe('active')
  })

  it('counts timeouts', async () => {
    const id = await idle(`'takes', max_retries => 1, max_runtime => '200 ms'`)
    await desk.request(id)
    await desk.ended(id)
    expect(await desk.job(id)).toMatchObject({ status: 'paused', paused_by: 'max_retries' })
    const [run] = await history(id)
    expect(run).toMatchObject({ succeeded: false, err_message: expect.stringMatching(/max_runtime/) })
  })

  it('counts lost workers', async () => {
    const alone = await JobsDesk.open('crashes')
    const id = await alone.add(`'works', '1 day', max_retries => 1, initial_start => '2031-01-01 00:00+00'`)
    const [{ worker }] = await alone.database.query(`select yardmaster.register_worker('gone', 'here', 1) as worker`)
    await alone.request(id)
    expect(await claimRuns(alone.control, worker, ['procedure'], 1)).toHaveLength(1)
    expect((await alone.stats(id)).job_status).toBe('Running')
    await alone.database.query('select yardmaster.end_worker($1)', [worker])
    expect(await alone.job(id)).toMatchObject({ status: 'paused', paused_by: 'max_retries' })
    expect(await alone.stats(id)).toMatchObject({ last_run_status: 'Failed', total_failures: '1', total_runs: '1' })
    const errors = await alone.database.query('select err_message from yardmaster.job_errors')
    expect(errors).toEqual([{ err_message: expect.stringMatching(/^Worker gone vanished/) }])
  })
})

describe('run_job', () => {
  it('is recorded, by a worker, as anybody sees; of a paused job too', async () => {
    const id = await desk.add(`'public.works', '1 day', scheduled => false`)
    await desk.database.query(`call yardmaster.run_job(${id})`)
    expect(await desk.stats(id)).toMatchObject({ job_status: 'Paused', total_runs: '1', last_run_status: 'Success' })
    expect(await history(id)).toMatchObject([{ succeeded: true, requested: true }])
  })

  it('fails where the job does, with what it said', async () => {
    const id = await idle(`'fails'`)
    await expect(desk.database.query(`call yardmaster.run_job(${id})`)).rejects.toMatchObject({
      code: 'YM008',
      message: expect.stringMatching(/^Run \d+ failed \(.*\): .*no luck/),
    })
    expect(await history(id)).toMatchObject([{ succeeded: false }])
  })

  it('is refused in a transaction with the reason, in a function by the server, and nothing has begun', async () => {
    const id = await idle(`'works'`)
    const client = await desk.database.client()
    await client.query('begin')
    await expect(client.query(`call yardmaster.run_job(${id})`)).rejects.toMatchObject({
      code: 'YM002',
      message:
        'run_job waits for a worker and commits on the way, which is not possible inside a transaction or a function.',
      hint: expect.stringContaining('yardmaster.request_run(1001)'),
    })
    await client.query('rollback; begin')
    await expect(client.query(`call yardmaster.wait(1)`)).rejects.toMatchObject({ code: 'YM002' })
    await client.query('rollback')
    await client.query(
      `create function pg_temp.runs() returns void language plpgsql as $$ begin call yardmaster.run_job(${id}); end $$`,
    )
    await expect(client.query('select pg_temp.runs()')).rejects.toMatchObject({
      code: '2D000',
      where: expect.stringContaining('yardmaster.run_job'),
    })
    expect(await history(id)).toEqual([])
  })

  it('from a procedure that commits, and by request_run in a transaction with wait behind it', async () => {
    const id = await idle(`'works'`)
    const client = await desk.database.client()
    await client.query(`create procedure public.chain() language plpgsql as $$ begin
      call yardmaster.run_job(${id}); commit; call yardmaster.run_job(${id}); end $$`)
    await client.query('call public.chain()')
    expect(await history(id)).toHaveLength(2)
    await client.query('begin')
    const { rows } = await client.query('select (yardmaster.request_run($1))[1] as run', [id])
    expect(await history(id)).toHaveLength(2)
    await client.query('commit')
    await client.query(`call yardmaster.wait(${rows[0].run})`)
    expect(await history(id)).toHaveLength(3)
  })
})

describe('pausing and deleting', () => {
  it('pausing lets the run finish; deleting breaks it off and keeps its past', async () => {
    const id = await idle(`'holds'`)
    const letGo = await hold()
    await desk.request(id)
    await status(id).toBe('Running')
    await desk.database.query('select yardmaster.alter_job($1, scheduled => false)', [id])
    expect(await desk.stats(id)).toMatchObject({ job_status: 'Running', next_start: null })
    await letGo()
    await desk.ended(id)
    expect(await desk.stats(id)).toMatchObject({ job_status: 'Paused', last_run_status: 'Success' })
    const again = await hold()
    await desk.request(id)
    await status(id).toBe('Running')
    await desk.database.query('select yardmaster.delete_job($1)', [id])
    await expect.poll(async () => (await history(id))[1].succeeded, { interval: 20 }).toBe(false)
    await again()
    expect(await history(id)).toMatchObject([
      { succeeded: true },
      { succeeded: false, err_message: expect.stringMatching(/deletion/) },
    ])
  })
})
