import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { couldCommit } from '../../src/jobs/action.ts'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { startProxy } from '../support/proxy.ts'
import { CallDesk } from './call-desk.ts'

describe.each(['18', '14'])('a job that takes effect once in PostgreSQL %s', (version) => {
  let target: TestDatabase
  let desk: CallDesk

  beforeAll(async () => {
    target = version === '14' ? await (await postgres14()).createDatabase('once') : await createDatabase('once')
    desk = new CallDesk(target.url)
    await target.query(`create schema yardmaster; create table public.done (what text);
      create function public.adds(job_id int, config jsonb) returns void language sql as $$ insert into public.done values ('added') $$;
      create procedure public.adds_too(job_id int, config jsonb) language plpgsql as $$
        begin insert into public.done values ('added') on conflict do nothing; if config ? 'fail' then raise 'no'; end if; end $$;
      create procedure public.halves(job_id int, config jsonb) language plpgsql as $$
        begin insert into public.done values ('added'); commit; end $$`)
    // The first call makes the table.
    await desk.proc('adds')
  })
  beforeEach(() => target.query('truncate public.done'))

  const count = async () => (await target.query('select from public.done')).length
  const effects = async () => target.query(`select run_id, attempt from yardmaster.job_effect order by at`)
  /** Calls by a connection that is cut when the answer to COMMIT, or COMMIT itself, is on its way. */
  const cut = async (name: string, direction: 'toClient' | 'toServer', runId: string, text: string) => {
    const proxy = await startProxy(target.url)
    proxy.when(direction, text, () => {
      proxy.set('toClient', { kind: 'reset' })
      if (direction === 'toServer') proxy.set('toServer', { kind: 'reset' })
    })
    const connector = (purpose: string) => desk.connector(purpose === 'call a job' ? proxy.url : target.url)(purpose)
    return desk.proc(name, { runId, connector })
  }

  it.each(['adds', 'adds_too'])(
    '%s: COMMIT was answered by a broken connection, and the database knows',
    async (name) => {
      const outcome = await cut(name, 'toClient', `1${name.length}`, 'COMMIT')
      expect(outcome).toMatchObject({
        level: 'OK',
        message: expect.stringMatching(
          /the connection broke before the answer came, and the database says that it took effect/,
        ),
      })
      expect(await count()).toBe(1)
      expect(await desk.proc(name, { runId: `1${name.length}`, attempt: 2 })).toMatchObject({
        message: 'Attempt 1 of this run took effect already.',
      })
      expect(await count()).toBe(1)
      // The next run is another one.
      await desk.proc(name, { runId: `2${name.length}` })
      expect(await count()).toBe(2)
    },
  )

  it('a COMMIT that never came to the server: nothing took effect, and it may be tried again', async () => {
    const lost = cut('adds', 'toServer', '31', '\x0bcommit')
    await expect(lost).rejects.toMatchObject({
      code: 'job_failed',
      retryable: true,
      message: expect.stringMatching(/nothing of it took effect/),
    })
    expect(await count()).toBe(0)
    await desk.proc('adds', { runId: '31', attempt: 2 })
    expect(await count()).toBe(1)
    expect((await effects()).at(-1)).toEqual({ run_id: '31', attempt: 2 })
  })

  it('one that fails leaves nothing, and no row that says otherwise', async () => {
    const before = await effects()
    await expect(desk.proc('adds_too', { runId: '41', config: '{"fail": 1}' })).rejects.toMatchObject({
      code: 'job_failed',
    })
    expect(await effects()).toEqual(before)
    expect(await count()).toBe(0)
  })

  it('a procedure that commits inside is called outside of it', async () => {
    const before = await effects()
    expect(await desk.proc('halves', { runId: '51' })).toMatchObject({ level: 'OK' })
    expect(await effects()).toEqual(before)
  })

  it('what is older than 30 days goes', async () => {
    await target.query(
      `insert into yardmaster.job_effect (control_id, run_id, job_id, attempt, at) values
      ($1, 900, 1, 1, now() - interval '31 days'), ($1, 901, 1, 1, now() - interval '29 days')`,
      [desk.controlId],
    )
    await desk.proc('adds')
    expect((await effects()).map((row) => row.run_id).filter((id) => id === '900' || id === '901')).toEqual(['901'])
  })

  it('no row is written where the schema is not there, or somebody else put something into it', async () => {
    const other = version === '14' ? await (await postgres14()).createDatabase('plain') : await createDatabase('plain')
    const plain = new CallDesk(other.url)
    await other.query(`create function public.adds(job_id int, config jsonb) returns void language sql as $$ select $$`)
    await plain.proc('adds')
    expect(await other.query(`select from pg_namespace where nspname = 'yardmaster'`)).toEqual([])
    const role = `ym_strange_${version}`
    const login = `ym_login_${version}`
    await other.query(
      `create role ${role}; create role ${login} login password 'geheim'; create schema yardmaster authorization ${role}`,
    )
    // Whoever made the table could have put a trigger on it that runs as us.
    await other.query(`create table yardmaster.job_effect as select null::uuid as control_id, 1::bigint as run_id, 1 as job_id, 1 as attempt, now() as at with no data;
      alter table yardmaster.job_effect owner to ${role}; comment on table yardmaster.job_effect is 'yardmaster target schema 1';
      grant all on schema yardmaster to ${login}; grant all on yardmaster.job_effect to ${login}`)
    const url = Object.assign(new URL(other.url), { username: login, password: 'geheim' }).href
    expect(await plain.proc('adds', { url })).toMatchObject({ level: 'OK' })
    expect(await other.query('select from yardmaster.job_effect')).toEqual([])
    await other.query('drop schema yardmaster cascade')
    await other.query(`drop role ${role}; drop role ${login}`)
  })

  // What `couldCommit` holds for unable to commit is unable to, in a transaction and outside of one.
  it.each([
    ['dynamic COMMIT', `execute 'com' || 'mit';`, ''],
    ['dynamic CALL of one that commits', `execute 'ca' || 'll public.halves(1, null)';`, ''],
    ['dynamic DO', `execute 'd' || 'o $x$ begin com' || 'mit; end $x$';`, ''],
    ['a function that would call it', `perform public.indirect();`, ''],
  ])('%s', async (_what, body) => {
    await target.query(
      `create or replace function public.indirect() returns void language plpgsql as $$ begin call public.halves(1, null); end $$`,
    )
    const source = `begin insert into public.done values ('first'); ${body} end`
    expect(couldCommit('plpgsql', source)).toBe(false)
    await target.query(
      `create or replace procedure public.tries(job_id int, config jsonb) language plpgsql as $$ ${source} $$`,
    )
    // psql's way: outside of any transaction block.
    const client = await target.client()
    const outside = await client.query(`call public.tries(1, null)`).then(
      () => 'ended',
      (error: { code: string }) => error.code,
    )
    expect(['2D000', '0A000']).toContain(outside)
    expect(await count()).toBe(0)
    await expect(desk.proc('tries')).rejects.toMatchObject({ sqlstate: outside })
  })

  it('procedures that PostgreSQL keeps from committing', async () => {
    for (const how of ['security definer', 'set work_mem = 1000']) {
      await target.query(`create or replace procedure public.bound(job_id int, config jsonb) language plpgsql ${how} as $$
        begin insert into public.done values ('x'); perform 'commit'; end $$`)
      await desk.proc('bound', { runId: `7${how.length}` })
      expect((await effects()).at(-1)?.run_id).toBe(`7${how.length}`)
      await target.query('drop procedure public.bound')
    }
  })
})
