import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { FakeTerminal } from './fake-terminal.ts'
import { openShop, type Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  shop = await openShop('history')
  for (const name of ['orders', 'stock']) await shop.add(name, 'table')
})

beforeEach(async () => {
  await shop.control.query(`delete from yardmaster.run`)
  await shop.done('run', 'keep', '--age', '30 days', '--successes', '1000', '--failures', '1000')
})

/** Ended runs of a table's copy, oldest first, each with an attempt and a step: `[status, days ago]`. */
async function past(table: string, runs: readonly (readonly [string, number, string?])[]): Promise<void> {
  for (const [status, days, reason] of runs)
    await shop.control.query(
      `with run as (
         insert into yardmaster.run (job_id, slot, due_at, database_id, operation, object, status, reason, started_at, finished_at)
         select job_id, clock_timestamp(), clock_timestamp(), destination_database_id, 'refresh', 'x', $2, $4,
           now() - $3 * interval '1 day', case when $2 not in ('RUNNING', 'WAITING') then now() - $3 * interval '1 day' end
         from yardmaster.replications where destination_name = $1 returning id),
       attempt as (insert into yardmaster.attempt (run_id, number, worker, host, status) select id, 1, 'w', 'h', 'OK' from run returning id)
       insert into yardmaster.step (attempt_id, ordinal, action, status, started_at) select id, 1, 'x', 'OK', now() from attempt`,
      [table, status, days, reason ?? null],
    )
}
/** `[status, days ago]` of what is left. */
const left = async (table: string) =>
  (
    await shop.control.query(
      `select r.status, round(extract(epoch from now() - r.started_at) / 86400)::int as days from yardmaster.run r
       join yardmaster.replications v on v.job_id = r.job_id where v.destination_name = $1 order by r.id`,
      [table],
    )
  ).map(({ status, days }) => [status, days])
const trim = async () => {
  const [row] = await shop.control.query<{ removed: number }>('select yardmaster.trim_history() as removed')
  // The next call begins the round anew.
  await shop.control.query('update yardmaster.history_limit set counted_job = 0')
  return row?.removed
}

describe('history is kept', () => {
  it('by age; with a run go its attempts and steps', async () => {
    await past('orders', [
      ['OK', 40],
      ['CRITICAL', 35],
      ['OK', 29],
      ['CRITICAL', 2],
      ['OK', 1],
    ])
    expect(await trim()).toBe(2)
    expect(await left('orders')).toEqual([
      ['OK', 29],
      ['CRITICAL', 2],
      ['OK', 1],
    ])
    expect(
      await shop.control.query(
        'select (select count(*)::int from yardmaster.attempt) as attempts, (select count(*)::int from yardmaster.step) as steps',
      ),
    ).toEqual([{ attempts: 3, steps: 3 }])
  })

  it('by number, successes and failures each, of each job', async () => {
    await shop.done('run', 'keep', '--successes', '2', '--failures', '1')
    const runs = [
      ['OK', 9],
      ['CRITICAL', 8],
      ['WARNING', 7],
      ['CRITICAL', 6],
      ['OK', 5],
      ['OK', 4],
    ] as const
    await past('orders', runs)
    await past('stock', runs.slice(0, 3))
    expect(await trim()).toBe(3)
    expect(await left('orders')).toEqual([
      ['CRITICAL', 6],
      ['OK', 5],
      ['OK', 4],
    ])
    expect(await left('stock')).toEqual([
      ['OK', 9],
      ['CRITICAL', 8],
      ['WARNING', 7],
    ])
  })

  it('whatever its age: what is open, the newest that ended, the newest that went well, the newest that did something', async () => {
    await past('orders', [
      ...([
        ['OK', 100],
        ['OK', 99],
        ['OK', 98, 'nothing_new'],
        ['OK', 97, 'nothing_new'],
        ['CRITICAL', 96],
        ['CRITICAL', 95],
      ] as const),
      ...([
        ['RUNNING', 94],
        ['WAITING', 93],
      ] as const),
    ])
    expect(await trim()).toBe(3)
    const kept = [
      ['OK', 99],
      ['OK', 97],
      ['CRITICAL', 95],
      ['RUNNING', 94],
      ['WAITING', 93],
    ]
    expect(await left('orders')).toEqual(kept)
    expect([await trim(), await left('orders')]).toEqual([0, kept])
  })

  it('of a job that was deleted only until it is too old', async () => {
    await past('stock', [['OK', 100]])
    const deleted = (at: string) =>
      shop.control.query(
        `update yardmaster.job set deleted_at = ${at} where id = (select job_id from yardmaster.replications where destination_name = 'stock')`,
      )
    expect(await trim()).toBe(0)
    await deleted('now()')
    expect(await trim()).toBe(1)
    await deleted('null')
  })

  it('in rounds over the jobs, by one session at a time', async () => {
    await past('orders', [
      ['OK', 40],
      ['OK', 1],
    ])
    await past('stock', [
      ['OK', 40],
      ['OK', 1],
    ])
    const other = await shop.control.client()
    onTestFinished(() => other.end())
    await other.query('begin; select from yardmaster.history_limit for update')
    expect(await shop.control.query('select yardmaster.trim_history() as removed')).toEqual([{ removed: 0 }])
    await other.query('rollback')
    expect(await trim()).toBe(2)
  })

  it('in small batches', async () => {
    await past('orders', [
      ['OK', 43],
      ['OK', 42],
      ['OK', 41],
      ['OK', 1],
    ])
    const one = () => shop.control.query<{ n: number }>('select yardmaster.trim_history(1, 2) as n')
    const removed = []
    // Two jobs, and the end of the round.
    for (let pass = 0; pass < 6; pass += 1) removed.push((await one())[0]?.n)
    expect(removed.filter((n) => n !== 0)).toEqual([2, 1])
  })
})

