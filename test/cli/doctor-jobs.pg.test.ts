import { randomUUID } from 'node:crypto'
import { beforeAll, expect, it } from 'vitest'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('doctor jobs')
})

interface Finding {
  readonly code: string
  readonly level: string
  readonly object: string
  readonly message: string
  readonly remedy: string
}

/** What it says of an object, exit code checked. */
async function findings(about: string): Promise<Finding[]> {
  const { code, json } = await desk.run('doctor', '--json')
  const all = json.findings as Finding[]
  expect(code).toBe(all.some(({ level }) => level === 'CRITICAL') ? 1 : 0)
  return all.filter(({ object }) => object === about)
}

/** Adds a job that may start; returns its number and what doctor calls it. */
async function add(name: string, ...more: string[]): Promise<[id: number, label: string]> {
  const id = await desk.addJob('public.note', '--database', 'dwh', '--every', '1 day', '--name', name, ...more)
  return [id, `${name} [${id}]`]
}

const set = (id: number, columns: string) =>
  desk.control.query(`update yardmaster.job set ${columns} where id = $1`, [id])

it('says nothing of a job that is well, though it depends on another and is one of a tag', async () => {
  const [one, label] = await add('well')
  const [, after] = await add('well after', '--after', String(one))
  expect([...(await findings(label)), ...(await findings(after))]).toEqual([])
})

it('finds a job that nobody looks at', async () => {
  const [row] = await desk.control.query<{ id: number }>(
    `select yardmaster.add_job('public.note', '1 day', database => 'dwh', job_name => 'unseen') as id`,
  )
  const id = row?.id ?? 0
  expect(await findings(`unseen [${id}]`)).toEqual([])
  await set(id, `created_at = now() - interval '2 minutes'`)
  expect(await findings(`unseen [${id}]`)).toMatchObject([
    {
      ...{ code: 'job_unverified', level: 'WARNING' },
      message: expect.stringMatching(
        /^No worker could look whether it can be called since \d{4}-.*; it does not start/,
      ),
    },
  ])
})

it('finds jobs that are paused since they failed, and what can’t be called', async () => {
  const [id, label] = await add('stopped')
  const paused = (by: string, note: string) =>
    set(id, `status = 'paused', paused_by = '${by}', paused_at = now(), pause_note = '${note}'`)
  await paused('max_retries', 'It reached max_retries (3) after 3 consecutive failures.')
  expect(await findings(label)).toMatchObject([
    {
      ...{ code: 'job_stopped', level: 'CRITICAL' },
      message: 'It is paused since it failed too often: It reached max_retries (3) after 3 consecutive failures.',
      remedy: expect.stringContaining(`yardmaster job resume ${id}`),
    },
  ])
  await paused('verification', 'There is no procedure public.note')
  expect(await findings(label)).toMatchObject([
    { code: 'job_unfit', message: 'It is paused because it can’t be called: There is no procedure public.note.' },
  ])
  await desk.done('job', 'resume', String(id))
  expect(await findings(label)).toEqual([])
})

it('finds a job that is paused in one of its databases', async () => {
  const id = await desk.addJob('public.note', '--database', 'tag:prod', '--every', '1 day', '--name', 'partly')
  await desk.control.query(
    `update yardmaster.job_state set paused_at = now() where job_id = $1
     and database_id = (select id from yardmaster.managed_database where name = 'crm')`,
    [id],
  )
  expect(await findings(`partly [${id}]`)).toMatchObject([
    { code: 'job_stopped_there', level: 'CRITICAL', message: expect.stringMatching(/^It is paused in crm, /) },
  ])
})

it('finds a pause that was forgotten, and what waits for it', async () => {
  const [id, label] = await add('forgotten')
  const [, after] = await add('waits', '--after', String(id))
  await desk.done('job', 'pause', String(id), '--note', 'the server moves')
  expect(await findings(label)).toEqual([])
  expect(await findings(after)).toMatchObject([
    {
      ...{ code: 'dependency_paused', level: 'WARNING' },
      message: expect.stringMatching(
        /^It starts after forgotten \[\d+\], which is paused by .*: the server moves: until that goes on/,
      ),
    },
  ])
  await set(id, `paused_at = now() - interval '25 hours'`)
  expect(await findings(label)).toMatchObject([
    { code: 'paused_long', message: expect.stringMatching(/by .*: the server moves\.$/) },
  ])
  await desk.done('job', 'resume', String(id))
  expect([...(await findings(label)), ...(await findings(after))]).toEqual([])
})

