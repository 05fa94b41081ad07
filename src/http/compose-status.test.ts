import { describe, expect, it } from 'vitest'
import type { RunRow, StepRow } from '../monitoring/run-history.ts'
import { definitionDefaults, type Replication } from '../replication/definition.ts'
import { composeStatus } from './compose-status.ts'
import type { PlacementFacts } from './placement-store.ts'
import type { StatusDocument } from './status-document.ts'
import type { JobHistory, WaitingRow, WorkerRow } from './store.ts'

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
    lag_seconds: 4,
    late_after_seconds: 50,
    position: null,
    next_start: new Date(at.getTime() + 5000),
    paused_by: null,
    pause_note: null,
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
    slot: ago(4),
    placement: null,
    ...more,
  }
}

function worker(more: Partial<WorkerRow> = {}): WorkerRow {
  return {
    ...{ id: '1', name: 'h1#4', host: 'h1', slots: 4, running: 1 },
    ...{ started_at: ago(60), last_beat: ago(2), alive: true, lost_at: null },
    ...more,
  }
}

function waiting(more: Partial<WaitingRow> = {}): WaitingRow {
  const what = { id: '9', job_id: 1, operation: 'refresh', object: 'dwh:public.t1' }
  const why = { site: null, code: 'starting', why: 'A worker is about to take it.' }
  return { ...what, slot: ago(3), reason: null, ...why, count: 1, ...more }
}

const nothingBound: PlacementFacts = {
  ...{ hosts: [], active_count: 1, alerts: [], sites: [], site_count: 0, binding_count: 0, pairs: [] },
}

interface Given {
  replications?: Replication[]
  histories?: (JobHistory | undefined)[]
  runs?: RunRow[]
  steps?: Record<string, StepRow[]>
  workers?: WorkerRow[]
  waits?: WaitingRow[]
  staffed?: boolean
  placement?: Partial<PlacementFacts>
}

function compose({
  replications = [replication(1)],
  histories = [history()],
  runs = [],
  steps = {},
  workers = [worker()],
  waits = [],
  staffed = true,
  placement = {},
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
    staffed,
    placement: { ...nothingBound, ...placement },
    jobs: [],
    alerts: [],
    workers,
    waiting: waits,
    runs,
    steps: new Map(Object.entries(steps)),
  })
}

