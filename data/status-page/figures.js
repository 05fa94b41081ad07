// @ts-check
// Numbers, sizes and times in words.

export const count = (number) => (number === null ? '—' : number.toLocaleString('en-US'))

export function bytes(number) {
  if (number === null) return '—'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let [value, unit] = [number, 0]
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024
  return `${unit === 0 ? value : value.toPrecision(value >= 999.5 ? 4 : 3)} ${units[unit]}`
}

/** `850 ms`, `12.4 s`, `3 min 05 s`, `2 h 10 min`. */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  return span(seconds)
}

/** The same in whole seconds, for what counts up or down. */
export function span(seconds) {
  const two = (value) => String(value).padStart(2, '0')
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

export const clock = (time) => new Date(time).toLocaleTimeString('sv-SE')
export const full = (time) => `${new Date(time).toLocaleString('sv-SE')} (${time})`
export const since = (at, time) => (new Date(at).getTime() - new Date(time).getTime()) / 1000
