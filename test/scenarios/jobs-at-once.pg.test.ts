import { beforeAll, describe, expect, test } from 'vitest'
import type { Claimant } from './claim-desk.ts'
import { claimJobs, endJob, JobDesk } from './job-desk.ts'
import { Random } from './random.ts'

const seed = Number(process.env.YARDMASTER_CHAOS_SEED ?? Math.floor(Math.random() * 1e9))
const rounds = 40

let desk: JobDesk
let workers: [Claimant, Claimant, Claimant]

beforeAll(async () => {
  desk = await JobDesk.open('jobs at once')
  workers = [await desk.worker('one', 50), await desk.worker('two', 50), await desk.worker('three', 50)]
})

/** Claims the only run that a job may have, and returns its token. */
async function taken(worker: Claimant, job: number): Promise<string> {
  const claims = await claimJobs(worker, 50)
  const mine = claims.find(({ job_id }) => job_id === job)
  expect(mine, JSON.stringify([claims, await desk.runs(job)])).toBeDefined()
  return mine?.token ?? ''
}

/** Resolves when somebody waits for a lock in this database. */
async function somebodyWaits(): Promise<void> {
  const waiting = () =>
    desk.database.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
  await expect.poll(waiting, { timeout: 10_000, interval: 5 }).not.toEqual([])
}

/** Runs a job that somebody asked for to its end. */
async function runs(worker: Claimant, job: number, status: 'OK' | 'CRITICAL' = 'OK'): Promise<void> {
  await desk.request(job)
  await endJob(worker, await taken(worker, job), status)
}

const idle = { schedule_interval: null }

test('people change jobs while these are queued, claimed and ended: nobody is refused for a deadlock, and all rules hold', async () => {
  const desk = await JobDesk.open('jobs changed')
  const given = await Promise.all(['a', 'b', 'c'].map((name) => desk.worker(name, 20)))
  const random = new Random(seed)
  const jobs: number[] = []
  for (const [n, overlap] of ['skip', 'buffer', 'allow', 'cancel', 'skip', 'cancel'].entries()) {
    const after = n === 5 ? { after: [`${jobs[0]}:done`, jobs[1]] } : {}
    const retries = { max_retries: n % 2 === 0 ? -1 : 2, retry_period: '20 ms', retry_on_crash: 'now' }
    jobs.push(await desk.job({ schedule_interval: '50 ms', overlap, ...retries, ...after }))
  }
  const errors: string[] = []
  const until = performance.now() + 5000
  const often = async (what: () => Promise<unknown>) => {
    while (performance.now() < until) {
      await what().catch(({ code, message }: { code?: string; message: string }) => errors.push(`${code} ${message}`))
    }
  }
  const work = async (worker: Claimant) => {
    for (const { token } of await claimJobs(worker, 5)) {
      await endJob(worker, token, random.pick(['OK', 'OK', 'WARNING', 'CRITICAL', 'WAITING']))
    }
  }
  const changes = [
    ['select yardmaster.pause_job($1, $2)', 'for now'],
    ['select yardmaster.resume_job($1)'],
    ['select yardmaster.resume_job($1)'],
    ['select yardmaster.change_job($1, $2)', '{"schedule_interval": "40 ms", "max_retries": 3}'],
    ['select yardmaster.request_run($1)'],
    ['select yardmaster.cancel_job_runs($1)'],
  ] as const
  const people = await Promise.all([desk.database.client(), desk.database.client()])
  const change = async (client: (typeof people)[number]) => {
    const [text, ...values] = random.pick(changes)
    await client.query(text, [random.pick(jobs), ...values])
  }
  await Promise.all([
    ...given.map((worker) => often(() => work(worker))),
    ...people.map((client) => often(() => change(client))),
    often(() => desk.decide()),
  ])
  expect(errors, `seed ${seed}`).toEqual([])
  await desk.rulesHold()
})

test('one that fails for the last time while somebody pauses it: whoever comes second waits, and neither is refused', async () => {
  const job = await desk.job({ ...idle, max_retries: 1 })
  await desk.request(job)
  const token = await taken(workers[0], job)
  const { client } = workers[1]
  await client.query('begin')
  await client.query(`select yardmaster.locked_job($1, 'pause')`, [job])
  const ending = endJob(workers[0], token, 'CRITICAL')
  ending.catch(() => undefined)
  await somebodyWaits()
  await client.query('select yardmaster.pause_job($1, $2)', [job, 'mine'])
  await client.query('commit')
  expect(await ending).toBe(true)
  const [row] = await desk.database.query('select status, pause_note from yardmaster.job where id = $1', [job])
  expect(row).toEqual({ status: 'paused', pause_note: 'mine' })
})