it('finds owners that are gone, and those that have lost their right', async () => {
  const [id, label] = await add('owned')
  const role = `clerk_${randomUUID().slice(0, 8)}`
  await desk.control.query(`create role ${role}`)
  try {
    await desk.control.query(`select yardmaster.grant_use($1, 'dwh')`, [role])
    await set(id, `owner = '${role}'`)
    expect(await findings(label)).toEqual([])
    await desk.control.query(`select yardmaster.revoke_use($1, 'dwh')`, [role])
    expect(await findings(label)).toMatchObject([
      {
        code: 'job_owner_without_right',
        level: 'WARNING',
        message: expect.stringContaining(`the role ${role}, may not make such jobs in dwh`),
      },
    ])
  } finally {
    await desk.control.query(`drop owned by ${role}; drop role ${role}`)
  }
  expect(await findings(label)).toMatchObject([{ code: 'job_orphaned', level: 'CRITICAL' }])
  await desk.done('job', 'delete', String(id), '--yes')
})

it('finds a tag that no database has any more', async () => {
  const id = await desk.addJob('public.note', '--database', 'tag:prod', '--every', '1 day', '--name', 'tagged')
  await desk.control.query(`update yardmaster.job_action set tag = 'nobody' where job_id = $1`, [id])
  await desk.control.query('select yardmaster.sync_job_states($1)', [id])
  expect(await findings(`tagged [${id}]`)).toMatchObject([
    { code: 'tag_unused', message: 'It runs in each database that has the tag nobody, and none has it.' },
  ])
})

it('finds a task that no living worker takes', async () => {
  const [row] = await desk.control.query<{ id: number }>(
    `select yardmaster.define_job('{"task": "sweep", "name": "sweeper", "schedule_interval": "1 day"}') as id`,
  )
  const id = row?.id ?? 0
  await desk.control.query('select yardmaster.request_run($1)', [id])
  await desk.control.query(`update yardmaster.run set due_at = now() - interval '2 minutes' where job_id = $1`, [id])
  const worker = await desk.control.client()
  try {
    expect(await findings(`sweeper [${id}]`)).toEqual([])
    await worker.query(`select yardmaster.register_worker('h1#1', 'h1', 4)`)
    expect(await findings(`sweeper [${id}]`)).toMatchObject([
      { code: 'task_unknown_to_workers', message: expect.stringMatching(/none of them seems to know its task\.$/) },
    ])
  } finally {
    await worker.end()
  }
})

it('says of a single failed run of a job how to try again', async () => {
  const [id, label] = await add('fails once')
  await desk.done('job', 'alter', String(id), '--proc', 'public.fails')
  await desk.done('job', 'run', String(id))
  await desk.run('run-due')
  expect(await findings(`dwh:${label}`)).toMatchObject([
    {
      ...{ code: 'last_run_failed', message: expect.stringContaining('the disk is full') },
      remedy: `Try again: yardmaster job run ${id}`,
    },
  ])
})

it('names the jobs of a database that can’t be reached, and a webhook that was given up', async () => {
  const id = await desk.addJob('public.note', '--database', 'crm', '--every', '1 day', '--name', 'far away')
  await desk.done('alert', 'webhook', 'add', 'http://127.0.0.1:9/hook', '--allow-private')
  await desk.control.query(`select yardmaster.open_alert('BLOCKED', 'a job', 2, 'it waits')`)
  await desk.control.query(
    `update yardmaster.webhook_delivery set status = 'given_up', attempts = 9, outcome = 'nothing listens there'`,
  )
  const [hook] = await desk.control.query<{ id: number }>('select id from yardmaster.webhook')
  expect(await findings(`webhook ${hook?.id}`)).toMatchObject([
    { code: 'webhook_given_up', message: expect.stringContaining('after 9 attempts: nothing listens there') },
  ])
  await desk.done('database', 'set', 'crm', '--url', 'postgresql://nobody@127.0.0.1:9/nothing', '--force')
  expect(await findings('crm')).toMatchObject([
    { level: 'CRITICAL', message: expect.stringContaining(`far away [${id}]`) },
  ])
})
