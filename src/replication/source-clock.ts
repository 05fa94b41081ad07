import { z } from 'zod'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { BoundMemory } from './bound.ts'
import { type Sample, sampleSchema } from './bound-sample.ts'
import type { ControlColumn } from './definition.ts'

/** The source's clock, and which server and history it belongs to. */
export interface SourceClock {
  /** Microseconds since 1970; a whole number, exact until the year 2255. */
  readonly instant: number
  readonly isStandby: boolean
  readonly system: string
  /** Of the history that is being written; null on a standby, which writes none. */
  readonly timeline: string | null
  /** In which values without a zone are written. */
  readonly zone: string
}

/** What a bound keeps between refreshes. */
export interface Remembered {
  readonly clock: number | undefined
  readonly system: string | undefined
  readonly timeline: string | undefined
  readonly samples: readonly Sample[]
  /** Time: from where rows are read again until the clock has passed the position once more; in the column's text. */
  readonly again: string | undefined
  /** Of the control column, when the position's value was written. */
  readonly type: string | undefined
}

const memorySchema = z.object({
  column: z.string(),
  clock: z.number().optional(),
  system: z.string().optional(),
  timeline: z.string().optional(),
  samples: z.array(sampleSchema).default([]),
  again: z.string().optional(),
  type: z.string().optional(),
})

const nothing: Remembered = {
  ...{ clock: undefined, system: undefined, timeline: undefined, samples: [], again: undefined, type: undefined },
}

/**
 * Reads the clock, before anything else is looked at: a look that takes long must not make the bound later. What the
 * session knows of others' activity is forgotten, because the server keeps it for a whole transaction.
 */
export async function readClock(session: Session, control: ControlColumn): Promise<SourceClock> {
  // Our own session stands at UTC; what a RESET would give is what other sessions of our role have.
  const row = await session.one<Omit<SourceClock, 'instant'> & { instant: string }>(sql`
    select pg_stat_clear_snapshot(), (extract(epoch from statement_timestamp()) * 1000000)::int8::text as instant,
      pg_is_in_recovery() as "isStandby", (select system_identifier::text from pg_control_system()) as system,
      case when not pg_is_in_recovery() then substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline,
      coalesce(${control.timezone}::text, (select reset_val from pg_settings where name = 'TimeZone')) as zone`)
  const { isStandby, system, timeline, zone } = row
  return { instant: Number(row.instant), isStandby, system, timeline, zone }
}

/** What an earlier refresh left; nothing where it was of another column, or is no memory of ours. */
export function readMemory(memory: BoundMemory, control: ControlColumn): Remembered {
  const read = memorySchema.safeParse(memory)
  if (!read.success || read.data.column !== nameOf(control)) return nothing
  const { clock, system, timeline, samples, again, type } = read.data
  return { clock, system, timeline, samples, again, type }
}

export function writeMemory(
  control: ControlColumn,
  clock: SourceClock,
  kept: { samples: readonly Sample[]; again?: string | undefined; type?: string },
): BoundMemory {
  return {
    ...{ column: nameOf(control), clock: clock.instant, system: clock.system, samples: kept.samples },
    ...(clock.timeline === null ? {} : { timeline: clock.timeline }),
    ...(kept.again === undefined ? {} : { again: kept.again }),
    ...(kept.type === undefined ? {} : { type: kept.type }),
  }
}

function nameOf(control: ControlColumn): string {
  return `${control.by} ${control.column}`
}

/** Why rows may have come below the position since; undefined where nothing says so. */
export function findBreak(before: Remembered, now: SourceClock): string | undefined {
  if (before.system !== undefined && before.system !== now.system) {
    return `The source is another server than before: its system identifier is ${now.system}, and was ${before.system}.`
  }
  if (before.timeline !== undefined && now.timeline !== null && before.timeline !== now.timeline) {
    return `The source's history took another way: its timeline is ${Number.parseInt(now.timeline, 16)}, and was ${Number.parseInt(before.timeline, 16)} (a fail-over or a restore).`
  }
  if (before.clock !== undefined && now.instant < before.clock) {
    return `The source's clock went back by ${((before.clock - now.instant) / 1_000_000).toFixed(1)} s or more.`
  }
  return undefined
}
