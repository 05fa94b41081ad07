import { expect, it } from 'vitest'
import type { StatusAlert, StatusJob, StatusJobs, StatusReplication } from './status-document.ts'
import { type VerdictFacts, verdictOf } from './verdict.ts'

const at = new Date('2024-01-01T12:00:00Z')

const copy: StatusReplication = {
  ...{ job_id: 1, type: 'snapshot', source: 'crm:public.t1', destination: 'dwh:public.t1', status: 'active' },
  ...{ site: null, level: 'OK', note: 'copied', columns: null, condition: null, last_run: null, rows: 3, bytes: 9 },
  ...{ lag_seconds: 4, late_after_seconds: 50, late: false, idle: false, position: null, schedule: null },
  next_start: null,
}

const job: StatusJob = {
  ...{ job_id: 1001, label: 'nightly [1001]', action: 'public.nightly', kind: 'procedure', place: 'dwh', databases: 1 },
  ...{ site: null, status: 'active', level: 'OK', note: '', schedule: 'every 10 minutes', after: [], next_start: null },
  ...{ running: 0, waiting: 0, last_run: null, failures: 0, paused_by: null, paused_at: null, pause_note: null },
}
const fine: StatusJobs = { level: 'OK', answer: 'None of 1 jobs fails.', jobs: [job], count: 1 }
const bad: StatusJobs = {
  ...{ level: 'CRITICAL', answer: '1 of 1 jobs fails: nightly [1001].', count: 1 },
  jobs: [{ ...job, level: 'CRITICAL' }],
}
const none: StatusJobs = { level: 'OK', answer: 'No job yet.', jobs: [], count: 0 }

function alert(status: string, object: string, more: Partial<StatusAlert> = {}): StatusAlert {
  return {
    ...{ id: '3', level: 'WARNING', status, object, text: 'text', since: at.toISOString() },
    ...{ acknowledged_at: null, acknowledged_by: null, note: null, silenced_until: null },
    ...more,
  }
}

const current = 'Everything is fine: all 1 copies are current, none further behind than 5 s.'

it.each<[string, Partial<VerdictFacts>, string, string]>([
  ['a job that fails beside copies that are fine', { jobs: bad }, 'CRITICAL', bad.answer],
  [
    'a job that fails comes before a copy that is late',
    { jobs: bad, replications: [{ ...copy, level: 'WARNING' }] },
    'CRITICAL',
    `${bad.answer} 1 of 1 copies need a look: dwh:public.t1.`,
  ],
  ['jobs and copies that are fine', { jobs: fine }, 'OK', `${current} None of 1 jobs fails.`],
  ['jobs, and no copy', { jobs: fine, replications: [] }, 'OK', 'Everything is fine: none of 1 jobs fails.'],
  ['a job that fails, and no copy', { jobs: bad, replications: [] }, 'CRITICAL', bad.answer],
  [
    'nobody there, and a job is due',
    { jobs: { ...fine, jobs: [{ ...job, next_start: '2024-01-01T11:58:00Z' }] }, staffed: false },
    'WARNING',
    'No worker is there: what is due waits.',
  ],
  [
    'alerts of what nothing else tells',
    { alerts: [alert('BLOCKED', 'dwh:nightly [1001]'), alert('RUNNING', 'dwh:public.t1')] },
    'WARNING',
    'Alerts are open: dwh:nightly [1001] BLOCKED and 1 more.',
  ],
  [
    'an alert of a job that fails anyway',
    { jobs: bad, alerts: [alert('FAILED_RUN', 'dwh:nightly [1001]')] },
    'CRITICAL',
    bad.answer,
  ],
  [
    'alerts that are silenced, and one of a site',
    { alerts: [alert('BLOCKED', 'x', { silenced_until: '2024-01-01T13:00:00Z' }), alert('site_at_risk', 'site QA')] },
    'OK',
    current,
  ],
])('%s', (_, given, level, answer) => {
  const facts: VerdictFacts = {
    ...{ at, replications: [copy], placement: { level: 'OK', answer: '' }, jobs: none, alerts: [], waiting: [] },
    staffed: true,
    ...given,
  }
  expect(verdictOf(facts)).toEqual({ level, answer })
})
