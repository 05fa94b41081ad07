import { quoteLiteral } from './identifier.ts'
import { type Sql, sql } from './sql.ts'
import type { Side } from './sqlstate.ts'

/** Everything that would make a session of ours depend on a role's or a server's settings. */
const fixedSettings: Readonly<Record<string, string>> = {
  search_path: '',
  // Nothing of ours shows notices; a view may raise one for each row.
  client_min_messages: 'error',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  standard_conforming_strings: 'on',
  row_security: 'off',
  synchronous_commit: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  // A client that is gone is noticed by the server within seconds, also in the middle of a long statement.
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '5',
  tcp_user_timeout: '20000',
  client_connection_check_interval: '2000',
}

/** A source is never written to: its server refuses. */
function readOnly(side: Side): string {
  return side === 'source' ? 'on' : 'off'
}

/** PostgreSQL cuts application names at 63 bytes; ours say what for. */
export function applicationName(purpose: string): string {
  return `yardmaster ${purpose}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 63)
}

/**
 * What lets us in, as one text that changes when any of it does: the process and its roles; the server's configuration,
 * `pg_hba.conf` with it; the right to log in and to connect; and how often any role was altered or given settings, which
 * is all that a role may see of a changed password. Those counters lag by seconds, a standby has none, and PostgreSQL 14
 * writes them to a file first, for which one waits some 10 ms: there they are not asked for.
 */
const standing = sql`concat_ws(' ', pg_backend_pid(), session_user, current_user, extract(epoch from pg_conf_load_time()),
  case when current_setting('server_version_num')::integer >= 150000 then concat_ws(' ',
    pg_stat_get_tuples_updated('pg_authid'::regclass), pg_stat_get_tuples_inserted('pg_db_role_setting'::regclass),
    pg_stat_get_tuples_updated('pg_db_role_setting'::regclass), pg_stat_get_tuples_deleted('pg_db_role_setting'::regclass)) end,
  (select r.rolcanlogin and coalesce(r.rolvaliduntil > now(), true) and d.datallowconn
     and has_database_privilege(session_user, d.oid, 'CONNECT')
   from pg_roles r, pg_database d where r.rolname = session_user and d.datname = current_database()))`

/** What a server says of itself and of us. */
export interface Introduction {
  /** `server_version_num`. */
  readonly version: string
  readonly pid: number
  /** When the server process began, to the microsecond, in UTC: `2030-01-31T02:30:00.000000Z`. */
  readonly started: string
  /** Names of the settings that are fixed; an older server lacks some. */
  readonly settings: readonly string[]
  readonly standing: string
}

/** Fixes the settings of a new session whose search_path is empty already. Gives an `Introduction`. */
export function introduce(side: Side): Sql {
  const settings: Record<string, string> = { ...fixedSettings, default_transaction_read_only: readOnly(side) }
  // Short statements over estimates that may be far off: compiling a claim took 140 ms where the claim takes one.
  if (side === 'control') settings.jit = 'off'
  return sql`
    select current_setting('server_version_num') as version, pg_backend_pid() as pid, ${standing} as standing,
      (select to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') from pg_stat_activity a
       where a.pid = pg_backend_pid()) as started,
      (select array_agg(case when set_config(s.name, w.value, false) is not null then s.name end)
       from unnest(${Object.keys(settings)}::text[], ${Object.values(settings)}::text[]) as w(name, value)
       join pg_settings s on lower(s.name) = lower(w.name)) as settings`
}

/**
 * What makes a session as new: each text is a message of its own, because DISCARD ALL may not stand among others. Until
 * the last one takes effect names resolve by whatever path the role was given, so that one spells its schema out.
 */
export function renewal(settings: readonly string[]): string[] {
  const values = { ...lowered(fixedSettings), application_name: applicationName('idle') }
  const known = new Set(['application_name', ...settings.map((name) => name.toLowerCase())])
  const calls = Object.entries(values)
    .filter(([name]) => known.has(name))
    .map(([name, value]) => `pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`)
  return ['rollback', 'discard all', `select ${calls.join(', ')}`]
}

/** What a renewed session still needs for its next borrower, and whether what let us in still stands. */
export function resumption(side: Side, purpose: string): Sql {
  return sql`
    select set_config('application_name', ${applicationName(purpose)}, false) is not null
      and set_config('default_transaction_read_only', ${readOnly(side)}, false) is not null as set, ${standing} as standing`
}

function lowered(settings: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [name.toLowerCase(), value]))
}
