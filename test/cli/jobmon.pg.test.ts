import { beforeAll, expect, it } from 'vitest'
import { CallDesk } from '../jobs/call-desk.ts'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { Shop } from './shop.ts'

let shop: Shop

beforeAll(async () => {
  const control = await createDatabase('control')
  shop = new Shop(control, await createDatabase('jobmon'), await (await postgres14()).createDatabase('jobmon'))
  await shop.done('database', 'add', 'crm', shop.source.url)
  await shop.done('database', 'add', 'old', shop.destination.url)
})

it('procedures that log by pg_jobmon speak to Yardmaster unchanged, and do no harm elsewhere', async () => {
  for (const [name, database] of [
    ['crm', shop.source],
    ['old', shop.destination],
  ] as const) {
    expect((await shop.done('database', 'prepare', name, '--for', 'jobmon', '--dry-run')).out).toMatch(
      /CREATE SCHEMA jobmon;/,
    )
    expect(await database.query(`select from pg_namespace where nspname = 'jobmon'`)).toEqual([])
    await shop.done('database', 'prepare', name, '--for', 'jobmon')
    // Twice is fine.
    await shop.done('database', 'prepare', name, '--for', 'jobmon')
    await database.query(`create procedure public.logs(job_id int, config jsonb) language plpgsql as $$
      declare v_job bigint; v_step bigint; v_first bigint; begin
        v_job := jobmon.add_job('nightly');
        v_first := jobmon.add_step(v_job, 'load orders');
        perform jobmon.update_step(v_first, 'PENDING', 'half');
        perform jobmon.update_step(v_first, 'OK', '12 rows');
        v_step := jobmon.add_step(v_job, 'sum up');
        perform jobmon.update_step(v_first, 'CRITICAL', 'of one that has ended');
        perform jobmon.update_step(v_step, 'WARNING', 'nothing to sum');
        if job_id = 1000 then perform jobmon.fail_job(v_job, 2); else perform jobmon.close_job(v_job); end if;
      end $$`)
    await database.query('call public.logs(1, null)')
    const desk = new CallDesk(database.url)
    expect(await desk.proc('logs')).toMatchObject({ level: 'WARNING' })
    expect(desk.steps.map(({ action, level, message }) => [action, level, message])).toEqual([
      ['public.logs', 'OK', 'NIGHTLY'],
      ['load orders', 'OK', '12 rows'],
      ['sum up', 'WARNING', 'nothing to sum'],
    ])
  }
})

it('where pg_jobmon or another schema of its name is, nothing is changed', async () => {
  await shop.source.query('drop schema jobmon cascade; create schema jobmon')
  const refused = await shop.run('database', 'prepare', 'crm', '--for', 'jobmon')
  expect(refused.code).toBe(1)
  expect(refused.err).toMatch(/there is a schema jobmon that Yardmaster did not make; nothing was changed/)
  expect(await shop.source.query(`select from pg_proc where pronamespace = 'jobmon'::regnamespace`)).toEqual([])
})

it('jobmon takes no table, and a replication needs one', async () => {
  expect(await shop.run('database', 'prepare', 'crm', 'public.a', '--for', 'jobmon')).toMatchObject({ code: 2 })
  expect(await shop.run('database', 'prepare', 'crm', '--for', 'snapshot')).toMatchObject({ code: 2 })
})
