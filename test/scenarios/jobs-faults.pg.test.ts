import { describe, expect, test } from 'vitest'
import { createDatabase, type PrivateServer, startServer } from '../support/databases.ts'
import { type FaultProxy, startProxy } from '../support/proxy.ts'
import { JobYard } from './job-yard.ts'

/** What the newest failure of a job's run says, beside its status. */
const lost = { status: 'WAITING', reason: 'worker_lost' }

describe('a worker is killed at a crash point of a call: the next attempt is there within 5 s, and effects are as promised', () => {
  test.each([
    // Of a function where our schema is: one effect, whenever it was.
    { point: 'call-after-claim', proc: 'counts', marks: 0 },
    { point: 'call-after-fence', proc: 'counts', marks: 0 },
    { point: 'call-after-effect-table', proc: 'counts', marks: 0 },
    { point: 'call-before-commit', proc: 'counts', marks: 0 },
    { point: 'call-after-commit', proc: 'counts', marks: 0 },
    { point: 'refresh-before-outcome', proc: 'counts', marks: 0 },
    // Of a procedure that commits: at least one.
    { point: 'call-after-call', proc: 'marks', marks: 2 },
    { point: 'call-after-fence', proc: 'marks', marks: 1 },
    { point: 'refresh-before-outcome', proc: 'marks', marks: 2 },
  ])('$point of $proc', async ({ point, proc, marks }) => {
    const yard = await JobYard.open(`killed ${point}`)
    const job = await yard.idle(proc, { retry_on_crash: 'now' })
    const run = await yard.request(job)
    const first = yard.start('h1', { crashAt: point })
    expect((await first.ended).signal).toBe('SIGKILL')
    await yard.worker('h2')
    await yard.becomes(run, { status: 'OK', attempt: 2 })
    const [took] = await yard.query<{ ms: number }>(
      `select (extract(epoch from b.started_at - a.started_at) * 1000)::int as ms from yardmaster.attempt a, yardmaster.attempt b
       where a.number = 1 and b.number = 2`,
    )
    // The end of the first within it.
    expect(took?.ms).toBeLessThan(6000)
    if (proc === 'counts') expect(await yard.ledger.effects(run)).toBe(1)
    expect((await yard.ledger.marks(job)).filter(({ what }) => what === 'end')).toHaveLength(marks)
    await yard.ledger.neverTwice()
    await yard.nothingRuns()
    // Nobody looks any more for the session that was left.
    const looked = () => yard.query('select from yardmaster.attempt where abandoned and target_pid is not null')
    await expect.poll(looked).toEqual([])
  })
})

test('somebody cancels a run that is under way: it ends at once, by name, and nobody takes it again', async () => {
  const yard = await JobYard.open('cancelled')
  const job = await yard.idle('beats', { config: { seconds: 60 } })
  await yard.worker('h1')
  const run = await yard.request(job)
  await yard.ledger.comesTo(job, 'beat', 1)
  await yard.query('select yardmaster.cancel_run($1)', [run])
  await yard.becomes(run, { status: 'CRITICAL', reason: 'cancelled', attempt: 1 })
  await yard.nothingRuns()
})

describe('what becomes of the run of a worker that is killed in the middle of a procedure', () => {
  test.each([
    { retry: { retry_on_crash: 'now' }, becomes: { status: 'RUNNING', attempt: 2 }, due: 0 },
    { retry: { retry_on_crash: 'never' }, becomes: { status: 'CRITICAL', reason: 'worker_lost', attempt: 1 }, due: 0 },
    { retry: { max_retries: 0 }, becomes: { status: 'CRITICAL', reason: 'worker_lost', attempt: 1 }, due: 0 },
    { retry: {}, becomes: { ...lost, attempt: 1 }, due: 300 },
    { retry: { retry_on_crash: '2 s' }, becomes: { status: 'RUNNING', attempt: 2 }, due: 2 },
  ])('$retry', async ({ retry, becomes, due }) => {
    const yard = await JobYard.open('killed within')
    const job = await yard.idle('marks', { config: { seconds: 60 }, ...retry })
    const first = await yard.worker('h1')
    const run = await yard.request(job)
    await yard.ledger.comesTo(job, 'start', 1)
    await yard.worker('h2')
    await first.kill('SIGKILL')
    await yard.becomes(run, becomes)
    const [row] = await yard.query<{ waits: number }>(
      `select extract(epoch from due_at - clock_timestamp())::float8 as waits from yardmaster.run`,
    )
    if (due > 100) expect(row?.waits).toBeGreaterThan(due - 30)
    if (becomes.status === 'RUNNING') await yard.ledger.comesTo(job, 'start', 2)
    await yard.ledger.neverTwice()
  })
})

