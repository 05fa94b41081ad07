import { slotAfter } from '../../src/jobs/slots.ts'
import type { TestDatabase } from '../support/databases.ts'

/** A job in one database, with everything that is written down about its slots, as one snapshot shows it. */
interface Account {
  readonly job_id: number
  readonly overlap: string
  readonly milliseconds: number
  readonly origin: Date
  readonly next_slot: Date | null
  readonly last_slot: Date | null
  readonly late: number | null
  /** Milliseconds since the last run ended. */
  readonly rests: number | null
  readonly open: number
  readonly slots: readonly string[] | null
  readonly skipped:
    | readonly { readonly first: string; readonly last: string; readonly slots: number; readonly reason: string }[]
    | null
}

export interface Audit {
  /** What is not accounted for, or twice, in words. */
  readonly wrong: readonly string[]
  readonly due: number
  readonly ran: number
  readonly skipped: Readonly<Record<string, number>>
}

/** Milliseconds by which a start may be late, or a decision not yet be made, where workers are well. */
const patience = 6000

/**
 * Walks the grid of every job with an interval from its origin up to the slot that comes next: each slot is a run, or within one
 * range of slots that were left out, and never both. Nothing that is due is left lying.
 */
export async function audit(control: Pick<TestDatabase, 'query'>): Promise<Audit> {
  const accounts = await control.query<Account>(`
    select s.job_id, j.overlap, (extract(epoch from j.schedule_interval) * 1000)::float8 as milliseconds, j.schedule_origin as origin,
      s.next_slot, s.last_slot, (extract(epoch from clock_timestamp() - s.next_start) * 1000)::float8 as late,
      (extract(epoch from clock_timestamp() - s.last_finish) * 1000)::float8 as rests,
      (select count(*)::int from yardmaster.run r where r.job_id = s.job_id and r.database_id = s.database_id
        and r.status in ('WAITING', 'RUNNING')) as open,
      (select array_agg(r.slot::text order by r.slot) from yardmaster.run r
        where r.job_id = s.job_id and r.database_id = s.database_id and not r.requested) as slots,
      (select jsonb_agg(jsonb_build_object('first', k.first_slot, 'last', k.last_slot, 'slots', k.slots, 'reason', k.reason) order by k.id)
        from yardmaster.skipped_slots k where k.job_id = s.job_id and k.database_id = s.database_id) as skipped
    from yardmaster.job_state s join yardmaster.job j on j.id = s.job_id
    where j.schedule_interval is not null and j.deleted_at is null order by s.job_id`)
  const wrong: string[] = []
  const skipped: Record<string, number> = {}
  let [due, ran] = [0, 0]
  for (const account of accounts) {
    const walked = walk(account)
    wrong.push(...walked.wrong)
    due += walked.due
    ran += account.slots?.length ?? 0
    for (const range of account.skipped ?? []) skipped[range.reason] = (skipped[range.reason] ?? 0) + range.slots
    const idle =
      account.next_slot === null && account.open === 0 && (account.rests ?? Number.POSITIVE_INFINITY) > patience
    const behind = account.next_slot !== null && account.open === 0 && (account.late ?? 0) > patience
    if (idle || behind)
      wrong.push(`job ${account.job_id}: ${idle ? 'nobody has decided its next start' : `late by ${account.late} ms`}`)
  }
  return { wrong, due, ran, skipped }
}

function walk({ job_id, milliseconds, origin, next_slot, last_slot, slots, skipped }: Account): {
  wrong: string[]
  due: number
} {
  const schedule = {
    kind: 'interval' as const,
    interval: { months: 0, days: 0, milliseconds },
    fixed: true,
    origin,
    timezone: 'UTC',
  }
  const runs = new Map<number, number>()
  for (const slot of slots ?? []) runs.set(Date.parse(slot), (runs.get(Date.parse(slot)) ?? 0) + 1)
  const ranges = (skipped ?? []).map(({ first, last, slots: count }) => ({
    first: Date.parse(first),
    last: Date.parse(last),
    count,
    seen: 0,
  }))
  const wrong: string[] = []
  let due = 0
  const until = next_slot === null ? (last_slot?.getTime() ?? 0) : next_slot.getTime() - 1
  for (let slot = origin.getTime(); slot <= until; slot = slotAfter(schedule, slot)) {
    due += 1
    const within = ranges.filter(({ first, last }) => first <= slot && slot <= last)
    for (const range of within) range.seen += 1
    const times = (runs.get(slot) ?? 0) + within.length
    if (times !== 1) wrong.push(`job ${job_id}: slot ${new Date(slot).toISOString()} is accounted for ${times} times`)
  }
  for (const { first, count, seen } of ranges)
    if (count !== seen)
      wrong.push(
        `job ${job_id}: ${count} slots are said to be left out from ${new Date(first).toISOString()} on, and it is ${seen}`,
      )
  return { wrong, due }
}
