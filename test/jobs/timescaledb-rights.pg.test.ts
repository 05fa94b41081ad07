import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { JobsDesk } from './timescaledb-desk.ts'

/** Logins of this file; roles are the whole server's. `colleague` is a member of `author`. */
const suffix = `${process.pid}`
const [author, colleague, stranger] = [`author_${suffix}`, `colleague_${suffix}`, `stranger_${suffix}`]

let desk: JobsDesk
const sessions: pg.Client[] = []

async function as(role: string): Promise<pg.Client> {
  const url = Object.assign(new URL(desk.database.url), { username: role, password: 'secret' })
  const client = new pg.Client({ connectionString: url.href })
  client.on('error', () => undefined)
  await client.connect()
  sessions.push(client)
  return client
}

beforeAll(async () => {
  desk = await JobsDesk.open('rights')
  await desk.database.query(`select yardmaster.add_database('crm', 'env:CRM')`)
  for (const role of [author, colleague, stranger]) {
    await desk.database.query(`create role "${role}" login password 'secret'`)
  }
  await desk.database.query(`grant "${author}" to "${colleague}"`)
  await desk.database.query('select yardmaster.install_timescaledb_names()')
  await desk.database.query(`select yardmaster.grant_use($1, 'dwh')`, [author])
  await desk.database.query(`select yardmaster.grant_use($1, 'crm')`, [stranger])
  await desk.startWorker()
})

afterAll(async () => {
  for (const session of sessions) await session.end()
  await desk.database.query('select yardmaster.uninstall_timescaledb_names()')
  const left = await desk.database.query<{ role: string }>(
    'select rolname::text as role from pg_roles where rolname = any($1)',
    [[colleague, stranger, author]],
  )
  for (const { role } of left) {
    await desk.database.query(`drop owned by "${role}"`)
    await desk.database.query(`drop role "${role}"`)
  }
})

