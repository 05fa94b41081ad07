import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { JobCrew } from '../../test/jobs/job-crew.ts'
import type { TaskContext } from './tasks.ts'

const nextStart = async (crew: JobCrew, job: number) =>
  (
    await crew.control.query<{ next: Date | null }>(
      'select next_start as next from yardmaster.jobs where job_id = $1',
      [job],
    )
  )[0]?.next ?? null

const statusOf = async (crew: JobCrew, job: number) => (await crew.runs(job)).at(-1)

test('a run of a task: its payload, its context, its steps, its level and its next start', async () => {
  const crew = await JobCrew.open('task context')
  const seen: { payload: unknown; context: TaskContext }[] = []
  await crew.worker({
    tasks: {
      report: async (payload, context) => {
        seen.push({ payload, context })
        context.step('gather')
        context.progress({ rows: 7, bytes: 9, message: 'half' })
        context.step('send')
        context.level('WARNING', 'two were left out')
        context.level('WARNING')
        context.nextStart(new Date('2099-01-01T00:00:00Z'))
      },
    },
  })
  const job = await crew.define({ task: 'report', config: { to: 'a', id: 1 }, schedule_interval: '1 day' })
  await expect.poll(() => crew.runs(job)).toMatchObject([{ status: 'WARNING', message: 'two were left out' }])
  expect(
    await crew.control.query('select action, status, rows, bytes, message from yardmaster.steps order by ordinal'),
  ).toEqual([
    { action: 'report', status: 'OK', rows: null, bytes: null, message: null },
    { action: 'gather', status: 'OK', rows: '7', bytes: '9', message: 'half' },
    { action: 'send', status: 'OK', rows: null, bytes: null, message: null },
  ])
  const [{ next } = { next: null }] = await crew.control.query('select next_start as next from yardmaster.jobs')
  expect(next).toEqual(new Date('2099-01-01T00:00:00Z'))
  await crew.request(job, { id: 2 })
  await expect.poll(() => seen.length).toBe(2)
  expect(seen.map(({ payload }) => payload)).toEqual([
    { to: 'a', id: 1 },
    { to: 'a', id: 2 },
  ])
  expect(seen[0]?.context).toMatchObject({ jobId: job, attempt: 1, database: null, slot: expect.any(Date) })
})

test('what a task throws fails its run; the next task goes on', async () => {
  const crew = await JobCrew.open('task throws')
  await crew.worker({
    tasks: {
      fails: () => {
        throw new Error('no such\u001b[31m report')
      },
      rejects: () => Promise.reject('only a text'),
      works: () => undefined,
    },
  })
  const fails = await crew.define({ task: 'fails', schedule_interval: '1 day' })
  const rejects = await crew.define({ task: 'rejects', schedule_interval: '1 day' })
  const works = await crew.define({ task: 'works', schedule_interval: '1 day' })
  await expect.poll(() => crew.runs(works)).toMatchObject([{ status: 'OK' }])
  await expect
    .poll(() => crew.runs(fails))
    .toMatchObject([{ status: 'CRITICAL', reason: 'failed', message: '[job_failed] no such\\u{1b}[31m report' }])
  await expect
    .poll(() => crew.runs(rejects))
    .toMatchObject([{ status: 'CRITICAL', message: '[job_failed] only a text' }])
})

test('a task that nobody here knows is left to whoever does; two processes with different tasks', async () => {
  const crew = await JobCrew.open('task unknown')
  const done: string[] = []
  await crew.worker({ tasks: { a: () => void done.push('a') } })
  const [a, b] = [
    await crew.define({ task: 'a', scheduled: false }),
    await crew.define({ task: 'b', scheduled: false }),
  ]
  await crew.request(b)
  await crew.request(a)
  await expect.poll(() => statusOf(crew, a)).toMatchObject({ status: 'OK' })
  expect(await crew.runs(b)).toMatchObject([{ status: 'WAITING' }])
  await crew.worker({ tasks: { b: () => void done.push('b') } })
  await expect.poll(() => statusOf(crew, b)).toMatchObject({ status: 'OK' })
  expect(done).toEqual(['a', 'b'])
})

/** A task that ends when its signal is aborted, and says so by what it throws. */
const heeds = async (_payload: unknown, { signal }: TaskContext) => {
  if (!signal.aborted) await once(signal, 'abort')
  throw signal.reason
}

