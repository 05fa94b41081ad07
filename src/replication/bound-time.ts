import { join, literal, type Sql, sql } from '../postgres/sql.ts'
import type { Bound } from './bound.ts'
import { describeHolder, describePrepared, type Holder, joinNotes, type Note } from './bound-holder.ts'
import { newestRipe, type Sample, worthKeeping } from './bound-sample.ts'
import type { Sampling } from './bound-sampling.ts'
import { ripenAll, waitForNewest } from './bound-wait.ts'
import type { Control } from './control-column.ts'
import { type ControlDefault, findOrigin, findUnproven, zonesOf } from './control-default.ts'
import type { Mark } from './mark.ts'
import { type Activity, readActivity, readPrepared } from './source-activity.ts'
import { writeMemory } from './source-clock.ts'

const second = 1_000_000
/** Microseconds. A session has its start time a moment before it shows it to others. */
const unpublished = 2 * second
/** How far behind the clock to stop where `auto` cannot be used. */
const fallback = '10 minutes'
const fallbackMicroseconds = 600 * second
/** How far below the position rows may have come after the source's clock or history went back. */
const overlap = 600 * second

/** Beside the sampling, the column and the zones whose local times it may have. */
interface Timed extends Sampling {
  readonly column: Control
  readonly zones: readonly string[]
}

/** Where an instant stands against the position. */
interface Weighed {
  readonly value: string
  /** Whether it lies beyond the position. */
  readonly isNew: boolean
  /** Seconds from it to the clock, and from the position to the clock. */
  readonly behind: number
  readonly lastBehind: number | null
  /** Whether the position lies beyond the clock in every zone that the column may have. */
  readonly isAhead: boolean
  /** From where rows are read again when the source went back. */
  readonly again: string | null
}

/** The bound of a control column that a clock fills. */
export async function timeBound(
  sampling: Sampling,
  column: Control,
  defaults: readonly ControlDefault[],
): Promise<Bound> {
  const { boundary } = sampling.control
  const zones = zonesOf(defaults, sampling.clock.zone, sampling.control.timezone !== null)
  const timed: Timed = { ...sampling, column, zones }
  if (boundary !== 'auto') return fixedBound(timed, boundary, [])
  const { source, clock } = sampling
  const refused = refuseAuto(source.relation.kind, clock.isStandby) ?? findOrigin(defaults)
  const verdict = refused === undefined ? judge(clock.instant, await readActivity(source.session)) : { refused }
  if ('refused' in verdict) {
    const text = `boundary auto is not used: ${verdict.refused}; the boundary is ${fallback}.`
    return fixedBound(timed, fallback, [{ text, level: 'OK' }])
  }
  return autoBound(timed, verdict, findUnproven(defaults))
}

/** Why no look at the sessions of this server tells what may still be written; undefined where it does. */
export function refuseAuto(kind: Sampling['source']['relation']['kind'], isStandby: boolean): string | undefined {
  if (isStandby) return 'the source is a standby, which does not see the transactions of its primary'
  if (kind === 'table' || kind === 'partitioned') return undefined
  const names = { view: 'a view', matview: 'a materialized view', foreign: 'a foreign table' }
  return `the source is ${names[kind]}, of which nothing tells when its rows came`
}

/** What every later row is not older than, and who made it so. */
export interface OldestStart {
  /** Microseconds since 1970. */
  readonly instant: number
  readonly holder: Holder | undefined
}

/** Decides by what a look at the sessions gave; `now` was read before it. */
export function judge(now: number, sessions: readonly Activity[]): OldestStart | { refused: string } {
  const hidden = sessions.filter((one) => !one.isVisible)
  if (hidden.length > 0) {
    const users = [...new Set(hidden.map((one) => one.user ?? 'unknown'))].sort().join(', ')
    return { refused: `our role may not see since when ${users} write (GRANT pg_read_all_stats)` }
  }
  const silent = sessions.find(
    (one) => one.state === 'disabled' || (one.start === null && one.state?.startsWith('idle in transaction')),
  )
  if (silent) return { refused: `track_activities is off for process ${silent.pid} (${silent.user ?? 'unknown'})` }
  const oldest = sessions.reduce<Activity | undefined>(
    (found, one) => (one.start !== null && one.start < (found?.start ?? now) ? one : found),
    undefined,
  )
  const start = oldest?.start ?? now
  const holder = oldest && { pid: oldest.pid, user: oldest.user, age: now - start }
  return { instant: start - unpublished, holder }
}

async function autoBound(sampling: Timed, found: OldestStart, unproven: string | undefined): Promise<Bound> {
  const { source, clock, before, last, signal } = sampling
  const prepared = await readPrepared(source.session)
  const fresh: Sample = {
    ...{ value: String(found.instant), clock: clock.instant, open: [] },
    prepared: prepared.map((one) => one.id),
  }
  const samples = [...(await ripenAll(source.session, before.samples)), fresh]
  const isOld = prepared.some((one) => clock.instant - one.since > second)
  const seen = isOld ? samples : await waitForNewest(source.session, samples, signal)
  const notes: (Note | undefined)[] = [describeHolder(found.holder)]
  if (unproven !== undefined) notes.push({ text: `boundary auto: ${unproven}.`, level: 'OK' })
  let instant = newestRipe(seen)?.value
  const waitedFor = new Set(seen.flatMap((sample) => sample.prepared))
  const blocking = prepared.filter((one) => waitedFor.has(one.id))
  notes.push(describePrepared(blocking, clock.instant))
  if (instant === undefined && last === null && blocking[0]) {
    // Nothing was sampled before it was prepared: it is taken to have begun no longer before that than the interval.
    instant = String(Math.min(found.instant, blocking[0].since - fallbackMicroseconds))
    const text = `boundary auto: when the prepared transaction '${blocking[0].gid}' began is not known; the first copy stops ${fallback} before it was prepared.`
    notes.push({ text, level: 'OK' })
  }
  return conclude(sampling, instant === undefined ? undefined : at(instant), notes, worthKeeping(seen))
}

