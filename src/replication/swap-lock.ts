import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import type { QualifiedName } from '../postgres/identifier.ts'
import { sql, trusted } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'

/** One long reader must not queue every other reader behind our lock: we wait this long, step aside, and try again. */
const lockTimeoutMs = 100

/**
 * Runs a short transaction that needs an exclusive lock, trying for at most until `deadline`. Each try waits 100 ms, then
 * lets the others pass for a while. Throws `lock_timeout` with who was in the way.
 */
export async function withShortLocks<Result>(
  session: Session,
  about: { what: string; relations: readonly QualifiedName[] },
  deadline: number,
  body: () => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  for (let pause = 50; ; pause = Math.min(pause * 2, 1000)) {
    try {
      return await inTransaction(session, `begin; set local lock_timeout = ${lockTimeoutMs}`, body)
    } catch (error) {
      const failure = session.failure(error)
      const retry = failure.code === 'lock_timeout' || failure.sqlstate === '40P01'
      if (!retry) throw failure
      if (Date.now() >= deadline) {
        throw new Failure('lock_timeout', {
          message: `${about.what} waited for a lock that ${await holders(session, about.relations)} holds, and gave up.`,
          object: session.object,
          cause: failure,
          retryable: true,
        })
      }
      signal?.throwIfAborted()
      await new Promise((resolve) => setTimeout(resolve, Math.min(pause, Math.max(1, deadline - Date.now()))))
    }
  }
}

/**
 * In a transaction of `withShortLocks`: statements that each take a lock on something that people read. Together they wait
 * as long as one: a reader who is queued behind the first lock waits for all of them.
 */
export async function runWithinOneWait(session: Session, statements: readonly string[]): Promise<void> {
  const until = Date.now() + lockTimeoutMs
  for (const statement of statements) {
    await session.script(`set local lock_timeout = ${Math.max(1, until - Date.now())}`)
    await session.query(trusted(statement))
  }
  await session.script(`set local lock_timeout = ${lockTimeoutMs}`)
}

async function holders(session: Session, relations: readonly QualifiedName[]): Promise<string> {
  const rows = await session.query<{ pid: number; user: string | null; age: number | null }>(sql`
    select distinct l.pid, a.usename as user, extract(epoch from clock_timestamp() - a.xact_start)::int as age
    from pg_locks l left join pg_stat_activity a on a.pid = l.pid
    where l.granted and l.pid <> pg_backend_pid() and l.relation in (
      select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join unnest(${relations.map((one) => one.schema)}::name[], ${relations.map((one) => one.name)}::name[]) as w(schema, name)
        on n.nspname = w.schema and c.relname = w.name)
    order by age desc nulls last limit 3`)
  if (rows.length === 0) return 'somebody who has just let go'
  return rows
    .map(
      (row) =>
        `process ${row.pid} (${row.user ?? 'a prepared transaction'}${row.age === null ? '' : `, for ${row.age} s`})`,
    )
    .join(', ')
}
