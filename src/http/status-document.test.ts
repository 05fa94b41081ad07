import { describe, expect, it } from 'vitest'
import type { RunRow, StepRow } from '../monitoring/run-history.ts'
import { definitionDefaults, type Replication } from '../replication/definition.ts'
import { composeStatus, type StatusDocument } from './status-document.ts'
import type { JobHistory } from './store.ts'

const at = new Date('2024-01-01T12:00:00Z')
const ago = (seconds: number) => new Date(at.getTime() - seconds * 1000)

function replication(jobId: number, more: Partial<Replication> = {}): Replication {
  return {
    ...definitionDefaults,
    jobId,
    id: `id ${jobId}`,
    type: 'snapshot',
    sourceDatabase: 'crm',
    source: { schema: 'public', name: `t${jobId}` },
    destinationDatabase: 'dwh',
    destination: { schema: 'public', name: `t${jobId}` },
    status: 'active',
    version: 1,
    ...more,
  }
}

function history(more: Partial<JobHistory> = {}): JobHistory {
  return {
    job_id: 1,
    id: '7',
    status: 'OK',
    reason: null,
    finished_at: ago(1),
    message: null,
    rows: '3',
    bytes: '9000000000',
    age_seconds: 4,
    ...more,
  }
}

function run(more: Partial<RunRow> = {}): RunRow {
  return {
    id: '8',
    job_id: 1,
    operation: 'refresh',
    kind: 'replication',
    object: 'dwh:public.t1',
    site: null,
    status: 'RUNNING',
    reason: null,
    started_at: ago(4),
    finished_at: null,
    rows: null,
    bytes: null,
    message: null,
    worker: 'w',
    host: 'h',
    attempt: 1,
    attempt_id: '9',
    ...more,
  }
}

interface Given {
  replications?: Replication[]
  histories?: (JobHistory | undefined)[]
  runs?: RunRow[]
  steps?: Record<string, StepRow[]>
}

function compose({
  replications = [replication(1)],
  histories = [history()],
  runs = [],
  steps = {},
}: Given): StatusDocument {
  return composeStatus({
    at,
    about: [],
    replications,
    histories: new Map(
      replications.flatMap((one, index) => {
        const found = histories[index]
        return found ? [[one.jobId, found] as const] : []
      }),
    ),
    runs,
    steps: new Map(Object.entries(steps)),
    every: () => 10_000,
    nextStart: () => new Date(at.getTime() + 5000),
  })
}

describe('is everything fine?', () => {
  it.each<[string, Given, string, string]>([
    ['all current', {}, 'OK', 'Everything is fine: all 1 copies are current, none older than 5 s.'],
    ['none', { replications: [] }, 'UNKNOWN', 'No replication yet.'],
    ['no run yet', { histories: [undefined] }, 'UNKNOWN', '1 of 1 copies have had no data yet.'],
    [
      'set up without data',
      { histories: [history({ age_seconds: null })] },
      'UNKNOWN',
      '1 of 1 copies have had no data yet.',
    ],
    ['refreshing now', { runs: [run()] }, 'OK', 'Everything is fine: all 1 copies are current, none older than 5 s.'],
    [
      'just in time',
      { histories: [history({ age_seconds: 50 })] },
      'OK',
      'Everything is fine: all 1 copies are current, none older than 50 s.',
    ],
    ['late', { histories: [history({ age_seconds: 51 })] }, 'WARNING', '1 of 1 copies need a look: dwh:public.t1.'],
    ['warned', { histories: [history({ status: 'WARNING' })] }, 'WARNING', '1 of 1 copies need a look: dwh:public.t1.'],
    ['failed', { histories: [history({ status: 'CRITICAL' })] }, 'CRITICAL', '1 of 1 copies failed: dwh:public.t1.'],
    [
      'failed, trying again',
      { histories: [history({ status: 'CRITICAL' })], runs: [run()] },
      'CRITICAL',
      '1 of 1 copies failed: dwh:public.t1.',
    ],
    [
      'being removed',
      { replications: [replication(1, { status: 'removing' })] },
      'WARNING',
      '1 of 1 copies need a look: dwh:public.t1.',
    ],
    [
      'being set up',
      { replications: [replication(1, { status: 'setting_up' })], histories: [], runs: [run({ operation: 'setup' })] },
      'RUNNING',
      'Setting up: 0 copies are ready, 1 on their way.',
    ],
    [
      'broken off',
      { replications: [replication(1, { status: 'setting_up' })], histories: [] },
      'WARNING',
      '1 of 1 copies need a look: dwh:public.t1.',
    ],
    [
      'several things',
      {
        replications: [1, 2, 3, 4, 5, 6].map((id) => replication(id)),
        histories: [1, 2, 3, 4]
          .map(() => history({ status: 'CRITICAL' }))
          .concat(history({ status: 'WARNING' }), history()),
      },
      'CRITICAL',
      '4 of 6 copies failed: dwh:public.t1, dwh:public.t2, dwh:public.t3 and 1 more. 1 of 6 copies need a look: dwh:public.t5.',
    ],
  ])('%s', (_, given, level, answer) => {
    expect(compose(given)).toMatchObject({ level, answer })
  })
})

describe('a status document', () => {
  it('says why a copy is not OK, beside its level', () => {
    const late = compose({ histories: [history({ age_seconds: 75 })] }).replications[0]
    expect(late).toMatchObject({ level: 'WARNING', note: 'late: 1 min 15 s old, due every 10.0 s' })
    const failed = compose({ histories: [history({ status: 'CRITICAL', message: 'It broke.' })] }).replications[0]
    expect(failed).toMatchObject({ level: 'CRITICAL', note: 'It broke.' })
  })

  it('has null for what is unknown', () => {
    const [one] = compose({ histories: [undefined] }).replications
    expect(one).toMatchObject({ last_run: null, rows: null, bytes: null, age_seconds: null, level: 'UNKNOWN' })
  })

  it('shows live figures and rates of what runs, the final ones of what has ended', () => {
    const step = (action: string, rows: string | null): StepRow => ({
      action,
      status: 'OK',
      started_at: ago(3),
      elapsed_seconds: 2,
      rows,
      bytes: rows && '4096',
      message: null,
    })
    const ended = run({ id: '7', status: 'OK', finished_at: ago(1), rows: '30', bytes: '77' })
    const steps = { 8: [step('plan', null), step('load', '100')], 7: [step('load', '30')] }
    const { running, runs } = compose({ runs: [run(), ended], steps })
    expect(running).toMatchObject([
      { id: '8', rows: 100, bytes: 4096, rows_per_second: 50, bytes_per_second: 2048, seconds: 4 },
    ])
    expect(running[0]?.steps.map(({ action }) => action)).toEqual(['plan', 'load'])
    expect(runs).toMatchObject([{ id: '7', rows: 30, bytes: 77, seconds: 3 }])
  })
})
