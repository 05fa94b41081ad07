import { Failure } from '../base/failure.ts'
import { connect, type Session } from '../postgres/connect.ts'
import { displayName, type QualifiedName, quoteLiteral, quoteQualified } from '../postgres/identifier.ts'
import { literal, sql } from '../postgres/sql.ts'
import { StallWatch } from '../postgres/stall-watch.ts'
import type { HdbppDeployment } from './hdbpp-file.ts'

/** `ym_postp`, as a bigint: who holds it in a database runs the jobs there. */
const passLock = { high: 0x796d5f70, low: 0x6f737470 } as const
const passKey = sql`${((BigInt(passLock.high) << 32n) | BigInt(passLock.low)).toString()}::bigint`

/** What leaves nothing of a procedure in the session but its locks: our own is one of them. */
const afresh = [
  // And the role with it.
  'reset session authorization',
  'reset all',
  'close all',
  'deallocate all',
  'discard temp',
]

/**
 * What holds under the user's settings as well. A procedure may raise any number of notices, and nobody reads them; a server
 * that notices the end of this process within seconds gives the lock back.
 */
const always: Readonly<Record<string, string>> = {
  client_min_messages: 'error',
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '5',
  client_connection_check_interval: '2000',
}

/** What our own statements go by. */
const ours: Readonly<Record<string, string>> = {
  search_path: '',
  statement_timeout: '0',
  default_transaction_isolation: 'read committed',
}

const setting = ([name, value]: [string, string]) => `set ${name} = ${quoteLiteral(value)}`

/**
 * From here on the session is as psycopg's was: settings and search_path are those that the role and the database give.
 * Nothing but the look-up of the tables and the call of a procedure is sent like that.
 */
export async function toUserSettings(session: Session): Promise<void> {
  await session.script([...afresh, ...Object.entries(always).map(setting)].join('; '))
}

/** From here on names are the catalog's, or have their schema; whatever a procedure has set is gone. */
export async function toOurSettings(session: Session): Promise<void> {
  await session.script([...afresh, ...Object.entries({ ...always, ...ours }).map(setting)].join('; '))
}

/** A session that ends when its server says nothing of it any more. Throws as `connect` does. */
export async function openHdbpp(
  { name, connection }: HdbppDeployment,
  how: { signal?: AbortSignal | undefined; passwordFile?: string | undefined },
): Promise<{ session: Session; close: () => Promise<void> }> {
  const options = { side: 'database', purpose: 'postprocess', object: name, passwordFile: how.passwordFile } as const
  const session = await connect(connection, { ...options, signal: how.signal }).catch((error) => {
    throw withRemedy(error)
  })
  const watch = new StallWatch(() => connect(connection, { ...options, purpose: 'postprocess look' }))
  watch.add(session)
  const close = async () => {
    watch.remove(session)
    await session.end()
  }
  return { session, close }
}

/** What to do about it stands in the file, not in a URL. */
function withRemedy(error: unknown): unknown {
  if (!(error instanceof Failure)) return error
  const remedies: Partial<Record<typeof error.code, string>> = {
    database_unreachable: 'Check host and port in the file, and that the server runs.',
    authentication_failed: 'Check user and password in the file (or ~/.pgpass), and the server’s pg_hba.conf.',
    database_missing: 'Correct database in the file, or create it.',
    tls_failed:
      'Add to connection: sslrootcert: FILE, the CA’s certificate; or sslmode: require (encrypted, not verified), sslmode: disable (neither; only in a network that you trust).',
  }
  const { message, object, cause, sqlstate, retryable, code } = error
  const remedy = remedies[code]
  if (remedy === undefined) return error
  return new Failure(code, { message, object: object ?? undefined, cause, sqlstate, retryable, remedy })
}

/**
 * Takes the lock that one process a database holds, where this session has it not. Throws `hdbpp_busy`, which names who has it,
 * after `patience` milliseconds.
 */
export async function holdPassLock(session: Session, patience: number): Promise<void> {
  const mine = sql`locktype = 'advisory' and database = (select d.oid from pg_database d where d.datname = current_database())
    and classid = ${passLock.high}::bigint::oid and objid = ${passLock.low}::bigint::oid and objsubid = 1 and granted`
  if (await session.first(sql`select from pg_locks where ${mine} and pid = pg_backend_pid()`)) return
  try {
    await session.query(sql`select set_config('lock_timeout', ${String(patience)}, false)`)
    await session.query(sql`select pg_advisory_lock(${passKey})`)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'lock_timeout') throw error
    const holder = await session.first<{
      pid: number
      since: string | null
      user: string | null
      address: string | null
    }>(sql`
      select l.pid, a.usename as user, coalesce(host(a.client_addr), 'a socket of its host') as address,
        to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as since
      from pg_locks l left join pg_stat_activity a on a.pid = l.pid where ${mine} limit 1`)
    const who = holder
      ? `server process ${holder.pid}, ${displayName(holder.user ?? '?')} from ${holder.address}, since ${holder.since ?? '?'} UTC`
      : 'it ended just now'
    throw new Failure('hdbpp_busy', {
      message: `Another process runs the jobs of the database ${displayName(session.parts.database)} already (${who}).`,
      object: session.object,
    })
  }
}

/** Who stands in the way of a row; undefined where nobody does any more. */
export async function holderOf(session: Session, table: QualifiedName): Promise<string | undefined> {
  const holder = await session.first<{ pid: number; user: string; application: string }>(sql`
    select a.pid, a.usename as user, a.application_name as application from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.relation = ${literal(quoteQualified(table))}::regclass and l.granted and l.pid <> pg_backend_pid() and a.xact_start is not null
      and l.mode in ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    order by a.xact_start limit 1`)
  return (
    holder &&
    `server process ${holder.pid} (${displayName(holder.user)}, ${holder.application || 'no application name'})`
  )
}