/** The clock less an interval, and never later than the clock. */
async function fixedBound(sampling: Timed, interval: string, notes: readonly Note[]): Promise<Bound> {
  const now = at(String(sampling.clock.instant))
  const bound = await conclude(sampling, sql`least(${now}, ${now} - ${interval}::text::interval)`, notes, [])
  return { ...bound, leavesOut: interval }
}

/** Microseconds since 1970 as an instant of the source's. Exact: the product is a whole number below 2^53. */
function at(microseconds: string): Sql {
  return sql`('epoch'::timestamptz + ${literal(microseconds)}::int8 * interval '1 microsecond')`
}

/** The bound, held against the position and against what was remembered. */
async function conclude(
  sampling: Timed,
  instant: Sql | undefined,
  notes: readonly (Note | undefined)[],
  samples: readonly Sample[],
): Promise<Bound> {
  const { control, clock, last, before, broken } = sampling
  const weighed = await weigh(sampling, instant ?? at(String(clock.instant)))
  const mark: Mark | null = instant && weighed.isNew ? { value: weighed.value, inclusive: false } : null
  const lower = broken === undefined ? before.again : (weighed.again ?? undefined)
  const again = last === null ? undefined : lower
  const told = again === undefined ? describeAhead(sampling, weighed) : describeBreak(broken, again, mark)
  const kept = { samples, again: mark === null ? again : undefined, type: sampling.column.typeName }
  return {
    mark,
    behind: mark === null ? weighed.lastBehind : weighed.behind,
    ...joinNotes([...notes, told]),
    memory: writeMemory(control, clock, kept),
    remember: broken !== undefined || hasChanged(before.samples, samples) || kept.again !== before.again,
    ...(again === undefined ? {} : { overlap: { value: again, inclusive: false } }),
  }
}

function describeBreak(broken: string | undefined, again: string, mark: Mark | null): Note {
  const why = broken ?? "The source's clock or history went back, and has not passed the position again."
  const until = mark === null ? ' until the clock has passed the position' : ''
  const text = `${why} Rows may have come below the position: replications with a key read those from '${again}' on again${until}; others need a repull from there.`
  return { text, level: 'WARNING' }
}

/** The clock was set back unseen, or another zone is meant now, or somebody changed the values. */
function describeAhead({ last, zones }: Timed, { isAhead }: Weighed): Note | undefined {
  if (!last || !isAhead) return undefined
  const where = zones.join(', ')
  const text = `The position '${last.value}' lies ahead of the source's clock (${where}): rows that come until then are below it, and are not copied. When clock and time zone are right, copy everything anew.`
  return { text, level: 'WARNING' }
}

export function hasChanged(before: readonly Sample[], now: readonly Sample[]): boolean {
  return JSON.stringify(before) !== JSON.stringify(now)
}

/**
 * No row that is written from `moment` on has a local time below this, in whichever of the zones: where clocks are put back
 * soon, by three hours at most, it is the time that they will show.
 */
function earliestLocal(moment: Sql, zones: readonly string[]): Sql {
  const of = (zone: Sql) =>
    sql`((${moment}) at time zone ${zone}), ((${moment}) + interval '3 h') at time zone ${zone} - interval '3 h'`
  return sql`least(${join(zones.map((zone) => of(literal(zone))))})`
}

async function weigh({ source, clock, last, column, zones }: Timed, instant: Sql): Promise<Weighed> {
  const hasZone = column.typeName === 'pg_catalog.timestamptz'
  const zone = literal(zones[0] ?? clock.zone)
  const asColumn = (moment: Sql) => column.cast(hasZone ? moment : earliestLocal(moment, zones))
  const asInstant = (value: Sql) => (hasZone ? value : sql`(${value}::timestamp at time zone ${zone})`)
  const now = at(String(clock.instant))
  const latest = hasZone ? now : sql`greatest(${join(zones.map((one) => sql`(${now}) at time zone ${literal(one)}`))})`
  const behind = (value: Sql) => sql`extract(epoch from ${now} - ${asInstant(value)})::float8`
  const mark = last && column.value(last.value)
  const lowest =
    mark && sql`least(${now}, ${asInstant(mark)}) - ${literal(String(overlap))}::int8 * interval '1 microsecond'`
  return source.session.one<Weighed>(sql`
    select value::text as value, ${mark ? sql`value > ${mark}` : sql`true`} as "isNew", ${behind(sql`value`)} as behind,
      ${mark ? behind(mark) : sql`null`} as "lastBehind", ${mark ? sql`${mark} > ${column.cast(latest)}` : sql`false`} as "isAhead",
      ${lowest ? sql`${asColumn(lowest)}::text` : sql`null`} as again
    from (select ${asColumn(instant)} as value) as found`)
}