test('the next starts of others are decided while one of them is being ended; its own comes later', async () => {
  const desk = await JobDesk.open('decided')
  const [one, other] = [
    await desk.job({ schedule_interval: '1 hour' }),
    await desk.job({ schedule_interval: '1 hour' }),
  ]
  const client = await desk.database.client()
  await client.query('begin')
  await client.query('select from yardmaster.job_state where job_id = $1 for no key update', [one])
  expect(await desk.decide()).toBe(1)
  await client.query('commit')
  expect(await desk.decide()).toBe(1)
  expect(other).toBeGreaterThan(one)
})

describe('what starts after others', () => {
  test(`two that end at once start it once, in each of ${rounds} rounds`, async () => {
    const [first, second] = [await desk.job(idle), await desk.job({ ...idle, database: 'south' })]
    const behind = await desk.job({ schedule_interval: null, after: [first, second] })
    for (let round = 1; round <= rounds; round += 1) {
      await desk.request(first)
      await desk.request(second)
      const tokens = (await claimJobs(workers[0], 50)).map(({ token }) => token)
      expect(tokens).toHaveLength(2)
      const [one, other] = tokens as [string, string]
      await Promise.all([endJob(workers[1], one), endJob(workers[2], other)])
      const made = await desk.runs(behind)
      expect(made).toHaveLength(round)
      expect(made.at(-1)).toMatchObject({ status: 'WAITING', queued: true })
      await endJob(workers[0], await taken(workers[0], behind))
    }
  })

  test('a diamond of four: the last runs once a round, behind both sides, whichever is first', async () => {
    const top = await desk.job(idle)
    const [left, right] = [await desk.job({ ...idle, after: [top] }), await desk.job({ ...idle, after: [top] })]
    const bottom = await desk.job({ ...idle, after: [left, right] })
    for (let round = 1; round <= 10; round += 1) {
      await runs(workers[0], top)
      const sides = await claimJobs(workers[0], 50)
      expect(sides.map(({ job_id }) => job_id).sort()).toEqual([left, right])
      const order = round % 2 === 0 ? sides.toReversed() : sides
      if (round % 3 === 0) await Promise.all(order.map(({ token }, n) => endJob(workers[n] as Claimant, token)))
      else {
        await endJob(workers[1], order[0]?.token ?? '')
        expect(await desk.runs(bottom)).toHaveLength(round - 1)
        await endJob(workers[2], order[1]?.token ?? '')
      }
      expect(await desk.runs(bottom)).toHaveLength(round)
      await endJob(workers[1], await taken(workers[1], bottom))
    }
  })

  test('one that fails starts what needs its end, and not what needs its success', async () => {
    const first = await desk.job(idle)
    const whenDone = await desk.job({ ...idle, after: [`${first}:done`] })
    const whenGood = await desk.job({ ...idle, after: [first] })
    await runs(workers[0], first, 'CRITICAL')
    expect(await desk.runs(whenGood)).toEqual([])
    await endJob(workers[0], await taken(workers[0], whenDone))
    await runs(workers[0], first)
    expect((await claimJobs(workers[0], 50)).map(({ job_id }) => job_id).sort()).toEqual([whenDone, whenGood])
  })

  test('two that would close a circle together, at once: one is refused, and is shown the circle', async () => {
    for (let round = 0; round < 10; round += 1) {
      const [a, b] = [await desk.job(idle), await desk.job(idle)]
      const ended = await Promise.allSettled([
        workers[0].client.query('select yardmaster.change_job($1, $2)', [a, JSON.stringify({ after: [b] })]),
        workers[1].client.query('select yardmaster.change_job($1, $2)', [b, JSON.stringify({ after: [a] })]),
      ])
      const refused = ended.filter((end) => end.status === 'rejected')
      expect(refused).toHaveLength(1)
      expect(String(refused[0]?.reason)).toMatch(/would wait for each other in a circle: .*\[\d+\] → .*\[\d+\] → /)
    }
  })

  test.each(['deleted', 'made to wait'])(
    'one that is deleted while another is made to start after it, %s first: nobody waits for what is gone',
    async (first) => {
      const [a, b] = [await desk.job(idle), await desk.job(idle)]
      const steps = [
        ['select yardmaster.delete_job($1)', [a]],
        ['select yardmaster.change_job($1, $2)', [b, JSON.stringify({ after: [a] })]],
      ] as const
      const [before, behind] = first === 'deleted' ? steps : steps.toReversed()
      const [one, other] = [workers[0].client, workers[1].client]
      await one.query('begin')
      await one.query(before?.[0] ?? '', [...(before?.[1] ?? [])])
      const racing = other.query(behind?.[0] ?? '', [...(behind?.[1] ?? [])])
      racing.catch(() => undefined)
      await somebodyWaits()
      await one.query('commit')
      await expect(racing).rejects.toThrow(
        first === 'deleted' ? `job ${a} not found` : `Job ${b} starts after job ${a}.`,
      )
    },
  )

  test('what comes while it waits is seen by the run that waits: one end more of one of the two starts nothing', async () => {
    const [first, second] = [await desk.job({ ...idle, priority: 1 }), await desk.job({ ...idle, priority: 1 })]
    const behind = await desk.job({ ...idle, after: [first, second] })
    const ends = async (...jobs: number[]) => {
      for (const job of jobs) await desk.request(job)
      // What waits behind them is of a lower priority, and waits for the next claim.
      for (const { token } of await claimJobs(workers[0], jobs.length)) await endJob(workers[0], token)
    }
    await ends(first, second)
    await ends(first, second)
    expect(await desk.runs(behind)).toHaveLength(1)
    await endJob(workers[0], await taken(workers[0], behind))
    await runs(workers[0], first)
    expect(await desk.runs(behind)).toHaveLength(1)
    await runs(workers[0], second)
    expect(await desk.runs(behind)).toHaveLength(2)
    await endJob(workers[0], await taken(workers[0], behind))
  })
})

