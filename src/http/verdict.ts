import type {
  StatusAlert,
  StatusJobs,
  StatusLevel,
  StatusPlacement,
  StatusReplication,
  StatusWaiting,
} from './status-document.ts'

/** Seconds for which what is due may wait where no worker is there. */
const unattendedAfter = 60

/** What the verdict rests on. */
export interface VerdictFacts {
  readonly at: Date
  readonly replications: readonly StatusReplication[]
  readonly placement: Pick<StatusPlacement, 'level' | 'answer'>
  readonly jobs: Pick<StatusJobs, 'level' | 'answer' | 'jobs' | 'count'>
  /** Worst first. */
  readonly alerts: readonly StatusAlert[]
  readonly waiting: readonly StatusWaiting[]
  /** Somebody carries out what is due. */
  readonly staffed: boolean
}

interface Part {
  readonly level: StatusLevel
  readonly answer: string
}

/** One level and one sentence or a few, worst first, that answer: is everything fine? */
export function verdictOf(facts: VerdictFacts): Part {
  const { replications, placement, jobs } = facts
  const unattended = { level: 'WARNING', answer: 'No worker is there: what is due waits.' } as const
  const copies = { level: worst(replications.map(levelOfCopy)), answer: answerOf(replications) }
  const onlyJobs = replications.length === 0 && jobs.count > 0
  const troubles = [...(isUnattended(facts) ? [unattended] : []), placement, jobs, ...otherAlerts(facts)].filter(
    isTrouble,
  )
  const parts: Part[] = [...troubles]
  // What is fine is said where nothing else is to be said.
  if (isTrouble(copies) || (!onlyJobs && (troubles.length === 0 || copies.level !== 'OK'))) parts.push(copies)
  if (troubles.length === 0 && !isTrouble(copies) && jobs.count > 0) parts.push(jobs)
  parts.sort((one, other) => severity.indexOf(other.level) - severity.indexOf(one.level))
  const answer = parts.map((one) => one.answer).join(' ')
  return {
    level: worst(parts.map((one) => one.level)),
    answer: onlyJobs && troubles.length === 0 ? `Everything is fine: ${lowerFirst(answer)}` : answer,
  }
}

function isTrouble({ level }: Pick<Part, 'level'>): boolean {
  return level === 'WARNING' || level === 'CRITICAL'
}

/** Alerts that nothing else on the page tells of: such as of a job that runs too long, or waits for a lock. */
function otherAlerts({ alerts, replications, jobs, staffed }: VerdictFacts): Part[] {
  const told = new Set(replications.filter(isTrouble).map((one) => one.destination))
  const bad = jobs.jobs.filter(isTrouble).map((one) => one.label)
  const others = alerts.filter(
    ({ status, object, silenced_until: silenced }) =>
      silenced === null &&
      !(
        /^site_/.test(status) ||
        told.has(object) ||
        bad.some((label) => object === label || object.endsWith(`:${label}`))
      ) &&
      !(object === 'workers' && !staffed),
  )
  const [first] = others
  if (first === undefined) return []
  const more = others.length > 1 ? ` and ${others.length - 1} more` : ''
  const answer = `${others.length === 1 ? 'An alert is' : 'Alerts are'} open: ${first.object} ${first.status}${more}.`
  return [{ level: first.level, answer }]
}

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)

/** Something is due since long, and nobody is there who would take it. */
function isUnattended({ at, replications, jobs, waiting, staffed }: VerdictFacts): boolean {
  if (staffed) return false
  const due = [...[...replications, ...jobs.jobs].map((one) => one.next_start), ...waiting.map((one) => one.since)]
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
