import { beforeAll, expect, test } from 'vitest'
import { JobCrew } from '../../test/jobs/job-crew.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { startProxy } from '../../test/support/proxy.ts'

let crm: TestDatabase
let dwh: TestDatabase

beforeAll(async () => {
  crm = await createDatabase('verification crm')
  dwh = await createDatabase('verification dwh')
  for (const database of [crm, dwh]) {
    await database.query(`create schema marts;
      create procedure marts.refresh(job_id int, config jsonb) language sql as $$ select $$;
      create table marts.looked (config jsonb);
      create function marts.checks(config jsonb) returns void language plpgsql as $$ begin
        insert into marts.looked values (config); if config ? 'bad' then raise 'the key bad is not known'; end if; end $$;
      create function marts.hangs(config jsonb) returns void language sql as $$ select pg_sleep(60) $$;
      alter database ${database.name} set search_path = marts`)
  }
})

const job = async (crew: JobCrew, id: number) =>
  (
    await crew.control.query<{ status: string; note: string | null; by: string | null; proc_schema: string | null }>(
      'select status, pause_note as note, paused_by as by, proc_schema from yardmaster.jobs where job_id = $1',
      [id],
    )
  )[0]

test('a job that was added in SQL starts when a worker, who is woken, has found what it calls', async () => {
  const crew = await JobCrew.open('at once', { crm: crm.url })
  await crew.worker()
  const began = performance.now()
  const id = await crew.define({
    proc: 'refresh',
    check_config: 'checks',
    config: { a: 1 },
    schedule_interval: '1 day',
  })
  await expect.poll(() => job(crew, id), { interval: 20 }).toMatchObject({ status: 'active', proc_schema: 'marts' })
  // The backstop alone would come after 5 s.
  expect(performance.now() - began).toBeLessThan(3000)
  await expect.poll(() => crew.runs(id)).toMatchObject([{ status: 'OK' }])
  expect(await crm.query('select from marts.looked')).toEqual([])
})

test.each([
  ['what it calls is not there', { proc: 'marts.absent' }, /"marts.absent\(integer, jsonb\)" does not exist in crm/],
  ['its check refuses', { check_config: 'marts.checks', config: { bad: 1 } }, /the key bad is not known/],
  ['there is no such check', { check_config: 'marts.nothing' }, /"marts.nothing\(jsonb\)" does not exist/],
])('a job is paused, and says why, where %s', async (_case, wrong, note) => {
  const crew = await JobCrew.open('paused', { crm: crm.url })
  await crew.worker()
  const id = await crew.define({ proc: 'marts.refresh', schedule_interval: '1 second', ...wrong })
  await expect.poll(() => job(crew, id)).toMatchObject({ status: 'paused', by: 'verification' })
  expect((await job(crew, id))?.note).toMatch(note)
  expect(await crew.runs(id)).toEqual([])
  expect(crew.said).toContainEqual(expect.stringMatching(note))
})

test('a check that hangs is a refusal in the end, and holds up nobody meanwhile', async () => {
  const crew = await JobCrew.open('hangs', { crm: crm.url })
  await crew.worker()
  const hanging = await crew.define({ proc: 'marts.refresh', check_config: 'marts.hangs', schedule_interval: '1 day' })
  await expect
    .poll(() => crm.query(`select from pg_stat_activity where query like '%hangs%' and wait_event = 'PgSleep'`))
    .toHaveLength(1)
  const other = await crew.define({ proc: 'marts.refresh', schedule_interval: '1 day' })
  await expect.poll(() => crew.runs(other)).toMatchObject([{ status: 'OK' }])
  expect(await job(crew, hanging)).toMatchObject({ status: 'unverified' })
  await expect.poll(() => job(crew, hanging)).toMatchObject({ status: 'paused' })
  expect((await job(crew, hanging))?.note).toMatch(/statement timeout/)
})