test('a task that is over time, or cancelled, has its signal aborted; neither goes back to the queue', async () => {
  const crew = await JobCrew.open('task ends')
  await crew.worker({ tasks: { heeds } })
  const late = await crew.define({ task: 'heeds', max_runtime: '300 milliseconds', schedule_interval: '1 day' })
  await expect.poll(() => crew.runs(late)).toMatchObject([{ status: 'CRITICAL', reason: 'timeout' }])
  expect((await statusOf(crew, late))?.message).toBe(
    '[job_timeout] Task heeds ran longer than its max_runtime of 300 ms.',
  )
  // More than one of Node's timers can wait: it must not be over at once.
  const called = await crew.define({ task: 'heeds', max_runtime: '60 days', schedule_interval: '1 day' })
  await expect.poll(() => statusOf(crew, called)).toMatchObject({ status: 'RUNNING' })
  const run = (await statusOf(crew, called))?.id
  await crew.control.query('select yardmaster.cancel_run($1)', [run])
  await expect.poll(() => crew.runs(called)).toMatchObject([{ status: 'CRITICAL', reason: 'cancelled' }])
  expect((await statusOf(crew, called))?.message).toMatch(/^\[cancelled\] Cancelled by /)
})

test('a worker that stops gives a task back that heeds its signal; another one goes on with it', async () => {
  const crew = await JobCrew.open('task back')
  const first = await crew.worker({ tasks: { heeds }, grace: 10 })
  const job = await crew.define({ task: 'heeds', schedule_interval: '1 day' })
  await expect.poll(() => statusOf(crew, job)).toMatchObject({ status: 'RUNNING' })
  await first.stop()
  expect(await crew.runs(job)).toMatchObject([{ status: 'WAITING', reason: 'retry' }])
  await crew.worker({ tasks: { heeds: () => undefined } })
  await expect.poll(() => crew.runs(job)).toMatchObject([{ status: 'OK' }])
})

test('a task that does not heed its signal: its run ends, its slot is taken until it returns, its job does not run beside it here', async () => {
  const crew = await JobCrew.open('task ignores')
  const free = Promise.withResolvers<void>()
  onTestFinished(() => free.resolve())
  let late: TaskContext | undefined
  const ignores = async (_payload: unknown, context: TaskContext) => {
    late = context
    await free.promise
  }
  await crew.worker({ slots: 2, tasks: { ignores, works: () => undefined } })
  const job = await crew.define({ task: 'ignores', max_runtime: '200 milliseconds', scheduled: false })
  const other = await crew.define({ task: 'works', scheduled: false })
  await crew.request(job)
  await expect.poll(() => statusOf(crew, job)).toMatchObject({ status: 'CRITICAL', reason: 'timeout' })
  expect((await statusOf(crew, job))?.message).toMatch(/still runs in its process, and its slot stays taken/)
  // Heard no more, and harmless.
  late?.step('too late')
  late?.nextStart('infinity')
  await crew.request(job)
  await expect.poll(() => statusOf(crew, job)).toMatchObject({ status: 'CRITICAL', reason: 'locked' })
  await crew.request(other)
  await expect.poll(() => statusOf(crew, other)).toMatchObject({ status: 'OK' })
  // Once more: with this one both slots are taken.
  const second = await crew.define({ task: 'ignores', max_runtime: '200 milliseconds', scheduled: false })
  await crew.request(second)
  await expect.poll(() => statusOf(crew, second)).toMatchObject({ status: 'CRITICAL', reason: 'timeout' })
  await crew.request(other)
  // The worker has looked since, and decided when these start.
  for (const look of [1, 2]) {
    const later = await crew.define({ task: 'works', schedule_interval: '1 day', initial_start: `209${look}-01-01` })
    await expect.poll(() => nextStart(crew, later)).not.toBeNull()
  }
  expect(await statusOf(crew, other)).toMatchObject({ status: 'WAITING' })
  free.resolve()
  await expect.poll(() => statusOf(crew, other)).toMatchObject({ status: 'OK' })
  await crew.request(job)
  await expect.poll(() => statusOf(crew, job)).toMatchObject({ status: 'OK' })
  expect(await crew.control.query(`select from yardmaster.steps where action = 'too late'`)).toEqual([])
})

test('a task that does not heed the stop of its worker is not given back: nobody may run it beside it at once', async () => {
  const crew = await JobCrew.open('task stays')
  const free = Promise.withResolvers<void>()
  onTestFinished(() => free.resolve())
  const worker = await crew.worker({ grace: 10, tasks: { ignores: () => free.promise } })
  const job = await crew.define({ task: 'ignores', schedule_interval: '1 day' })
  await expect.poll(() => statusOf(crew, job)).toMatchObject({ status: 'RUNNING' })
  await worker.stop()
  expect(await statusOf(crew, job)).toMatchObject({ status: 'CRITICAL', reason: 'failed' })
  expect((await statusOf(crew, job))?.message).toMatch(/^\[task_lingers\] The worker stopped while task ignores ran/)
})

test('jobs whose owner is gone are paused by a worker', async () => {
  const crew = await JobCrew.open('orphans')
  const job = await crew.define({ task: 'x', schedule_interval: '1 day' })
  await crew.control.query(`update yardmaster.job set owner = 'role that is no more'`)
  await crew.worker()
  await expect
    .poll(() => crew.control.query('select status from yardmaster.jobs where job_id = $1', [job]))
    .toEqual([{ status: 'paused' }])
})
