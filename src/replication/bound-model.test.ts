import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { newestRipe, type Running, ripen, type Sample, worthKeeping } from './bound-sample.ts'
import { judge } from './bound-time.ts'
import type { Activity } from './source-activity.ts'

/** Half a second, in microseconds. */
const tick = 500_000

interface Transaction {
  readonly id: string
  readonly start: number
  /** Whether others can see its start yet. */
  isPublished: boolean
  /** Numbers that it took and has not written yet. */
  readonly taken: number[]
  readonly rows: Row[]
  /** Rows before each savepoint. */
  readonly savepoints: number[]
}

interface Row {
  readonly at: number
  readonly number: number
}

/** PostgreSQL, as far as a bound sees it. */
class Server {
  clock = 1_000 * tick
  readonly open: (Transaction | undefined)[] = [undefined, undefined, undefined, undefined]
  readonly prepared: Transaction[] = []
  readonly committed: Row[] = []
  #begun = 0
  #sequence = 0

  /** What a start time takes to be seen is less than two seconds: the assumption that the margin rests on. */
  pass(ticks: number): void {
    for (let left = ticks; left > 0; left--) {
      this.clock += tick
      for (const one of this.open) if (one && this.clock > one.start + 3 * tick) one.isPublished = true
    }
  }

  begin(slot: number): void {
    if (this.open[slot]) return
    const id = `3/${++this.#begun}`
    this.open[slot] = { id, start: this.clock, isPublished: false, taken: [], rows: [], savepoints: [] }
  }

