-- TimescaleDB's own names, for scripts and readers that are to run as they are: public.add_job, alter_job, delete_job and run_job, and
-- timescaledb_information.jobs, job_stats, job_errors and job_history. Made on request, where TimescaleDB is not.

-- What stands, as its comment, at everything that is ours. A name that is there without it is somebody else's.
CREATE OR REPLACE FUNCTION yardmaster.timescaledb_mark()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT 'Made by yardmaster.install_timescaledb_names()'
$$;

-- Refuses where TimescaleDB is, or where somebody else has one of the names, with whatever arguments.
CREATE OR REPLACE FUNCTION yardmaster.require_timescaledb_names()
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  taken text[];
BEGIN
  IF EXISTS (SELECT 1 FROM pg_extension e WHERE e.extname = 'timescaledb') THEN
    RAISE EXCEPTION 'The extension timescaledb is in database %: the names are its own.', current_database() USING ERRCODE = 'YM002',
      HINT = 'Call ours by their schema: yardmaster.add_job, yardmaster.jobs.';
  END IF;
  taken := ARRAY(
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('public') AND p.proname IN ('add_job', 'alter_job', 'delete_job', 'run_job')
      AND obj_description(p.oid, 'pg_proc') IS DISTINCT FROM yardmaster.timescaledb_mark()
    UNION ALL
    SELECT 'the schema timescaledb_information' FROM pg_namespace n
    WHERE n.nspname = 'timescaledb_information' AND obj_description(n.oid, 'pg_namespace') IS DISTINCT FROM yardmaster.timescaledb_mark()
    ORDER BY 1);
  IF cardinality(taken) > 0 THEN
    RAISE EXCEPTION 'In database % somebody else has % already.', current_database(), yardmaster.names_in_words(taken) USING ERRCODE = 'YM002',
      HINT = 'Rename or drop them, or call ours by their schema: yardmaster.add_job, yardmaster.jobs.';
  END IF;
END
$$;

-- Makes the names, or makes them anew. As whoever calls it, who must be allowed to make things in public and schemas in the database. What
-- they do needs the rights that grant_use gives; its holders see the views.
CREATE OR REPLACE FUNCTION yardmaster.install_timescaledb_names()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM yardmaster.uninstall_timescaledb_names();
  PERFORM yardmaster.require_timescaledb_names();
  PERFORM yardmaster.make_timescaledb_functions();
  PERFORM yardmaster.make_timescaledb_views();
  PERFORM yardmaster.mark_timescaledb_names();
  PERFORM yardmaster.renew_grants();
END
$$;

-- Takes the names away. Nothing where they are not ours; jobs stay.
CREATE OR REPLACE FUNCTION yardmaster.uninstall_timescaledb_names()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF obj_description(to_regnamespace('timescaledb_information'), 'pg_namespace') IS DISTINCT FROM yardmaster.timescaledb_mark() THEN
    RETURN;
  END IF;
  DROP VIEW timescaledb_information.jobs, timescaledb_information.job_stats, timescaledb_information.job_errors, timescaledb_information.job_history;
  -- Refused where somebody has put something else into it.
  DROP SCHEMA timescaledb_information;
  DROP FUNCTION public.add_job(text, interval, jsonb, timestamptz, boolean, text, boolean, text, text);
  DROP FUNCTION public.add_job(regproc, interval, jsonb, timestamptz, boolean, regproc, boolean, text, text);
  DROP FUNCTION public.alter_job(integer, interval, interval, integer, interval, boolean, jsonb, timestamptz, boolean, regproc, boolean, timestamptz,
    text, text, jsonb);
  DROP FUNCTION public.delete_job(integer);
  DROP PROCEDURE public.run_job(integer);
END
$$;

