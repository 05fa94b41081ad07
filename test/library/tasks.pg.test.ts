import { once } from 'node:events'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { type Logger, openYardmaster, type Yardmaster } from '../../src/index.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

const key = Buffer.alloc(32, 7).toString('base64')
let crm: TestDatabase

beforeAll(async () => {
  crm = await createDatabase('library crm')
  await crm.query(`create procedure public.refresh(job_id int, config jsonb) language sql as $$ select $$`)
})

async function opened(label: string, logger?: Logger): Promise<{ yardmaster: Yardmaster; control: TestDatabase }> {
  const control = await createDatabase(`library ${label}`)
  const yardmaster = await reopened(control, logger)
  return { yardmaster, control }
}

async function reopened(control: TestDatabase, logger?: Logger): Promise<Yardmaster> {
  const environment = (name: string) => (name === 'CRM' ? crm.url : undefined)
  const yardmaster = await openYardmaster({ control: control.url, key, environment, ...(logger ? { logger } : {}) })
  onTestFinished(() => yardmaster.close())
  return yardmaster
}

class Lines implements Logger {
  readonly lines: unknown[] = []
  debug = (message: string, details?: object) => void this.lines.push(['debug', message, details])
  info = (message: string, details?: object) => void this.lines.push(['info', message, details])
  warn = (message: string, details?: object) => void this.lines.push(['warn', message, details])
  error = (message: string, details?: object) => void this.lines.push(['error', message, details])
}

const report = z.object({ to: z.email(), days: z.int().positive().default(7) })

test('a task with a typed payload: added, run, waited for, seen', async () => {
  const logger = new Lines()
  const { yardmaster } = await opened('typed', logger)
  const seen: { to: string; days: number }[] = []
  const send = yardmaster.task('send_report', { payload: report, maxRuntime: '1 minute' }, async (payload, context) => {
    seen.push(payload)
    context.logger.info('sent', { to: payload.to })
    context.step('send')
    context.progress({ rows: payload.days })
  })
  const job = await send.add({ name: 'report', payload: { to: 'a@example.com' } })
  await yardmaster.work({ host: 'h1', slots: 2 }).start()
  const [run = ''] = await yardmaster.jobs.run('report', { params: { days: 3 } })
  expect(await yardmaster.runs.wait(run)).toMatchObject({ status: 'OK', host: 'h1', job_id: job })
  expect(seen).toEqual([{ to: 'a@example.com', days: 3 }])
  expect(await yardmaster.runs.steps(run)).toMatchObject([{ action: 'send_report' }, { action: 'send', rows: '3' }])
  expect(logger.lines).toEqual([['info', 'sent', { task: 'send_report', job, run, attempt: 1, to: 'a@example.com' }]])
  expect(await yardmaster.jobs.history(job)).toMatchObject([{ id: run, succeeded: true }])
})

test('a payload that does not fit is refused when the job is added, and when it is run: once, with what is wrong where', async () => {
  const { yardmaster, control } = await opened('misfit')
  let calls = 0
  const send = yardmaster.task('send_report', { payload: report }, () => {
    calls += 1
  })
  await expect(send.add({ payload: { to: 'nobody' } })).rejects.toMatchObject({
    code: 'payload_refused',
    message: expect.stringMatching(/^The payload does not fit task send_report: \/to: /),
  })
  const job = await yardmaster.jobs.add({
    task: 'send_report',
    config: { to: 'nobody', days: 0 },
    scheduleInterval: '1 day',
  })
  await yardmaster.work({ host: 'h1' }).start()
  await expect
    .poll(() => yardmaster.runs.list({ jobId: job }))
    .toMatchObject([{ status: 'CRITICAL', reason: 'refused', message: expect.stringMatching(/\/to: .*; \/days: /) }])
  // The next one is the next slot, a day later, not a retry.
  const started = async () => {
    const [row] = await control.query<{ hours: number | null }>(
      'select extract(epoch from next_start - now()) / 3600 as hours from yardmaster.jobs where job_id = $1',
      [job],
    )
    return Number(row?.hours ?? 0)
  }
  await expect.poll(started).toBeGreaterThan(23)
  expect(calls).toBe(0)
})