describe('a role that may make jobs in one database', () => {
  let job: number
  let client: pg.Client

  it('adds, alters, runs and sees its own, and owns them', async () => {
    client = await as(author)
    job = (
      await client.query(
        `select yardmaster.add_job('works', '1 h', database => 'dwh', initial_start => '2031-01-01') as id`,
      )
    ).rows[0].id
    await desk.settle(job)
    await client.query(`select yardmaster.alter_job($1, config => '{"a": 1}')`, [job])
    await client.query(`call yardmaster.run_job(${job})`)
    expect(await desk.target.query('select job_id, config from public.done')).toEqual([
      { job_id: job, config: { a: 1 } },
    ])
    expect((await client.query('select job_id, owner::text from yardmaster.jobs')).rows).toEqual([
      { job_id: job, owner: author },
    ])
    expect((await client.query('select total_runs from yardmaster.job_stats')).rows).toEqual([{ total_runs: '1' }])
    expect((await client.query('select succeeded from yardmaster.job_history')).rows).toEqual([{ succeeded: true }])
    expect((await client.query('select * from yardmaster.job_errors')).rows).toEqual([])
  })

  it("and by TimescaleDB's names", async () => {
    await client.query(`set yardmaster.database = 'dwh'`)
    const { rows } = await client.query(`select add_job('fails', '1 h', scheduled => false) as id`)
    await expect(client.query(`call run_job(${rows[0].id})`)).rejects.toMatchObject({
      code: 'YM008',
      message: expect.stringContaining('no luck'),
    })
    expect((await client.query('select sqlerrcode from timescaledb_information.job_errors')).rows).toEqual([
      { sqlerrcode: 'P0123' },
    ])
    expect((await client.query('select job_id from timescaledb_information.jobs where not scheduled')).rows).toEqual([
      { job_id: rows[0].id },
    ])
    expect(
      (await client.query('select job_status from timescaledb_information.job_stats order by job_id')).rows,
    ).toEqual([{ job_status: 'Scheduled' }, { job_status: 'Paused' }])
    expect((await client.query('select 1 from timescaledb_information.job_history')).rows).toHaveLength(2)
    await client.query(`select delete_job($1)`, [rows[0].id])
    // Its past stays, for its owner.
    expect((await client.query('select 1 from timescaledb_information.job_history')).rows).toHaveLength(2)
  })

  it.each([
    [
      'elsewhere',
      `select yardmaster.add_job('works', '1 h', database => 'crm')`,
      /^author_\d+ may not make jobs in database crm\.$/,
    ],
    [
      'in all with a tag',
      `select yardmaster.add_job('works', '1 h', database => 'tag:none')`,
      /^author_\d+ may not make jobs in every database with a tag\.$/,
    ],
    [
      'of statements',
      `select yardmaster.define_job('{"statements": ["select 1"], "database": "dwh", "cron": "* * * * *"}')`,
      /^permission denied for function define_job$/,
    ],
    [
      'that nobody looks at first',
      `select yardmaster.settle_verification(1000, null, null, null)`,
      /^permission denied/,
    ],
    ['by hand', `update yardmaster.job set owner = current_user`, /^permission denied/],
    ['with rights of its own making', `select yardmaster.grant_use(current_user, 'crm', true)`, /^permission denied/],
    ['of another owner', `select yardmaster.change_owner(1000, current_user)`, /^permission denied/],
    ['that it sees the secrets of', 'select * from yardmaster.managed_database', /^permission denied/],
    ['that it moves', `select yardmaster.change_job(1000, '{"database": "crm"}')`, /^permission denied/],
  ])('makes none %s', async (_where, statement, message) => {
    await expect(client.query(statement)).rejects.toMatchObject({ message: expect.stringMatching(message) })
  })

  it("a member of the owner's role may do the same", async () => {
    const member = await as(colleague)
    await member.query(`select yardmaster.alter_job($1, max_retries => 2)`, [job])
    expect(
      (await member.query('select distinct job_id from yardmaster.job_history where job_id = $1', [job])).rows,
    ).toHaveLength(1)
    await member.query(`call yardmaster.run_job(${job})`)
  })

  it('another sees the job, not its past, and may not touch it', async () => {
    const other = await as(stranger)
    expect((await other.query('select config from yardmaster.jobs where job_id = $1', [job])).rows).toEqual([
      { config: { a: 1 } },
    ])
    expect((await other.query('select * from yardmaster.job_history')).rows).toEqual([])
    expect((await other.query('select * from yardmaster.job_errors')).rows).toEqual([])
    // What a condition of its own would tell, were it asked first.
    await other.query(`create function pg_temp.leak(text) returns boolean language plpgsql cost 0.0001 as
      $$ begin raise exception 'leaked %', $1; end $$`)
    expect(
      (await other.query('select 1 from timescaledb_information.job_history where pg_temp.leak(proc_name)')).rows,
    ).toEqual([])
    for (const [verb, statement] of [
      ['alter', `select yardmaster.alter_job(${job}, max_retries => 9)`],
      ['alter', `select yardmaster.alter_job(${job}, config_merge => '{"b": 1}')`],
      ['delete', `select yardmaster.delete_job(${job})`],
      ['run', `call yardmaster.run_job(${job})`],
      ['run', `select yardmaster.request_run(${job})`],
      ['pause', `select yardmaster.pause_job(${job})`],
      ['resume', `select yardmaster.resume_job(${job})`],
      ['cancel', `select yardmaster.cancel_job_runs(${job})`],
    ] as const) {
      await expect(other.query(statement), statement).rejects.toMatchObject({
        code: '42501',
        message: `insufficient permissions to ${verb} job ${job}`,
        detail: `Job ${job} is owned by role "${author}" but user "${stranger}" does not belong to that role.`,
      })
    }
    const [run] = await desk.database.query('select max(id) as id from yardmaster.run')
    await expect(other.query(`call yardmaster.wait(${run.id})`)).rejects.toMatchObject({
      message: `There is no run ${run.id}.`,
    })
  })

  it('whoever owns the schema may do everything', async () => {
    await desk.database.query(`select yardmaster.alter_job(${job}, max_retries => -1)`)
    expect(await desk.database.query('select 1 from yardmaster.job_history')).toHaveLength(3)
  })

  it('what its session has on its path, in pg_temp or in its settings makes nobody act for it', async () => {
    const other = await as(stranger)
    await desk.database.query(`create schema evil authorization "${stranger}"`)
    await other.query(`set yardmaster.actor = 'the boss'`)
    await other.query(`create temp table job as select ${job} as id, 'x' as owner;
      create function evil.may_act_as(text) returns boolean language sql as 'select true';
      create function evil.pg_has_role(name, oid, text) returns boolean language sql as 'select true';
      create function evil.always(name, text) returns boolean language sql as 'select true';
      create operator evil.= (leftarg = name, rightarg = text, function = evil.always);
      set search_path = evil, pg_temp, pg_catalog, yardmaster, public`)
    await expect(other.query(`select yardmaster.alter_job(${job}, max_retries => 9)`)).rejects.toMatchObject({
      code: '42501',
    })
    await expect(other.query(`select public.alter_job(${job}, max_retries => 9)`)).rejects.toMatchObject({
      code: '42501',
    })
    await expect(other.query(`select yardmaster.add_job('works', '1 h', database => 'dwh')`)).rejects.toMatchObject({
      code: '42501',
    })
    expect((await other.query('select 1 from yardmaster.job_history')).rows).toEqual([])
    const { rows } = await other.query(
      `select yardmaster.add_job('works', '1 h', database => 'crm', scheduled => false) as id`,
    )
    const [made] = await desk.database.query('select owner, created_by from yardmaster.job where id = $1', [rows[0].id])
    // Who it says it is goes into words only; who owns is what the server knows.
    expect(made).toEqual({ owner: stranger, created_by: 'the boss' })
    expect(
      await desk.database.query(`select role from yardmaster.audit_log where object = $1 and object_kind = 'job'`, [
        String(rows[0].id),
      ]),
    ).toEqual([{ role: stranger }])
  })

  it('SET ROLE to another changes nothing: the owner is who has logged in', async () => {
    const member = await as(colleague)
    await member.query(`set role "${author}"`)
    const { rows } = await member.query(
      `select yardmaster.add_job('works', '1 h', database => 'dwh', scheduled => false) as id`,
    )
    expect(
      await desk.database.query('select owner::text from yardmaster.jobs where job_id = $1', [rows[0].id]),
    ).toEqual([{ owner: colleague }])
    await desk.database.query('select yardmaster.delete_job($1)', [rows[0].id])
  })

  it('loses it again, and its jobs go on', async () => {
    await desk.database.query(`select yardmaster.revoke_use($1, 'dwh')`, [author])
    await expect(client.query(`select yardmaster.add_job('works', '1 h', database => 'dwh')`)).rejects.toMatchObject({
      code: '42501',
    })
    await expect(client.query(`select yardmaster.alter_job($1, max_retries => 1)`, [job])).rejects.toMatchObject({
      code: '42501',
    })
    expect(await desk.job(job)).toMatchObject({ status: 'active' })
  })

  it('is dropped: its jobs are paused, until somebody else owns them', async () => {
    await desk.database.query(`select yardmaster.delete_job(job_id) from yardmaster.jobs where job_id <> $1`, [job])
    expect(await desk.database.query('select yardmaster.pause_orphans() as n')).toEqual([{ n: 0 }])
    for (const session of sessions.splice(0)) await session.end()
    await desk.database.query(`drop owned by "${author}"`)
    await desk.database.query(`drop role "${author}"`)
    expect(
      await desk.database.query('select yardmaster.pause_orphans() as n, yardmaster.pause_orphans() as again'),
    ).toEqual([{ n: 1, again: 0 }])
    expect(await desk.job(job)).toMatchObject({
      status: 'paused',
      paused_by: 'yardmaster',
      owner: null,
      owner_name: author,
      pause_note: `Its owner, the role ${author}, is gone. It gets another one by: select yardmaster.change_owner(${job}, 'ROLE')`,
    })
    expect(
      await desk.database.query(
        `select alert_code, alert_text from yardmaster.check_job_status() where alert_status = 'FAILED_RUN'`,
      ),
    ).toEqual([{ alert_code: 3, alert_text: expect.stringContaining(`Its owner, the role ${author}, is gone.`) }])
    await expect(desk.database.query('select yardmaster.change_owner($1, $2)', [job, author])).rejects.toMatchObject({
      code: 'YM001',
    })
    await desk.database.query('select yardmaster.change_owner($1, $2), yardmaster.resume_job($1)', [job, colleague])
    expect(await desk.database.query('select yardmaster.pause_orphans() as n')).toEqual([{ n: 0 }])
    expect(await desk.job(job)).toMatchObject({ status: 'active', owner: colleague })
  })
})
