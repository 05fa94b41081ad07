import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFailed, test } from 'vitest'
import { startServer } from '../support/databases.ts'
import { audit } from './job-account.ts'
import { JobYard } from './job-yard.ts'

/** `npm run soak:jobs` runs the long form. */
const long = process.env.YARDMASTER_CHAOS === 'long'
const form = long
  ? { jobs: 2000, slots: 24, seconds: 120, killEvery: 20 }
  : { jobs: 150, slots: 8, seconds: 24, killEvery: 5 }

/** n-th job: kinds, policies and schedules by turns, so that all of them meet in every database. */
function definition(n: number): Record<string, unknown> {
  const once = n % 5 === 0
  const crash = ['now', 'never', undefined][n % 3]
  return {
    name: `job ${n}`,
    proc: once ? 'public.counts' : 'public.marks',
    database: once ? 'north' : ['north', 'south', 'west'][n % 3],
    schedule_interval: `${1 + (n % 10)} s`,
    // Some are always under way when a worker is killed.
    config: {
      seconds: n % (long ? 20 : 4) === 0 ? 1.5 : (n % 7) / 100,
      ...(n % 11 === 0 && !once ? { fail: 0.3 } : {}),
    },
    retry_period: '2 s',
    overlap: ['skip', 'skip', 'skip', 'buffer', 'allow', 'cancel'][Math.floor(n / 10) % 6],
    ...(crash ? { retry_on_crash: crash } : {}),
    ...(n % 13 === 0 ? { catch_up: '30 s' } : {}),
  }
}

test(`${form.jobs} jobs on 1 to 10 s, two workers, kills and a restart: every slot is a run or left out with a reason, none twice at once`, {
  timeout: 900_000,
}, async () => {
  const server = await startServer()
  const targets = [{ name: 'north', once: true }, { name: 'south' }, { name: 'west' }]
  const yard = await JobYard.open('jobs chaos', targets, await server.createDatabase('jobs chaos control'))
  const workers = new Map([
    ['h1', await yard.worker('h1', { slots: form.slots })],
    ['h2', await yard.worker('h2', { slots: form.slots })],
  ])
  onTestFailed(() => {
    for (const [host, worker] of workers) console.log(`${host}:\n${worker.stderr().split('\n').slice(-20).join('\n')}`)
  })
  const jobs: number[] = []
  for (let n = 0; n < form.jobs; n += 1) jobs.push(await yard.job({ ...definition(n), verified: true }))

  // The time between two faults is part of the scenario; nothing is waited for by it.
  const faults = Math.floor(form.seconds / form.killEvery)
  for (let fault = 1; fault <= faults; fault += 1) {
    await delay(form.killEvery * 1000)
    if (fault === Math.ceil(faults / 2)) {
      await server.restart()
      yard.forgetConnections()
    }
    const host = fault % 2 === 0 ? 'h2' : 'h1'
    await workers.get(host)?.kill('SIGKILL')
    workers.set(host, yard.start(host, { slots: form.slots }))
  }
  await delay(form.killEvery * 1000)

  const found = await audit({ query: (text) => yard.query(text) as never })
  const { due, ran: runs, skipped, wrong } = found
  // Those of jobs that may overlap pile up where the workers can't keep up: they are runs, and have not begun.
  const [open] = await yard.query(`select count(*)::int as waiting from yardmaster.run where status = 'WAITING'`)
  console.log(JSON.stringify({ due, runs, ...open, skipped, wrong: wrong.length }))
  expect(found.wrong.slice(0, 20)).toEqual([])
  expect(found.ran).toBeGreaterThan(form.jobs)

  await yard.query('select yardmaster.pause_job(id, $1) from yardmaster.job', ['the end'])
  await yard.query(`select yardmaster.cancel_run(id) from yardmaster.run where status = 'WAITING'`)
  await yard.nothingRuns()
  for (const worker of workers.values()) expect((await worker.kill('SIGTERM')).exitCode).toBe(143)
  await yard.nothingRuns()

  const allowed = await yard.query<{ id: number }>(`select id from yardmaster.job where overlap = 'allow'`)
  for (const ledger of yard.ledgers.values()) await ledger.neverTwice(allowed.map(({ id }) => id))
  await effectsAreOnce(yard)
  const [told] = await yard.query(
    `select count(*)::int as attempts, count(*) filter (where number > 1)::int as again, count(*) filter (where r.reason = 'worker_lost')::int as lost
     from yardmaster.attempt a join yardmaster.run r on r.id = a.run_id`,
  )
  expect(told?.again).toBeGreaterThan(0)
  console.log(JSON.stringify(told))
})

/** Each run of a function that ended OK took effect once; none did twice, and none that failed did, unless its worker was lost. */
async function effectsAreOnce(yard: JobYard): Promise<void> {
  const ledger = yard.ledgers.get('north')
  const effects = await ledger?.database.query<{ run_id: string; times: number }>(
    'select run_id, count(*)::int as times from public.effect group by run_id',
  )
  const times = new Map((effects ?? []).map((row) => [row.run_id, row.times]))
  const runs = await yard.query<{ id: string; status: string; lost: boolean }>(
    `select r.id, r.status, exists (select from yardmaster.attempt a where a.run_id = r.id and a.abandoned) or r.reason = 'worker_lost'
       or (select count(*) from yardmaster.attempt a where a.run_id = r.id) > 0 and r.reason = 'cancelled' as lost
     from yardmaster.run r join yardmaster.job_action a on a.job_id = r.job_id where a.proc_name = 'counts'`,
  )
  const wrong = runs.filter(({ id, status, lost }) => {
    const count = times.get(id) ?? 0
    return status === 'OK' ? count !== 1 : count > (lost ? 1 : 0)
  })
  expect(runs.length).toBeGreaterThan(0)
  expect(wrong).toEqual([])
}