describe('is everything fine?', () => {
  it.each<[string, Given, string, string]>([
    ['all current', {}, 'OK', 'Everything is fine: all 1 copies are current, none further behind than 5 s.'],
    ['none', { replications: [] }, 'UNKNOWN', 'No replication yet.'],
    ['no run yet', { histories: [undefined] }, 'UNKNOWN', 'It is not known how far behind 1 of 1 copies are.'],
    [
      'set up without data',
      { histories: [history({ lag_seconds: null })] },
      'UNKNOWN',
      'It is not known how far behind 1 of 1 copies are.',
    ],
    [
      'refreshing now',
      { runs: [run()] },
      'OK',
      'Everything is fine: all 1 copies are current, none further behind than 5 s.',
    ],
    [
      'just in time',
      { histories: [history({ lag_seconds: 50 })] },
      'OK',
      'Everything is fine: all 1 copies are current, none further behind than 50 s.',
    ],
    ['late', { histories: [history({ lag_seconds: 51 })] }, 'WARNING', '1 of 1 copies need a look: dwh:public.t1.'],
    ['warned', { histories: [history({ status: 'WARNING' })] }, 'WARNING', '1 of 1 copies need a look: dwh:public.t1.'],
    ['failed', { histories: [history({ status: 'CRITICAL' })] }, 'CRITICAL', '1 of 1 copies failed: dwh:public.t1.'],
    [
      'failed, trying again',
      { histories: [history({ status: 'CRITICAL' })], runs: [run()] },
      'CRITICAL',
      '1 of 1 copies failed: dwh:public.t1.',
    ],
    [
      'without schedule or target nothing is late',
      { histories: [history({ lag_seconds: 5000, late_after_seconds: null })] },
      'OK',
      'Everything is fine: all 1 copies are current, none further behind than 84 min.',
    ],
    [
      'unknown lag of one',
      { replications: [replication(1), replication(2)], histories: [history(), history({ lag_seconds: null })] },
      'UNKNOWN',
      'It is not known how far behind 1 of 2 copies are.',
    ],
    [
      'broken',
      { replications: [replication(1, { status: 'broken' })] },
      'CRITICAL',
      '1 of 1 copies failed: dwh:public.t1.',
    ],
    [
      'paused',
      { replications: [replication(1, { status: 'paused' })] },
      'WARNING',
      '1 of 1 copies need a look: dwh:public.t1.',
    ],
    [
      'nobody there, and something waits for a minute',
      { staffed: false, workers: [], waits: [waiting({ slot: ago(61) })] },
      'WARNING',
      'No worker is there: what is due waits.',
    ],
    [
      'nobody there, and a start was missed by a minute',
      { staffed: false, histories: [history({ next_start: ago(61) })] },
      'WARNING',
      'No worker is there: what is due waits.',
    ],
    [
      'nobody there, and a copy failed',
      { staffed: false, histories: [history({ status: 'CRITICAL', next_start: ago(61) })] },
      'CRITICAL',
      '1 of 1 copies failed: dwh:public.t1. No worker is there: what is due waits.',
    ],
    [
      'nobody there, and nothing is due',
      { staffed: false, workers: [] },
      'OK',
      'Everything is fine: all 1 copies are current, none further behind than 5 s.',
    ],
    [
      'somebody there, and something waits for long',
      { waits: [waiting({ slot: ago(6000) })] },
      'OK',
      'Everything is fine: all 1 copies are current, none further behind than 5 s.',
    ],
    [
      'a site without a host',
      { placement: { site_count: 3, alerts: [{ site: 'QA', alert_code: 3, alert_text: 'No host may run site QA.' }] } },
      'CRITICAL',
      'No active host may run 1 of 3 sites: QA.',
    ],
    [
      'sites with one host left, and a copy that failed',
      {
        histories: [history({ status: 'CRITICAL' })],
        placement: {
          site_count: 9,
          alerts: ['', 'B', 'C', 'D'].map((site) => ({ site, alert_code: 2, alert_text: 'One left.' })),
        },
      },
      'CRITICAL',
      '1 of 1 copies failed: dwh:public.t1. 4 of 9 sites have one active host left: default site, B, C and 1 more.',
    ],
    [
      'nobody there, and a site that every host forbids',
      {
        staffed: false,
        workers: [],
        waits: [waiting({ slot: ago(61) })],
        placement: { active_count: 0, site_count: 1, alerts: [{ site: 'QA', alert_code: 3, alert_text: 'None.' }] },
      },
      'CRITICAL',
      'No active host may run 1 of 1 sites: QA. No worker is there: what is due waits.',
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
    const late = compose({ histories: [history({ lag_seconds: 75 })] }).replications[0]
    expect(late).toMatchObject({
      level: 'WARNING',
      late: true,
      note: 'late: 1 min 15 s behind, at most 50.0 s is the target',
    })
    const failed = compose({ histories: [history({ status: 'CRITICAL', message: 'It broke.' })] }).replications[0]
    expect(failed).toMatchObject({ level: 'CRITICAL', note: 'It broke.' })
  })

  it('has null for what is unknown', () => {
    const [one] = compose({ histories: [undefined] }).replications
    const unknown = { last_run: null, rows: null, bytes: null, lag_seconds: null, position: null, next_start: null }
    expect(one).toMatchObject({ ...unknown, schedule: null, level: 'UNKNOWN' })
    const [copied] = compose({ histories: [history({ lag_seconds: null })] }).replications
    expect(copied).toMatchObject({ lag_seconds: null, late: false, note: 'it is not known how far behind it is' })
  })

  it.each([
    [{ every: '00:00:10', cron: null, timezone: 'UTC' }, 'every 10 seconds'],
    [{ every: '1 day', cron: null, timezone: 'Europe/Paris' }, 'every day in Europe/Paris'],
    [{ every: null, cron: '*/15 * * * * *', timezone: 'Asia/Tokyo' }, 'cron */15 * * * * * in Asia/Tokyo'],
    [{ every: null, cron: 'nonsense\u001b', timezone: 'UTC' }, 'cron nonsense\\u{1b} in UTC'],
    [{ every: null, cron: null, timezone: 'UTC' }, null],
  ])('says a schedule in words: %j', (schedule, words) => {
    expect(compose({ replications: [replication(1, { schedule })] }).replications[0]?.schedule).toBe(words)
  })

  it.each([
    ['skipped', 4, true],
    ['nothing_new', 4, true],
    ['nothing_new', null, false],
    ['trimmed', 4, false],
    [null, 4, false],
  ])('idle is a copy whose source had nothing new: %s, %s s', (reason, lag_seconds, idle) => {
    expect(compose({ histories: [history({ reason, lag_seconds })] }).replications[0]?.idle).toBe(idle)
  })

  it('says who paused a copy, and why', () => {
    const replications = [replication(1, { status: 'paused' })]
    const note = (more: Partial<JobHistory>) =>
      compose({ replications, histories: [history(more)] }).replications[0]?.note
    expect(note({ paused_by: 'ann', pause_note: 'the source moves' })).toBe('paused by ann: the source moves')
    expect(note({ paused_by: 'ann' })).toBe('paused by ann')
  })

  it('shows workers, also those that are missing or lost', () => {
    const gone = { alive: false, running: 0 }
    const workers = [worker(), worker({ id: '2', ...gone }), worker({ id: '3', ...gone, lost_at: ago(30) })]
    const shown = compose({ workers }).workers
    expect(shown.map(({ id, state }) => [id, state])).toEqual([
      ['1', 'working'],
      ['2', 'missing'],
      ['3', 'lost'],
    ])
    expect(shown[0]).toMatchObject({ host: 'h1', slots: 4, running: 1, last_beat: ago(2).toISOString() })
  })

  it('shows what waits and why, and of what is given back that it is', () => {
    const waits = [waiting({ reason: 'worker_lost', count: 70 }), waiting({ id: '10' })]
    const { waiting: shown, waiting_count: count } = compose({ waits })
    expect(count).toBe(70)
    expect(shown.map((run) => run.why)).toEqual([
      'Its worker vanished. A worker is about to take it.',
      'A worker is about to take it.',
    ])
    expect(compose({}).waiting_count).toBe(0)
  })

  it('shows live figures and rates of what runs, the final ones of what has ended', () => {
    const step = (action: string, rows: string | null): StepRow => ({
      ordinal: 1,
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