-- With a search_path of only pg_catalog a regproc is written with its schema. By its text, a procedure may be in any registered database;
-- a literal without a type is one.
CREATE OR REPLACE FUNCTION yardmaster.make_timescaledb_functions()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $make$
BEGIN
  CREATE FUNCTION public.add_job(proc text, schedule_interval interval, config jsonb DEFAULT NULL, initial_start timestamptz DEFAULT NULL,
    scheduled boolean DEFAULT true, check_config text DEFAULT NULL, fixed_schedule boolean DEFAULT true, timezone text DEFAULT NULL,
    job_name text DEFAULT NULL)
  RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT yardmaster.add_job($1, $2, $3, $4, $5, nullif($6, '-'), $7, $8, $9)
  $$;
  CREATE FUNCTION public.add_job(proc regproc, schedule_interval interval, config jsonb DEFAULT NULL, initial_start timestamptz DEFAULT NULL,
    scheduled boolean DEFAULT true, check_config regproc DEFAULT NULL, fixed_schedule boolean DEFAULT true, timezone text DEFAULT NULL,
    job_name text DEFAULT NULL)
  RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT yardmaster.add_job(nullif($1::text, '-'), $2, $3, $4, $5, nullif($6::text, '-'), $7, $8, $9)
  $$;
  CREATE FUNCTION public.alter_job(job_id integer, schedule_interval interval DEFAULT NULL, max_runtime interval DEFAULT NULL,
    max_retries integer DEFAULT NULL, retry_period interval DEFAULT NULL, scheduled boolean DEFAULT NULL, config jsonb DEFAULT NULL,
    next_start timestamptz DEFAULT NULL, if_exists boolean DEFAULT false, check_config regproc DEFAULT NULL, fixed_schedule boolean DEFAULT NULL,
    initial_start timestamptz DEFAULT NULL, timezone text DEFAULT NULL, job_name text DEFAULT NULL, config_merge jsonb DEFAULT NULL)
  RETURNS TABLE (job_id integer, schedule_interval interval, max_runtime interval, max_retries integer, retry_period interval, scheduled boolean,
    config jsonb, next_start timestamptz, check_config text, fixed_schedule boolean, initial_start timestamptz, timezone text, application_name name)
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT * FROM yardmaster.alter_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text, $11, $12, $13, $14, $15)
  $$;
  CREATE FUNCTION public.delete_job(job_id integer) RETURNS void LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT yardmaster.delete_job($1)
  $$;
  -- Without settings, for it commits.
  CREATE PROCEDURE public.run_job(job_id integer) LANGUAGE plpgsql AS $$
  BEGIN
    CALL yardmaster.run_job(job_id);
  END
  $$;
END
$make$;

-- Exactly TimescaleDB's columns.
CREATE OR REPLACE FUNCTION yardmaster.make_timescaledb_views()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  CREATE SCHEMA timescaledb_information;
  CREATE VIEW timescaledb_information.jobs AS
    SELECT j.job_id, j.application_name, j.schedule_interval, j.max_runtime, j.max_retries, j.retry_period, j.proc_schema, j.proc_name, j.owner,
      j.scheduled, j.fixed_schedule, j.config, j.next_start, j.initial_start, j.hypertable_schema, j.hypertable_name, j.check_schema, j.check_name
    FROM yardmaster.jobs j;
  CREATE VIEW timescaledb_information.job_stats AS
    SELECT s.hypertable_schema, s.hypertable_name, s.job_id, s.last_run_started_at, s.last_successful_finish, s.last_run_status, s.job_status,
      s.last_run_duration, s.next_start, s.total_runs, s.total_successes, s.total_failures
    FROM yardmaster.job_stats s;
  CREATE VIEW timescaledb_information.job_errors WITH (security_barrier) AS
    SELECT e.job_id, e.proc_schema, e.proc_name, e.pid, e.start_time, e.finish_time, e.sqlerrcode, e.err_message FROM yardmaster.job_errors e;
  CREATE VIEW timescaledb_information.job_history WITH (security_barrier) AS
    SELECT h.id, h.job_id, h.succeeded, h.proc_schema, h.proc_name, h.pid, h.start_time, h.finish_time, h.config, h.sqlerrcode, h.err_message
    FROM yardmaster.job_history h;
END
$$;

-- What timescaledb_mark says; COMMENT takes no expression.
CREATE OR REPLACE FUNCTION yardmaster.mark_timescaledb_names()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  COMMENT ON SCHEMA timescaledb_information IS 'Made by yardmaster.install_timescaledb_names()';
  COMMENT ON FUNCTION public.add_job(text, interval, jsonb, timestamptz, boolean, text, boolean, text, text)
    IS 'Made by yardmaster.install_timescaledb_names()';
  COMMENT ON FUNCTION public.add_job(regproc, interval, jsonb, timestamptz, boolean, regproc, boolean, text, text)
    IS 'Made by yardmaster.install_timescaledb_names()';
  COMMENT ON FUNCTION public.alter_job(integer, interval, interval, integer, interval, boolean, jsonb, timestamptz, boolean, regproc, boolean,
    timestamptz, text, text, jsonb) IS 'Made by yardmaster.install_timescaledb_names()';
  COMMENT ON FUNCTION public.delete_job(integer) IS 'Made by yardmaster.install_timescaledb_names()';
  COMMENT ON PROCEDURE public.run_job(integer) IS 'Made by yardmaster.install_timescaledb_names()';
END
$$;

-- Behind the last function that holders of the right to make jobs need.
DO $$ BEGIN PERFORM yardmaster.renew_grants(); END $$;
