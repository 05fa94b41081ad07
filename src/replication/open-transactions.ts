import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'

/** A transaction of this database that may hold a snapshot. */
export interface OpenTransaction {
  readonly id: string
  readonly pid: number
  readonly user: string | null
  /** Seconds since it began; null where our role may not see it. */
  readonly age: number | null
}

/**
 * The transactions whose snapshot may be older than now: every one of a client that is open and holds a snapshot. Both
 * are shown to everybody: a transaction's own lock in `pg_locks`, and `backend_xmin`. Our own loading sessions never read
 * what people read, and are left out.
 */
export async function openTransactions(session: Session): Promise<OpenTransaction[]> {
  return session.query<OpenTransaction>(sql`
    select l.virtualtransaction as id, l.pid, a.usename as user, extract(epoch from clock_timestamp() - a.xact_start)::float8 as age
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock' and l.virtualtransaction = l.virtualxid
      and a.datid = (select oid from pg_database where datname = current_database())
      and a.usesysid is not null and l.pid <> pg_backend_pid()
      and not (a.usename = current_user and a.application_name like 'yardmaster load %')
      and a.backend_xmin is not null
    order by a.xact_start nulls last`)
}

/** Waits until all of `older` have ended. Returns those that were left at the deadline (milliseconds since the epoch). */
export async function waitForEnd(
  session: Session,
  older: readonly OpenTransaction[],
  deadline: number,
  signal?: AbortSignal,
): Promise<OpenTransaction[]> {
  let left = [...older]
  for (let pause = 10; left.length > 0; pause = Math.min(pause * 2, 500)) {
    const open = new Set((await openTransactions(session)).map((one) => one.id))
    left = left.filter((one) => open.has(one.id))
    if (left.length === 0 || Date.now() >= deadline) break
    signal?.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, Math.max(1, deadline - Date.now()))))
  }
  return left
}

/** For messages: `process 4711 (alice, for 95 s)`. */
export function describeTransaction(one: OpenTransaction | undefined): string {
  if (!one) return 'a transaction that has just ended'
  const parts = [one.user, one.age === null ? null : `for ${Math.round(one.age)} s`].filter((part) => part !== null)
  return `process ${one.pid}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`
}
