import fc from 'fast-check'
import { Temporal } from 'temporal-polyfill'
import { describe, expect, it } from 'vitest'
import { type Shown, shownMinutes, walk } from '../../test/support/cron-walk.ts'
import { dayLength, parseInterval } from './interval.ts'
import { decideStart, type JobHistory, type StartDecision, type StartPolicy } from './next-start.ts'
import type { Schedule } from './schedule.ts'

const minute = 60_000
const hour = 60 * minute

/** A schedule with all its slots in a stretch of time, found by walking, and about how far they lie apart. */
interface Walked {
  readonly schedule: Schedule
  readonly slots: readonly number[]
  readonly end: number
  readonly pace: number
  /** Not all of its slots, where a property fails. */
  readonly [fc.toStringMethod]: () => string
}

const short = (schedule: Schedule) => ({ [fc.toStringMethod]: () => JSON.stringify(schedule) })

const windows = [
  ['Europe/London', '2026-03-28T00:00Z'],
  ['Europe/London', '2026-10-24T00:00Z'],
  ['America/New_York', '2026-03-07T00:00Z'],
  ['America/New_York', '2026-10-31T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-04T00:00Z'],
  ['Australia/Lord_Howe', '2026-10-03T00:00Z'],
  ['UTC', '2026-02-28T00:00Z'],
] as const

const days = 14
/** Each window is walked once. */
const shown = new Map<string, Shown[]>()
const walked = new Map<string, Walked>()

function walkedCron(expression: string, pace: number, [timezone, from]: (typeof windows)[number]): Walked {
  const key = `${expression} ${timezone} ${from}`
  const known = walked.get(key)
  if (known) return known
  const minutes = shown.get(timezone + from) ?? shownMinutes(timezone, from, days)
  shown.set(timezone + from, minutes)
  const schedule: Schedule = { kind: 'cron', expression, timezone }
  const end = Date.parse(from) + days * dayLength - 1
  const made = { schedule, slots: walk(expression, minutes), end, pace, ...short(schedule) }
  walked.set(key, made)
  return made
}

/** Slot by slot from the origin, each added by Temporal. */
function walkedInterval(text: string, pace: number, timezone: string, origin: number, slots: number): Walked {
  const interval = parseInterval(text)
  const { months, days, milliseconds } = interval
  const start = Temporal.Instant.fromEpochMilliseconds(origin).toZonedDateTimeISO(timezone)
  const times = Array.from(
    { length: slots },
    (_, k) =>
      start.add({ months: k * months, days: k * days }).add({ milliseconds: k * milliseconds }).epochMilliseconds,
  )
  const schedule: Schedule = { kind: 'interval', interval, fixed: true, origin: new Date(origin), timezone }
  return { schedule, slots: times, end: times.at(-1) ?? origin, pace, ...short(schedule) }
}

const crons = fc
  .tuple(
    fc.constantFrom(
      ...([
        ['*/20 * * * * *', minute / 3],
        ['15,45 */7 1 * * *', 10 * minute],
        ['*/15 * * * *', 15 * minute],
        ['0 */2 * * *', 2 * hour],
        ['30 1 * * *', 6 * hour],
        ['30 2 * * *', 6 * hour],
        ['*/30 1-2 * * *', 4 * hour],
      ] as const),
    ),
    fc.constantFrom(...windows),
  )
  .map(([[expression, pace], window]) => walkedCron(expression, pace, window))

const intervals = fc
  .tuple(
    fc.constantFrom(
      ...([
        ['10 s', 10_000],
        ['7 minutes', 7 * minute],
        ['1 hour', hour],
        ['36 hours', 36 * hour],
        ['1 day', dayLength],
        ['1 day 5 hours', dayLength],
        ['2 weeks', 14 * dayLength],
        ['1 month', 30 * dayLength],
        ['5 months', 150 * dayLength],
        ['1 year', 365 * dayLength],
      ] as const),
    ),
    fc.constantFrom(...windows),
    fc.nat({ max: 2 * 1440 }),
  )
  .map(([[text, pace], [timezone, from], minutes]) =>
    walkedInterval(text, pace, timezone, Date.parse(from) - 3 * pace + minutes * minute, 120),
  )

/** What may happen between two decisions; lengths in slots. */
interface Turn {
  readonly downtime: number
  readonly length: number
  readonly idle: number
  readonly outcome: 'well' | 'failed' | 'lost'
  /** Worker and control server go by a clock that is put forward or back, in the run or behind it. */
  readonly stepInRun: number
  readonly step: number
  readonly whileOpen: boolean
  /** The start is given up: the job was changed and is decided anew. */
  readonly again: boolean
  readonly random: number
}

