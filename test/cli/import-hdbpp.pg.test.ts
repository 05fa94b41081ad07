import { beforeEach, describe, expect, it } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'
import { addJob, deploymentFile, installHdbpp, procedure } from './postprocess-deployment.ts'
import { Shop } from './shop.ts'

let shop: Shop
/** Two deployments. */
let accelerator: TestDatabase
let archive: TestDatabase

beforeEach(async () => {
  const control = await createDatabase('import hdbpp control')
  accelerator = await createDatabase('import hdbpp accelerator')
  archive = await createDatabase('import hdbpp archive')
  for (const database of [accelerator, archive]) await installHdbpp(database)
  shop = new Shop(control, accelerator, archive)
})

const file = () => deploymentFile({ Accelerator: accelerator.url, archive: archive.url })
const gone = (url: string) => Object.assign(new URL(url), { port: '1' }).href
const hdbpp = (path: string, ...flags: string[]) => shop.run('import', 'hdbpp', '-c', path, ...flags, '--json')
const imported = async (path: string, ...flags: string[]) => (await hdbpp(path, '--yes', ...flags)).json
const jobs = async () => (await shop.done('job', 'list', '--json')).json
/** Everything that the control database has of definitions. */
const definitions = () =>
  shop.control.query(`select (select jsonb_agg(j order by job_id) from (select job_id, version, cron, pool, config from yardmaster.jobs) j) as jobs,
    (select jsonb_agg(o order by job_id) from yardmaster.job_origins o) as origins, (select jsonb_agg(d order by id) from yardmaster.databases d) as databases,
    (select jsonb_agg(l order by key) from yardmaster.limits l) as limits, (select count(*) from yardmaster.audit_log) as changes`)

async function past(database: TestDatabase, id: string, [runs, successes]: [number, number], isOk: boolean) {
  await database.query(
    `insert into postprocessing_jobs_stats values ($1, '2026-11-20 21:00:00+00', '2026-11-19 21:00:12+00', $2, $3, '12.5 s', $4, $5, $6)`,
    [id, isOk ? 'Job run ok' : 'Job run in error', isOk ? 'CALL' : '', runs, successes, runs - successes],
  )
}