test('a time limit of the task itself; the signal of a run that is called off', async () => {
  const { yardmaster } = await opened('limits')
  const heeds = async (_payload: unknown, { signal }: { signal: AbortSignal }) => {
    if (!signal.aborted) await once(signal, 'abort')
    signal.throwIfAborted()
  }
  const short = yardmaster.task('short', { maxRuntime: '200 ms' }, heeds)
  const long = yardmaster.task('long', {}, heeds)
  await yardmaster.work({ host: 'h1' }).start()
  const first = await short.add({ payload: null, maxRuntime: '1 hour' })
  const second = await long.add({ payload: null })
  const [over = ''] = await yardmaster.jobs.run(first)
  expect(await yardmaster.runs.wait(over)).toMatchObject({ status: 'CRITICAL', reason: 'timeout' })
  const [cancelled = ''] = await yardmaster.jobs.run(second)
  await expect.poll(() => yardmaster.runs.get(cancelled)).toMatchObject({ status: 'RUNNING' })
  await yardmaster.runs.cancel(cancelled)
  expect(await yardmaster.runs.wait(cancelled)).toMatchObject({ status: 'CRITICAL', reason: 'cancelled' })
  const controller = new AbortController()
  const [left = ''] = await yardmaster.jobs.run(second)
  const waiting = yardmaster.runs.wait(left, controller.signal)
  controller.abort()
  await expect(waiting).rejects.toThrow(/aborted/)
  expect(await yardmaster.jobs.cancel(second)).toBe(1)
})

test('two processes with different tasks: each run goes to the one that knows it; a name is taken once', async () => {
  const { yardmaster, control } = await opened('two')
  const other = await reopened(control)
  const done: string[] = []
  yardmaster.task('a', {}, () => void done.push('a'))
  other.task('b', {}, () => void done.push('b'))
  expect(() => yardmaster.task('a', {}, () => undefined)).toThrow(/as 'a': there is one already/)
  expect(() => yardmaster.task('', {}, () => undefined)).toThrow(/it is no name/)
  const job = await yardmaster.jobs.add({ task: 'b' })
  await yardmaster.work({ host: 'h1' }).start()
  const [run = ''] = await yardmaster.jobs.run(job)
  const [mine = ''] = await yardmaster.jobs.run(await yardmaster.jobs.add({ task: 'a' }))
  expect(await yardmaster.runs.wait(mine)).toMatchObject({ status: 'OK' })
  expect(await yardmaster.runs.get(run)).toMatchObject({ status: 'WAITING' })
  const working = other.work({ host: 'h2' })
  await working.start()
  expect(await other.runs.wait(run)).toMatchObject({ status: 'OK', host: 'h2' })
  expect(done).toEqual(['a', 'b'])
  await working.stop()
  await expect(working.start()).rejects.toThrow(/was stopped/)
  expect(() => other.work({ slots: 0 })).toThrow(/slots is 0/)
})

test('jobs of other kinds, as the command line has them', async () => {
  const { yardmaster, control } = await opened('jobs')
  await control.query(`select yardmaster.add_database('crm', 'env:CRM')`)
  await expect(yardmaster.jobs.add({ proc: 'public.refesh' })).rejects.toMatchObject({
    code: 'action_missing',
    message: expect.stringMatching(/did you mean public.refresh/),
  })
  const after = await yardmaster.jobs.add({ statements: ['select 1'] })
  const job = await yardmaster.jobs.add({
    proc: 'refresh',
    name: 'nightly',
    cron: '30 2 * * *',
    timezone: 'Europe/London',
    maxRuntime: '5 minutes',
    after: [`${after}:done`],
    config: { days: 7 },
  })
  expect(await yardmaster.jobs.get('nightly')).toMatchObject({
    ...{ job_id: job, status: 'active', database: 'crm', proc_schema: 'public', max_runtime: '00:05:00' },
    ...{ cron: '30 2 * * *', timezone: 'Europe/London', config: { days: 7 }, after: [`${after}:done`] },
  })
  const altered = await yardmaster.jobs.alter(job, { maxRetries: 3, config: { days: 8 }, nextStart: 'infinity' })
  expect(altered).toMatchObject({ max_retries: 3, config: { days: 8 }, next_start: Number.POSITIVE_INFINITY })
  await yardmaster.jobs.pause(job, 'a holiday')
  expect(await yardmaster.jobs.get(job)).toMatchObject({ status: 'paused', pause_note: 'a holiday' })
  await yardmaster.jobs.resume(job)
  await yardmaster.work({ host: 'h1' }).start()
  const [run = ''] = await yardmaster.jobs.run(job)
  expect(await yardmaster.runs.wait(run)).toMatchObject({ status: 'OK' })
  const again = await yardmaster.runs.retry(run)
  expect(await yardmaster.runs.wait(again)).toMatchObject({ status: 'OK' })
  await yardmaster.jobs.delete(job)
  await expect(yardmaster.jobs.get(job)).rejects.toMatchObject({ code: 'job_unknown' })
  expect((await yardmaster.jobs.list()).map(({ job_id }) => job_id)).toEqual([after])
  expect(await yardmaster.alerts.list()).toEqual([])
})

test('a session that was lost is opened anew; what was closed stays closed', async () => {
  const { yardmaster, control } = await opened('lost')
  await control.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
  )
  expect(await yardmaster.jobs.list()).toEqual([])
  await yardmaster.close()
  await yardmaster.close()
  await expect(yardmaster.jobs.list()).rejects.toThrow(/was closed/)
  expect(() => yardmaster.work()).toThrow(/was closed/)
})