const rarely = (most: number) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: most, noNaN: true }) },
  )
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.constantFrom(-4, -1, -0.3, 0.3, 1, 4) },
)
const turns: fc.Arbitrary<Turn> = fc.record({
  downtime: rarely(12),
  length: fc.oneof(fc.constant(0.1), fc.double({ min: 0, max: 3, noNaN: true })),
  idle: rarely(6),
  outcome: fc.constantFrom('well', 'well', 'failed', 'lost'),
  stepInRun: steps,
  step: steps,
  whileOpen: fc.boolean(),
  again: fc.boolean(),
  random: fc.double({ min: 0, max: 1, noNaN: true }),
})
const policies = fc.record({
  overlap: fc.constantFrom<StartPolicy['overlap'][]>('skip', 'skip', 'buffer', 'allow', 'cancel'),
  window: fc.option(fc.constantFrom(0, 0.5, 3, 20)),
  spread: fc.constantFrom(0, 0.2, 5),
  first: fc.constantFrom<StartPolicy['first'][]>('origin', 'after'),
})
const pauses = fc.record({
  retry: fc.constantFrom(0, 0.1, 0.5, 3, Number.POSITIVE_INFINITY),
  crash: fc.constantFrom(0, 0.1, 4, Number.POSITIVE_INFINITY),
})

/** A job, the clock, and which of the slots that were walked are accounted for. */
class Job {
  readonly #walked: Walked
  readonly #policy: StartPolicy
  #past: JobHistory
  #now: number
  /** The first one that is not. */
  #index: number
  readonly counts = { run: 0, caughtUp: 0, overlap: 0, missed: 0, retry: 0, retries: 0 }

  constructor(walked: Walked, policy: StartPolicy, past: JobHistory) {
    this.#walked = walked
    this.#policy = policy
    this.#past = past
    this.#now = past.since.getTime()
    const atOnce = policy.first === 'origin' && walked.schedule.kind === 'interval' && walked.slots[0] === this.#now
    this.#index = walked.slots.findIndex((slot) => slot > this.#now - Number(atOnce))
  }

