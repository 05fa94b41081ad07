import { configDefaults, defineConfig } from 'vitest/config'

/**
 * Suites that end, stop, cut and restart real processes again and again, and wait for what the others make of it: `npm run
 * test:faults`. They take minutes in which the processor is idle; `npm test` has everything else.
 */
export const faultSuites = [
  'test/cli/postprocess-trouble.pg.test.ts',
  'test/jobs/call-ends.pg.test.ts',
  'test/jobs/fence.pg.test.ts',
  'src/monitoring/webhook-delivery.pg.test.ts',
  'src/monitoring/webhook-post.test.ts',
  'src/worker/job-verification.pg.test.ts',
  'src/worker/task-run.pg.test.ts',
  ...[
    'boundary-auto',
    'boundary-refused',
    'boundary-writers',
    'broken-network',
    'chaos',
    'control-away',
    'crash-import',
    'crash-refresh',
    'crash-removal',
    'crash-setup',
    'crash-webhook',
    'crash-worker',
    'graceful-stop',
    'jobs-chaos',
    'jobs-faults',
    'jobs-stopped',
    'lost-rows',
    'lost-servers',
    'placement',
    'placement-failover',
    'placement-fallback',
    'takeover',
    'takeover-setup',
  ].map((name) => `test/scenarios/${name}.pg.test.ts`),
]

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...faultSuites],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    // A second, vitest's default, is not enough for a process to start on a busy machine.
    expect: { poll: { timeout: 20_000 } },
  },
})
