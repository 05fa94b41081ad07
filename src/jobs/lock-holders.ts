import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { ServerProcess } from './server-process.ts'

/** A process that waits for a lock. */
export interface BlockedProcess {
  readonly pid: number
  /** For people: who holds what it waits for. */
  readonly holder: string
  /** For which it has waited. */
  readonly seconds: number
}

interface HolderRow {
  readonly pid: number
  readonly seconds: number
  /** 0: a prepared transaction. */
  readonly holder: number
  readonly others: number
  readonly role: string | null
  readonly name: string | null
  readonly kind: string | null
  readonly since: string | null
  readonly query: string | null
  readonly gid: string | null
}

/** Letters of the holder's statement that are shown. */
const shownLetters = 100

/**
 * Which of these processes wait for a lock, and for whom. Where none does, that is one look at `pg_stat_activity`: what is
 * asked about locks stops everybody who takes one, for a moment. For sessions whose search_path is empty.
 */
export async function blockedProcesses(
  session: Session,
  processes: readonly ServerProcess[],
): Promise<BlockedProcess[]> {
  const waiting = await session.query<{ pid: number }>(sql`
    select a.pid from unnest(${processes.map(({ pid }) => pid)}::int[], ${processes.map((one) => one.backendStart)}::timestamptz[]) as w(pid, start)
    join pg_stat_activity a on a.pid = w.pid and a.backend_start = w.start where a.wait_event_type = 'Lock'`)
  if (waiting.length === 0) return []
  const rows = await session.query<HolderRow>(holdersOf(waiting.map(({ pid }) => pid)))
  return rows.map((row) => ({ pid: row.pid, seconds: row.seconds, holder: holderInWords(row) }))
}

/** Of several holders the one that does not wait itself, and of these the one with the oldest transaction. */
function holdersOf(pids: readonly number[]) {
  const moment = sql`'YYYY-MM-DD HH24:MI:SS'`
  return sql`
    select distinct on (w.pid) w.pid, b.pid as holder, b.others, coalesce(a.usename, x.owner)::text as role, a.application_name as name,
      a.backend_type as kind, a.query, x.gid, to_char(coalesce(a.xact_start, x.prepared) at time zone 'UTC', ${moment}) as since,
      greatest(0, extract(epoch from clock_timestamp() - l.waitstart))::float8 as seconds
    from unnest(${[...pids]}::int[]) as w(pid)
    join lateral (select k.* from pg_locks k where k.pid = w.pid and not k.granted limit 1) l on true
    cross join lateral (select h.pid, count(*) over ()::int - 1 as others from (select distinct unnest(pg_blocking_pids(w.pid)) as pid) h) b
    left join pg_stat_activity a on a.pid = b.pid and b.pid <> 0
    left join lateral (
      select p.gid, p.owner, p.prepared from pg_prepared_xacts p
      join pg_locks t on t.locktype = 'transactionid' and t.transactionid = p.transaction and t.pid is null
      join pg_locks g on g.virtualtransaction = t.virtualtransaction and g.pid is null and g.granted
      where b.pid = 0 and (g.locktype, g.database, g.relation, g.page, g.tuple, g.transactionid, g.classid, g.objid, g.objsubid)
        is not distinct from (l.locktype, l.database, l.relation, l.page, l.tuple, l.transactionid, l.classid, l.objid, l.objsubid)
      order by p.prepared limit 1) x on true
    order by w.pid, coalesce(a.wait_event_type = 'Lock', false), coalesce(a.xact_start, x.prepared), b.pid`
}

/** Only what stays the same while it holds the lock: it is told once. */
function holderInWords({ holder, others, role, name, kind, since, query, gid }: HolderRow): string {
  const statement = query === null || query === '<insufficient privilege>' ? '' : firstWords(query)
  const who = [
    role === null ? (kind ?? '') : `role ${printable(role)}`,
    name ? `'${printable(name)}'` : '',
    since === null ? '' : `in a transaction since ${since} UTC`,
    statement === '' ? '' : `last statement: ${statement}`,
  ].filter((part) => part !== '')
  const what =
    holder === 0 ? `the prepared transaction ${gid === null ? '' : `'${printable(gid)}'`}`.trim() : `pid ${holder}`
  const more = others === 0 ? '' : others === 1 ? ' and one other' : ` and ${others} others`
  return `${what}${who.length > 0 ? ` (${who.join(', ')})` : ''}${more}`
}

function firstWords(query: string): string {
  const letters = [...query.trim().replaceAll(/\s+/g, ' ')]
  const shown = printable(letters.slice(0, shownLetters).join(''))
  return letters.length > shownLetters ? `${shown}…` : shown
}
