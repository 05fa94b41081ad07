import { beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { CallDesk } from './call-desk.ts'

describe.each(['18', '14'])('the fence in PostgreSQL %s', (version) => {
  let target: TestDatabase
  let desk: CallDesk

  beforeAll(async () => {
    target = version === '14' ? await (await postgres14()).createDatabase('fence') : await createDatabase('fence')
    desk = new CallDesk(target.url)
    // Each call notes who else works for the job when it begins, and holds until the test lets it go.
    await target.query(`create table public.began (pid int, others int)`)
    await target.query(`create procedure public.holds(job_id int, config jsonb) language plpgsql as $$
      begin
        if config ? 'unlock' then perform pg_advisory_unlock_all(); end if;
        if config ? 'name' then perform set_config('application_name', config ->> 'name', false); end if;
        insert into began select pg_backend_pid(), count(*) from pg_stat_activity a
          where a.datname = current_database() and a.pid <> pg_backend_pid() and (a.application_name like '% [1000]' or a.application_name = 'etl');
        commit;
        loop
          begin
            perform pg_advisory_lock_shared(5, 5); perform pg_advisory_unlock_shared(5, 5); exit;
          exception when query_canceled then
            if not config ? 'stubborn' then raise; end if;
          end;
        end loop;
      end $$`)
  })

  const began = async () => target.query<{ pid: number; others: number }>('select pid, others from public.began')

  /** Starts a call that stands inside its procedure until `release`. */
  const hold = async (choice: Parameters<CallDesk['proc']>[1] = {}) => {
    const gate = await target.client()
    await gate.query('select pg_advisory_lock(5, 5)')
    await target.query('truncate public.began')
    const running = desk.proc('holds', { config: '{}', ...choice })
    running.catch(() => undefined)
    await expect.poll(async () => (await began()).length, { interval: 10 }).toBe(1)
    return { running, release: () => gate.end() }
  }

  it('a second attempt beside a living one is refused, and says who holds the lock', async () => {
    const { running, release } = await hold()
    const [{ pid } = { pid: 0 }] = await began()
    const alive = desk.left(false)
    const known = desk.proc('holds', { earlier: alive })
    await expect(known).rejects.toMatchObject({ code: 'job_locked', retryable: true })
    await expect(known).rejects.toThrow(
      new RegExp(
        `Job 1000 is locked in warehouse by process ${pid} \\('User-Defined Action \\[1000\\]', role \\w+, connected since 20.*\\), attempt 1 on worker a, which still works`,
      ),
    )
    await expect(desk.proc('holds')).rejects.toThrow(/no attempt here is known to have left/)
    // Whoever has the same pid and another start is somebody else.
    const reused = alive.map((one) => ({ ...one, attemptIsOver: true, backendStart: '2001-01-01T00:00:00.000000Z' }))
    await expect(desk.proc('holds', { earlier: reused })).rejects.toMatchObject({ code: 'job_locked' })
    expect(await began()).toHaveLength(1)
    await release()
    expect(await running).toMatchObject({ level: 'OK' })
  })

  it.each([
    ['holds the lock', {}],
    ['gave its locks up', { unlock: 1 }],
    ['gave its locks up under another name', { unlock: 1, name: 'etl' }],
    ['heeds no cancel', { stubborn: 1 }],
  ])('an earlier attempt that is over and %s is ended before the next begins', async (_what, config) => {
    const { running, release } = await hold({ config: JSON.stringify(config) })
    const earlier = desk.left(true).map((one) => ({ ...one, backendStart: one.backendStart.replace('Z', '+00:00') }))
    const next = desk.proc('holds', { config: '{}', earlier })
    next.catch(() => undefined)
    await expect.poll(async () => (await began()).length, { interval: 10 }).toBe(2)
    expect((await began())[1]).toMatchObject({ others: 0 })
    await expect(running).rejects.toMatchObject({ code: 'job_failed' })
    await release()
    expect(await next).toMatchObject({ level: 'OK' })
  })

  it('a connection that went to somebody else since is left alone', async () => {
    const other = await target.client()
    const sight = `select pid, to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "backendStart" from pg_stat_activity where pid = pg_backend_pid()`
    const { rows } = await other.query(sight)
    const earlier = [{ ...rows[0], attemptIsOver: true, who: 'attempt 1' }]
    for (const name of ['yardmaster idle', 'Nightly [1001]']) {
      await other.query(`set application_name = '${name}'`)
      await desk.proc('holds', { config: '{}', earlier })
      expect((await other.query(sight)).rows).toEqual(rows)
    }
    // As this job's own it would be ended.
    await other.query(`set application_name = 'Other name [1000]'`)
    await desk.proc('holds', { config: '{}', earlier })
    await expect(other.query(sight)).rejects.toThrow()
  })

  it('runs that may overlap do, their attempts do not, and nothing that may not overlaps with them', async () => {
    const { running, release } = await hold({ overlaps: true, runId: '500' })
    const beside = desk.proc('holds', { config: '{}', overlaps: true, runId: '501' })
    await expect.poll(async () => (await began()).length, { interval: 10 }).toBe(2)
    await expect(desk.proc('holds', { overlaps: true, runId: '500' })).rejects.toMatchObject({ code: 'job_locked' })
    await expect(desk.proc('holds')).rejects.toMatchObject({ code: 'job_locked' })
    expect(await began()).toHaveLength(2)
    await release()
    expect((await Promise.all([running, beside])).map(({ level }) => level)).toEqual(['OK', 'OK'])
  })

  it('another job, and another control database, have locks of their own', async () => {
    const { running, release } = await hold()
    const others = [
      desk.proc('holds', { config: '{}', jobId: 1001 }),
      new CallDesk(target.url).proc('holds', { config: '{}' }),
    ]
    await expect.poll(async () => (await began()).length, { interval: 10 }).toBe(3)
    await release()
    await Promise.all([running, ...others])
  })

  it('an attempt that was given up meanwhile does nothing', async () => {
    await target.query('truncate public.began')
    await expect(desk.proc('holds', { claim: () => false })).rejects.toMatchObject({ code: 'fenced' })
    expect(await began()).toEqual([])
  })

  it('whoever hangs between its claim and the lock is ended by the next', async () => {
    const woken = Promise.withResolvers<boolean>()
    const claimed = Promise.withResolvers<void>()
    await target.query('truncate public.began')
    const hung = desk.proc('holds', {
      config: '{}',
      claim: () => {
        claimed.resolve()
        return woken.promise
      },
    })
    hung.catch(() => undefined)
    await claimed.promise
    await desk.proc('holds', { config: '{}', earlier: desk.left(true) })
    woken.resolve(true)
    await expect(hung).rejects.toMatchObject({ code: 'database_unreachable' })
    expect(await began()).toHaveLength(1)
  })
})
