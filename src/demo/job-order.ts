/** Milliseconds in which what ended while another run was queued may have come too late for that one. */
const settling = 500

/** A run that others started. */
export interface TriggeredRun {
  readonly id: string
  /** When it was queued, and when it began; null: not yet. */
  readonly slot: Date
  readonly started_at: Date | null
}

/** A run of a predecessor that ended well. */
export interface EndedRun {
  readonly object: string
  readonly finished_at: Date
}

/**
 * Says of each run what it did not wait for: between the run before it and its own, each predecessor must have ended well. It reads
 * the times of the runs and shares no code with what starts them: what that overlooks is not overlooked here too.
 * `runs` by id; `since`: when the job was made.
 */
export function premature(
  runs: readonly TriggeredRun[],
  predecessors: readonly string[],
  ended: readonly EndedRun[],
  since: Date,
): string[] {
  return runs.flatMap((run, index) => {
    const from = (runs[index - 1]?.slot ?? since).getTime() - settling
    const came = (object: string) =>
      ended.some((one) => {
        const at = one.finished_at.getTime()
        return one.object === object && at > from && at <= (run.started_at ?? run.slot).getTime()
      })
    return predecessors
      .filter((object) => !came(object))
      .map((object) => `run ${run.id} began though ${object} had not ended well since the run before it`)
  })
}