test('a database that is away: its job stays unverified, others go on, and it is found again when it is back', async () => {
  const proxy = await startProxy(crm.url)
  const crew = await JobCrew.open('away', { crm: proxy.url, dwh: dwh.url })
  proxy.set('both', { kind: 'reset' })
  const worker = await crew.worker()
  const waiting = await crew.define({ proc: 'refresh', database: 'crm', schedule_interval: '1 day' })
  await expect.poll(() => crew.said).toContainEqual(expect.stringMatching(/^Jobs wait until crm can be looked into/))
  const other = await crew.define({ proc: 'refresh', database: 'dwh', schedule_interval: '1 day' })
  await expect.poll(() => crew.runs(other)).toMatchObject([{ status: 'OK' }])
  expect(await job(crew, waiting)).toMatchObject({ status: 'unverified', note: null })
  const tried = proxy.accepted
  for (let look = 0; look < 200; look += 1) worker.wake()
  await expect.poll(() => proxy.accepted, { interval: 200 }).toBeGreaterThan(tried)
  expect(proxy.accepted - tried).toBeLessThan(5)
  proxy.set('both', { kind: 'pass' })
  await expect.poll(() => job(crew, waiting)).toMatchObject({ status: 'active', proc_schema: 'marts' })
})

test('of the databases of a job one that is away does not hold up the others', async () => {
  const proxy = await startProxy(dwh.url)
  const crew = await JobCrew.open('several', { crm: crm.url, dwh: proxy.url })
  await crew.control.query(`update yardmaster.managed_database set tags = '{prod}'`)
  proxy.set('both', { kind: 'reset' })
  await crew.worker()
  const id = await crew.define({ proc: 'refresh', database: 'tag:prod', schedule_interval: '1 day' })
  // Nobody knows yet whether it is in the same schema there.
  await expect.poll(() => job(crew, id)).toMatchObject({ status: 'active', proc_schema: null })
})

test('a job that is not there in one of its databases is paused, and the note says in which', async () => {
  const crew = await JobCrew.open('one of several', { crm: crm.url, dwh: dwh.url })
  await crew.control.query(`update yardmaster.managed_database set tags = '{prod}'`)
  await crm.query(`create function marts.only_here(job_id int, config jsonb) returns void language sql as $$ select $$`)
  await crew.worker()
  const id = await crew.define({ proc: 'only_here', database: 'tag:prod', schedule_interval: '1 day' })
  await expect.poll(() => job(crew, id)).toMatchObject({ status: 'paused' })
  expect((await job(crew, id))?.note).toMatch(/"only_here\(integer, jsonb\)" does not exist in dwh/)
})

test('a verdict on what was changed meanwhile is none; two workers at once look at every job once', async () => {
  const crew = await JobCrew.open('two', { crm: crm.url })
  const ids: number[] = []
  for (let count = 0; count < 30; count += 1) {
    ids.push(await crew.define({ proc: count % 3 === 0 ? 'absent' : 'refresh', schedule_interval: '1 day' }))
  }
  const [first = 0] = ids
  const [read] = await crew.control.query('select version from yardmaster.unverified_jobs(1)')
  await crew.control.query(`select yardmaster.change_job($1, '{"proc": "refresh"}')`, [first])
  const settled = 'select yardmaster.settle_verification($1, $2, null, $3) as settled'
  expect(await crew.control.query(settled, [first, read.version, 'gone'])).toEqual([{ settled: false }])
  await Promise.all([crew.worker(), crew.worker()])
  const count = (status: string) =>
    crew.control.query(`select from yardmaster.jobs where status = $1`, [status]).then((rows) => rows.length)
  await expect.poll(() => count('unverified')).toBe(0)
  expect([await count('active'), await count('paused')]).toEqual([21, 9])
})

test('a worker that is stopped does not wait for a database that hangs', async () => {
  const proxy = await startProxy(crm.url)
  const crew = await JobCrew.open('stopped', { crm: proxy.url })
  proxy.set('toClient', { kind: 'half-open' })
  const worker = await crew.worker()
  await crew.define({ proc: 'refresh', schedule_interval: '1 day' })
  await expect.poll(() => proxy.accepted).toBe(1)
  const began = performance.now()
  await worker.stop()
  expect(performance.now() - began).toBeLessThan(3000)
})
