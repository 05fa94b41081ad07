import { stripVTControlCharacters } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { startCli } from '../support/process.ts'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('job run')
  await desk.addJob('note', '--database', 'dwh', '--name', 'noted', '--config', '{"days": 1, "keep": true}')
  await desk.addJob('fails', '--database', 'dwh', '--name', 'failing')
  await desk.addJob('sleeps', '--database', 'dwh', '--name', 'sleeping')
  await desk.addJob('note', '--database', 'tag:prod', '--name', 'everywhere')
})

/** Resolves when the procedure sleeps in the target. */
async function sleeps(): Promise<void> {
  await expect
    .poll(
      () =>
        desk.destination.query(
          `select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
        ),
      {
        ...{ timeout: 20_000, interval: 20 },
      },
    )
    .toHaveLength(1)
}

describe('job run', () => {
  it('hands a run to the workers, and says where nobody works', async () => {
    const ran = await desk.run('job', 'run', 'noted', '--params', '{"days": 30}')
    expect(ran.out).toMatch(/^Run \d+ waits for a worker; follow it: yardmaster run follow \d+\n$/)
    expect(ran.err).toBe(
      'No worker is alive. Start one: yardmaster worker; or work off what is due once: yardmaster run-due.\n',
    )
    expect((await desk.shown('noted')).waiting).toMatchObject({ code: 'no_worker' })
    await desk.done('run-due')
    // Jsonb keeps shorter keys first.
    expect(await desk.calls()).toEqual(['note {"days": 30, "keep": true}'])
    expect((await desk.shown('noted')).waiting).toBeNull()
  })

  it('--wait follows it to its end, in words or as one document', async () => {
    const waiting = desk.run('job', 'run', 'noted', '--wait')
    await expect.poll(async () => (await desk.shown('noted')).waiting?.code).toBe('no_worker')
    await desk.done('run-due')
    const { code, out } = await waiting
    expect(code).toBe(0)
    expect(out).toMatch(
      /^Run (\d+) waits: No worker is alive\..*\n(.*\n)*Run \1: OK public\.note ended\. \(\d+ ms\)\n$/,
    )
    const asJson = desk.run('job', 'run', 'everywhere', '--wait', '--json')
    await expect.poll(async () => (await desk.shown('everywhere')).last_runs.length).toBe(2)
    await desk.done('run-due')
    const { json } = await asJson
    expect(json).toMatchObject({
      status: 'OK',
      run_id: json.run_ids[0],
      run_ids: [json.runs[0].run_id, json.runs[1].run_id],
    })
  })

  it('--wait ends with 1 where the run failed, and says what of', async () => {
    const waiting = desk.run('job', 'run', 'failing', '--wait', '--json')
    await expect.poll(async () => (await desk.shown('failing')).waiting?.code).toBe('no_worker')
    expect((await desk.run('run-due')).code).toBe(1)
    const { code, json } = await waiting
    expect(code).toBe(1)
    expect(json).toMatchObject({
      ...{ status: 'CRITICAL', runs: [{ status: 'CRITICAL', reason: 'failed' }] },
      error: {
        code: 'job_failed',
        message: expect.stringContaining('the disk is full'),
        remedy: expect.stringContaining('run show'),
      },
    })
    const { json: failures } = await desk.done('job', 'errors', '--json')
    expect(failures).toMatchObject([{ run_id: json.run_id, sqlerrcode: '53100', proc_name: 'fails', database: 'dwh' }])
    expect((await desk.done('job', 'list')).out.split('\n')[1]).toMatch(/^CRITICAL\t\d+\tfailing\t/)
  })

  it('Ctrl-C leaves the run to the workers', async () => {
    const running = startCli(['job', 'run', 'noted', '--wait'], { env: desk.environment })
    await running.waitForOutput(/Run \d+ waits/)
    const { exitCode, stderr } = await running.kill('SIGINT')
    expect(exitCode).toBe(130)
    expect(stderr).toMatch(/Left to the workers: run \d+\. Call it off: yardmaster job cancel \d+\n/)
    expect((await desk.shown('noted')).waiting).toMatchObject({ code: 'no_worker' })
    expect((await desk.done('job', 'cancel', 'noted', '--json')).json).toMatchObject({ runs_cancelled: 1 })
    expect((await desk.shown('noted')).last_runs[0]).toMatchObject({ status: 'CRITICAL', reason: 'cancelled' })
  })

  it('--database runs it in one of its databases', async () => {
    const { json } = await desk.done('job', 'run', 'everywhere', '--database', 'crm', '--json')
    expect(json).toMatchObject({ status: 'WAITING', run_ids: [json.run_id] })
    await desk.done('run-due')
    const { json: history } = await desk.done('job', 'history', 'everywhere', '--limit', '1', '--json')
    expect(history).toMatchObject([{ id: json.run_id, database: 'crm', succeeded: true, requested: true }])
  })

  it('run retry does once more what a run did, with what it was given', async () => {
    const { json } = await desk.done('job', 'run', 'noted', '--params', '{"days": 7}', '--json')
    expect(await desk.refused('run', 'retry', json.run_id)).toMatchObject({
      ...{ exit: 1, code: 'job_refused', remedy: `See what it does: yardmaster run follow ${json.run_id}` },
    })
    await desk.done('run-due')
    const { json: again } = await desk.done('run', 'retry', json.run_id, '--json')
    expect(again).toEqual({ run_id: expect.stringMatching(/^\d+$/), status: 'WAITING', retries: json.run_id })
    await desk.done('run-due')
    expect((await desk.calls()).slice(-2)).toEqual(Array(2).fill('note {"days": 7, "keep": true}'))
    expect(await desk.refused('run', 'retry', '4711')).toMatchObject({ exit: 1, code: 'run_unknown' })
  })
})

it('a run of a task waits for a worker that knows it, and says so', async () => {
  await desk.addJob('--task', 'send_report', '--name', 'report')
  await desk.done('job', 'run', 'report')
  const session = await desk.control.client()
  const { rows } = await session.query(`select yardmaster.register_worker('h1#1', 'h1', 4) as id`)
  expect((await desk.shown('report')).waiting).toMatchObject({
    code: 'starting',
    why: 'A worker that knows the task send_report is about to take it; where none knows it, it waits.',
  })
  await session.query('select yardmaster.end_worker($1)', [rows[0].id])
  await session.end()
  await desk.done('job', 'delete', 'report', '--yes')
})

describe('what is under way', () => {
  it.each([
    ['job cancel', ['job', 'cancel', 'sleeping']],
    ['job pause --kill', ['job', 'pause', 'sleeping', '--kill']],
    ['job delete', ['job', 'delete', 'sleeping', '--yes']],
  ])('is broken off by %s in its database', async (_words, command) => {
    const running = desk.run('job', 'run', 'sleeping', '--wait', '--json')
    await expect.poll(async () => (await desk.shown('sleeping')).waiting?.code).toBe('no_worker')
    const passing = desk.run('run-due')
    await sleeps()
    const id = (await desk.shown('sleeping')).last_runs[0].run_id
    expect((await desk.done(...command, '--json')).json).toMatchObject({ runs_cancelled: 1 })
    const { code, json } = await running
    expect([code, json.runs]).toMatchObject([1, [{ run_id: id, status: 'CRITICAL', reason: 'cancelled' }]])
    await passing
    expect(
      await desk.destination.query(
        `select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
      ),
    ).toEqual([])
  })

  it('may be nothing: pause --kill says so', async () => {
    await desk.addJob('note', '--database', 'dwh', '--name', 'quiet')
    expect((await desk.done('job', 'pause', 'quiet', '--kill')).out).toContain('nothing of it was under way. Go on')
  })

  it('goes on where its job is paused without --kill', async () => {
    const id = await desk.addJob('sleeps', '--database', 'dwh', '--name', 'going on')
    const passing = desk.run('job', 'run', 'going on').then(() => desk.run('run-due'))
    await sleeps()
    expect((await desk.done('job', 'pause', 'going on')).out).toContain('what runs goes on')
    expect((await desk.shown('going on')).per_database).toMatchObject([{ job_status: 'Running' }])
    await sleeps()
    await desk.done('job', 'cancel', String(id))
    await passing
  })
})

