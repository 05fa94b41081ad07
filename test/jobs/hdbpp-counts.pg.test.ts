import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { addJob, counted, deploymentFile, installHdbpp, procedure, stats } from '../cli/postprocess-deployment.ts'
import { Shop } from '../cli/shop.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type RunningCli, startCli } from '../support/process.ts'

/** A deployment whose jobs were taken over with --keep-tables. */
let shop: Shop
let hdb: TestDatabase
let file: string

beforeEach(async () => {
  hdb = await createDatabase('hdbpp counts')
  await installHdbpp(hdb)
  // Numbers of ours begin at 1000.
  await hdb.query('alter table postprocessing_jobs alter job_id restart with 41')
  file = deploymentFile({ hdb: hdb.url })
  shop = new Shop(await createDatabase('hdbpp counts control'), hdb, hdb)
})

const adopt = (...flags: string[]) => shop.done('import', 'hdbpp', '-c', file, '--yes', ...flags)

async function worker(crashAt?: string): Promise<RunningCli> {
  const crash = crashAt === undefined ? {} : { YARDMASTER_CRASH_AT: crashAt }
  const running = startCli(['worker', '--host', 'h1', '--slots', '2', '--grace', '1s'], {
    env: { ...shop.environment, ...crash },
  })
  await running.waitForOutput(/takes work/)
  return running
}

/** Asks for a run of the job of a row; returns its id. */
async function request(row: string): Promise<string> {
  const [made] = await shop.control.query<{ run: string }>(
    'select (yardmaster.request_run(job_id))[1] as run from yardmaster.job_origins where number = $1',
    [row],
  )
  return made?.run ?? ''
}

async function ended(run: string) {
  const read = async () => (await shop.done('run', 'show', run, '--json')).json
  await expect.poll(async () => (await read()).status, { interval: 50, timeout: 30_000 }).toMatch(/OK|WARNING|CRITICAL/)
  return read()
}

const called = () => hdb.query('select job_id, config from calls order by n')

describe('a job of hdbpp-postprocessing that was taken over', () => {
  it('is called with its own number, and counted as the script counts', async () => {
    const good = await addJob(hdb, 'works', { keep: 1 })
    const bad = await addJob(hdb, 'fails')
    const missing = await addJob(hdb, 'works')
    await hdb.query(
      `insert into postprocessing_jobs_stats values ($1, now(), now(), 'Job run ok', 'CALL', '1 s', 5, 4, 1)`,
      [good],
    )
    await adopt('--keep-tables')
    await worker()
    expect(await ended(await request(good))).toMatchObject({ status: 'OK' })
    expect(await ended(await request(bad))).toMatchObject({
      status: 'CRITICAL',
      message: expect.stringContaining('as it should'),
    })
    expect(await called()).toEqual([{ job_id: good, config: { keep: 1 } }])
    expect(await stats(hdb)).toEqual([counted(good, true, [6, 5]), counted(bad, false, [1, 0])])
    await hdb.query('drop procedure works(bigint, jsonb)')
    expect(await ended(await request(missing))).toMatchObject({ status: 'CRITICAL' })
    expect((await stats(hdb))[2]).toMatchObject({
      job_id: missing,
      last_run_status: 'Job run in error',
      total_failures: '1',
    })
  })

  it('leaves the stats alone unless it is told, and from when it is told', async () => {
    const id = await addJob(hdb, 'works')
    await adopt()
    await worker()
    await ended(await request(id))
    expect(await stats(hdb)).toEqual([])
    await adopt('--keep-tables')
    await ended(await request(id))
    expect(await stats(hdb)).toEqual([counted(id, true, [1, 1])])
    // What is not said stays.
    await adopt()
    await ended(await request(id))
    expect(await stats(hdb)).toEqual([counted(id, true, [2, 2])])
    await adopt('--no-keep-tables')
    await ended(await request(id))
    expect(await stats(hdb)).toEqual([counted(id, true, [2, 2])])
  })

  it.each(['in our transaction', 'after its own COMMIT'])(
    'of which the count fails %s is a WARNING, and what it did stays',
    async (how) => {
      if (how === 'in our transaction') await hdb.query('create schema yardmaster')
      else await procedure(hdb, 'works', 'insert into public.calls (job_id) values (id); commit;')
      const good = await addJob(hdb, 'works')
      const bad = await addJob(hdb, 'fails')
      await adopt('--keep-tables')
      await hdb.query('alter table postprocessing_jobs_stats add check (total_runs > 1)')
      await worker()
      expect(await ended(await request(good))).toMatchObject({
        status: 'WARNING',
        message: expect.stringMatching(/works ended\. It was not counted in its database: .*violates check constraint/),
      })
      expect(await called()).toHaveLength(1)
      expect(await ended(await request(bad))).toMatchObject({
        status: 'CRITICAL',
        message: expect.stringMatching(/as it should.* It was not counted in its database: /),
      })
      expect(await stats(hdb)).toEqual([])
    },
  )

  it('whatever it leaves in its session', async () => {
    const nobody = `${hdb.name}_nobody`
    await hdb.query(`create role ${nobody}; grant usage on schema public to ${nobody}`)
    onTestFinished(async () => void (await hdb.query(`drop owned by ${nobody}; drop role ${nobody}`)))
    await procedure(
      hdb,
      'works',
      `perform set_config('search_path', 'pg_temp', false); perform set_config('lock_timeout', '1', false); create schema if not exists hostile;
       create or replace function hostile.make_interval(secs float8) returns interval language sql as 'select null::interval';
       perform set_config('search_path', 'hostile, pg_catalog', false); perform set_config('role', '${nobody}', false);`,
    )
    const id = await addJob(hdb, 'works')
    await adopt('--keep-tables')
    await worker()
    expect(await ended(await request(id))).toMatchObject({ status: 'OK' })
    await hdb.query('create schema yardmaster')
    expect(await ended(await request(id))).toMatchObject({ status: 'OK' })
    expect(await stats(hdb)).toEqual([counted(id, true, [2, 2])])
  })

  it('is counted once when a worker that stops breaks it off and another goes on', async () => {
    await procedure(
      hdb,
      'works',
      `insert into public.calls (job_id) values (id); commit; if (select count(*) from public.calls) = 1
      then perform pg_sleep(60); end if;`,
    )
    const id = await addJob(hdb, 'works')
    await adopt('--keep-tables')
    const first = await worker()
    const run = await request(id)
    await expect.poll(called).toHaveLength(1)
    await first.kill('SIGTERM')
    expect(await stats(hdb)).toEqual([])
    await worker()
    expect(await ended(run)).toMatchObject({ status: 'OK' })
    expect(await stats(hdb)).toEqual([counted(id, true, [1, 1])])
  })

  it('that somebody cancels counts as a run in error', async () => {
    await procedure(hdb, 'works', 'insert into public.calls (job_id) values (id); commit; perform pg_sleep(60);')
    const id = await addJob(hdb, 'works')
    await adopt('--keep-tables')
    await worker()
    const run = await request(id)
    await expect.poll(called).toHaveLength(1)
    await shop.done('run', 'cancel', run)
    expect(await ended(run)).toMatchObject({ status: 'CRITICAL', reason: 'cancelled' })
    expect(await stats(hdb)).toEqual([counted(id, false, [1, 0])])
  })
})
