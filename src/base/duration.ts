import { Failure } from './failure.ts'

const units: Readonly<Record<string, number>> = {
  ms: 1,
  millisecond: 1,
  s: 1000,
  sec: 1000,
  second: 1000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
}

/**
 * Milliseconds of an interval written as PostgreSQL writes it, in units of fixed length: `'90 seconds'`, `'1 min 30 s'`,
 * `'00:01:30'`; a bare number is seconds. Throws `wrong_usage`.
 */
export function parseDuration(text: string, flag?: string): number {
  const clock = /^(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?$/.exec(text.trim())
  if (clock) return (Number(clock[1]) * 3600 + Number(clock[2]) * 60 + Number(clock[3] ?? 0)) * 1000
  if (/^\d+(\.\d+)?$/.test(text.trim())) return Number(text) * 1000
  const part = /\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*/giy
  let total = 0
  let end = 0
  for (let match = part.exec(text); match; match = part.exec(text)) {
    const unit = (match[2] ?? '').toLowerCase()
    const size = units[unit] ?? units[unit.replace(/s$/, '')]
    if (size === undefined) break
    total += Number(match[1]) * size
    end = part.lastIndex
  }
  if (end === text.length && text !== '') return total
  throw new Failure('wrong_usage', {
    message: flag === undefined ? `'${text}' is not an interval.` : `${flag} is '${text}', which is not an interval.`,
    object: flag ?? text,
    remedy: "Write it as PostgreSQL does: '10 minutes', '90 seconds', '00:01:30'.",
  })
}

/** `850 ms`, `12.4 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. Takes seconds. */
export function formatDuration(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, '0')
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`
  const hours = Math.round(seconds / 3600)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** `1.4 GiB`: three significant digits. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < byteUnits.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toPrecision(value >= 999.5 ? 4 : 3)} ${byteUnits[unit]}`
}

/** `4,812,004`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}
