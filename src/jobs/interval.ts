import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'

/** As PostgreSQL keeps an interval: months and days have no fixed length, so they stay apart from the exact time. */
export interface Interval {
  readonly months: number
  readonly days: number
  readonly milliseconds: number
}

export const dayLength = 86_400_000

/** Units of the calendar by their spellings in PostgreSQL; those of fixed length are `parseDuration`'s. */
const calendarUnits: Readonly<Record<string, { readonly months: number } | { readonly days: number }>> = {
  d: { days: 1 },
  day: { days: 1 },
  w: { days: 7 },
  week: { days: 7 },
  mon: { months: 1 },
  month: { months: 1 },
  y: { months: 12 },
  yr: { months: 12 },
  year: { months: 12 },
}

const spelledOut = ['milliseconds', 'seconds', 'minutes', 'hours', 'days', 'weeks', 'months', 'years']

/**
 * The interval that people write for `--every`, in PostgreSQL's spellings: `10 minutes`, `1 month`, `1 day 2 hours`,
 * `00:01:30`, `90s`; a bare number is seconds. Half a day or week is exact time, as in PostgreSQL. Throws
 * `interval_invalid`.
 */
export function parseInterval(text: string): Interval {
  let months = 0
  let days = 0
  let milliseconds = 0
  const rest = text.replace(/(?<![\d.])(\d+(?:\.\d+)?)\s*([a-z]+)/gi, (part, number: string, word: string) => {
    const unit = calendarUnits[word.toLowerCase()] ?? calendarUnits[word.toLowerCase().replace(/s$/, '')]
    if (unit === undefined) return part
    if ('months' in unit) {
      if (number.includes('.')) throw notAnInterval(text, `${word} can only be counted in whole numbers.`)
      months += Number(number) * unit.months
    } else {
      const counted = Number(number) * unit.days
      days += Math.trunc(counted)
      milliseconds += Math.round((counted - Math.trunc(counted)) * dayLength)
    }
    return ' '
  })
  if (rest.trim() !== '' || rest === text) milliseconds += Math.round(exactTime(rest.trim(), text))
  return { months, days, milliseconds }
}

function exactTime(rest: string, text: string): number {
  try {
    return parseDuration(rest)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const words = rest.match(/[a-z]+/gi) ?? []
    const meant = words
      .map((word) => ({ word, unit: nearest(word, spelledOut) }))
      .find(({ unit }) => unit !== undefined)
    throw notAnInterval(text, meant && meant.unit !== meant.word ? `did you mean ${meant.unit}?` : undefined)
  }
}

function notAnInterval(text: string, reason?: string): Failure {
  const more = reason === undefined ? '.' : `: ${reason}`
  return new Failure('interval_invalid', { message: `'${text}' is not an interval${more}`, object: text })
}

/** As PostgreSQL prints it: `1 year 2 mons 3 days 04:05:06.789`; the empty interval is `00:00:00`. */
export function formatInterval({ months, days, milliseconds }: Interval): string {
  const unit = (count: number, name: string) => (count === 0 ? [] : [`${count} ${name}${count === 1 ? '' : 's'}`])
  const dates = [...unit(Math.trunc(months / 12), 'year'), ...unit(months % 12, 'mon'), ...unit(days, 'day')]
  if (milliseconds === 0 && dates.length > 0) return dates.join(' ')
  return [...dates, clock(milliseconds)].join(' ')
}

/** `-01:02:03.5` */
function clock(milliseconds: number): string {
  const size = Math.abs(milliseconds)
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const fraction = (size % 1000) / 1000
  const behind = fraction === 0 ? '' : fraction.toFixed(6).slice(1).replace(/0+$/, '')
  const sign = milliseconds < 0 ? '-' : ''
  return `${sign}${two(size / 3_600_000)}:${two((size / 60_000) % 60)}:${two((size / 1000) % 60)}${behind}`
}

/** `10 minutes`, `1 day 2 hours`. Behind "every" a single unit stands alone: `day`. */
export function intervalInWords({ months, days, milliseconds }: Interval, one: 'alone' | 'counted' = 'alone'): string {
  const counts: [number, string][] = [
    [Math.trunc(months / 12), 'year'],
    [months % 12, 'month'],
    [days, 'day'],
    [Math.floor(milliseconds / 3_600_000), 'hour'],
    [Math.floor(milliseconds / 60_000) % 60, 'minute'],
    [(milliseconds % 60_000) / 1000, 'second'],
  ]
  const parts = counts.filter(([count]) => count !== 0)
  const [only] = parts
  if (one === 'alone' && parts.length === 1 && only?.[0] === 1) return only[1]
  return parts.map(([count, unit]) => `${count} ${unit}${count === 1 ? '' : 's'}`).join(' ')
}

/** Milliseconds, with months of 30 and days of 24 hours: how PostgreSQL compares intervals. */
export function nominalLength({ months, days, milliseconds }: Interval): number {
  return (months * 30 + days) * dayLength + milliseconds
}

const longest = 1000 * 12 * 30 * dayLength

/** Throws `interval_invalid` where a schedule could not go by it. `fixed`: its slots are counted from an origin. */
export function checkInterval(interval: Interval, fixed: boolean): void {
  const refuse = (what: string, remedy?: string) => {
    const object = formatInterval(interval)
    return new Failure('interval_invalid', { message: `The interval '${object}' ${what}.`, object, remedy })
  }
  const parts = [interval.months, interval.days, interval.milliseconds]
  if (parts.some((part) => !Number.isFinite(part) || part < 0) || parts.every((part) => part === 0)) {
    throw refuse('is not longer than nothing', "Write one of which no part is negative: '10 minutes'.")
  }
  if (nominalLength(interval) > longest) throw refuse('is longer than 1,000 years', 'Write a shorter one.')
  if (fixed && interval.months > 0 && (interval.days > 0 || interval.milliseconds > 0)) {
    throw refuse(
      'has months and also days or time, and slots at fixed times cannot be counted by such a mixture',
      "Write whole months ('1 month'), or days and time ('30 days').",
    )
  }
}
