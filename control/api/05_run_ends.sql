-- Ends of runs, as jobs see them.

-- What the end of a run means for its job: totals, failures in a row, the pause that max_retries asks for, what comes after it.
CREATE OR REPLACE FUNCTION yardmaster.count_end(run_id bigint, crashed boolean)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ended yardmaster.run;
  is_good boolean;
  -- It says nothing about the job.
  is_void boolean;
  state yardmaster.job_state;
BEGIN
  SELECT * INTO ended FROM yardmaster.run r WHERE r.id = count_end.run_id;
  is_good := ended.status IN ('OK', 'WARNING');
  is_void := coalesce(ended.reason IN ('cancelled', 'refused', 'locked'), false);
  UPDATE yardmaster.job_state s SET last_start = coalesce(ended.started_at, s.last_start), last_finish = ended.finished_at, last_status = ended.status, last_reason = ended.reason,
    last_duration = ended.finished_at - ended.started_at, last_run = ended.id,
    last_success = CASE WHEN is_good THEN ended.finished_at ELSE s.last_success END,
    last_good_run = CASE WHEN is_good AND NOT is_void THEN ended.id ELSE s.last_good_run END,
    failures = CASE WHEN is_void THEN s.failures WHEN is_good THEN 0 ELSE s.failures + 1 END,
    troubles = CASE WHEN ended.status = 'OK' THEN 0 WHEN ended.reason IN ('cancelled', 'refused') THEN s.troubles ELSE s.troubles + 1 END,
    crashed = count_end.crashed,
    total_runs = s.total_runs + 1, total_successes = s.total_successes + is_good::integer, total_failures = s.total_failures + (NOT is_good)::integer
  WHERE s.job_id = ended.job_id AND s.database_id = ended.database_id
  RETURNING s.* INTO state;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF NOT is_good AND NOT is_void THEN
    PERFORM yardmaster.apply_max_retries(state.job_id, state.database_id, state.failures);
  END IF;
  IF NOT ended.requested AND NOT is_good AND (NOT is_void OR ended.reason = 'locked') THEN
    PERFORM yardmaster.forget_awaited(state.job_id, state.database_id);
    PERFORM yardmaster.retry_triggered(ended.id, greatest(state.failures, 1));
  END IF;
  IF NOT is_void THEN
    PERFORM yardmaster.start_dependents(ended.job_id);
  END IF;
END
$$;

-- Pauses a job that failed as often in a row as its max_retries allows: where it runs in several databases, in the one where it did.
CREATE OR REPLACE FUNCTION yardmaster.apply_max_retries(job_id integer, database_id bigint, failures integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job;
BEGIN
  SELECT * INTO mine FROM yardmaster.job j WHERE j.id = apply_max_retries.job_id AND j.max_retries >= 0 AND apply_max_retries.failures >= j.max_retries;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF (SELECT count(*) FROM yardmaster.job_state s WHERE s.job_id = mine.id AND s.in_scope) > 1 THEN
    UPDATE yardmaster.job_state s SET paused_at = clock_timestamp()
    WHERE s.job_id = mine.id AND s.database_id = apply_max_retries.database_id AND s.paused_at IS NULL;
    IF FOUND THEN
      PERFORM yardmaster.reschedule(mine.id, apply_max_retries.database_id);
    END IF;
    RETURN;
  END IF;
  UPDATE yardmaster.job j SET status = 'paused', paused_at = clock_timestamp(), paused_by = 'max_retries', version = j.version + 1,
    pause_note = format('It reached max_retries (%s) after %s consecutive failures.', j.max_retries, apply_max_retries.failures)
  WHERE j.id = mine.id AND j.status = 'active';
END
$$;

-- A start that a run asks for its own job wins over what the schedule says: a time, or infinity for none.
CREATE OR REPLACE FUNCTION yardmaster.obey_next_start(job_id integer, database_id bigint, wanted text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  start timestamptz;
BEGIN
  start := CASE WHEN wanted ~ '^in ' THEN clock_timestamp() + substr(wanted, 4)::interval ELSE wanted::timestamptz END;
  IF start = '-infinity' THEN
    RETURN;
  END IF;
  UPDATE yardmaster.job_state s SET next_start = start, next_slot = NULL
  WHERE s.job_id = obey_next_start.job_id AND s.database_id = obey_next_start.database_id AND s.scheduled;
EXCEPTION WHEN data_exception THEN
  -- What makes no sense as a time is what the procedure said, not a reason to lose its outcome.
  RETURN;
END
$$;