describe('run keep', () => {
  it('says and changes the limits, audited', async () => {
    expect((await shop.done('run', 'keep', '--age', '60 days', '--failures', '5000')).out).toBe(
      'Ended runs are kept for 60 days; of each job in each database at most 1,000 that went well and 5,000 that failed. The newest stay in any case.\n',
    )
    expect((await shop.done('run', 'keep', '--json')).json).toEqual({
      keep_for: '60 days',
      successes: 1000,
      failures: 5000,
    })
    const [last] = await shop.control.query(
      'select object_kind, before, after from yardmaster.audit_log order by id desc limit 1',
    )
    expect(last).toMatchObject({
      object_kind: 'history_limit',
      before: { keep_for: '30 days' },
      after: { failures: 5000 },
    })
  })

  it.each([
    ['--age', '0'],
    ['--age', 'long'],
    ['--successes', '0'],
    ['--failures', '-1'],
  ])('%s %s is refused', async (flag, value) => {
    expect((await shop.run('run', 'keep', flag, value, '--json')).json.error.code).toBe('wrong_usage')
  })
})

describe('run clear', () => {
  const runs = [
    ['OK', 9],
    ['CRITICAL', 8],
    ['OK', 7],
    ['RUNNING', 6],
    ['OK', 1],
  ] as const

  it('shows the plan, and does nothing where nobody can be asked', async () => {
    await past('orders', runs)
    const said = await shop.run('run', 'clear', '--older-than', '5 days')
    expect(said.code).toBe(2)
    expect(said.err).toMatch(
      /^- 3 runs of 1 jobs with their steps, 1 of them CRITICAL\n {2}ended from \S+Z to \S+Z\nRuns that are open stay, and the newest of each job\.\nError \[confirmation_needed\] /,
    )
    expect(await left('orders')).toHaveLength(5)
    const dry = await shop.done('run', 'clear', '--older-than', '5 days', '--dry-run', '--json')
    expect(dry.json).toMatchObject({ plan: { runs: 3, jobs: 1, failed: 1 }, dry_run: true, removed: 0 })
    expect(await left('orders')).toHaveLength(5)
  })

  it('asks on a terminal, and takes y alone for yes', async () => {
    await past('orders', runs)
    for (const [answer, code, count] of [
      ['n', 1, 5],
      ['', 1, 5],
      ['y', 0, 2],
    ] as const) {
      const terminal = new FakeTerminal({ environment: shop.environment })
      const ended = terminal.run('run', 'clear', '--older-than', '5 days')
      await terminal.asked('Delete? [y/N]')
      terminal.type(`${answer}\r`)
      expect(await ended, terminal.err).toBe(code)
      expect(await left('orders')).toHaveLength(count)
    }
  })

  it('with --yes deletes what the plan says, is audited, and finds nothing more', async () => {
    await past('orders', runs)
    expect((await shop.done('run', 'clear', '--older-than', '5 days', '--yes')).out).toBe('Runs deleted: 3.\n')
    expect(await left('orders')).toEqual([
      ['RUNNING', 6],
      ['OK', 1],
    ])
    const [last] = await shop.control.query(
      'select action, object_kind, before from yardmaster.audit_log order by id desc limit 1',
    )
    expect(last).toMatchObject({ action: 'delete', object_kind: 'runs', before: { runs: 3 } })
    const again = await shop.done('run', 'clear', '--older-than', '5 days', '--yes')
    expect([again.out, again.err]).toEqual([
      '',
      expect.stringContaining('No run that ended more than 5 days ago can be deleted.'),
    ])
  })

  it('goes on over many batches', async () => {
    await past('orders', [
      ['OK', 9],
      ['OK', 1],
    ])
    await shop.control.query(`insert into yardmaster.run (job_id, slot, due_at, database_id, operation, object, status, started_at, finished_at)
      select r.job_id, r.slot - g * interval '1 s', now(), r.database_id, 'refresh', 'x', 'OK', now(), now() - interval '9 days'
      from (select * from yardmaster.run where status = 'OK' order by id limit 1) r, generate_series(1, 6000) g`)
    await past('orders', [['OK', 0]])
    expect((await shop.done('run', 'clear', '--older-than', '5 days', '--yes', '--json')).json).toMatchObject({
      removed: 6001,
    })
  })
})
