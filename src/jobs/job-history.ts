/** What is known of a job's past. */
export interface JobHistory {
  /** When the job was made, or its schedule changed: slots up to then were never promised, but for an origin. */
  readonly since: Date
  readonly lastStart: Date | null
  /** For a lost worker, when the run was given up. */
  readonly lastFinish: Date | null
  /** The last slot that was accounted for: as a run, or as skipped. */
  readonly lastSlot: Date | null
  /** Consecutive ones. */
  readonly failures: number
  /** The last failure was a lost worker. */
  readonly crashed: boolean
  /** Milliseconds; 5 minutes unless the job says otherwise. Infinity: no retry before the next slot. */
  readonly retryPeriod: number
  /** Milliseconds that a lost worker is waited out at least. 0: the next try is at once; Infinity: not before the next slot. */
  readonly crashPause: number
  /** A run of it is under way or waits: the next try of what failed, and the one run for all that was missed until now. */
  readonly open: boolean
}

export interface StartPolicy {
  /** What becomes of slots that pass while a run is under way: `skip` leaves them out, the others do not look at it here. */
  readonly overlap: 'skip' | 'buffer' | 'allow' | 'cancel'
  /** Milliseconds within which slots that were missed are made up for, each of them; null: the first of them alone, however old. */
  readonly catchUp: number | null
  /** Milliseconds by which a start may be later than its slot. */
  readonly jitter: number
  /**
   * Of a job that never ran and has an interval. `origin`: at its origin, which means at once where that has passed, as in
   * TimescaleDB. `after`: at the first slot after `since`.
   */
  readonly first: 'origin' | 'after'
}
