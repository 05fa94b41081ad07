import { describe, expect, it } from 'vitest'
import { composeJobs, statusAlert } from './compose-jobs.ts'
import type { AlertRow, JobRow } from './job-board.ts'

const at = new Date('2024-01-01T12:00:00Z')
const ago = (seconds: number) => new Date(at.getTime() - seconds * 1000)

function job(more: Partial<JobRow> = {}): JobRow {
  return {
    ...{
      job_id: 1001,
      label: 'nightly [1001]',
      action: 'public.nightly',
      kind: 'procedure',
      place: 'dwh',
      databases: 1,
    },
    ...{ site: null, status: 'active', level: 'OK', schedule_interval: '00:10:00', cron: null, timezone: 'UTC' },
    ...{ fixed_schedule: true, max_retries: -1, unverified_since: null, paused_databases: 0, paused_by: null },
    ...{ paused_at: null, pause_note: null, next_start: new Date(at.getTime() + 5000), failures: 0, last_run: '7' },
    ...{ last_status: 'OK', last_reason: null, last_message: 'public.nightly ended.', last_database: 'dwh' },
    ...{ last_finish: ago(3), last_seconds: 0.5, running: 0, waiting: 0, after: [], waits_for: [] },
    ...{ jobs: 1, critical: 0, warnings: 0 },
    ...more,
  }
}

const one = (more: Partial<JobRow>) => composeJobs([job(more)], at).jobs[0]
const failed = { last_status: 'CRITICAL', last_message: 'the disk is full' } as const

describe('the level of a job and the words beside it', () => {
  it.each<[string, Partial<JobRow>, string, string]>([
    ['ended well', {}, 'OK', 'public.nightly ended.'],
    ['runs', { running: 1 }, 'RUNNING', 'running'],
    ['never ran', { last_run: null, last_status: null, last_finish: null }, 'UNKNOWN', 'not run yet'],
    [
      'just added in SQL',
      { status: 'unverified', unverified_since: ago(1) },
      'UNKNOWN',
      'a worker is about to look whether it can be called',
    ],
    [
      'added in SQL, and nobody can look',
      { level: 'WARNING', status: 'unverified', unverified_since: ago(300) },
      'WARNING',
      'for 5 min 00 s no worker could look whether it can be called',
    ],
    ['failed', { level: 'CRITICAL', failures: 2, ...failed }, 'CRITICAL', 'the disk is full'],
    ['failed, and is tried again', { level: 'CRITICAL', running: 1, ...failed }, 'CRITICAL', 'the disk is full'],
    [
      'failed in one of two databases',
      { level: 'CRITICAL', databases: 2, last_database: 'crm', ...failed },
      'CRITICAL',
      'crm: the disk is full',
    ],
    ['lost its worker', { level: 'WARNING', failures: 1 }, 'WARNING', 'the worker that ran it was lost'],
    [
      'paused by somebody',
      { level: 'WARNING', status: 'paused', paused_by: 'ann', pause_note: 'the server moves' },
      'WARNING',
      'paused by ann: the server moves',
    ],
    [
      'paused since it failed',
      {
        ...{ level: 'CRITICAL', status: 'paused', paused_by: 'max_retries', ...failed },
        pause_note: 'It reached max_retries (3) after 3 consecutive failures.',
      },
      'CRITICAL',
      'paused by max_retries: It reached max_retries (3) after 3 consecutive failures. the disk is full',
    ],
    [
      'paused in one of three',
      { level: 'CRITICAL', databases: 3, paused_databases: 1, max_retries: 2, last_database: 'crm', ...failed },
      'CRITICAL',
      'paused by max_retries (2) in 1 of 3 databases. crm: the disk is full',
    ],
    ['a tag of no database', { level: 'WARNING', databases: 0 }, 'WARNING', 'no database has its tag: it runs nowhere'],
  ])('%s', (_, more, level, note) => {
    expect(one(more)).toMatchObject({ level, note })
  })
})

it('says the schedule in words', () => {
  expect(one({})?.schedule).toBe('every 10 minutes')
  expect(one({ fixed_schedule: false })?.schedule).toBe('10 minutes after each run')
  expect(one({ schedule_interval: null, cron: '0 2 * * *', timezone: 'Europe/London' })?.schedule).toBe(
    'cron 0 2 * * * in Europe/London',
  )
  expect(one({ schedule_interval: null })?.schedule).toBeNull()
})

it('says what it waits for', () => {
  expect(one({ after: ['dwh:public.a', 'b [1002]'], waits_for: ['b [1002]'] })?.after).toEqual([
    { job: 'dwh:public.a', awaited: false },
    { job: 'b [1002]', awaited: true },
  ])
})

it('counts over all jobs, also those that are not shown', () => {
  const rows = [1, 2, 3, 4].map((id) =>
    job({
      ...{ job_id: id, label: `j [${id}]`, level: id < 4 ? 'CRITICAL' : 'WARNING' },
      ...{ jobs: 900, critical: 3, warnings: 5 },
    }),
  )
  expect(composeJobs(rows, at)).toMatchObject({
    level: 'CRITICAL',
    answer: '3 of 900 jobs fail: j [1], j [2], j [3]. 5 of 900 jobs need a look: j [4] and 4 more.',
    count: 900,
  })
  expect(composeJobs([], at)).toEqual({ level: 'OK', answer: 'No job yet.', jobs: [], count: 0 })
  expect(composeJobs([job({ jobs: 2 })], at).answer).toBe('None of 2 jobs fails.')
})

it('shows an alert with who looks after it, and no control characters', () => {
  const row: AlertRow = {
    ...{
      id: '3',
      level: 'CRITICAL',
      alert_status: 'FAILED_RUN',
      job_name: 'dwh:nightly [1001]',
      alert_text: 'bad\u001b',
    },
    ...{
      opened_at: ago(60),
      acknowledged_at: ago(5),
      acknowledged_by: 'ann',
      note: 'on it',
      silenced_until: null,
      count: 1,
    },
  }
  expect(statusAlert(row)).toMatchObject({
    ...{
      text: 'bad\\u{1b}',
      since: ago(60).toISOString(),
      acknowledged_by: 'ann',
      note: 'on it',
      silenced_until: null,
    },
  })
})
