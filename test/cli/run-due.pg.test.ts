import { beforeAll, describe, expect, it } from 'vitest'
import { openShop, type Shop } from './shop.ts'

let shop: Shop
const names = ['a', 'b', 'c', 'd', 'e', 'f']

beforeAll(async () => {
  shop = await openShop('due')
  for (const name of names) await shop.add(name, name === 'f' ? 'snapshot' : 'table', '--every', '1 hour')
})

/** Makes these due by now, and lets the first one be the one that was not run for longest. */
async function makeDue(...due: string[]): Promise<void> {
  await shop.control.query(
    `update yardmaster.job_state j set next_start = case when d.n is null then now() + interval '1 hour' else now() - interval '1 second' end,
       last_finish = now() - interval '1 minute' + coalesce(d.n, 0) * interval '1 second'
     from yardmaster.replications r left join unnest($1::text[]) with ordinality as d(name, n) on d.name = r.destination_name
     where j.job_id = r.job_id`,
    [due],
  )
}

async function pass(...args: string[]): Promise<{ code: number; ran: string[] }> {
  const { code, json } = await shop.run('run-due', ...args, '--json')
  return { code, ran: json.map((one: { destination: string }) => one.destination.replace('dwh:public.', '')) }
}

describe('run-due', () => {
  it('runs what is due, least recently run first, and nothing else', async () => {
    await makeDue('c', 'a', 'e', 'b')
    expect(await pass()).toEqual({ code: 0, ran: ['c', 'a', 'e', 'b'] })
    expect(await pass()).toEqual({ code: 0, ran: [] })
    const undecided = await shop.control.query('select from yardmaster.job_state where next_start is null')
    expect(undecided).toEqual([])
  })

  it('runs only a type, and at most so many; the rest stays due', async () => {
    await makeDue('b', 'f', 'a')
    expect(await pass('--type', 'snapshot')).toEqual({ code: 0, ran: ['f'] })
    expect(await pass('--max', '1')).toEqual({ code: 0, ran: ['b'] })
    expect(await pass()).toEqual({ code: 0, ran: ['a'] })
  })

  it('runs what waits for a worker, also of a copy that is paused, and no slot of that one', async () => {
    await makeDue('a', 'b')
    await shop.done('replication', 'pause', 'public.b')
    await shop.done('replication', 'pause', 'public.c')
    await shop.done('replication', 'refresh', 'public.c', '--queue')
    const { code, ran } = await pass()
    expect([code, ran.sort()]).toEqual([0, ['a', 'c']])
    await shop.done('replication', 'resume', 'public.b')
    await shop.done('replication', 'resume', 'public.c')
    await pass()
  })

  it('several at once run each copy once, and no copy twice at a time', async () => {
    for (let round = 0; round < 3; round += 1) {
      const [before] = await shop.control.query('select coalesce(max(id), 0) as id from yardmaster.run')
      await makeDue(...names)
      const passes = await Promise.all([pass('--parallel', '3'), pass('--parallel', '3'), pass()])
      expect(passes.flatMap(({ ran }) => ran).sort()).toEqual(names)
      const runs = await shop.control.query(
        `select count(*)::int as runs, count(distinct job_id)::int as jobs from yardmaster.run where id > $1`,
        [before.id],
      )
      expect(runs).toEqual([{ runs: 6, jobs: 6 }])
    }
  })

  it('runs so many at once as it may', async () => {
    const blocker = await shop.source.client()
    await blocker.query('begin; lock table public.a, public.b, public.c in access exclusive mode')
    await makeDue('a', 'b', 'c')
    const passing = pass('--parallel', '2')
    const running = () => shop.control.query("select from yardmaster.run where status = 'RUNNING'")
    await expect.poll(async () => (await running()).length, { timeout: 20_000, interval: 20 }).toBe(2)
    // The third would have begun by now: both of the others wait in the source.
    await expect
      .poll(
        () =>
          shop.source.query(`select count(*)::int as n from pg_stat_activity where datname = current_database()
            and application_name like 'yardmaster read%' and wait_event_type = 'Lock'`),
        { timeout: 20_000, interval: 20 },
      )
      .toEqual([{ n: 2 }])
    expect(await running()).toHaveLength(2)
    await blocker.query('rollback')
    expect((await passing).ran.sort()).toEqual(['a', 'b', 'c'])
  })

  it('ends with 1 when a run failed, with its error; the others are run all the same', async () => {
    await shop.source.query('alter table public.a rename to elsewhere')
    await makeDue('a', 'b')
    const { code, json } = await shop.run('run-due', '--json')
    await shop.source.query('alter table public.elsewhere rename to a')
    expect(code).toBe(1)
    expect(json).toMatchObject([
      { destination: 'dwh:public.a', status: 'CRITICAL', error: { code: 'table_unknown' } },
      { destination: 'dwh:public.b', status: 'OK' },
    ])
  })

  it('says a line for each run, and nothing to cron where nothing is due', async () => {
    await makeDue('a')
    expect((await shop.done('run-due')).out).toMatch(/^OK dwh:public\.a: 10 rows copied\. \(.*run \d+\)\n$/)
    expect(await shop.done('run-due')).toMatchObject({ out: '', err: '' })
  })
})
