import { type Sql, sql } from '../postgres/sql.ts'

/**
 * What our sessions fix for ourselves, and an author's code must find as the role and the database have it: names are found
 * as he expects, dates and numbers read as he reads them, policies for rows hold. Ours remain: `client_encoding` (the
 * protocol's), `synchronous_commit` (what ended OK is durable), the time limits of statement, transaction and session
 * (a job's own `max_runtime` stands in their place), and everything by which the server notices that we are gone.
 */
const authorsOwn = [
  'search_path',
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'extra_float_digits',
  'bytea_output',
  'lc_monetary',
  'xmloption',
  'standard_conforming_strings',
  'row_security',
  'default_transaction_isolation',
  'default_transaction_deferrable',
  'default_transaction_read_only',
  'lock_timeout',
]

/** Notices come through whatever the role's setting is: procedures speak to us by them. One text of our own. */
export const asAuthors = [...authorsOwn.map((name) => `reset ${name}`), 'set client_min_messages = notice'].join('; ')

/** What a procedure may ask for by `current_setting`, and what it is called with. */
export interface JobSettings {
  readonly jobId: number
  readonly runId: string
  readonly attempt: number
  /** jsonb as text; null is SQL NULL. */
  readonly config: string | null
  /** Of this run, jsonb as text: its keys stand before those of `config`. */
  readonly params: string | null
  /** Milliseconds; 0: none. */
  readonly statementTimeout: number
}

/**
 * Sets them, and gives the configuration of this run. The key `work_mem` of the configuration is the setting of that name, as
 * TimescaleDB has it; that parallel queries are off in its jobs is not taken over. For sessions whose search_path is empty.
 */
export function jobSettings({ jobId, runId, attempt, config, params, statementTimeout }: JobSettings): Sql {
  return sql`
    select set_config('yardmaster.job_id', ${String(jobId)}, false), set_config('yardmaster.run_id', ${runId}, false),
      set_config('yardmaster.attempt', ${String(attempt)}, false),
      set_config('yardmaster.params', coalesce(${params}::text, '{}'), false),
      set_config('statement_timeout', ${String(statementTimeout)}, false),
      case when m.config ->> 'work_mem' is not null then set_config('work_mem', m.config ->> 'work_mem', false) end,
      m.config::text as config
    from (select case when ${params}::jsonb is null then ${config}::jsonb
      else coalesce(nullif(${config}::jsonb, 'null'), '{}') || ${params}::jsonb end as config) as m`
}