  /** False where the walk has come to its end. */
  turn(turn: Turn): boolean {
    const { pace } = this.#walked
    this.#now += Math.round((turn.idle + turn.step) * pace)
    const decision = this.#decide(turn.random)
    if (!this.#within(decision)) return false
    const before = this.#past
    this.#check(decision)
    this.#settle(decision)
    if (decision.catchUp.length === 0) this.#checkAgain(decision, turn.random)
    for (const slot of decision.catchUp) this.#run(slot, { ...turn, whileOpen: false }, before)
    if (turn.again) return true
    this.#now = Math.max(this.#now, decision.start.getTime()) + Math.round(turn.downtime * pace)
    this.#take(decision)
    this.#run(decision.slot, turn, before)
    return true
  }

  #decide(random: number): StartDecision {
    return decideStart(this.#walked.schedule, this.#past, this.#policy, new Date(this.#now), random)
  }

  #within({ slot, start, catchUp }: StartDecision): boolean {
    const furthest = Math.max(slot.getTime(), start.getTime(), catchUp.at(-1)?.getTime() ?? 0)
    return (
      Math.max(furthest, this.#now, this.#past.lastFinish?.getTime() ?? 0) < this.#walked.end - 30 * this.#walked.pace
    )
  }

  #run(slot: Date, turn: Turn, before: JobHistory): void {
    const { pace } = this.#walked
    const lastSlot = new Date(Math.max(slot.getTime(), this.#past.lastSlot?.getTime() ?? 0))
    const lastStart = new Date(this.#now)
    this.#past = { ...this.#past, lastSlot, lastStart }
    if (turn.whileOpen && this.#policy.overlap !== 'skip') {
      this.#past = { ...this.#past, open: true }
      const meanwhile = this.#decide(turn.random)
      this.#check(meanwhile)
      this.#settle(meanwhile)
      this.#past = { ...this.#past, open: false }
    }
    this.#now += Math.max(0, Math.round(turn.length * pace)) + Math.round(turn.stepInRun * pace)
    const failures = turn.outcome === 'well' ? 0 : before.failures + 1
    this.#past = { ...this.#past, lastFinish: new Date(this.#now), failures, crashed: turn.outcome === 'lost' }
  }

  /** What is left out or made up for: the very next slots, each once. */
  #settle({ catchUp, skipped }: StartDecision): void {
    const caught = catchUp.map((date) => ({ first: date, last: date, slots: 1, reason: 'caughtUp' as const }))
    for (const { first, last, slots, reason } of [...skipped, ...caught].sort((a, b) => +a.first - +b.first)) {
      const found = this.#walked.slots.slice(this.#index, this.#index + slots)
      expect([found[0], found.at(-1), found.length], reason).toEqual([+first, +last, slots])
      this.#index += slots
      this.counts[reason] += slots
      this.#past = { ...this.#past, lastSlot: last }
    }
  }

  /** A slot that is run is the very next one, unless it is a retry before that, or the first start of all. */
  #take({ slot }: StartDecision): void {
    const { lastStart, since, lastSlot } = this.#past
    const next = this.#walked.slots[this.#index] ?? Number.POSITIVE_INFINITY
    if (lastSlot) expect(+slot).toBeGreaterThan(+lastSlot)
    if (+slot === next) {
      this.#index += 1
      this.counts.run += 1
    } else if (lastStart === null && this.#policy.first === 'origin') {
      expect(+slot).toBe(this.#walked.slots[0])
      expect(+slot).toBeLessThanOrEqual(+since)
    } else {
      expect(this.#past.failures).toBeGreaterThan(0)
      expect(+slot).toBeLessThan(next)
      this.counts.retries += 1
    }
  }

  #check({ slot, start, catchUp, skipped }: StartDecision): void {
    const { lastStart, lastFinish, lastSlot, since, failures, open, crashed, crashPause } = this.#past
    const { catchUp: window, overlap } = this.#policy
    expect(+start).toBeGreaterThanOrEqual(+slot)
    if (window === null) expect(catchUp).toEqual([])
    else expect(+start).toBeGreaterThanOrEqual(this.#now)
    for (const made of catchUp) {
      expect(+made).toBeGreaterThanOrEqual(this.#now - (window ?? 0))
      expect(+made).toBeLessThan(this.#now)
    }
    for (const { first, last, reason } of skipped) {
      expect(+last).toBeLessThan(+slot)
      if (reason === 'missed' && window !== null) expect(+last).toBeLessThan(this.#now - window)
      if (reason === 'missed' && window === null) {
        expect(+last).toBeLessThanOrEqual(Math.max(+(lastStart ?? 0), open ? this.#now : 0))
      }
      if (reason === 'overlap') {
        expect(overlap).toBe('skip')
        expect(+last).toBeLessThanOrEqual(+(lastFinish ?? 0))
        expect(+first).toBeGreaterThan(Math.min(+(lastStart ?? 0), +(lastFinish ?? 0), this.#now - 1))
      }
      if (reason === 'retry') expect([crashed, window]).toEqual([true, null])
    }
    const next = this.#first(+slot) ?? Number.POSITIVE_INFINITY
    const fresh = failures === 0 || open
    if (fresh || !crashed) expect(+start).toBeLessThan(Math.max(next, this.#now + 1))
    if (fresh && window === null && overlap === 'skip' && lastSlot && lastStart) {
      const after = Math.max(+since, +(lastFinish ?? 0), +(lastSlot ?? 0))
      expect(+slot).toBe(this.#first(after))
    }
    if (!fresh && crashed && crashPause > 0 && crashPause !== Number.POSITIVE_INFINITY && catchUp.length === 0) {
      expect(+start).toBeGreaterThanOrEqual(+(lastFinish ?? 0) + crashPause)
    }
  }

  /** The first slot after an instant, from the one on that is next. */
  #first(after: number): number | undefined {
    let index = this.#index
    while (index > 0 && (this.#walked.slots[index - 1] ?? 0) > after) index -= 1
    while ((this.#walked.slots[index] ?? Number.POSITIVE_INFINITY) <= after) index += 1
    return this.#walked.slots[index]
  }

  /** Nothing else is left out when it is asked again, and the slot stays the same, but that a retry may be spread anew. */
  #checkAgain(decision: StartDecision, random: number): void {
    const again = this.#decide(random)
    expect(again.catchUp).toEqual([])
    expect(again.skipped).toEqual([])
    expect(again.period).toBe(decision.period)
    if (this.#past.failures === 0) expect([again.slot, again.start]).toEqual([decision.slot, decision.start])
  }
}

const totals = { run: 0, caughtUp: 0, overlap: 0, missed: 0, retry: 0, retries: 0 }

function follow(walked: Walked, policy: StartPolicy, past: JobHistory, history: readonly Turn[]): void {
  const job = new Job(walked, policy, past)
  for (const turn of history) if (!job.turn(turn)) break
  for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += job.counts[key]
}

describe('runs, overruns, downtimes, failures, lost workers and clocks that are put forward and back', () => {
  it.each([
    ['cron expressions', crons],
    ['intervals', intervals],
  ] as const)('%s: every slot is run once, or left out once and with the reason', (_, schedules) => {
    fc.assert(
      fc.property(
        schedules,
        fc.nat({ max: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        policies,
        pauses,
        fc.array(turns, { minLength: 1, maxLength: 30, size: 'max' }),
        (walked, at, within, { window, spread, ...policy }, { retry, crash }, history) => {
          const { pace, slots } = walked
          const since = new Date((slots[at] ?? 0) - Math.round(within * pace))
          const known = { lastStart: null, lastFinish: null, lastSlot: null, failures: 0, crashed: false, open: false }
          const past = { ...known, since, retryPeriod: Math.round(retry * pace), crashPause: Math.round(crash * pace) }
          const catchUp = window === null ? null : Math.round(window * pace)
          follow(walked, { ...policy, catchUp, jitter: Math.round(spread * pace) }, past, history)
        },
      ),
      { numRuns: 1200 },
    )
  })

  it('and all of that came about', () => {
    for (const count of Object.values(totals)) expect(count).toBeGreaterThan(100)
  })
})
