import type { Session } from '../postgres/connect.ts'
import { isLoopback } from '../postgres/connection-url.ts'
import { sql } from '../postgres/sql.ts'

/** Something that a person should know or do. */
export interface Finding {
  readonly code: string
  readonly level: 'OK' | 'WARNING' | 'CRITICAL'
  readonly object: string
  readonly message: string
  readonly remedy: string
}

export interface Inspection {
  readonly version: string
  readonly role: string
  readonly round_trip_ms: number
  readonly in_recovery: boolean
  readonly encrypted: boolean
  readonly findings: readonly Finding[]
}

interface Facts {
  version: string
  role: string
  superuser: boolean
  recovery: boolean
  fsync: boolean
  full_page_writes: boolean
  encrypted: boolean
  stats: boolean
  clock_ms: number
  prepared: number
  oldest: number | null
  oldest_pid: number | null
}

/** Seconds after which an open transaction is worth a warning: it keeps dead rows and holds swaps up. */
const longTransaction = 3600
/** Milliseconds of difference between two clocks that are worth a warning. */
const clockSkew = 1000

/** Looks at a server through our role: version, rights, durability, clock, old transactions. Changes nothing. */
export async function inspectDatabase(session: Session): Promise<Inspection> {
  const started = performance.now()
  await session.query(sql`select 1`)
  const roundTrip = performance.now() - started
  const facts = await session.one<Facts>(sql`
    select current_setting('server_version') as version, current_user::text as role,
      (select rolsuper from pg_roles where rolname = current_user) as superuser,
      pg_is_in_recovery() as recovery, current_setting('fsync') = 'on' as fsync,
      current_setting('full_page_writes') = 'on' as full_page_writes,
      coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as encrypted,
      pg_has_role('pg_read_all_stats', 'MEMBER') as stats,
      (extract(epoch from clock_timestamp()) * 1000)::float8 as clock_ms,
      (select count(*)::int from pg_prepared_xacts) as prepared,
      (select extract(epoch from clock_timestamp() - min(xact_start))::float8 from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()) as oldest,
      (select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
        and xact_start is not null order by xact_start limit 1) as oldest_pid`)
  const skew = Math.round(facts.clock_ms - (Date.now() - roundTrip / 2))
  return {
    version: facts.version,
    role: facts.role,
    round_trip_ms: Math.round(roundTrip * 10) / 10,
    in_recovery: facts.recovery,
    encrypted: facts.encrypted,
    findings: judge(facts, session, skew),
  }
}

/** Pure: facts in, findings out. */
function judge(facts: Facts, session: Session, skew: number): Finding[] {
  const object = session.object
  const warn = (code: string, message: string, remedy: string, level: Finding['level'] = 'WARNING'): Finding => ({
    code,
    level,
    object,
    message,
    remedy,
  })
  const found: Finding[] = []
  if (facts.superuser)
    found.push(
      warn(
        'role_superuser',
        `Our role ${facts.role} is a superuser; no work of ours needs that.`,
        'Use a role of its own: yardmaster database prepare prints its grants.',
      ),
    )
  if (!facts.fsync)
    found.push(
      warn('fsync_off', 'fsync is off: a crash of the machine may lose what was committed.', 'Set fsync = on.'),
    )
  if (!facts.full_page_writes)
    found.push(
      warn(
        'full_page_writes_off',
        'full_page_writes is off: a crash of the machine may damage pages.',
        'Set full_page_writes = on.',
      ),
    )
  if (!facts.encrypted && !isLoopback(session.parts.host))
    found.push(warn('not_encrypted', 'The connection is not encrypted.', 'Use sslmode=verify-full.'))
  if (session.parts.sslMode === 'require')
    found.push(
      warn(
        'certificate_unverified',
        'The server’s certificate is not verified (sslmode=require).',
        'Use sslmode=verify-full, with sslrootcert where the CA is your own.',
      ),
    )
  if (facts.recovery)
    found.push(
      warn(
        'standby',
        'The server is a standby: it can be read, not written; snapshots of it are always copied whole.',
        'Register the primary for destinations.',
        'OK',
      ),
    )
  if (!facts.stats && !facts.superuser)
    found.push(
      warn(
        'stats_hidden',
        'Our role cannot see other sessions: a large snapshot waits for every open transaction before its swap.',
        `GRANT pg_read_all_stats TO ${facts.role};`,
        'OK',
      ),
    )
  if (facts.prepared > 0)
    found.push(
      warn(
        'prepared_transactions',
        `${facts.prepared} prepared transactions wait for their end; they hold locks.`,
        'See pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED them.',
      ),
    )
  if (facts.oldest !== null && facts.oldest > longTransaction)
    found.push(
      warn(
        'long_transaction',
        `Process ${facts.oldest_pid} has a transaction open for ${Math.round(facts.oldest / 60)} min; it holds swaps up and keeps dead rows.`,
        'End it, or find out why it stays open.',
      ),
    )
  if (Math.abs(skew) > clockSkew)
    found.push(
      warn(
        'clock_skew',
        `Its clock is ${Math.abs(skew)} ms ${skew > 0 ? 'ahead of' : 'behind'} this host's.`,
        'Synchronise both by NTP.',
      ),
    )
  return found
}
