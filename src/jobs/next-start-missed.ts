import type { JobHistory, StartPolicy } from './job-history.ts'
import { type Schedule, slotAfter, slotsWithin } from './slots.ts'

/** Slots that are made up for by one decision. */
const mostMadeUp = 1000

/** Slots that are left out for good; instants in milliseconds. */
export interface SkippedSlots {
  readonly first: number
  readonly last: number
  /** How many they are. */
  readonly slots: number
  /**
   * `overlap`: the run before was under way. `missed`: nobody worked, or not within the catch-up window. `retry`: a lost worker
   * was waited out.
   */
  readonly reason: 'overlap' | 'missed' | 'retry'
}

/** What became of the slots since the last one that was accounted for, and the one that comes next. */
export interface MissedSlots {
  readonly slot: number
  readonly catchUp: readonly number[]
  readonly skipped: readonly SkippedSlots[]
}

/** Of a resolved schedule that does not drift, whose slots up to `accounted` are. */
export function missedSlots(
  schedule: Schedule,
  accounted: number,
  history: JobHistory,
  policy: StartPolicy,
  now: number,
): MissedSlots {
  const account = new Account(schedule, accounted)
  if (policy.catchUp === null) oneForAll(account, history, policy, now)
  else makeUp(account, history, policy, now, policy.catchUp)
  return { slot: account.next(), catchUp: account.catchUp, skipped: account.skipped }
}

/**
 * Those before the last start were missed; those up to the end of the run passed meanwhile. What is missed now is the next slot,
 * unless a run is open: where runs may overlap, that one is for all until now.
 */
function oneForAll(account: Account, history: JobHistory, { overlap }: StartPolicy, now: number): void {
  const start = history.lastStart?.getTime() ?? Number.NEGATIVE_INFINITY
  const finish = history.lastFinish?.getTime() ?? Number.NEGATIVE_INFINITY
  if (overlap !== 'skip') account.leaveOut(history.open ? Math.max(start, now - 1) : start, 'missed')
  else {
    account.leaveOut(Math.min(start, finish), 'missed')
    account.leaveOut(finish, 'overlap')
  }
}

/** Those within the window are made up for, but for those that passed while a run was under way. */
function makeUp(account: Account, history: JobHistory, policy: StartPolicy, now: number, window: number): void {
  const { lastStart, lastFinish, crashed } = history
  // Of a lost run nobody knows how long it was under way.
  if (policy.overlap === 'skip' && lastFinish && !crashed) {
    const begin = Math.min(lastStart?.getTime() ?? Number.NEGATIVE_INFINITY, lastFinish.getTime(), now - 1)
    account.leaveOut(Math.min(begin, now - window - 1), 'missed')
    if (!account.makeUp(begin)) return
    account.leaveOut(lastFinish.getTime(), 'overlap')
  }
  account.leaveOut(now - window - 1, 'missed')
  account.makeUp(now - 1)
}

/** Goes along the slots, from the last one that was accounted for: none is passed over, and none is counted twice. */
class Account {
  readonly catchUp: number[] = []
  readonly skipped: SkippedSlots[] = []
  readonly #schedule: Schedule
  #until: number

  constructor(schedule: Schedule, accounted: number) {
    this.#schedule = schedule
    this.#until = accounted
  }

  /** The slots up to and with `until`. */
  leaveOut(until: number, reason: SkippedSlots['reason']): void {
    const range = slotsWithin(this.#schedule, this.#until, until)
    if (range) this.skipped.push({ ...range, reason })
    this.#until = Math.max(this.#until, until)
  }

  /** False where there are too many up to `until`: then those behind them are looked at by the next decision. */
  makeUp(until: number): boolean {
    for (let slot = this.next(); slot <= until; slot = this.next()) {
      if (this.catchUp.length === mostMadeUp) return false
      this.catchUp.push(slot)
      this.#until = slot
    }
    this.#until = Math.max(this.#until, until)
    return true
  }

  next(): number {
    return slotAfter(this.#schedule, this.#until)
  }
}
