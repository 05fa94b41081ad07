/**
 * Named crash points. One stands between every two effects (a commit in whichever database, a file, a socket), so that a
 * test can end the process with SIGKILL exactly there and see what the next command makes of it. `test/scenarios/crash-*`
 * walks all of them; a name that is never passed, or passed but not listed, fails a test.
 */
export const crashPoints = [
  'setup-after-register',
  'setup-after-destination-objects',
  'setup-after-initial-load',
  'setup-after-activate',
  'undo-after-destination',
  'undo-after-control',
  'worker-after-register',
  'worker-after-next-starts',
  'worker-after-release',
  'worker-before-end',
  'claim-after-commit',
  'refresh-after-run-recorded',
  'refresh-after-take-over',
  'refresh-after-claim',
  'refresh-before-outcome',
  'refresh-after-outcome',
  'load-after-idle-emptied',
  'load-after-first-chunk',
  'load-before-commit',
  'load-after-first-commit',
  'load-after-commit',
  'load-after-index',
  'load-after-key',
  'load-after-given-back',
  'load-after-analyze',
  'swap-before-commit',
  'swap-after-commit',
  'swap-after-post-script',
  'swap-after-old-emptied',
  'table-before-commit',
  'table-after-commit',
  'table-after-sequences',
  'increment-after-staging',
  'increment-after-delete',
  'increment-before-commit',
  'increment-after-commit',
  'adopt-before-commit',
  'remove-after-mark',
  'remove-after-claim',
  'remove-after-destination',
  'remove-after-control',
  'remove-after-withdrawal',
  'call-after-claim',
  'call-after-fence',
  'call-after-effect-table',
  'call-after-call',
  'call-after-statement',
  'call-before-commit',
  'call-after-commit',
  'call-after-tally',
  'alerts-after-evaluation',
  'webhook-after-claim',
  'webhook-after-post',
  'postprocess-before-call',
  'postprocess-after-call',
  'postprocess-after-stats',
  'import-after-database',
] as const

export type CrashPoint = (typeof crashPoints)[number]

let armed: string | undefined

/** Arms one crash point for this process. Only an entry point calls this, with `YARDMASTER_CRASH_AT`. */
export function armCrashPoint(name: string | undefined): void {
  armed = name
}

/** Ends the process with SIGKILL when this point is armed; otherwise does nothing. */
export function crashPoint(name: CrashPoint): void {
  if (armed === name) process.kill(process.pid, 'SIGKILL')
}