describe('what becomes of a slot that is due while a run is under way', () => {
  const soon = async (job: number) => {
    await desk.passes(job, new Date(Date.now() - 1000).toISOString())
  }

  test.each([
    { overlap: 'skip', made: ['RUNNING'], after: ['OK'], left: [] },
    {
      overlap: 'buffer',
      made: ['RUNNING', 'WAITING'],
      after: ['OK', 'RUNNING'],
      left: [{ reason: 'overlap', slots: 1 }],
    },
    { overlap: 'allow', made: ['RUNNING', 'RUNNING', 'RUNNING'], after: ['OK', 'RUNNING', 'RUNNING'], left: [] },
    {
      overlap: 'cancel',
      made: ['RUNNING', 'CRITICAL', 'WAITING'],
      after: ['CRITICAL', 'CRITICAL', 'RUNNING'],
      left: [],
    },
  ])('$overlap', async ({ overlap, made, after, left }) => {
    const job = await desk.job({ schedule_interval: '1 hour', overlap, initial_start: '2030-01-01T00:00:00Z' })
    await soon(job)
    const token = await taken(workers[0], job)
    for (let again = 0; again < 2; again += 1) {
      await soon(job)
      await Promise.all(workers.map((worker) => claimJobs(worker, 50)))
    }
    expect((await desk.runs(job)).map(({ status }) => status)).toEqual(made)
    const cancelled = await desk.database.query('select yardmaster.cancelled_by($1) as who', [token])
    if (overlap === 'cancel') expect(cancelled[0]?.who).toMatch(/^the slot of .*, by its overlap policy$/)
    await endJob(workers[0], token, overlap === 'cancel' ? 'CRITICAL' : 'OK')
    if (overlap !== 'skip') await claimJobs(workers[1], 50)
    expect((await desk.runs(job)).map(({ status }) => status)).toEqual(after)
    expect(await desk.skipped(job)).toEqual(left)
    await desk.database.query('select yardmaster.delete_job($1)', [job])
    await desk.database.query(
      `select yardmaster.finish_run(token, 'OK', null, 'x', 0, 0) from yardmaster.attempt where status = 'RUNNING'`,
    )
    await desk.rulesHold()
  })
})

test('the higher priority first, always, whatever is due for longer, under real concurrency', async () => {
  const desk = await JobDesk.open('priorities')
  const given = await Promise.all(['a', 'b', 'c'].map((name) => desk.worker(name, 50)))
  for (let n = 0; n < 60; n += 1) await desk.request(await desk.job({ ...idle, priority: (n % 3) - 1 }))
  await Promise.all(
    given.map(async (worker) => {
      for (let claims = await claimJobs(worker, 2); claims.length > 0; claims = await claimJobs(worker, 2))
        for (const { token } of claims) await endJob(worker, token)
    }),
  )
  const begun = await desk.database.query<{ priority: number }>(
    `select j.priority from yardmaster.attempt a join yardmaster.run r on r.id = a.run_id join yardmaster.job j on j.id = r.job_id order by a.id`,
  )
  const order = begun.map(({ priority }) => priority)
  expect(order).toHaveLength(60)
  // Two that claim at once write their attempts side by side: a claim apart at most.
  const claimed = 2 * given.length
  for (const [at, priority] of order.entries()) {
    const later = order.slice(at + claimed).filter((next) => next > priority)
    expect(later, `${at}: ${order.join(' ')}`).toEqual([])
  }
})