describe('the connection of a call breaks', () => {
  async function throughProxy(setup: { once: boolean }): Promise<{ yard: JobYard; proxy: FaultProxy }> {
    const database = await createDatabase('proxied')
    const proxy = await startProxy(database.url)
    return { yard: await JobYard.open('proxied', [{ name: 'crm', database, url: proxy.url, ...setup }]), proxy }
  }

  test.each(['reset', 'half-open', 'cut'] as const)(
    '%s between COMMIT and its answer: a function took effect once, and the run says OK',
    async (kind) => {
      const { yard, proxy } = await throughProxy({ once: true })
      const job = await yard.idle('counts')
      await yard.worker('h1')
      // Its first call makes the table for effects, with a commit of its own.
      await yard.becomes(await yard.request(job), { status: 'OK' })
      proxy.when('toClient', 'COMMIT\0', () => {
        if (kind === 'cut') proxy.set('toClient', { kind: 'cut', afterBytes: 0 })
        else {
          proxy.set('toClient', { kind })
          setTimeout(() => proxy.set('toClient', { kind: 'pass' }), kind === 'half-open' ? 25_000 : 500)
        }
      })
      const run = await yard.request(job)
      await yard.becomes(run, { status: 'OK', attempt: 1 }, 60_000)
      expect(await yard.ledger.effects(run)).toBe(1)
      await yard.nothingRuns()
    },
    120_000,
  )

  test('in the middle of a procedure that commits: it is said that its effect is unknown, its session is gone, and the policy decides', async () => {
    const { yard, proxy } = await throughProxy({ once: false })
    const job = await yard.idle('marks', { config: { seconds: 30 } })
    await yard.worker('h1')
    const run = await yard.request(job)
    await yard.ledger.comesTo(job, 'start', 1)
    proxy.set('both', { kind: 'reset' })
    await expect.poll(async () => (await yard.run(run)).reason).toBe('target_unknown')
    expect((await yard.run(run)).status).toBe('RUNNING')
    proxy.set('both', { kind: 'pass' })
    await yard.becomes(run, {
      status: 'CRITICAL',
      attempt: 1,
      message: expect.stringMatching(/job_outcome_unknown/) as never,
    })
    const left = await yard.ledger.database.query(
      `select from pg_stat_activity where datname = current_database() and application_name like '%[' || $1 || ']'`,
      [job],
    )
    expect(left).toEqual([])
  })

  test('the target cannot be reached while a run is under way: no second attempt, by nobody, until its server answers', async () => {
    const { yard, proxy } = await throughProxy({ once: false })
    const job = await yard.idle('beats', { config: { seconds: 60 }, retry_on_crash: 'now' })
    const first = await yard.worker('h1')
    const run = await yard.request(job)
    await yard.ledger.comesTo(job, 'beat', 1)
    proxy.set('both', { kind: 'half-open' })
    await yard.worker('h2')
    await first.kill('SIGKILL')
    // The old session works on in the target; whoever is given the run cannot get there.
    await yard.becomes(run, { attempt: 2 })
    const beats = (await yard.ledger.marks(job)).length
    await yard.ledger.comesTo(job, 'beat', beats + 20)
    expect((await yard.ledger.marks(job)).filter(({ what }) => what === 'start')).toHaveLength(1)
    proxy.set('both', { kind: 'pass' })
    await yard.query('select yardmaster.cancel_run($1)', [run])
    await yard.becomes(run, { status: 'CRITICAL' }, 60_000)
    await yard.ledger.neverTwice()
  }, 120_000)
})

