import { beforeAll, describe, expect, it } from 'vitest'
import { type RunningCli, startCli } from '../support/process.ts'
import { type JobDesk, openJobDesk } from './job-desk.ts'

let desk: JobDesk

beforeAll(async () => {
  desk = await openJobDesk('run show')
})

async function worker(): Promise<RunningCli> {
  const running = startCli(['worker', '--host', 'h1', '--slots', '2'], { env: desk.environment })
  await running.waitForOutput(/takes work/)
  return running
}

async function request(job: number, status: RegExp): Promise<string> {
  const [made] = await desk.control.query<{ run: string }>('select (yardmaster.request_run($1))[1] as run', [job])
  const run = made?.run ?? ''
  await expect.poll(async () => (await shown(run)).status, { interval: 50 }).toMatch(status)
  return run
}

const shown = async (run: string) => (await desk.done('run', 'show', run, '--json')).json
const lines = async (run: string) => (await desk.done('run', 'show', run)).out.split('\n')

describe('run show', () => {
  it('of a run that failed: where, with what, what was kept, whether it is new, when next', async () => {
    const job = await desk.addJob(
      'public.fails',
      '--database',
      'dwh',
      '--cron',
      '0 0 1 1 *',
      '--config',
      '{"days": 7}',
      '--max-retries',
      '3',
    )
    await worker()
    await request(job, /CRITICAL/)
    const second = await request(job, /CRITICAL/)
    await expect.poll(async () => (await shown(second)).call.next_attempt).not.toBeNull()
    expect(await shown(second)).toMatchObject({
      call: {
        ...{ config: { days: 7 }, sqlstate: '53100', failures: 2, max_retries: 3 },
        ...{ next_attempt: expect.any(String), pause: null, same_failures: 2, same_since: expect.any(String) },
      },
      attempts: [
        {
          attempt: 1,
          status: 'CRITICAL',
          host: 'h1',
          target_pid: expect.any(Number),
          is_left: false,
          blocked_by: null,
        },
      ],
    })
    const said = await lines(second)
    expect(said).toEqual(
      expect.arrayContaining([
        expect.stringMatching(
          /^It was due for \S+, and called with the config \{"days":7\}\. Process \d+ of its database worked for it\.$/,
        ),
        'It ended in step public.fails with 53100; what it had committed stays.',
        'Failure 2 in a row; at 3 its job is paused.',
        expect.stringMatching(/^The same failure 2 times since \S+\.$/),
        expect.stringMatching(/^Next attempt: \S+ \(in \d+ d .*\)\.$/),
      ]),
    )
    // An older run says nothing about what comes next.
    const third = await request(job, /CRITICAL/)
    expect((await lines(second)).join('\n')).not.toMatch(/Next attempt|in a row|is paused/)
    expect(await lines(third)).toContain(
      'Its job is paused by max_retries: It reached max_retries (3) after 3 consecutive failures. It will not be tried again by itself.',
    )
  })

  it('counts as the same failure what differs in figures only, up to the last success', async () => {
    await desk.destination.query(`create or replace procedure public.moody(job_id int, config jsonb) language plpgsql as $$ begin
      case config ->> 'what' when 'same' then raise exception 'row % is bad', (random() * 1000)::int; when 'other' then raise exception 'oh no'; else null; end case; end $$`)
    const job = await desk.addJob('public.moody', '--database', 'dwh', '--config', '{"what": "same"}')
    const ask = async (what: string, status: RegExp) => {
      await desk.done('job', 'alter', String(job), '--config', JSON.stringify({ what }))
      return request(job, status)
    }
    await worker()
    await ask('same', /CRITICAL/)
    await ask('fine', /OK/)
    await ask('other', /CRITICAL/)
    await ask('same', /CRITICAL/)
    const last = await ask('same', /CRITICAL/)
    expect((await shown(last)).call).toMatchObject({
      same_failures: 2,
      failures: 3,
      max_retries: -1,
      next_attempt: null,
    })
    expect(await lines(last)).toContain('Failure 3 in a row.')
  })

  it('of one whose worker is lost: what was kept, and when next; then each attempt', async () => {
    const first = await worker()
    const job = await desk.addJob('public.sleeps', '--database', 'dwh')
    const run = await request(job, /RUNNING/)
    await expect.poll(async () => (await shown(run)).attempts[0].target_pid).toBeGreaterThan(0)
    const [{ worker: name }] = (await shown(run)).attempts
    expect(name).toBe(`h1#${first.pid}`)
    await first.kill('SIGKILL')
    await expect.poll(async () => (await shown(run)).status, { interval: 100 }).toBe('WAITING')
    const said = await lines(run)
    expect(said.join('\n')).toMatch(/vanished/)
    expect(said).toEqual(
      expect.arrayContaining([
        expect.stringMatching(
          /^What it had committed stays\. Its session \(process \d+\) is ended by the next attempt/,
        ),
        expect.stringMatching(/^Next attempt: \S+ \(in [45] min .*\)\.$/),
      ]),
    )
    expect((await shown(run)).attempts).toMatchObject([{ status: 'CRITICAL', is_left: true }])
    await desk.done('run', 'cancel', run)
  })

  it('of one that waits for a lock: since when, and for whom', async () => {
    await worker()
    const job = await desk.addJob('public.sleeps', '--database', 'dwh')
    const run = await request(job, /RUNNING/)
    await desk.control.query(
      `select yardmaster.report_blocked(token, 'pid 1 (role bob)', 120) from yardmaster.attempt where run_id = $1`,
      [run],
    )
    expect(await lines(run)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(
          /^It has been waiting for a lock since \S+ \(2 min .*\); it is held by pid 1 \(role bob\)\.$/,
        ),
      ]),
    )
    await desk.done('run', 'cancel', run)
    await expect.poll(async () => (await shown(run)).status).toBe('CRITICAL')
    expect((await lines(run)).join('\n')).not.toContain('waiting for a lock')
  })
})