describe('import hdbpp', () => {
  it('registers each deployment, and makes jobs of its rows with what was counted of them', async () => {
    await addJob(accelerator, 'other', {}, 'another application')
    const good = await addJob(accelerator, 'works')
    // No digit is lost.
    await accelerator.query(
      `update postprocessing_jobs set config = '{"keep": 12345678901234567890}' where job_id = $1`,
      [good],
    )
    const bad = await addJob(accelerator, '"public" . Fails', null)
    await addJob(archive, 'Works', {})
    await past(accelerator, good, [12, 11], true)
    await past(accelerator, bad, [3, 0], false)
    const { code, json } = await hdbpp(file(), '--yes', '--timezone', 'Europe/Paris')
    expect(code).toBe(0)
    expect(json).toMatchObject({
      dry_run: false,
      deployments: [
        {
          deployment: 'Accelerator',
          database: 'accelerator',
          registered: true,
          error: null,
          jobs: [
            { number: good, proc_name: 'works', op: 'create', job_id: 1000, message: null },
            { number: bad, op: 'create', job_id: 1001 },
          ],
        },
        { deployment: 'archive', database: 'archive', registered: true, jobs: [{ number: '1', op: 'create' }] },
      ],
    })
    expect(await shop.control.query('select name, has_stored_password from yardmaster.databases order by 1')).toEqual([
      { name: 'accelerator', has_stored_password: true },
      { name: 'archive', has_stored_password: true },
    ])
    expect(
      await shop.control.query(
        `select job_id, name, proc_schema, proc_name, database, cron, timezone, pool, config ->> 'keep' as keep from yardmaster.jobs order by 1`,
      ),
    ).toEqual([
      {
        ...schedule('accelerator'),
        job_id: 1000,
        name: 'works',
        proc_schema: null,
        proc_name: 'works',
        keep: '12345678901234567890',
      },
      {
        ...schedule('accelerator'),
        job_id: 1001,
        name: 'fails',
        proc_schema: 'public',
        proc_name: 'fails',
        keep: null,
      },
      { ...schedule('archive'), job_id: 1002, name: 'works', proc_schema: null, proc_name: 'works', keep: null },
    ])
    const stats =
      await shop.control.query(`select job_id, last_run_started_at, last_successful_finish, last_run_status, last_run_duration::text as took,
      total_runs, total_successes, total_failures, consecutive_failures from yardmaster.job_stats order by job_id`)
    expect(stats).toEqual([
      {
        ...{ job_id: 1000, last_run_status: 'Success', took: '00:00:12.5', consecutive_failures: 0 },
        ...{
          last_run_started_at: new Date('2026-11-20T21:00:00Z'),
          last_successful_finish: new Date('2026-11-19T21:00:12Z'),
        },
        ...{ total_runs: '12', total_successes: '11', total_failures: '1' },
      },
      // What the script wrote as its success was its first failure.
      expect.objectContaining({
        job_id: 1001,
        last_run_status: 'Failed',
        last_successful_finish: null,
        total_runs: '3',
        total_failures: '3',
      }),
      expect.objectContaining({ job_id: 1002, last_run_status: null, last_run_started_at: null, total_runs: '0' }),
    ])
    expect(await shop.control.query('select key, slots from yardmaster.limits order by 1')).toEqual([
      { key: 'hdbpp-accelerator', slots: 1 },
      { key: 'hdbpp-archive', slots: 1 },
    ])
  })

  it('changes nothing when it is called again, and adds what is new', async () => {
    const path = file()
    await addJob(accelerator, 'works')
    await imported(path)
    const before = await definitions()
    const again = await hdbpp(path)
    expect(again.code).toBe(0)
    expect(again.json.deployments[0].jobs).toMatchObject([{ op: 'none', job_id: 1000 }])
    expect(await definitions()).toEqual(before)
    expect((await shop.run('import', 'hdbpp', '-c', path)).out).toBe('No changes.\n')

    await shop.done('limit', 'remove', 'hdbpp-accelerator', '--yes')
    const later = await addJob(accelerator, 'fails')
    expect((await imported(path)).deployments[0].jobs).toMatchObject([
      { op: 'none', job_id: 1000 },
      { number: later, op: 'create', job_id: 1001 },
    ])
    // What somebody took away stays away.
    expect(await shop.control.query(`select key from yardmaster.limits where key like '%accelerator'`)).toEqual([])
  })

  it('imports a job that was deleted here once more', async () => {
    const path = file()
    await addJob(accelerator, 'works')
    await imported(path)
    await shop.done('job', 'delete', '1000', '--yes')
    expect((await imported(path)).deployments[0].jobs).toMatchObject([{ op: 'create', job_id: 1001 }])
  })

  it('uses a registered database with the same address, and finds free names for the others', async () => {
    await shop.done('database', 'add', 'hdb', accelerator.url)
    await shop.control.query(`select yardmaster.add_database('archive-1', 'postgresql://elsewhere@localhost:1/hdb')`)
    await addJob(accelerator, 'works')
    await addJob(archive, 'works')
    const path = deploymentFile({ one: accelerator.url, two: accelerator.url, 'Archive 1!': archive.url })
    expect(await imported(path)).toMatchObject({
      deployments: [
        { database: 'hdb', registered: false, jobs: [{ op: 'create', job_id: 1000 }] },
        { database: 'hdb', registered: false, jobs: [{ op: 'none' }] },
        { database: 'archive-1-2', registered: true, jobs: [{ op: 'create', job_id: 1001 }] },
      ],
    })
  })

  it('refuses rows whose names are none, and imports the others; the exit code says so', async () => {
    await addJob(accelerator, 'p(1); drop table x')
    await addJob(accelerator, null)
    await addJob(accelerator, 'works')
    const { code, json } = await hdbpp(file(), '--yes')
    expect(code).toBe(1)
    expect(json.deployments[0].jobs).toMatchObject([
      {
        number: '1',
        op: 'refused',
        job_id: null,
        message: "proc_name is 'p(1); drop table x', which is no procedure's name",
      },
      { number: '2', op: 'refused', message: 'proc_name is NULL' },
      { number: '3', op: 'create', job_id: 1000, message: null },
    ])
    expect((await hdbpp(file())).code).toBe(1)
  })

  it('imports the others when one database is down, and adds that one when it is back', async () => {
    await addJob(accelerator, 'works')
    await addJob(archive, 'works')
    const down = deploymentFile({ Accelerator: gone(accelerator.url), archive: archive.url })
    const { code, json } = await hdbpp(down, '--yes')
    expect(code).toBe(1)
    expect(json.deployments).toMatchObject([
      { deployment: 'Accelerator', registered: false, error: { code: 'database_unreachable' }, jobs: [] },
      { deployment: 'archive', registered: true, error: null, jobs: [{ op: 'create' }] },
    ])
    expect(await shop.control.query('select name from yardmaster.databases')).toEqual([{ name: 'archive' }])
    expect((await hdbpp(file(), '--yes')).code).toBe(0)
    expect(await jobs()).toHaveLength(2)
  })

  it('adds all jobs of a deployment or none', async () => {
    await addJob(accelerator, 'works')
    await addJob(accelerator, 'fails')
    await shop.done('database', 'list')
    await shop.control.query(`create function public.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'not that one'; end $$;
      create trigger refuse before insert on yardmaster.job_origin for each row when (new.number = 2) execute function public.refuse()`)
    const { code, json } = await hdbpp(file(), '--yes')
    expect(code).toBe(1)
    expect(json.deployments).toMatchObject([
      { error: { message: expect.stringContaining('not that one') } },
      { error: null },
    ])
    expect(await jobs()).toEqual([])
    expect(await shop.control.query('select from yardmaster.limits')).toEqual([])
    await shop.control.query('drop trigger refuse on yardmaster.job_origin')
    expect((await hdbpp(file(), '--yes')).code).toBe(0)
    expect(await jobs()).toHaveLength(2)
  })

  it('shows its plan, asks, and does nothing before that', async () => {
    await addJob(accelerator, 'works')
    await addJob(accelerator, 'p q')
    await past(accelerator, '1', [12, 11], true)
    const path = file()
    await shop.done('database', 'list')
    const before = await definitions()
    const dry = await shop.run('import', 'hdbpp', '-c', path, '--dry-run', '--keep-tables', '--timezone', 'UTC')
    expect(dry.code).toBe(1)
    const address = (database: TestDatabase) => new URL(database.url)
    expect(dry.out.split('\n')).toEqual([
      '+ create   ! refused',
      `+ database Accelerator, as accelerator: postgresql://${address(accelerator).username}@${address(accelerator).host}${address(accelerator).pathname}`,
      '+ accelerator: job "works", of row 1, 12 runs so far, 1 in error',
      "! accelerator: row 2 is no job: proc_name is 'p q', which is no procedure's name",
      `+ database archive: postgresql://${address(archive).username}@${address(archive).host}${address(archive).pathname}`,
      '    cron 0 22 * * * in UTC; one after the other (pool hdbpp-accelerator); its table of stats is kept current',
      'Plan: 3 to create, 0 to change, 0 to replace, 0 to delete.',
      '',
    ])
    const unasked = await shop.run('import', 'hdbpp', '-c', path)
    expect({ code: unasked.code, said: unasked.err }).toMatchObject({ code: 2, said: expect.stringContaining('--yes') })
    const terminal = new FakeTerminal({ environment: shop.environment })
    const running = terminal.run('import', 'hdbpp', '-c', path)
    await terminal.asked('Import? [y/N]')
    terminal.type('n\n')
    expect(await running).toBe(1)
    expect(await definitions()).toEqual(before)
    const accepting = new FakeTerminal({ environment: shop.environment })
    const importing = accepting.run('import', 'hdbpp', '-c', path)
    await accepting.asked('Import? [y/N]')
    accepting.type('y\n')
    expect(await importing).toBe(1)
    expect(accepting.out).toContain('Accelerator: job 1000 was added in accelerator.')
    expect(accepting.err).toContain('out of cron')
  })

  it('runs them as it is told', async () => {
    await addJob(accelerator, 'works')
    await imported(file(), '--every', '10 minutes', '--timezone', 'UTC')
    expect(await jobs()).toMatchObject([{ schedule_interval: '00:10:00', cron: null, timezone: 'UTC' }])
    for (const flags of [
      ['--cron', 'nonsense'],
      ['--every', '1 day', '--cron', '@hourly'],
      ['--timezone', 'Europe/Nowhere'],
    ])
      expect((await shop.run('import', 'hdbpp', '-c', file(), ...flags)).code).toBe(2)
  })
})

function schedule(database: string) {
  return { database, cron: '0 22 * * *', timezone: 'Europe/Paris', pool: `hdbpp-${database}` }
}

it('a row whose procedure is not there is a job that says so', async () => {
  await procedure(accelerator, 'only_text', 'null;', 'a text')
  await addJob(accelerator, 'only_text')
  await imported(file())
  expect(await jobs()).toMatchObject([{ status: 'unverified' }])
})
