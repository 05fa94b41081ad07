import { Cron } from 'croner'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { instantOf, spanAt } from './time-zone.ts'

/** An expression that was read. croner finds its times on a wall clock that is never put forward or back; zones are ours. */
interface CronPattern {
  readonly clock: Cron
  /** The hours are named, as in `30 2 * * *`: it runs once at each of them, on days when clocks are put forward or back too. */
  readonly hoursNamed: boolean
}

interface Field {
  readonly name: string
  readonly expected: string
}

const fields: readonly Field[] = [
  { name: 'second', expected: '0 to 59' },
  { name: 'minute', expected: '0 to 59' },
  { name: 'hour', expected: '0 to 23' },
  { name: 'day of the month', expected: '1 to 31, L (the last), 15W (the working day nearest to the 15th)' },
  { name: 'month', expected: '1 to 12, JAN to DEC' },
  { name: 'day of the week', expected: '0 to 7 (0 and 7 are Sunday), SUN to SAT, FRI#2 (the second), FRIL (the last)' },
]

const nicknames = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly']

/** Patterns in the order of their last use. One holds 80 kB and is read in 15 µs, so that few are kept. */
const patterns = new Map<string, CronPattern>()
const patternsKept = 100

/**
 * The first time after `after` (milliseconds) at which a cron expression is due in `zone`; undefined when it never is. Throws
 * `cron_invalid`.
 *
 * - Hours named (`30 2 * * *`): once at each time of its wall clock. A time that comes twice counts the first time; one that
 *   is left out is due at the moment of the shift, once however many were left out.
 * - Hours not named (`*` or all of them): whenever the clocks show such a time, so in both passes of an hour that comes twice.
 */
export function nextCronTime(expression: string, zone: string, after: number): number | undefined {
  const pattern = patternOf(expression)
  return pattern.hoursNamed ? nextNamed(pattern.clock, zone, after) : nextShown(pattern.clock, zone, after)
}

function nextNamed(clock: Cron, zone: string, after: number): number | undefined {
  const span = spanAt(zone, after)
  // Times before this one were passed already before the clocks were put back.
  const passed = span.from === Number.NEGATIVE_INFINITY ? span.from : span.from + spanAt(zone, span.from - 1).offset - 1
  const wall = nextOnClock(clock, Math.max(after + span.offset, passed))
  return wall === undefined ? undefined : instantOf(zone, wall, 'at the shift')
}

function nextShown(clock: Cron, zone: string, after: number): number | undefined {
  let span = spanAt(zone, after)
  let wall = nextOnClock(clock, after + span.offset)
  while (wall !== undefined && wall - span.offset >= span.until) {
    span = spanAt(zone, span.until)
    wall = nextOnClock(clock, span.from + span.offset - 1)
  }
  return wall === undefined ? undefined : wall - span.offset
}

function nextOnClock(clock: Cron, wall: number): number | undefined {
  return clock.nextRun(new Date(wall))?.getTime()
}

function patternOf(expression: string): CronPattern {
  const pattern = patterns.get(expression) ?? readPattern(expression)
  patterns.delete(expression)
  patterns.set(expression, pattern)
  const [oldest] = patterns.keys()
  if (patterns.size > patternsKept && oldest !== undefined) patterns.delete(oldest)
  return pattern
}

function readPattern(expression: string): CronPattern {
  const parts = expression.trim().split(/\s+/)
  if (expression.includes('@')) return { clock: readNickname(expression), hoursNamed: !/hourly/i.test(expression) }
  if (parts.length !== 5 && parts.length !== 6) {
    const count = expression.trim() === '' ? 0 : parts.length
    throw invalid(
      expression,
      `has ${count} ${count === 1 ? 'field' : 'fields'}; it takes five (minute, hour, day of the month, month, day of the week), or six with the second first`,
    )
  }
  const clock = readClock(parts.join(' '))
  if (clock === undefined) throw badField(expression, parts)
  return { clock, hoursNamed: !/[*?]|0-23/.test(parts.at(-4) ?? '') }
}

function readNickname(expression: string): Cron {
  const name = expression.trim().toLowerCase()
  const clock = nicknames.includes(name) ? readClock(name) : undefined
  if (clock) return clock
  const near = nearest(name, nicknames)
  const known =
    near === undefined ? `known are ${nicknames.join(', ')} and @every with an interval` : `did you mean ${near}?`
  throw invalid(expression, `is no name of a schedule; ${known}`)
}

/** croner at UTC, so that each of its days has 24 hours; undefined when it refuses the expression. */
function readClock(expression: string): Cron | undefined {
  try {
    return new Cron(expression, { utcOffset: 0, paused: true, mode: '5-or-6-parts' })
  } catch {
    return undefined
  }
}

/** The first field that croner refuses although all others are stars. */
function badField(expression: string, parts: readonly string[]): Failure {
  const all = parts.length === 5 ? fields.slice(1) : fields
  const at = parts.findIndex(
    (part, index) => readClock(all.map((_, other) => (other === index ? part : '*')).join(' ')) === undefined,
  )
  const [field, part] = [all[at], parts[at]]
  if (field === undefined || part === undefined) return invalid(expression, 'cannot be read')
  return invalid(
    expression,
    `has '${part}' as its ${field.name}; expected ${field.expected}, or * for each, a list (1,5), a range from the lower to the higher (1-5), a step (*/5, 10-30/5)`,
  )
}

function invalid(expression: string, reason: string): Failure {
  return new Failure('cron_invalid', {
    message: `The cron expression '${expression}' ${reason}${reason.endsWith('?') ? '' : '.'}`,
    object: expression,
  })
}
