import type { StatusLevel, StatusPlacement, StatusReplication, StatusWaiting } from './status-document.ts'

/** Seconds for which what is due may wait where no worker is there. */
const unattendedAfter = 60

/** What the verdict rests on. */
export interface VerdictFacts {
  readonly at: Date
  readonly replications: readonly StatusReplication[]
  readonly placement: Pick<StatusPlacement, 'level' | 'answer'>
  readonly waiting: readonly StatusWaiting[]
  /** Somebody carries out what is due. */
  readonly staffed: boolean
}

/** One level and one sentence or two that answer: is everything fine? */
export function verdictOf(facts: VerdictFacts): { level: StatusLevel; answer: string } {
  const { replications, placement } = facts
  const copies = { level: worst(replications.map(levelOfCopy)), answer: answerOf(replications) }
  const unattended = { level: 'WARNING', answer: 'No worker is there: what is due waits.' } as const
  const before = [
    ...(isUnattended(facts) ? [unattended] : []),
    ...(['WARNING', 'CRITICAL'].includes(placement.level) ? [placement] : []),
  ]
  const all = before.length > 0 && copies.level === 'OK' ? before : [...before, copies]
  return { level: worst([...before, copies].map((one) => one.level)), answer: all.map((one) => one.answer).join(' ') }
}

/** Something is due since long, and nobody is there who would take it. */
function isUnattended({ at, replications, waiting, staffed }: VerdictFacts): boolean {
  if (staffed) return false
  const due = [...replications.map((one) => one.next_start), ...waiting.map((one) => one.since)]
  return due.some((time) => time !== null && at.getTime() - Date.parse(time) > unattendedAfter * 1000)
}

/** A copy that is refreshed is as good as it was before. */
function levelOfCopy({ level, status }: StatusReplication): StatusLevel {
  return level === 'RUNNING' && status === 'active' ? 'OK' : level
}

function answerOf(replications: readonly StatusReplication[]): string {
  const all = replications.length
  const of = (level: StatusLevel) => replications.filter((one) => one.level === level)
  const named = (some: readonly StatusReplication[]) =>
    `${some
      .slice(0, 3)
      .map((one) => one.destination)
      .join(', ')}${some.length > 3 ? ` and ${some.length - 3} more` : ''}`
  if (all === 0) return 'No replication yet.'
  const [critical, warning] = [of('CRITICAL'), of('WARNING')]
  const setup = replications.filter((one) => one.status === 'setting_up' && one.level === 'RUNNING')
  const parts = [
    ...(critical.length > 0 ? [`${critical.length} of ${all} copies failed: ${named(critical)}.`] : []),
    ...(warning.length > 0 ? [`${warning.length} of ${all} copies need a look: ${named(warning)}.`] : []),
  ]
  if (parts.length > 0) return parts.join(' ')
  if (setup.length > 0) return `Setting up: ${all - setup.length} copies are ready, ${setup.length} on their way.`
  const lags = replications.flatMap((one) => (one.lag_seconds === null ? [] : [one.lag_seconds]))
  if (lags.length < all) return `It is not known how far behind ${all - lags.length} of ${all} copies are.`
  return `Everything is fine: all ${all} copies are current, none further behind than ${upTo(Math.max(...lags))}.`
}

/** Rounded up to steps of 5 s, half minutes and minutes, so that the sentence does not change each second. */
function upTo(seconds: number): string {
  if (seconds <= 60) return `${Math.max(5, Math.ceil(seconds / 5) * 5)} s`
  return seconds <= 90 ? '90 s' : `${Math.ceil(seconds / 60)} min`
}

const severity: readonly StatusLevel[] = ['OK', 'RUNNING', 'UNKNOWN', 'WARNING', 'CRITICAL']

function worst(levels: readonly StatusLevel[]): StatusLevel {
  return levels.reduce(
    (most, level) => (severity.indexOf(level) > severity.indexOf(most) ? level : most),
    levels.length === 0 ? 'UNKNOWN' : 'OK',
  )
}