test('a pool with jobs of several databases: never more at once than it allows, and all end', async () => {
  const desk = await JobDesk.open('pools')
  const given = await Promise.all(['a', 'b', 'c'].map((name) => desk.worker(name, 50)))
  await desk.database.query(`select yardmaster.set_limit('narrow', 2)`)
  for (let n = 0; n < 40; n += 1)
    await desk.request(await desk.job({ ...idle, pool: 'narrow', database: ['north', 'south', 'west'][n % 3] }))
  let most = 0
  const work = async (worker: Claimant) => {
    const left = () => desk.database.query(`select from yardmaster.run where status in ('WAITING', 'RUNNING') limit 1`)
    while ((await left()).length > 0) {
      const claims = await claimJobs(worker, 3)
      const [row] = await desk.database.query(
        `select count(*)::int as now from yardmaster.run where status = 'RUNNING'`,
      )
      most = Math.max(most, row.now)
      for (const { token } of claims) await endJob(worker, token)
    }
  }
  await Promise.all(given.map(work))
  expect(most).toBe(2)
  await desk.rulesHold()
})

describe('a job changes while it runs', () => {
  test('deleted: its run is cancelled, its end is still written, nothing comes after it', async () => {
    const job = await desk.job({ schedule_interval: '1 s' })
    await desk.decide()
    const token = await taken(workers[0], job)
    await desk.database.query('select yardmaster.delete_job($1)', [job])
    const [row] = await desk.database.query('select yardmaster.cancelled_by($1) as who', [token])
    expect(row.who).toMatch(/^the deletion of its job by /)
    expect(await endJob(workers[0], token, 'CRITICAL')).toBe(true)
    await desk.decide()
    expect(await claimJobs(workers[0], 50)).toEqual([])
    expect(await desk.runs(job)).toHaveLength(1)
  })

  test('paused: it ends, counts, and does not start again until it is resumed', async () => {
    const job = await desk.job({ schedule_interval: '1 s' })
    await desk.decide()
    const token = await taken(workers[0], job)
    await desk.database.query('select yardmaster.pause_job($1)', [job])
    await endJob(workers[0], token)
    await desk.decide()
    const state = () =>
      desk.database.query(
        'select total_runs::int as runs, next_start is null as none from yardmaster.job_state where job_id = $1',
        [job],
      )
    expect(await state()).toEqual([{ runs: 1, none: true }])
    await desk.database.query('select yardmaster.resume_job($1)', [job])
    await desk.decide()
    expect(await state()).toEqual([{ runs: 1, none: false }])
    await desk.database.query('select yardmaster.delete_job($1)', [job])
  })

  test('altered: what runs ends under what it was, and the next start is by the new schedule', async () => {
    const job = await desk.job({ schedule_interval: '1 hour' })
    await desk.decide()
    const token = await taken(workers[0], job)
    await desk.change(job, { schedule_interval: '2 hours', max_retries: 0 })
    await endJob(workers[0], token)
    await desk.decide()
    const [state] = await desk.database.query<{ hours: number }>(
      `select extract(epoch from period) / 3600 as hours from yardmaster.job_state where job_id = $1`,
      [job],
    )
    expect(Number(state?.hours)).toBe(2)
    await desk.database.query('select yardmaster.delete_job($1)', [job])
  })

  test('its databases gain and lose its tag: one run each where it has it, its end is counted where it had it', async () => {
    const tag = (name: string, tags: string) =>
      desk.database.query('update yardmaster.managed_database set tags = $2 where name = $1', [name, tags])
    await tag('north', '{prod}')
    await tag('south', '{prod}')
    const job = await desk.job({ database: 'tag:prod', schedule_interval: '1 hour' })
    await desk.decide()
    const claims = (await claimJobs(workers[0], 50)).filter(({ job_id }) => job_id === job)
    expect(claims).toHaveLength(2)
    await Promise.all([
      tag('south', '{}'),
      tag('west', '{prod}'),
      ...claims.map(({ token }) => endJob(workers[1], token)),
    ])
    const states = await desk.database.query(
      `select d.name, s.in_scope, s.scheduled, s.total_runs::int as runs from yardmaster.job_state s
       join yardmaster.managed_database d on d.id = s.database_id where s.job_id = $1 order by d.name`,
      [job],
    )
    expect(states).toEqual([
      { name: 'north', in_scope: true, scheduled: true, runs: 1 },
      { name: 'south', in_scope: false, scheduled: false, runs: 1 },
      { name: 'west', in_scope: true, scheduled: true, runs: 0 },
    ])
    await desk.decide()
    expect((await claimJobs(workers[0], 50)).filter(({ job_id }) => job_id === job)).toHaveLength(1)
  })
})
