import { beforeAll, expect, test } from 'vitest'
import { JobCrew } from '../../test/jobs/job-crew.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'

let crm: TestDatabase

beforeAll(async () => {
  crm = await createDatabase('job run crm')
  await crm.query(
    `create procedure public.sleeps(job_id int, config jsonb) language plpgsql as $$ begin perform pg_sleep(60); end $$`,
  )
})

const sleeping = () =>
  crm.query(`select from pg_stat_activity where application_name like '% [%' and wait_event = 'PgSleep'`)

test('a call that somebody cancels does not go back to the queue; one whose worker stops does', async () => {
  const crew = await JobCrew.open('call ends', { crm: crm.url })
  const worker = await crew.worker({ grace: 10 })
  const job = await crew.define({ proc: 'public.sleeps', scheduled: false })
  const cancelled = await crew.request(job)
  await expect.poll(sleeping).toHaveLength(1)
  await crew.control.query('select yardmaster.cancel_run($1)', [cancelled])
  await expect.poll(() => crew.runs(job)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
  expect(await sleeping()).toEqual([])
  await crew.request(job)
  await expect.poll(sleeping).toHaveLength(1)
  await worker.stop()
  expect((await crew.runs(job))[1]).toMatchObject({ status: 'WAITING', reason: 'retry' })
  expect(await sleeping()).toEqual([])
})
