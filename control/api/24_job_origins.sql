-- Jobs that were taken over from other programs.

CREATE OR REPLACE VIEW yardmaster.job_origins AS
  SELECT o.job_id, o.program, d.name AS database, o.number, o.stats_schema, o.stats_name
  FROM yardmaster.job_origin o JOIN yardmaster.managed_database d ON d.id = o.database_id JOIN yardmaster.job j ON j.id = o.job_id
  WHERE j.deleted_at IS NULL;

-- Makes a job of a row of hdbpp-postprocessing. `number`: its job_id there; `stats_table`: schema and name of the table in which its runs
-- are counted still, NULL: nowhere. `past`: what was counted so far: {runs, successes, failures, ok, started, took, succeeded}.
CREATE OR REPLACE FUNCTION yardmaster.adopt_hdbpp_job(definition jsonb, number bigint, stats_table text[], past jsonb)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id integer := yardmaster.define_job(definition);
BEGIN
  INSERT INTO yardmaster.job_origin (job_id, program, database_id, number, stats_schema, stats_name)
  SELECT new_id, 'hdbpp', a.database_id, adopt_hdbpp_job.number, stats_table[1], stats_table[2] FROM yardmaster.job_action a WHERE a.job_id = new_id;
  -- Failures in a row start from none: nobody counted them there, and they would put the next start off.
  UPDATE yardmaster.job_state s SET total_runs = (past ->> 'runs')::bigint, total_successes = (past ->> 'successes')::bigint,
    total_failures = (past ->> 'failures')::bigint, last_start = (past ->> 'started')::timestamptz, last_duration = (past ->> 'took')::interval,
    last_finish = (past ->> 'started')::timestamptz + (past ->> 'took')::interval, last_success = (past ->> 'succeeded')::timestamptz,
    last_status = CASE (past ->> 'ok')::boolean WHEN true THEN 'OK' WHEN false THEN 'CRITICAL' END
  WHERE s.job_id = new_id AND past IS NOT NULL;
  PERFORM yardmaster.record_change('update', 'job', new_id::text, NULL,
    (SELECT jsonb_build_object('origin', to_jsonb(o) - 'job_id') FROM yardmaster.job_origins o WHERE o.job_id = new_id));
  RETURN new_id;
END
$$;

-- From now on the runs of a job that was taken over are counted in that table of hdbpp-postprocessing; NULL: nowhere.
CREATE OR REPLACE FUNCTION yardmaster.count_for_hdbpp(job_id integer, stats_table text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb := (SELECT to_jsonb(o) - 'job_id' FROM yardmaster.job_origins o WHERE o.job_id = count_for_hdbpp.job_id);
BEGIN
  UPDATE yardmaster.job_origin o SET stats_schema = stats_table[1], stats_name = stats_table[2] WHERE o.job_id = count_for_hdbpp.job_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Job % was not taken over from hdbpp-postprocessing.', coalesce(count_for_hdbpp.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  PERFORM yardmaster.record_change('update', 'job', count_for_hdbpp.job_id::text, jsonb_build_object('origin', before),
    (SELECT jsonb_build_object('origin', to_jsonb(o) - 'job_id') FROM yardmaster.job_origins o WHERE o.job_id = count_for_hdbpp.job_id));
END
$$;
