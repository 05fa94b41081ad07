/**
 * Suites that end, stop, cut and restart real processes again and again, and wait for what the others make of it: `npm run
 * test:faults`. They take minutes in which the processor is idle; `npm test` has everything else.
 */
export const faultSuites = [
  'boundary-auto',
  'boundary-refused',
  'boundary-writers',
  'chaos',
  'control-away',
  'crash-worker',
  'graceful-stop',
  'lost-rows',
  'takeover',
  'takeover-setup',
].map((name) => `test/scenarios/${name}.pg.test.ts`)
