import type { Level } from './reporter.ts'
import type { Prepared } from './source-activity.ts'

const second = 1_000_000
/** From here on, in microseconds, people are told who holds a bound back, and from there on they are warned. */
const told = 300 * second
const warned = 3600 * second

/** Something for people, and how bad it is. */
export interface Note {
  readonly text: string
  readonly level: Level
}

/** A transaction that keeps the bound where it is. */
export interface Holder {
  readonly pid: number
  readonly user: string | null
  /** Microseconds for which it has been open, at least. */
  readonly age: number
}

export function describeHolder(holder: Holder | undefined): Note | undefined {
  if (!holder || holder.age < told) return undefined
  const who = holder.user === null ? `process ${holder.pid}` : `process ${holder.pid} (${holder.user})`
  return {
    text: `A transaction of ${who} has been open at the source for ${describeAge(holder.age)}; rows that are newer than its start wait for its end.`,
    level: holder.age >= warned ? 'WARNING' : 'OK',
  }
}

/** `prepared` are those that the bound waits for, oldest first; `now` in microseconds since 1970. */
export function describePrepared(prepared: readonly Prepared[], now: number): Note | undefined {
  const [oldest] = prepared
  if (!oldest || now - oldest.since < told) return undefined
  const literal = `'${oldest.gid.replaceAll("'", "''")}'`
  return {
    text: `The prepared transaction ${literal} of ${oldest.owner} has been waiting at the source for ${describeAge(now - oldest.since)}; newer rows wait for COMMIT PREPARED ${literal} or ROLLBACK PREPARED ${literal}.`,
    level: now - oldest.since >= warned ? 'WARNING' : 'OK',
  }
}

function describeAge(age: number): string {
  const minutes = Math.floor(age / second / 60)
  return minutes < 120 ? `${minutes} minutes` : `${Math.floor(minutes / 60)} hours`
}

/** One text and the worst level. */
export function joinNotes(notes: readonly (Note | undefined)[]): { note: string | undefined; level: Level } {
  const said = notes.filter((one) => one !== undefined)
  const level = said.some((one) => one.level === 'WARNING') ? 'WARNING' : 'OK'
  return { note: said.length === 0 ? undefined : said.map((one) => one.text).join(' '), level }
}
