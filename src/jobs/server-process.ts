import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'

/** One server process: its pid alone may be another one's by now. */
export interface ServerProcess {
  readonly pid: number
  /** To the microsecond, in UTC: `2030-01-31T02:30:00.000000Z`. */
  readonly backendStart: string
}

/** Milliseconds between two looks whether a process is gone. */
const lookEvery = 50
/** Milliseconds that a process has to end once it was told to. */
const endPatience = 10_000

/** A `timestamptz` as text, whatever the session's settings are. */
export const instantFormat = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'

/** Gives a session its name, and tells whose it is. */
export async function introduceAs(session: Session, applicationName: string): Promise<ServerProcess> {
  await session.query(sql`select set_config('application_name', ${applicationName}, false)`)
  return { pid: session.pid, backendStart: session.started }
}

interface Sight {
  /** As `pg_stat_activity` has it; null where our role may not see it. */
  readonly state: string | null
  readonly hidden: boolean
  readonly application_name: string
}

/** What the server says of a process; undefined: it is gone. */
export async function lookAt(session: Session, { pid, backendStart }: ServerProcess): Promise<Sight | undefined> {
  return session.first<Sight>(sql`
    select a.state, a.backend_start is null as hidden, coalesce(a.application_name, '') as application_name
    from pg_stat_activity a
    where a.pid = ${pid} and (a.backend_start is null or a.backend_start = ${backendStart}::timestamptz)`)
}

/**
 * Ends a process from another session, and waits until it is gone with its locks: cancels what it runs, and `grace`
 * milliseconds later, or as soon as it does nothing, terminates it. Throws where that cannot be done or seen.
 */
export async function endProcess(session: Session, process: ServerProcess, grace: number): Promise<void> {
  const begun = performance.now()
  for (let cancelled = false; ; cancelled = true) {
    const sight = await lookAt(session, process)
    if (!sight) return
    if (sight.hidden) throw notOurs(session, process)
    const spent = performance.now() - begun
    if (spent > grace + endPatience) throw undying(session, process)
    const idle = sight.state?.startsWith('idle') ?? false
    if (idle || spent >= grace) await signal(session, process, 'pg_terminate_backend')
    else if (!cancelled) await signal(session, process, 'pg_cancel_backend')
    await delay(lookEvery)
  }
}

async function signal(
  session: Session,
  { pid, backendStart }: ServerProcess,
  what: 'pg_cancel_backend' | 'pg_terminate_backend',
): Promise<void> {
  const call = what === 'pg_cancel_backend' ? sql`pg_cancel_backend(a.pid)` : sql`pg_terminate_backend(a.pid)`
  await session.query(sql`
    select ${call} from pg_stat_activity a where a.pid = ${pid} and a.backend_start = ${backendStart}::timestamptz`)
}

function notOurs(session: Session, { pid }: ServerProcess): Failure {
  return new Failure('permission_denied', {
    message: `Process ${pid} of an earlier attempt is still there in ${session.object}, under another role than ${session.parts.user}, which may not end it.`,
    object: session.object,
    remedy: `As an administrator of ${session.object}: SELECT pg_terminate_backend(${pid});`,
  })
}

function undying(session: Session, { pid }: ServerProcess): Failure {
  return new Failure('job_locked', {
    message: `Process ${pid} of an earlier attempt was told to end in ${session.object}, and is still there.`,
    object: session.object,
    remedy: `Look what it does: SELECT * FROM pg_stat_activity WHERE pid = ${pid}; it is tried again.`,
    retryable: true,
  })
}
