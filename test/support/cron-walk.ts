/** A minute of real time and what the clocks show in it, by Intl alone; both in milliseconds. */
export interface Shown {
  readonly at: number
  readonly wall: number
}

const minute = 60_000

export function shownMinutes(timeZone: string, from: string, days: number): Shown[] {
  const format = new Intl.DateTimeFormat('en-US', {
    ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
    ...{ hour: 'numeric', minute: 'numeric' },
  })
  return Array.from({ length: days * 1440 }, (_, index) => {
    const at = Date.parse(from) + index * minute
    const part: Record<string, number> = {}
    for (const { type, value } of format.formatToParts(at)) part[type] = Number(value)
    const { year = 0, month = 0, day = 0, hour = 0, minute: minutes = 0 } = part
    return { at, wall: Date.UTC(year, month - 1, day, hour, minutes) }
  })
}

/** One field, by the definition of cron: nothing but stars, numbers, ranges and steps. */
function admits(field: string, value: number): boolean {
  return field.split(',').some((item) => {
    const [range = '', step = '1'] = item.split('/')
    if (range === '*') return value % Number(step) === 0
    const [low = 0, high = low] = range.split('-').map(Number)
    return value >= low && value <= high && (value - low) % Number(step) === 0
  })
}

/**
 * When a cron expression is due, slowly: by walking each minute of the wall clock, also those that were left out, to when it was
 * first shown or passed over. Five fields or six; of the days only those of the week.
 */
export function walk(expression: string, minutes: readonly Shown[]): number[] {
  const fields = expression.split(' ')
  const [second = '0', minuteField = '', hour = '', , , weekday = ''] = fields.length === 5 ? ['0', ...fields] : fields
  const seconds = Array.from({ length: 60 }, (_, value) => value).filter((value) => admits(second, value))
  const admitsWall = (wall: number) => {
    const date = new Date(wall)
    const fits = admits(minuteField, date.getUTCMinutes()) && admits(hour, date.getUTCHours())
    return fits && admits(weekday, date.getUTCDay())
  }
  const times = new Set<number>()
  let highest = (minutes[0]?.wall ?? 0) - minute
  for (const { at, wall } of minutes) {
    if (hour.includes('*')) highest = wall - minute
    for (; highest < wall; highest += minute) {
      if (!admitsWall(highest + minute)) continue
      const shown = highest + minute === wall
      for (const value of seconds) times.add(shown ? at + value * 1000 : at)
    }
  }
  return [...times].sort((a, b) => a - b)
}
