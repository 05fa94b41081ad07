import { Failure } from '../base/failure.ts'
import { instantOf, spanAt } from '../jobs/time-zone.ts'
import { printable } from '../postgres/identifier.ts'

const written = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i

/**
 * The moment that people write: `2026-03-29`, `2026-03-29 02:30`, `2026-03-29T02:30:00Z`. Without an offset it is the clock's of
 * the zone. Throws `wrong_usage`.
 */
export function readInstant(text: string, flag: string, zone: string): Date {
  const match = written.exec(text.trim())
  if (text.trim() === 'now') return new Date()
  if (match) {
    const [, year, month, day, hour = '00', minute = '00', second = '00', fraction = '', offset] = match
    const wall = Date.parse(
      `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`,
    )
    // Date.parse takes the 30th of February for the 2nd of March.
    const exists = Number.isFinite(wall) && new Date(wall).getUTCDate() === Number(day)
    if (exists) return new Date(offset === undefined ? instantOf(zone, wall, 'shifted') : wall - offsetOf(offset))
  }
  throw new Failure('wrong_usage', {
    message: `${flag} is '${printable(text)}', which is not a time.`,
    object: flag,
    remedy: `Write it as 2026-03-29T02:30Z, or 2026-03-29 02:30 for a clock in ${zone}.`,
  })
}

/** Milliseconds. */
function offsetOf(text: string): number {
  if (/^z$/i.test(text)) return 0
  const [, sign, hours, minutes = '0'] = /^([+-])(\d\d):?(\d\d)?$/.exec(text) ?? []
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000
}

/** `2026-03-29T02:30:00+01:00`, as the zone's clock shows it; `2026-03-29 02:30:00 +01:00` on a terminal. */
export function clockTime(time: Date, zone: string, isTerminal: boolean): string {
  const { offset } = spanAt(zone, time.getTime())
  const wall = new Date(time.getTime() + offset).toISOString().slice(0, 19)
  const minutes = Math.abs(Math.round(offset / 60_000))
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const shift = `${offset < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`
  return isTerminal ? `${wall.replace('T', ' ')} ${shift}` : `${wall}${shift}`
}