describe('job backfill', () => {
  const range = ['--start', '2026-03-28', '--end', '2026-03-31']

  it('shows the slots of the range by the clock of the schedule, asks, and runs each once', async () => {
    const zone = ['--timezone', 'Europe/London', '--cron', '30 1 * * *']
    const id = await desk.addJob('note', '--database', 'tag:prod', '--name', 'filled', '--config', '"filled"', ...zone)
    const terminal = desk.terminal()
    const asking = terminal.run('job', 'backfill', 'filled', ...range)
    await terminal.asked('Backfill 6 runs? [y/N]')
    expect(stripVTControlCharacters(terminal.out)).toContain(
      [
        '+ run for 2026-03-28 01:30:00 +00:00 in 2 of 2 databases',
        '+ run for 2026-03-29 02:00:00 +01:00 in 2 of 2 databases',
        '+ run for 2026-03-30 01:30:00 +01:00 in 2 of 2 databases',
        'Plan: 6 to create, 0 to change, 0 to replace, 0 to delete.',
      ].join('\n'),
    )
    terminal.type('n\r')
    expect(await asking).toBe(1)
    expect((await desk.shown(id)).last_runs).toEqual([])
    expect(await desk.refused('job', 'backfill', 'filled', ...range)).toMatchObject({
      exit: 2,
      code: 'confirmation_needed',
    })
    const { json } = await desk.done('job', 'backfill', 'filled', ...range, '--yes', '--json')
    expect([json.slots.length, json.slots_left_alone, json.run_ids.length]).toEqual([3, 0, 6])
    await desk.done('run-due')
    expect((await desk.calls()).filter((call) => call === 'note "filled"')).toHaveLength(3)
  })

  it('leaves slots alone that had their run, and the future', async () => {
    const again = await desk.done('job', 'backfill', 'filled', ...range, '--yes')
    expect(again.out).toBe('No changes. 3 of the slots had their run and are left alone.\n')
    const wider = await desk.done(
      'job',
      'backfill',
      'filled',
      '--start',
      '2026-03-28',
      '--end',
      '2026-04-01',
      '--yes',
      '--json',
    )
    expect(wider.json).toMatchObject({ slots: ['2026-03-31T00:30:00.000Z'], slots_left_alone: 3 })
    const future = await desk.done('job', 'backfill', 'filled', '--start', '2126-01-01', '--end', '2126-01-09', '--yes')
    expect(future.out).toBe('No changes. No slot of the past lies in this range.\n')
  })
})
