import { beforeEach, describe, expect, it } from 'vitest'
import { loadHdbppFile } from '../../src/compat/hdbpp-file.ts'
import type { HdbppLevel } from '../../src/compat/hdbpp-log.ts'
import { runHdbpp } from '../../src/compat/hdbpp-pass.ts'
import { openHdbpp } from '../../src/compat/hdbpp-session.ts'
import { requireTables, writeStats } from '../../src/compat/hdbpp-tables.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { startCli } from '../support/process.ts'
import { startProxy } from '../support/proxy.ts'
import {
  addJob,
  counted,
  deploymentFile,
  installHdbpp,
  postprocess,
  procedure,
  stats,
} from './postprocess-deployment.ts'

let database: TestDatabase
let file: string

/** Holds the job until whoever has the lock 1 gives it up; writes down which other calls it met. */
const waits = `insert into public.calls (job_id, others) select id, count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle' and query like 'call %';
  commit;
  perform pg_advisory_lock(1); perform pg_advisory_unlock(1);`

beforeEach(async () => {
  database = await createDatabase('hdb trouble')
  await installHdbpp(database)
  await procedure(database, 'waits', waits)
  file = deploymentFile({ accelerator: database.url })
})

const waiting = () =>
  database.query(
    `select from pg_stat_activity where datname = current_database() and wait_event = 'advisory' and query like 'call %'`,
  )
const othersMet = async () => (await database.query('select others from calls order by n')).map(({ others }) => others)

/** The lock that `waits` waits for. */
async function hold() {
  const holder = await database.client()
  await holder.query('select pg_advisory_lock(1)')
  return { release: () => holder.query('select pg_advisory_unlock(1)') }
}

/** A pass in this process, with little patience; what it says is handed over at once. */
async function pass(place: string, hear: (level: HdbppLevel, text: string) => void = () => undefined, last = 20_000) {
  const { deployments } = await loadHdbppFile(place)
  const [deployment] = deployments
  if (!deployment) throw new Error('no deployment')
  const log = { say: hear, close: async () => undefined }
  const { signal } = new AbortController()
  return runHdbpp(deployment, { log, signal, passwordFile: undefined, statsPatience: { between: 100, last } })
}