  take(slot: number): void {
    this.open[slot]?.taken.push(++this.#sequence)
  }

  insert(slot: number, isNow: boolean): void {
    const one = this.open[slot]
    if (!one) return
    one.isPublished = true
    one.rows.push({ at: isNow ? one.start : this.clock, number: one.taken.shift() ?? ++this.#sequence })
  }

  savepoint(slot: number): void {
    const one = this.open[slot]
    one?.savepoints.push(one.rows.length)
  }

  rollbackTo(slot: number): void {
    const one = this.open[slot]
    const length = one?.savepoints.pop()
    if (one && length !== undefined) one.rows.length = length
  }

  end(slot: number, how: 'commit' | 'abort' | 'prepare'): void {
    const one = this.open[slot]
    if (!one) return
    this.open[slot] = undefined
    if (how === 'commit') this.committed.push(...one.rows)
    if (how === 'prepare') this.prepared.push(one)
  }

  resolve(commits: boolean): void {
    const one = this.prepared.shift()
    if (one && commits) this.committed.push(...one.rows)
  }

  activity(): Activity[] {
    return this.open.map((one, pid) => ({
      ...{ pid, user: 'writer', isVisible: true, state: one ? 'active' : 'idle' },
      start: one?.isPublished ? one.start : null,
    }))
  }

  openIds(): string[] {
    return this.open.flatMap((one) => (one ? [one.id] : []))
  }

  /** Those that have written something: all that `pg_stat_activity.backend_xid` and a snapshot show. */
  writingIds(): string[] {
    return this.open.flatMap((one) => (one && one.rows.length > 0 ? [one.id] : []))
  }

  preparedIds(): string[] {
    return this.prepared.map((one) => one.id)
  }
}

/** One replication: its looks at the server are steps of their own, and anything may happen between two. */
abstract class Reader {
  readonly server: Server
  readonly copied: Row[] = []
  samples: Sample[] = []
  abstract readonly steps: readonly (() => void)[]
  #next = 0

  constructor(server: Server) {
    this.server = server
  }

  step(): void {
    this.steps[this.#next]?.()
    this.#next = (this.#next + 1) % this.steps.length
  }

  /** Ends the refresh that is under way, and makes some more. */
  finish(): void {
    do this.step()
    while (this.#next !== 0)
    for (let left = 4 * this.steps.length; left > 0; left--) this.step()
  }

  copy(isTaken: (row: Row) => boolean): void {
    this.copied.push(...this.server.committed.filter(isTaken))
  }
}

/** What a variant of the time bound changes: ours is {}. */
interface TimeVariant {
  margin?: number
  ignoresPrepared?: boolean
  preparedFirst?: boolean
}

class TimeReader extends Reader {
  readonly #variant: TimeVariant
  #mark = 0
  #now = 0
  #found = 0
  #prepared: string[] = []
  #ripe: Sample | undefined
  readonly steps: readonly (() => void)[]

  constructor(server: Server, variant: TimeVariant) {
    super(server)
    this.#variant = variant
    const looks = [() => this.#lookAtSessions(), () => this.#lookAtPrepared()]
    if (variant.preparedFirst) looks.reverse()
    this.steps = [
      () => {
        this.#now = this.server.clock
      },
      ...looks,
      () => this.#decide(),
      () => this.#copy(),
    ]
  }

  #lookAtSessions(): void {
    const verdict = judge(this.#now, this.server.activity())
    if ('refused' in verdict) throw new Error(verdict.refused)
    this.#found = verdict.instant + 2_000_000 - (this.#variant.margin ?? 2_000_000)
  }

  #lookAtPrepared(): void {
    this.#prepared = this.#variant.ignoresPrepared ? [] : this.server.preparedIds()
  }

  #decide(): void {
    const now: Running = { open: new Set(), prepared: new Set(this.#prepared) }
    const fresh = { value: String(this.#found), clock: this.#now, open: [], prepared: this.#prepared }
    const seen = [...this.samples.map((one) => ripen(one, now)), fresh]
    this.#ripe = newestRipe(seen)
    this.samples = worthKeeping(seen)
  }

  #copy(): void {
    const mark = Number(this.#ripe?.value ?? 0)
    if (mark <= this.#mark) return
    const last = this.#mark
    this.copy((row) => row.at >= last && row.at < mark)
    this.#mark = mark
  }
}

/** What a variant of the serial bound changes: ours is {}. */
interface SerialVariant {
  waitsForWritersOnly?: boolean
  ripeAtOnce?: boolean
  forgetsPrepare?: boolean
  openFirst?: boolean
}

class SerialReader extends Reader {
  readonly #variant: SerialVariant
  #mark = 0
  #largest = 0
  #open: string[] = []
  #stillOpen: string[] = []
  #ripe: Sample | undefined
  readonly steps: readonly (() => void)[]

  constructor(server: Server, variant: SerialVariant) {
    super(server)
    this.#variant = variant
    const sampling = [
      () => {
        this.#largest = Math.max(0, ...this.server.committed.map((row) => row.number))
      },
      () => {
        this.#open = variant.waitsForWritersOnly ? this.server.writingIds() : this.server.openIds()
      },
    ]
    if (variant.openFirst) sampling.reverse()
    this.steps = [
      () => this.#lookAgain(),
      () => this.#ripen(),
      ...sampling,
      () => this.#sample(),
      () => this.#lookAgain(),
      () => this.#ripen(),
      () => this.#copy(),
    ]
  }

  #lookAgain(): void {
    this.#stillOpen = this.server.openIds()
  }

  #ripen(): void {
    const now = { open: new Set(this.#stillOpen), prepared: new Set(this.server.preparedIds()) }
    this.samples = this.samples.map((one) => {
      const ripened = ripen(one, now)
      return this.#variant.forgetsPrepare
        ? { ...ripened, prepared: one.prepared.filter((id) => now.prepared.has(id)) }
        : ripened
    })
  }

  #sample(): void {
    const { ripeAtOnce } = this.#variant
    this.samples.push({
      ...{ value: String(this.#largest), clock: this.server.clock },
      ...{ open: ripeAtOnce ? [] : this.#open, prepared: ripeAtOnce ? [] : this.server.preparedIds() },
    })
  }

  #copy(): void {
    this.#ripe = newestRipe(this.samples)
    this.samples = worthKeeping(this.samples)
    const mark = Number(this.#ripe?.value ?? 0)
    if (mark <= this.#mark) return
    const last = this.#mark
    this.copy((row) => row.number > last && row.number <= mark)
    this.#mark = mark
  }
}

type Step = (server: Server, reader: Reader) => void

const slot = fc.nat({ max: 3 })
const onSlot = (act: (server: Server, slot: number) => void) =>
  slot.map(
    (number): Step =>
      (server) =>
        act(server, number),
  )

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Step>((_, reader) => reader.step()) },
  { weight: 3, arbitrary: onSlot((server, number) => server.begin(number)) },
  { weight: 2, arbitrary: onSlot((server, number) => server.take(number)) },
  { weight: 2, arbitrary: onSlot((server, number) => server.insert(number, true)) },
  { weight: 2, arbitrary: onSlot((server, number) => server.insert(number, false)) },
  { weight: 1, arbitrary: onSlot((server, number) => server.savepoint(number)) },
  { weight: 1, arbitrary: onSlot((server, number) => server.rollbackTo(number)) },
  { weight: 3, arbitrary: onSlot((server, number) => server.end(number, 'commit')) },
  { weight: 1, arbitrary: onSlot((server, number) => server.end(number, 'abort')) },
  { weight: 2, arbitrary: onSlot((server, number) => server.end(number, 'prepare')) },
  {
    weight: 2,
    arbitrary: fc.boolean().map(
      (commits): Step =>
        (server) =>
          server.resolve(commits),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.integer({ min: 1, max: 8 }).map(
      (ticks): Step =>
        (server) =>
          server.pass(ticks),
    ),
  },
)

/** After everything has ended and some time has passed, every committed row is there once. */
function completeAndOnce(read: (server: Server) => Reader) {
  return fc.property(fc.array(anyStep, { minLength: 20, maxLength: 120, size: 'max' }), (steps) => {
    const server = new Server()
    const reader = read(server)
    for (const step of steps) step(server, reader)
    for (const number of [0, 1, 2, 3]) server.end(number, 'commit')
    while (server.prepared.length > 0) server.resolve(true)
    server.pass(10)
    reader.finish()
    const numbers = (rows: readonly Row[]) => rows.map((row) => row.number).sort((one, other) => one - other)
    expect(numbers(reader.copied)).toEqual(numbers(server.committed))
  })
}

/** Seeded: a wrong variant has to be caught each time. */
const search = { numRuns: 60_000, seed: 20261121 }

describe('whatever transactions do while a refresh looks, every row comes once', () => {
  test('by time', () => {
    fc.assert(
      completeAndOnce((server) => new TimeReader(server, {})),
      { numRuns: 8000 },
    )
  })

  test('by serial', () => {
    fc.assert(
      completeAndOnce((server) => new SerialReader(server, {})),
      { numRuns: 8000 },
    )
  })
})

describe('the model misses rows where', () => {
  test.each<[string, TimeVariant]>([
    ['a start that is not published yet is not allowed for', { margin: 0 }],
    ['prepared transactions are not looked at', { ignoresPrepared: true }],
    ['prepared transactions are looked at before the sessions', { preparedFirst: true }],
  ])('by time, %s', (_, variant) => {
    expect(
      fc.check(
        completeAndOnce((server) => new TimeReader(server, variant)),
        search,
      ).failed,
    ).toBe(true)
  })

  test.each<[string, SerialVariant]>([
    ['only transactions that have written are waited for', { waitsForWritersOnly: true }],
    ['a sample holds at once', { ripeAtOnce: true }],
    ['PREPARE counts as an end', { forgetsPrepare: true }],
    ['the sessions are looked at before the value', { openFirst: true }],
  ])('by serial, %s', (_, variant) => {
    expect(
      fc.check(
        completeAndOnce((server) => new SerialReader(server, variant)),
        search,
      ).failed,
    ).toBe(true)
  })
})
