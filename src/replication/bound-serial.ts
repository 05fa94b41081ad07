import { quoteQualified } from '../postgres/identifier.ts'
import { relation, type Sql, sql } from '../postgres/sql.ts'
import type { Bound } from './bound.ts'
import { describeHolder, describePrepared, joinNotes, type Note } from './bound-holder.ts'
import { newestRipe, type Sample, worthKeeping } from './bound-sample.ts'
import type { Sampling } from './bound-sampling.ts'
import { hasChanged, refuseAuto } from './bound-time.ts'
import { ripenAll, waitForNewest } from './bound-wait.ts'
import { fromClause, parseCondition } from './condition.ts'
import type { Control } from './control-column.ts'
import { type ControlDefault, findOrigin, findRestart, findSerialDoubt, seesSequences } from './control-default.ts'
import type { Mark } from './mark.ts'
import { type OpenVirtual, type Prepared, readLargest, readPrepared } from './source-activity.ts'
import { writeMemory } from './source-clock.ts'

const second = 1_000_000
/** How far below the largest value to stop where `auto` cannot be used. */
const fallback = '10'

/** The bound of a control column that a sequence fills. */
export async function serialBound(
  sampling: Sampling,
  column: Control,
  defaults: readonly ControlDefault[],
): Promise<Bound> {
  const { control, source, clock } = sampling
  if (control.boundary !== 'auto') return fixedBound(sampling, column, defaults, control.boundary)
  const refused = refuseAuto(source.relation.kind, clock.isStandby) ?? findOrigin(defaults) ?? findSerialDoubt(defaults)
  if (refused === undefined) return autoBound(sampling, column, defaults)
  const text = `boundary auto is not used: ${refused}; the boundary is ${fallback}.`
  return fixedBound(sampling, column, defaults, fallback, { text, level: 'OK' })
}

/** The largest finite value of the whole table, whatever the condition leaves out: from an index, where there is one. */
function largest({ source }: Sampling, column: Control): Sql {
  const all = parseCondition(null, source.session.object)
  return sql`select ${column.ref} as value ${fromClause(relation(source.relation), all, [column.finite])}
    order by ${column.ref} desc limit 1`
}

async function fixedBound(
  sampling: Sampling,
  column: Control,
  defaults: readonly ControlDefault[],
  boundary: string,
  note?: Note,
): Promise<Bound> {
  const row = await sampling.source.session.first<{ value: string; largest: string }>(sql`
    select (value - ${boundary}::numeric)::text as value, greatest(value, value - ${boundary}::numeric)::text as largest from (${largest(sampling, column)}) as found`)
  // Who leaves nothing out means the largest value too.
  const mark = row && { value: row.value, inclusive: Number(boundary) === 0 }
  const isNew = mark && (await liesBehind(sampling, column, mark))
  const notes = [note, await findSetBack(sampling, column, defaults, row?.largest ?? null)]
  return conclude(sampling, { mark: isNew ? mark : null, behind: null, samples: [], notes })
}

/**
 * The largest value that was seen committed at a moment all of whose transactions have ended: H10 of the hazards. A
 * number may be taken long before its row is written, also by a transaction without an id.
 */
async function autoBound(sampling: Sampling, column: Control, defaults: readonly ControlDefault[]): Promise<Bound> {
  const { source, clock, before, signal } = sampling
  const { session } = source
  const old = await ripenAll(session, before.samples)
  const { value, open } = await readLargest(
    session,
    sql`select value::text from (${largest(sampling, column)}) as found`,
  )
  const prepared = await readPrepared(session)
  const isNew = value !== null && (await liesBehind(sampling, column, { value, inclusive: true }))
  const fresh: Sample[] =
    !isNew || old.some((one) => one.value === value)
      ? []
      : [{ value, clock: clock.instant, open: open.map((one) => one.id), prepared: prepared.map((one) => one.id) }]
  const isOld = prepared.some((one) => clock.instant - one.since > second)
  const samples = [...old, ...fresh]
  const isLasting = isOld || fresh.length === 0
  const seen = isLasting ? samples : await waitForNewest(session, samples, signal)
  const found = isNew ? newestRipe(seen) : undefined
  const ripe: Mark | undefined = found && { value: found.value, inclusive: true }
  const mark = ripe && (await liesBehind(sampling, column, ripe)) ? ripe : null
  const kept = isNew ? worthKeeping(seen) : []
  const behind = mark && found ? clock.instant - found.clock : isNew ? clock.instant - (kept[0]?.clock ?? 0) : 0
  const notes = [
    ...describeWait(kept, open, prepared, clock.instant),
    await findSetBack(sampling, column, defaults, value),
  ]
  return conclude(sampling, { mark, behind: behind / second, samples: kept, notes })
}