describe('two passes at once', () => {
  it('are one: the second says who runs, and leaves it alone', async () => {
    await procedure(database, 'unlocks', 'perform pg_advisory_unlock_all();')
    const ids = [await addJob(database, 'unlocks'), await addJob(database, 'waits')]
    const held = await hold()
    const first = startCli(['postprocess', '-c', file])
    await expect.poll(waiting).toHaveLength(1)
    const second = await postprocess(file)
    expect(second.code).toBe(1)
    expect(second.err).toMatch(
      /\[hdbpp_busy\] Another process runs the jobs of the database .* already \(server process \d+, yardmaster from /,
    )
    await held.release()
    expect((await first.ended).exitCode).toBe(0)
    expect(await stats(database)).toEqual(ids.map((id) => counted(id, true, [1, 1])))
  })

  it('in different databases do not know of each other', async () => {
    const other = await createDatabase('hdb trouble other')
    await installHdbpp(other)
    await addJob(other, 'works')
    await addJob(database, 'waits')
    const held = await hold()
    const first = startCli(['postprocess', '-c', file])
    await expect.poll(waiting).toHaveLength(1)
    expect((await postprocess(deploymentFile({ other: other.url }))).code).toBe(0)
    await held.release()
    expect((await first.ended).exitCode).toBe(0)
  })

  it('add up: of forty outcomes that are written side by side none is lost', async () => {
    const id = await addJob(database, 'works')
    const { deployments } = await loadHdbppFile(file)
    const write = async (ok: boolean) => {
      const [deployment] = deployments
      if (!deployment) throw new Error('no deployment')
      const { session, close } = await openHdbpp(deployment, {})
      const tables = await requireTables(session)
      for (let n = 0; n < 10; n += 1)
        await writeStats(session, tables, { job_id: id, startedAt: '2026-11-21 12:00:00+00', seconds: 1, ok }, 20_000)
      await close()
    }
    await Promise.all([write(true), write(false), write(true), write(false)])
    const [row] = await stats(database)
    expect(row).toMatchObject({ total_runs: '40', total_successes: '20', total_failures: '20', finished: true })
  })
})

describe('a pass that is killed in the middle of a call', () => {
  it('is followed by one that starts when its call has ended on the server, not before', async () => {
    const id = await addJob(database, 'waits')
    const held = await hold()
    const first = startCli(['postprocess', '-c', file])
    await expect.poll(waiting).toHaveLength(1)
    const second = startCli(['postprocess', '-c', file])
    await first.kill('SIGKILL')
    await expect.poll(async () => (await othersMet()).length).toBe(2)
    await held.release()
    const ended = await second.ended
    expect(ended.exitCode, ended.stderr).toBe(0)
    expect(await othersMet()).toEqual(['0', '0'])
    expect(await stats(database)).toEqual([counted(id, true, [1, 1])])
  })

  it('with SIGTERM: cancels the call, counts it as an error, runs no more and ends with 143', async () => {
    const [id] = [await addJob(database, 'waits'), await addJob(database, 'works')]
    await hold()
    const first = startCli(['postprocess', '-c', file])
    await expect.poll(waiting).toHaveLength(1)
    const { exitCode, stderr } = await first.kill('SIGTERM')
    expect(exitCode).toBe(143)
    expect(stderr).toContain('Stopped; the last job was not run.')
    expect(await stats(database)).toEqual([counted(id, false, [1, 0])])
    await expect.poll(waiting).toEqual([])
  })
})

describe('a connection that is lost in the middle of a call', () => {
  it('costs that job only: it counts as an error, the next ones run', async () => {
    await procedure(database, 'ends_itself', 'perform pg_terminate_backend(pg_backend_pid());')
    const ids = [
      await addJob(database, 'works'),
      await addJob(database, 'ends_itself'),
      await addJob(database, 'works'),
    ]
    const { code, err } = await postprocess(file)
    expect(code).toBe(1)
    expect(err).toContain('(ends_itself) failed: [database_unreachable]')
    expect(await stats(database)).toEqual(ids.map((id, index) => counted(id, index !== 1, [1, index === 1 ? 0 : 1])))
  })

  it('is not followed by another call while its server process still works', async () => {
    const ids = [await addJob(database, 'waits'), await addJob(database, 'waits')]
    const proxy = await startProxy(database.url)
    const held = await hold()
    const first = startCli(['postprocess', '-c', deploymentFile({ accelerator: proxy.url })])
    await expect.poll(waiting).toHaveLength(1)
    // Only this end hears of it; the server's is held open until it looks.
    proxy.set('toServer', { kind: 'half-open' })
    proxy.set('toClient', { kind: 'reset' })
    await first.waitForOutput(/\(waits\) failed: \[database_unreachable\]/)
    proxy.set('both', { kind: 'pass' })
    await expect.poll(async () => (await othersMet()).length).toBe(2)
    await held.release()
    const { exitCode, stderr } = await first.ended
    expect(exitCode).toBe(1)
    expect(stderr).not.toContain('hdbpp_busy')
    expect(await othersMet()).toEqual(['0', '0'])
    expect(await stats(database)).toEqual([counted(ids[0] ?? '', false, [1, 0]), counted(ids[1] ?? '', true, [1, 1])])
  })

  it('and is half open is noticed within 30 s, and another takes its place', async () => {
    const id = await addJob(database, 'waits')
    const proxy = await startProxy(database.url)
    const held = await hold()
    const first = startCli(['postprocess', '-c', deploymentFile({ accelerator: proxy.url })])
    await expect.poll(waiting).toHaveLength(1)
    proxy.set('both', { kind: 'half-open' })
    await first.waitForOutput(/\(waits\) failed: \[database_unreachable\].* is dead: no byte came/, 30_000)
    proxy.set('both', { kind: 'pass' })
    expect((await first.ended).exitCode).toBe(1)
    expect(await stats(database)).toEqual([counted(id, false, [1, 0])])
    await held.release()
  })

  it('and not found again is said, with what was not counted', async () => {
    await addJob(database, 'waits')
    const proxy = await startProxy(database.url)
    const held = await hold()
    const first = startCli(['postprocess', '-c', deploymentFile({ accelerator: proxy.url })])
    await expect.poll(waiting).toHaveLength(1)
    await proxy.stop()
    const { exitCode, stderr } = await first.ended
    expect(exitCode).toBe(1)
    expect(stderr).toContain('accelerator: not counted in the stats: job 1.')
    await held.release()
  })
})

describe('a row of the stats that somebody holds', () => {
  /** Locks the rows of all jobs. */
  async function lockStats() {
    expect((await postprocess(file)).code).toBe(0)
    const holder = await database.client()
    await holder.query(`begin; select from postprocessing_jobs_stats for update`)
    return holder
  }

  it('holds up neither the other jobs nor, once it is free, the count', async () => {
    const ids = [await addJob(database, 'works'), await addJob(database, 'works')]
    const holder = await lockStats()
    const heard: string[] = []
    let released: Promise<unknown> | undefined
    const { error, jobs } = await pass(file, (level, text) => {
      if (level !== 'warn') return
      heard.push(text)
      // Both jobs have run by now.
      if (heard.length === 2) released = holder.query('commit')
    })
    await released
    expect(error).toBeNull()
    expect(jobs.map(({ ok }) => ok)).toEqual([true, true])
    expect(heard[0]).toMatch(
      /the row of job 1 in public\.postprocessing_jobs_stats is locked by server process \d+ \(yardmaster, yardmaster test\); it is written/,
    )
    expect(await stats(database)).toEqual(ids.map((id) => counted(id, true, [2, 2])))
  })

  it('for too long is said, and the pass fails', async () => {
    const id = await addJob(database, 'works')
    const holder = await lockStats()
    const heard: string[] = []
    const { error } = await pass(file, (_level, text) => void heard.push(text), 100)
    expect(error).toMatchObject({ code: 'lock_timeout' })
    expect(heard.join('\n')).toContain(`not counted in the stats: job ${id}`)
    await holder.query('commit')
    expect(await stats(database)).toEqual([counted(id, true, [1, 1])])
  })
})

describe('stats that cannot be written', () => {
  it('are said, job by job, and the jobs run all the same', async () => {
    const ids = [await addJob(database, 'works'), await addJob(database, 'works')]
    await database.query('alter table postprocessing_jobs_stats drop constraint postprocessing_jobs_stats_pkey')
    const { code, err } = await postprocess(file)
    expect(code).toBe(1)
    for (const id of ids) expect(err).toContain(`the stats of job ${id} were not written: [sql_failed]`)
    expect(await database.query('select job_id from calls')).toHaveLength(2)
  })
})
