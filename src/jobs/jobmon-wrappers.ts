import { Failure } from '../base/failure.ts'
import type { Preparation } from '../control/preparation.ts'
import type { Session } from '../postgres/connect.ts'
import { quoteIdentifier } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

/** What the schema's comment says, so that it is known again. */
const made = 'pg_jobmon’s names for notices to yardmaster'

const settings = 'LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp'

/**
 * Functions with pg_jobmon's names and arguments (1.4) that raise our notices and do nothing else: a procedure that logs by
 * pg_jobmon speaks to us unchanged, and does no harm where nobody listens. `cancel_job` is not among them: it ends another
 * session, which is `run cancel` here.
 */
const functions: readonly string[] = [
  `CREATE OR REPLACE FUNCTION jobmon.add_job(p_job_name text) RETURNS bigint ${settings} AS $$
BEGIN
  RAISE NOTICE 'yardmaster: progress %', upper(p_job_name);
  RETURN coalesce(nullif(current_setting('yardmaster.run_id', true), '')::bigint, 0);
END $$;`,
  `CREATE OR REPLACE FUNCTION jobmon.add_step(p_job_id bigint, p_action text) RETURNS bigint ${settings} AS $$
DECLARE
  step bigint := coalesce(nullif(current_setting('yardmaster.step', true), '')::bigint, 0) + 1;
BEGIN
  PERFORM set_config('yardmaster.step', step::text, false);
  RAISE NOTICE 'yardmaster: step %', p_action;
  RETURN step;
END $$;`,
  `CREATE OR REPLACE FUNCTION jobmon.update_step(p_step_id bigint, p_status text, p_message text) RETURNS void ${settings} AS $$
BEGIN
  IF upper(p_status) IN ('OK', 'WARNING', 'CRITICAL') AND p_step_id::text = current_setting('yardmaster.step', true) THEN
    RAISE NOTICE 'yardmaster: end % %', upper(p_status), coalesce(p_message, '');
  ELSE
    RAISE NOTICE 'yardmaster: progress % %', coalesce(p_status, ''), coalesce(p_message, '');
  END IF;
END $$;`,
  `CREATE OR REPLACE FUNCTION jobmon.close_job(p_job_id bigint) RETURNS void ${settings} AS $$
BEGIN
  RAISE NOTICE 'yardmaster: level OK';
END $$;`,
  `CREATE OR REPLACE FUNCTION jobmon.fail_job(p_job_id bigint, p_fail_level integer DEFAULT 3) RETURNS void ${settings} AS $$
BEGIN
  RAISE NOTICE 'yardmaster: level % fail_job', CASE p_fail_level WHEN 1 THEN 'OK' WHEN 2 THEN 'WARNING' ELSE 'CRITICAL' END;
END $$;`,
]

/** The statements that make them. Throws `jobmon_installed` where pg_jobmon itself is there, or somebody else's schema of its name. */
export async function jobmonPreparation(session: Session, wantedRole?: string): Promise<Preparation> {
  const found = await session.one<{ extension: boolean; schema: boolean; ours: boolean; role: boolean }>(sql`
    select exists (select from pg_extension e where e.extname = 'pg_jobmon') as extension, n.oid is not null as schema,
      coalesce(obj_description(n.oid, 'pg_namespace') = ${made}, false) as ours,
      exists (select from pg_roles r where r.rolname = ${wantedRole ?? session.parts.user}) as role
    from (select 1) as one left join pg_namespace n on n.nspname = 'jobmon'`)
  const { object } = session
  if (found.extension || (found.schema && !found.ours)) {
    const what = found.extension ? 'pg_jobmon is installed' : 'there is a schema jobmon that Yardmaster did not make'
    throw new Failure('jobmon_installed', { message: `In ${object} ${what}; nothing was changed.`, object })
  }
  const role = wantedRole ?? session.parts.user
  if (!found.role)
    throw new Failure('wrong_usage', { message: `${object} has no role ${role}.`, object, remedy: 'Correct --role.' })
  return {
    role,
    statements: [
      ...(found.schema ? [] : ['CREATE SCHEMA jobmon;', `COMMENT ON SCHEMA jobmon IS '${made}';`]),
      ...functions,
      `GRANT USAGE ON SCHEMA jobmon TO ${quoteIdentifier(role)};`,
    ],
    by_hand: [],
  }
}