/** What people should know where numbers begin anew: by the sequence where we may see it, else by the largest that is there. */
async function findSetBack(
  sampling: Sampling,
  column: Control,
  defaults: readonly ControlDefault[],
  value: string | null,
): Promise<Note | undefined> {
  const { last, control } = sampling
  if (!last) return undefined
  const restart = findRestart(defaults, last.value)
  const note: Note | undefined = restart === undefined ? undefined : { text: restart, level: 'WARNING' }
  // A fixed boundary is for numbers of clients' own as well: there a sequence that is behind says nothing alone.
  if (note && control.boundary === 'auto') return note
  if (value === null || (!note && seesSequences(defaults, last.value))) return undefined
  const row = await sampling.source.session.one<{ below: boolean }>(
    sql`select ${column.value(value)} < ${column.value(last.value)} as below`,
  )
  if (!row.below || note) return row.below ? note : undefined
  const [sequence] = defaults.flatMap((one) => one.sequences)
  const grant = sequence ? ` GRANT SELECT ON SEQUENCE ${quoteQualified(sequence)} lets us tell.` : ''
  const text = `The largest value at the source is ${value}, below the position ${last.value}: rows were deleted there, or numbers began anew, and then rows with numbers below the position are not copied until everything is copied anew.${grant}`
  return { text, level: 'WARNING' }
}

async function liesBehind({ source, last }: Sampling, column: Control, mark: Mark): Promise<boolean> {
  if (!last) return true
  const row = await source.session.one<{ more: boolean; equal: boolean }>(sql`
    select ${column.value(mark.value)} > ${column.value(last.value)} as more, ${column.value(mark.value)} = ${column.value(last.value)} as equal`)
  return row.more || (row.equal && mark.inclusive && !last.inclusive)
}

/** Who keeps the oldest sample from ripening. */
function describeWait(
  kept: readonly Sample[],
  open: readonly OpenVirtual[],
  prepared: readonly Prepared[],
  now: number,
): (Note | undefined)[] {
  const [oldest] = kept
  if (!oldest) return []
  const waited = now - oldest.clock
  const holders = open
    .filter((one) => oldest.open.includes(one.id))
    .map(({ pid, user, age }) => ({ pid, user, age: Math.max(waited, (age ?? 0) * second) }))
    .sort((one, other) => other.age - one.age)
  return [
    describeHolder(holders[0]),
    describePrepared(
      prepared.filter((one) => oldest.prepared.includes(one.id)),
      now,
    ),
  ]
}

interface Found {
  readonly mark: Mark | null
  readonly behind: number | null
  readonly samples: readonly Sample[]
  readonly notes: readonly (Note | undefined)[]
}

function conclude(sampling: Sampling, { mark, behind, samples, notes }: Found): Bound {
  const { control, clock, before, broken } = sampling
  const text = `${broken} Rows may have come below the position, or others may have their numbers now: compare both sides, or copy everything anew.`
  return {
    mark,
    behind,
    ...joinNotes([...notes, broken === undefined ? undefined : { text, level: 'WARNING' }]),
    memory: writeMemory(control, clock, { samples }),
    remember: broken !== undefined || hasChanged(before.samples, samples),
  }
}
