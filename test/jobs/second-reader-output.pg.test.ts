import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { Outbox } from '../../src/monitoring/outbox.ts'
import { openTestControl } from '../security/control-database.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { JobCrew } from './job-crew.ts'

let target: TestDatabase
let crew: JobCrew

beforeAll(async () => {
  target = await createDatabase('output second reader')
  await target.query(`
    create table calls (job_id int, at timestamptz default clock_timestamp());
    create procedure shout(job_id int, config jsonb) language plpgsql as $$ begin
      insert into calls values (job_id); commit;
      raise exception '%', repeat('x', 20000000) using detail = repeat('y', 20000000); end $$;
    create procedure odd(job_id int, config jsonb) language plpgsql as $$ begin
      insert into calls values (job_id); commit;
      raise exception '%', repeat(e'\\U0001F600\\u202e\\u0001', 1000); end $$`)
  crew = await JobCrew.open('output', { shop: target.url })
})

test.each(['shout', 'odd'])(
  'an error of any size and letters ends the run once, and is kept short (%s)',
  async (proc) => {
    await crew.worker({ slots: 1 })
    const job = await crew.define({ proc: `public.${proc}`, database: 'shop', verified: true, schedule_interval: null })
    await crew.request(job)
    await expect
      .poll(() => crew.runs(job), { timeout: 15_000 })
      .toMatchObject([{ status: 'CRITICAL', reason: 'failed' }])
    const [size] = await crew.control.query<{ bytes: number }>(
      `select greatest(max(octet_length(r.message)), max(octet_length(s.message))) as bytes from yardmaster.run r
     join yardmaster.attempt a on a.run_id = r.id left join yardmaster.step s on s.attempt_id = a.id where r.job_id = $1`,
      [job],
    )
    expect(size?.bytes).toBeLessThan(50_000)
    expect(await target.query('select from calls where job_id = $1', [job])).toHaveLength(1)
  },
)

test('an end that the control database refuses is written without its words: its run is over, and not carried out again', async () => {
  const control = await openTestControl(crew.control.url)
  onTestFinished(() => control.close())
  const job = await crew.define({ proc: 'public.any', database: 'shop', verified: true, schedule_interval: null })
  await crew.request(job)
  const client = await crew.control.client()
  const { rows } = await client.query(`select yardmaster.register_worker('w', 'w', 1) as id`)
  const claims = await client.query(`select token from yardmaster.claim_runs($1, '{procedure}', 1)`, [rows[0].id])
  const outcome = {
    token: claims.rows[0].token,
    status: 'OK' as const,
    reason: null,
    // No JSON of PostgreSQL's has half of a pair.
    message: 'half \ud800',
    ...{ rows: 1, bytes: 1, lag: null, position: null, leaves_out: null },
  }
  expect(await new Outbox(control).outcome(outcome, 10_000)).toBe(true)
  expect(await crew.runs(job)).toMatchObject([{ status: 'OK', message: expect.stringContaining('could not be kept') }])
})
