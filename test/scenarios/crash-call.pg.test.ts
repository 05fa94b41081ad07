import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { JobCall } from '../../src/jobs/call.ts'
import type { EarlierSession } from '../../src/jobs/fence.ts'
import type { ServerProcess } from '../../src/jobs/server-process.ts'
import type { CallProcess } from '../jobs/call-process.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type RunningCli, startNode } from '../support/process.ts'

const script = join(import.meta.dirname, '../jobs/call-process.ts')
const controlId = randomUUID()

let target: TestDatabase
let run = 0

beforeAll(async () => {
  target = await createDatabase('crash_call')
  await target.query(`create schema yardmaster; create table public.done (attempt text);
    create table public.began (at timestamptz default clock_timestamp(), others int);
    create function public.adds(job_id int, config jsonb) returns void language sql as $$
      insert into public.done values (current_setting('yardmaster.attempt')) $$;
    create procedure public.commits(job_id int, config jsonb) language plpgsql as $$ begin
      insert into public.done values (current_setting('yardmaster.attempt')); commit; end $$;
    create procedure public.sleeps(job_id int, config jsonb) language plpgsql as $$ begin
      insert into public.began (others) select count(*) from pg_stat_activity a
        where a.datname = current_database() and a.application_name like '%[1000]' and a.pid <> pg_backend_pid();
      commit;
      perform pg_sleep(coalesce((config ->> 'seconds')::float, 0));
      insert into public.done values (current_setting('yardmaster.attempt')); end $$`)
})
beforeEach(async () => {
  run += 1
  await target.query('truncate public.done, public.began')
})

function start(call: Partial<JobCall>, earlier: readonly EarlierSession[], crashAt: string | null): RunningCli {
  const whole: CallProcess = {
    url: target.url,
    call: {
      controlId,
      jobId: 1000,
      runId: String(run),
      attempt: 1,
      applicationName: 'User-Defined Action [1000]',
      kind: 'procedure',
      procSchema: 'public',
      procName: null,
      statements: null,
      config: null,
      params: null,
      maxRuntime: 0,
      overlaps: false,
      ...call,
    },
    earlier,
    crashAt,
  }
  return startNode([script, JSON.stringify(whole)])
}

function said<What>(running: RunningCli, key: string): What | undefined {
  const lines = running
    .stdout()
    .split('\n')
    .filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line)[key]).find((value) => value !== undefined)
}

/** What the first attempt left, as the control database knows it when it has given it up. */
function leftBy(running: RunningCli): EarlierSession[] {
  const claimed = said<ServerProcess>(running, 'claimed')
  return claimed ? [{ ...claimed, attemptIsOver: true, who: 'attempt 1' }] : []
}

const attempts = async () => (await target.query('select attempt from public.done')).map((row) => row.attempt)
const once = { procName: 'adds' }
const committing = { procName: 'commits' }
const statement = { kind: 'sql', procSchema: null, statements: [`insert into public.done values ('any')`] } as const

describe('a worker that is killed', () => {
  it.each([
    ['call-after-effect-table', once, 0, ['2']],
    ['call-after-claim', once, 0, ['2']],
    ['call-after-fence', once, 0, ['2']],
    ['call-before-commit', once, 0, ['2']],
    // The only one whose effect was there: the next attempt finds it, and adds nothing.
    ['call-after-commit', once, 1, ['1']],
    ['call-after-call', committing, 1, ['1', '2']],
    ['call-after-statement', statement, 1, ['any', 'any']],
  ] as const)('at %s', async (point, call, before, after) => {
    const first = start(call, [], point)
    expect(await first.ended).toMatchObject({ signal: 'SIGKILL' })
    // What its server process was at may end only now.
    await expect.poll(async () => (await attempts()).length).toBe(before)
    const second = start({ ...call, attempt: 2 }, leftBy(first), null)
    await second.ended
    expect(said(second, 'outcome'), second.stdout() + second.stderr()).toMatchObject({ level: 'OK' })
    expect(await attempts()).toEqual(after)
  })

  it('in the middle of a procedure: the next attempt begins when its session is gone', async () => {
    const first = start({ procName: 'sleeps', config: '{"seconds": 60}' }, [], null)
    await expect.poll(async () => target.query('select from public.began')).toHaveLength(1)
    await first.kill('SIGKILL')
    const second = start({ procName: 'sleeps', attempt: 2 }, leftBy(first), null)
    await second.ended
    expect(said(second, 'outcome')).toMatchObject({ level: 'OK' })
    expect((await target.query('select others from public.began order by at')).map((row) => row.others)).toEqual([0, 0])
    expect(await attempts()).toEqual(['2'])
  })
})

it('a worker that is stopped inside a procedure, and wakes up: no overlap, and it changes nothing', async () => {
  const first = start({ procName: 'sleeps', config: '{"seconds": 60}' }, [], null)
  await expect.poll(async () => target.query('select from public.began')).toHaveLength(1)
  process.kill(first.pid, 'SIGSTOP')
  const second = start({ procName: 'sleeps', attempt: 2 }, leftBy(first), null)
  await second.ended
  expect(said(second, 'outcome')).toMatchObject({ level: 'OK' })
  process.kill(first.pid, 'SIGCONT')
  await first.ended
  expect(said(first, 'failed')).toMatchObject({ code: expect.stringMatching(/^job_(failed|outcome_unknown)$/) })
  expect((await target.query('select others from public.began order by at')).map((row) => row.others)).toEqual([0, 0])
  expect(await attempts()).toEqual(['2'])
})
