import { beforeEach, expect, it } from 'vitest'
import { addJob, counted, deploymentFile, installHdbpp, procedure, stats } from '../cli/postprocess-deployment.ts'
import { Shop } from '../cli/shop.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { runCli, startCli } from '../support/process.ts'

let shop: Shop
let hdb: TestDatabase
let file: string

beforeEach(async () => {
  hdb = await createDatabase('crash import')
  await installHdbpp(hdb)
  file = deploymentFile({ hdb: hdb.url })
  shop = new Shop(await createDatabase('crash import control'), hdb, hdb)
})

const adopt = (env: Record<string, string> = {}) =>
  runCli(['import', 'hdbpp', '-c', file, '--yes', '--keep-tables', '--json'], { env: { ...shop.environment, ...env } })

function worker(env: Record<string, string> = {}) {
  return startCli(['worker', '--host', 'h1', '--slots', '1'], { env: { ...shop.environment, ...env } })
}

it('an import that is killed at import-after-database is completed by the next one', async () => {
  await addJob(hdb, 'works')
  expect(await adopt({ YARDMASTER_CRASH_AT: 'import-after-database' })).toMatchObject({ signal: 'SIGKILL' })
  expect(await shop.control.query('select name from yardmaster.databases')).toEqual([{ name: 'hdb' }])
  expect((await adopt()).json()).toMatchObject({
    deployments: [{ database: 'hdb', registered: false, jobs: [{ op: 'create', job_id: 1000 }] }],
  })
})

/** A worker that is killed there; how often the procedure was called and counted when the next one is done. */
it.each([
  ['call-after-commit', 'one transaction', 1, 1],
  ['call-before-commit', 'one transaction', 1, 1],
  ['call-after-call', 'commits', 2, 1],
  // Two calls that were each done, and each counted.
  ['call-after-tally', 'commits', 2, 2],
])(
  'a worker that is killed at %s, of a call that is %s: it is counted as often as it took effect',
  async (point, how, calls, counts) => {
    if (how === 'commits') await procedure(hdb, 'works', 'insert into public.calls (job_id) values (id); commit;')
    else await hdb.query('create schema yardmaster')
    const id = await addJob(hdb, 'works')
    expect((await adopt()).exitCode).toBe(0)
    await shop.control.query(`select yardmaster.change_job(1000, '{"retry_on_crash": "now"}')`)
    const first = worker({ YARDMASTER_CRASH_AT: point })
    await first.waitForOutput(/takes work/)
    await shop.control.query('select yardmaster.request_run(1000)')
    expect(await first.ended).toMatchObject({ signal: 'SIGKILL' })
    worker()
    await expect
      .poll(() => shop.control.query(`select status, message from yardmaster.runs where job_id = 1000`), {
        timeout: 30_000,
      })
      .toMatchObject([{ status: 'OK' }])
    expect(await hdb.query('select from calls')).toHaveLength(calls)
    expect(await stats(hdb)).toEqual([counted(id, true, [counts, counts])])
  },
)
