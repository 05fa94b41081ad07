import { Temporal } from 'temporal-polyfill'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'

/** A stretch of time in which a zone's clocks stand at one offset from UTC; all in milliseconds. */
interface Span {
  readonly from: number
  /** The first instant of the next span. */
  readonly until: number
  readonly offset: number
}

/** Spans that were looked at, by zone. A lookup costs 5 µs and more, and most questions are about the present span. */
const spans = new Map<string, Span[]>()
const zonesKept = 1000
const spansKept = 32

/** The span of `zone` that holds `instant`. */
export function spanAt(zone: string, instant: number): Span {
  let known = spans.get(zone)
  const found = known?.find(({ from, until }) => from <= instant && instant < until)
  if (found) return found
  if (known === undefined || known.length >= spansKept) {
    if (spans.size >= zonesKept) spans.clear()
    known = []
    spans.set(zone, known)
  }
  const span = lookUp(zone, instant)
  known.push(span)
  return span
}

function lookUp(zone: string, instant: number): Span {
  if (!isKnown(zone)) throw unknownZone(zone)
  const at = Temporal.Instant.fromEpochMilliseconds(instant).toZonedDateTimeISO(zone)
  return {
    // The previous one lies strictly before, so that a span's first instant has to be asked for from just behind it.
    from: at.add({ milliseconds: 1 }).getTimeZoneTransition('previous')?.epochMilliseconds ?? Number.NEGATIVE_INFINITY,
    until: at.getTimeZoneTransition('next')?.epochMilliseconds ?? Number.POSITIVE_INFINITY,
    offset: at.offsetNanoseconds / 1_000_000,
  }
}

/** What the clocks of `zone` show at `instant`, as if it were UTC. */
export function wallClock(zone: string, instant: number): number {
  return instant + spanAt(zone, instant).offset
}

/**
 * When the clocks of `zone` show `wall`. A time that comes twice is the first one. One that is left out because the clocks
 * were put forward is as much later as they were (`shifted`, as PostgreSQL adds days), or the moment of the shift
 * (`at the shift`, as cron does).
 */
export function instantOf(zone: string, wall: number, leftOut: 'shifted' | 'at the shift'): number {
  // No clock is 15 hours from UTC, so this span is none too late.
  let span = spanAt(zone, wall - 15 * 3_600_000)
  while (wall - span.offset >= span.until) {
    const next = spanAt(zone, span.until)
    if (wall - next.offset < next.from) return leftOut === 'shifted' ? wall - span.offset : next.from
    span = next
  }
  return wall - span.offset
}

/** Throws `timezone_unknown` with the nearest name. */
export function checkTimeZone(zone: string): void {
  if (!isKnown(zone)) throw unknownZone(zone)
}

function unknownZone(zone: string): Failure {
  const names = ['UTC', ...Intl.supportedValuesOf('timeZone')]
  const byCity = new Map(names.map((name) => [name.split('/').at(-1) ?? name, name]))
  const near = nearest(zone, names) ?? byCity.get(nearest(zone.replaceAll(' ', '_'), [...byCity.keys()]) ?? '')
  const question = near === undefined ? '.' : `; did you mean ${near}?`
  return new Failure('timezone_unknown', { message: `There is no time zone '${zone}'${question}`, object: zone })
}

/** A number such as `+02:00` is not known: PostgreSQL reads it with the other sign. */
function isKnown(zone: string): boolean {
  if (!/^[A-Za-z]/.test(zone)) return false
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(zone)
    return true
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}
