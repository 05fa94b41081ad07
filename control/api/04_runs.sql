CREATE OR REPLACE VIEW yardmaster.runs AS
  SELECT r.id, r.job_id, r.slot, r.operation, r.object, j.kind, r.site, r.status, r.reason, r.started_at, r.finished_at,
    r.rows, r.bytes, r.message, a.worker, a.host, a.number AS attempt, a.id AS attempt_id
  FROM yardmaster.run r
  JOIN yardmaster.job j ON j.id = r.job_id
  LEFT JOIN LATERAL (SELECT * FROM yardmaster.attempt a WHERE a.run_id = r.id ORDER BY a.number DESC LIMIT 1) a ON true;

CREATE OR REPLACE VIEW yardmaster.steps AS
  SELECT a.run_id, a.number AS attempt, s.attempt_id, s.ordinal, s.action, s.status, s.started_at, s.finished_at,
    extract(epoch FROM coalesce(s.finished_at, clock_timestamp()) - s.started_at)::float8 AS elapsed_seconds,
    s.rows, s.bytes, s.message
  FROM yardmaster.step s JOIN yardmaster.attempt a ON a.id = s.attempt_id;

-- Begins a run that somebody asked for, in the calling session, whose life is the attempt's.
CREATE OR REPLACE FUNCTION yardmaster.begin_run(
  job_id integer, database_id bigint, operation text, object text, site text, worker text, host text,
  OUT run_id bigint, OUT attempt_id bigint, OUT token uuid)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  LOOP
    INSERT INTO yardmaster.run (job_id, slot, database_id, operation, object, site, status, started_at)
    VALUES (begin_run.job_id, clock_timestamp(), begin_run.database_id, begin_run.operation, begin_run.object, begin_run.site,
      'RUNNING', clock_timestamp())
    ON CONFLICT (job_id, slot, database_id) DO NOTHING
    RETURNING id INTO begin_run.run_id;
    EXIT WHEN FOUND;
  END LOOP;
  INSERT INTO yardmaster.attempt (run_id, number, worker, host, session_pid, session_start, status)
  SELECT begin_run.run_id, 1, begin_run.worker, begin_run.host, a.pid, a.backend_start, 'RUNNING'
  FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
  RETURNING id, attempt.token INTO begin_run.attempt_id, begin_run.token;
END
$$;

-- The calling session becomes the attempt's life, in place of one that was lost. An attempt that was given up meanwhile goes
-- on, if no other took its place: its worker lives after all. False when one did.
CREATE OR REPLACE FUNCTION yardmaster.resume_attempt(token uuid)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.attempt;
BEGIN
  UPDATE yardmaster.attempt a SET status = 'RUNNING', finished_at = NULL, session_pid = s.pid, session_start = s.backend_start
  FROM pg_stat_activity s, yardmaster.run r
  WHERE a.token = resume_attempt.token AND s.pid = pg_backend_pid() AND r.id = a.run_id
    AND (a.status = 'RUNNING' OR r.reason = 'worker_lost')
    AND NOT EXISTS (SELECT 1 FROM yardmaster.attempt later WHERE later.run_id = a.run_id AND later.number > a.number)
  RETURNING a.* INTO mine;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE yardmaster.run r SET status = 'RUNNING', reason = NULL, finished_at = NULL, message = NULL
  WHERE r.id = mine.run_id AND r.reason = 'worker_lost';
  IF FOUND THEN
    UPDATE yardmaster.step s SET status = 'RUNNING', finished_at = NULL, message = NULL
    WHERE s.attempt_id = mine.id AND s.message LIKE '%The worker vanished during this step.';
  END IF;
  RETURN true;
END
$$;

-- Ends an attempt and its run. False when the attempt was given up meanwhile: then nothing is changed. The same call again,
-- by a worker that missed the answer, changes nothing and is true again.
CREATE OR REPLACE FUNCTION yardmaster.finish_run(
  token uuid, status text, reason text, message text, rows bigint, bytes bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ended bigint;
BEGIN
  UPDATE yardmaster.attempt a SET status = finish_run.status, finished_at = clock_timestamp()
  WHERE a.token = finish_run.token AND a.status = 'RUNNING' RETURNING a.run_id INTO ended;
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT 1 FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
      WHERE a.token = finish_run.token AND a.status = finish_run.status AND r.message = finish_run.message);
  END IF;
  UPDATE yardmaster.run r SET status = finish_run.status, reason = finish_run.reason, message = finish_run.message,
    rows = finish_run.rows, bytes = finish_run.bytes, finished_at = clock_timestamp()
  WHERE r.id = ended;
  RETURN true;
END
$$;

-- Attempts whose control session is gone: the worker died. Returns how many were given up.
CREATE OR REPLACE FUNCTION yardmaster.mark_lost_attempts()
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  lost integer;
BEGIN
  WITH gone AS (
    UPDATE yardmaster.attempt a SET status = 'CRITICAL', finished_at = clock_timestamp()
    WHERE a.status = 'RUNNING' AND NOT EXISTS (
      SELECT 1 FROM pg_stat_activity s
      WHERE s.pid = a.session_pid AND coalesce(s.backend_start, a.session_start) = a.session_start)
    RETURNING a.id, a.run_id, a.worker
  ), steps AS (
    UPDATE yardmaster.step s SET status = 'CRITICAL', finished_at = clock_timestamp(),
      message = concat_ws(' ', s.message, 'The worker vanished during this step.')
    FROM gone WHERE s.attempt_id = gone.id AND s.status = 'RUNNING'
  ), runs AS (
    UPDATE yardmaster.run r SET status = 'CRITICAL', reason = 'worker_lost', finished_at = clock_timestamp(),
      message = format('Worker %s vanished (its session is lost).', gone.worker)
    FROM gone WHERE r.id = gone.run_id
  )
  SELECT count(*) INTO lost FROM gone;
  RETURN lost;
END
$$;