describe('the target’s server', () => {
  async function ownServer(): Promise<{ yard: JobYard; server: PrivateServer }> {
    const server = await startServer({ settings: { max_connections: '12', superuser_reserved_connections: '0' } })
    const database = await server.createDatabase('own')
    return { yard: await JobYard.open('own', [{ name: 'crm', database, once: true }]), server }
  }

  test('stops at once (immediate) under a procedure, is away, and comes back: the run failed by name, and is tried again by policy', async () => {
    const { yard, server } = await ownServer()
    const job = await yard.job({
      proc: 'public.marks',
      schedule_interval: '1 hour',
      retry_period: '1 s',
      config: { seconds: 5 },
    })
    await yard.worker('h1')
    await yard.ledger.comesTo(job, 'start', 1)
    await server.stop('immediate')
    const [run] = await yard.query<{ id: string; status: string }>('select id, status from yardmaster.run')
    await expect.poll(async () => (await yard.run(run?.id ?? '')).reason).toBe('target_unknown')
    await server.restart()
    await yard.becomes(run?.id ?? '', { status: 'CRITICAL', attempt: 1 })
    // The retry is a run of its own; the ledger's old connection is gone with the server.
    const next = () => yard.query(`select status from yardmaster.run where id > $1 and status = 'OK'`, [run?.id])
    await expect.poll(next, { timeout: 30_000 }).toHaveLength(1)
    await yard.nothingRuns()
  })

  // With none it is not to be repeated once it has begun, and here nothing was.
  test.each([1, 0])(
    'has no connection left: nothing of it counts as a failure, the run is given back, and goes on when there is one; max_retries %d',
    async (max_retries) => {
      const { yard, server } = await ownServer()
      const job = await yard.idle('counts', { max_retries })
      const taken: { end: () => Promise<void> }[] = []
      const other = await server.createDatabase('crowd')
      for (;;) {
        const client = await other.client().catch(() => undefined)
        if (!client) break
        taken.push(client)
      }
      const worker = await yard.worker('h1')
      const run = await yard.request(job)
      await yard.becomes(run, { status: 'WAITING', reason: 'retry' })
      const [state] = await yard.query('select failures, total_failures from yardmaster.job_state where job_id = $1', [
        job,
      ])
      expect(state).toEqual({ failures: 0, total_failures: '0' })
      for (const client of taken) await client.end()
      await yard.becomes(run, { status: 'OK' })
      expect(await yard.query('select status from yardmaster.job')).toEqual([{ status: 'active' }])
      expect(worker.stderr()).not.toContain('CRITICAL')
    },
  )

  test('refuses the password: the run fails and says so, without a storm; with the new one the job goes on by itself', async () => {
    const { yard, server } = await ownServer()
    const admin = await server.createDatabase('admin')
    const own = new URL(yard.ledger.database.url)
    const job = await yard.job({ proc: 'public.counts', schedule_interval: '1 s', retry_period: '1 s' })
    await yard.worker('h1')
    const good = () => yard.query(`select from yardmaster.run where status = 'OK' limit 1`)
    await expect.poll(good).toHaveLength(1)
    await admin.query(`alter role ${own.username} password 'another'`)
    await admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, [
      own.pathname.slice(1),
    ])
    const refused = () =>
      yard.query(`select message from yardmaster.run where status = 'CRITICAL' and message like '%auth%' limit 1`)
    await expect.poll(refused).toHaveLength(1)
    await admin.query(`alter role ${own.username} password '${own.password}'`)
    const [last] = await yard.query<{ id: string }>('select max(id) as id from yardmaster.run')
    const goes = () => yard.query(`select from yardmaster.run where status = 'OK' and id > $1 limit 1`, [last?.id])
    await expect.poll(goes, { timeout: 60_000 }).toHaveLength(1)
    expect(job).toBeGreaterThan(0)
  }, 120_000)
})

describe('limits of time in the target', () => {
  test.each([
    { what: 'a statement_timeout of its role', setting: `statement_timeout = '200ms'`, outcome: { status: 'OK' } },
    {
      what: 'a lock_timeout of its role',
      setting: `lock_timeout = '200ms'`,
      outcome: { status: 'CRITICAL', reason: 'failed' },
    },
  ])('$what', async ({ setting, outcome }) => {
    const yard = await JobYard.open('timeouts')
    const { database } = yard.ledger
    await database.query(`alter database ${database.name} set ${setting}`)
    const holder = await database.client()
    if (outcome.status === 'CRITICAL') await holder.query('begin; lock table public.effect')
    const job = await yard.idle('counts', { config: { seconds: 0.5 } })
    await yard.worker('h1')
    const run = await yard.request(job)
    await yard.becomes(run, outcome)
    const [row] = await yard.query('select sqlstate from yardmaster.run')
    expect(row?.sqlstate).toBe(outcome.status === 'OK' ? null : '55P03')
    expect(
      await yard.ledger.database.query('select from pg_locks where locktype = $1 and granted and mode = $2', [
        'relation',
        'ExclusiveLock',
      ]),
    ).toEqual([])
  })

  test('max_runtime ends what waits for a lock, also where another attempt follows', async () => {
    const yard = await JobYard.open('max runtime')
    const job = await yard.idle('beats', { config: { seconds: 60 }, max_runtime: '1 s', max_retries: 1 })
    await yard.worker('h1')
    const run = await yard.request(job)
    await yard.becomes(run, { status: 'CRITICAL', reason: 'timeout' })
    expect(await yard.query('select status, paused_by from yardmaster.job')).toEqual([
      { status: 'paused', paused_by: 'max_retries' },
    ])
  })
})

test('the control server is away for a while, and a run ends meanwhile: it ends in the target, and its outcome is kept', async () => {
  const server = await startServer()
  const yard = await JobYard.open('control away', [{ name: 'crm', once: true }], await server.createDatabase('control'))
  const job = await yard.idle('marks', { config: { seconds: 2 } })
  await yard.worker('h1')
  const run = await yard.request(job)
  await yard.ledger.comesTo(job, 'start', 1)
  await server.stop('immediate')
  await yard.ledger.comesTo(job, 'end', 1)
  await server.restart()
  yard.forgetConnections()
  await yard.becomes(run, { status: 'OK', attempt: 1, reason: null })
  await yard.nothingRuns()
  expect(await yard.ledger.marks(job)).toHaveLength(2)
}, 120_000)
