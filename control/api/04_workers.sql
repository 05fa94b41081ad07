-- Who carries out runs: processes with a session here, whose loss frees what they held, and a lease for those that hang.

CREATE OR REPLACE VIEW yardmaster.workers AS
  SELECT w.id, w.name, w.host, w.slots, w.started_at, w.lease_until, w.ended_at, w.end_reason,
    w.ended_at IS NULL AND w.missing_since IS NULL AND w.lease_until > clock_timestamp() AS alive,
    (SELECT count(*) FROM yardmaster.attempt a WHERE a.worker_id = w.id AND a.status = 'RUNNING') AS running,
    w.stopping_at
  FROM yardmaster.worker w;

-- Wakes workers that listen. A hint: without it work starts at the next look, so a queue that is nearly full is left alone
-- rather than failing the caller's commit.
CREATE OR REPLACE FUNCTION yardmaster.wake_workers()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify('yardmaster_work', '');
  END IF;
END
$$;

-- Seconds for which a worker that says nothing counts as alive.
CREATE OR REPLACE FUNCTION yardmaster.lease_length()
RETURNS interval LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT interval '15 seconds'
$$;

-- Registers the calling session's process as a worker. Slots 0: a command, which takes nothing that waits.
CREATE OR REPLACE FUNCTION yardmaster.register_worker(name text, host text, slots integer)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  IF register_worker.slots > 0 THEN
    PERFORM yardmaster.require_host_name(yardmaster.host_of(register_worker.host));
  END IF;
  DELETE FROM yardmaster.worker w WHERE w.id IN (
    SELECT v.id FROM yardmaster.worker v WHERE v.ended_at < clock_timestamp() - interval '7 days' ORDER BY v.id LIMIT 100 FOR UPDATE SKIP LOCKED);
  INSERT INTO yardmaster.worker (name, host, slots, session_pid, session_start, lease_until)
  SELECT register_worker.name, yardmaster.host_of(register_worker.host), register_worker.slots, a.pid, a.backend_start,
    clock_timestamp() + yardmaster.lease_length()
  FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
  RETURNING id INTO new_id;
  RETURN new_id;
END
$$;

-- Says that a worker lives, by its session, which may be a new one. One that was given up meanwhile lives again, with those of
-- its attempts whose runs nobody else has begun. `name`: only if it has this name; behind a restore, its number may be another's.
-- Returns this server's clock, in milliseconds since the epoch.
CREATE OR REPLACE FUNCTION yardmaster.beat_worker(worker_id bigint, name text DEFAULT NULL)
RETURNS float8 LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  was_given_up boolean;
  was_away boolean;
BEGIN
  SELECT w.ended_at IS NOT NULL, w.ended_at IS NOT NULL OR w.missing_since IS NOT NULL OR w.lease_until <= clock_timestamp()
  INTO was_given_up, was_away FROM yardmaster.worker w WHERE w.id = beat_worker.worker_id
    AND (beat_worker.name IS NULL OR w.name = beat_worker.name) FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no worker %.', beat_worker.worker_id USING ERRCODE = 'YM001';
  END IF;
  UPDATE yardmaster.worker w SET session_pid = a.pid, session_start = a.backend_start, missing_since = NULL, ended_at = NULL,
    end_reason = NULL, lease_until = clock_timestamp() + yardmaster.lease_length()
  FROM pg_stat_activity a WHERE w.id = beat_worker.worker_id AND a.pid = pg_backend_pid();
  IF was_given_up THEN
    PERFORM yardmaster.take_back_attempts(beat_worker.worker_id);
  END IF;
  -- It may have looked for work before it counted as alive, and others leave to it now what its host is preferred for.
  IF was_away THEN
    PERFORM yardmaster.wake_workers();
  END IF;
  RETURN extract(epoch FROM clock_timestamp()) * 1000;
END
$$;

-- An attempt that was given up with its worker goes on, if no other took its place; what its loss counted for is counted back.
CREATE OR REPLACE FUNCTION yardmaster.take_back_attempts(worker_id bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine record;
BEGIN
  PERFORM yardmaster.lock_ends(ARRAY(SELECT a.run_id FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
    WHERE a.worker_id = take_back_attempts.worker_id AND a.status = 'CRITICAL' AND r.reason = 'worker_lost'));
  FOR mine IN
    SELECT a.id, a.run_id, r.job_id, r.database_id, r.status = 'CRITICAL' AND r.queued AS was_over, r.operation
    FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
    WHERE a.worker_id = take_back_attempts.worker_id AND a.status = 'CRITICAL' AND r.reason = 'worker_lost'
      AND r.status IN ('WAITING', 'CRITICAL')
      AND NOT EXISTS (SELECT 1 FROM yardmaster.attempt later WHERE later.run_id = a.run_id AND later.number > a.number)
      AND NOT EXISTS (SELECT 1 FROM yardmaster.run other WHERE other.job_id = r.job_id AND other.database_id = r.database_id
        AND other.status = 'RUNNING' AND r.queued AND NOT r.shares)
    FOR UPDATE OF r SKIP LOCKED
  LOOP
    UPDATE yardmaster.attempt a SET status = 'RUNNING', finished_at = NULL, abandoned = false WHERE a.id = mine.id;
    UPDATE yardmaster.run r SET status = 'RUNNING', reason = NULL, finished_at = NULL, message = NULL WHERE r.id = mine.run_id;
    UPDATE yardmaster.step s SET status = 'RUNNING', finished_at = NULL, message = NULL
    WHERE s.attempt_id = mine.id AND s.message LIKE '%The worker vanished during this step.';
    UPDATE yardmaster.job_state s SET failures = greatest(s.failures - 1, 0), crashed = false,
      troubles = greatest(s.troubles - mine.was_over::integer, 0),
      total_runs = s.total_runs - mine.was_over::integer, total_failures = s.total_failures - mine.was_over::integer
    WHERE s.job_id = mine.job_id AND s.database_id = mine.database_id AND (mine.was_over OR mine.operation = 'call');
  END LOOP;
END
$$;

-- What these workers ran goes back to the queue: a refresh at once, a call when `retry_on_crash` says so, for it may not be safe to
-- repeat. It ends as CRITICAL where a command ran it, where it is not to be repeated, and where it has cost five workers
-- already: a run that kills whoever takes it must not take them all down, one after the other.
CREATE OR REPLACE FUNCTION yardmaster.give_up_attempts(worker_ids bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  given_up record;
BEGIN
  PERFORM yardmaster.lock_ends(ARRAY(SELECT a.run_id FROM yardmaster.attempt a WHERE a.worker_id = ANY (worker_ids) AND a.status = 'RUNNING'));
  FOR given_up IN
    WITH attempts AS (
      UPDATE yardmaster.attempt a SET status = 'CRITICAL', finished_at = clock_timestamp(), abandoned = true
      WHERE a.worker_id = ANY (worker_ids) AND a.status = 'RUNNING'
      RETURNING a.id, a.run_id, a.worker, a.number
    ), steps AS (
      UPDATE yardmaster.step s SET status = 'CRITICAL', finished_at = clock_timestamp(),
        message = concat_ws(' ', s.message, 'The worker vanished during this step.')
      FROM attempts a WHERE s.attempt_id = a.id AND s.status = 'RUNNING'
    ), judged AS (
      -- How long until the next attempt; NULL: there is none.
      SELECT a.run_id, a.worker, a.number, CASE
          -- Nobody wants it any more.
          WHEN r.cancelled_at IS NOT NULL THEN format('%s cancelled it; then its worker %s vanished.', r.cancelled_by, a.worker)
          WHEN r.queued AND NOT s.in_scope THEN format('Worker %s vanished, and its job does not run in this database any more.', a.worker) END AS unwanted,
        CASE WHEN NOT r.queued OR a.number >= 5 OR r.cancelled_at IS NOT NULL OR NOT s.in_scope THEN NULL
        WHEN j.max_retries >= 0 AND coalesce(s.failures, 0) + 1 >= j.max_retries AND r.operation = 'call' THEN NULL
        WHEN coalesce(j.retry_on_crash, CASE j.kind WHEN 'replication' THEN 'now' ELSE '5 minutes' END) = 'now' THEN interval '0'
        WHEN coalesce(j.retry_on_crash, '5 minutes') <> 'never' THEN coalesce(j.retry_on_crash, '5 minutes')::interval END AS pause
      FROM attempts a JOIN yardmaster.run r ON r.id = a.run_id JOIN yardmaster.job j ON j.id = r.job_id
      LEFT JOIN yardmaster.job_state s ON s.job_id = r.job_id AND s.database_id = r.database_id
    )
    UPDATE yardmaster.run r SET status = CASE WHEN g.pause IS NULL THEN 'CRITICAL' ELSE 'WAITING' END, reason = CASE WHEN g.unwanted IS NULL THEN 'worker_lost' ELSE 'cancelled' END,
      finished_at = CASE WHEN g.pause IS NULL THEN clock_timestamp() END,
      due_at = CASE WHEN g.pause > interval '0' THEN clock_timestamp() + g.pause ELSE r.due_at END,
      message = coalesce(g.unwanted, format('Worker %s vanished (its session is lost, or it said nothing for %s s).%s', g.worker,
        extract(epoch FROM yardmaster.lease_length())::integer,
        CASE WHEN r.queued AND g.number >= 5 THEN format(' It was attempt %s; no worker takes this run any more.', g.number)
          WHEN r.queued AND g.pause IS NULL THEN ' It is not repeated.'
          WHEN g.pause > interval '0' THEN format(' The next attempt may begin at %s.', to_char(clock_timestamp() + g.pause, 'YYYY-MM-DD HH24:MI:SS TZ'))
          ELSE '' END))
    FROM judged g
    WHERE r.id = g.run_id
    RETURNING r.id, r.job_id, r.database_id, r.status, r.reason, r.queued, r.operation
  LOOP
    IF given_up.status = 'CRITICAL' AND given_up.queued THEN
      PERFORM yardmaster.count_end(given_up.id, given_up.reason = 'worker_lost');
    ELSIF given_up.operation = 'call' THEN
      UPDATE yardmaster.job_state s SET failures = s.failures + 1, crashed = true
      WHERE s.job_id = given_up.job_id AND s.database_id = given_up.database_id;
    END IF;
  END LOOP;
END
$$;

-- A worker that was told to stop takes nothing new: its host does not count as active by it while what it runs goes on.
CREATE OR REPLACE FUNCTION yardmaster.stop_worker(worker_id bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  UPDATE yardmaster.worker w SET stopping_at = clock_timestamp() WHERE w.id = stop_worker.worker_id AND w.stopping_at IS NULL;
  PERFORM yardmaster.wake_workers();
END
$$;

-- Nothing may be left of what it ran; if something is, it is as lost as with its session.
CREATE OR REPLACE FUNCTION yardmaster.end_worker(worker_id bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  UPDATE yardmaster.worker w SET ended_at = clock_timestamp(), end_reason = 'stopped'
  WHERE w.id = end_worker.worker_id AND w.ended_at IS NULL;
  PERFORM yardmaster.give_up_attempts(ARRAY[end_worker.worker_id]);
  PERFORM yardmaster.wake_workers();
END
$$;

-- Gives up the workers whose session is lost, or whose lease is over: what they ran goes back to the queue, or ends as
-- CRITICAL where a command ran it. A worker (not a command) gets 1.5 s to come back by a new session. Sessions that a
-- restart of this server ended say nothing about their workers: there the lease decides. Returns how many were given up.
CREATE OR REPLACE FUNCTION yardmaster.release_lost_workers()
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  lost bigint[];
BEGIN
  IF NOT EXISTS (SELECT 1 FROM yardmaster.worker w WHERE w.ended_at IS NULL AND (w.lease_until < clock_timestamp()
      OR NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE s.pid = w.session_pid
        AND coalesce(s.backend_start, w.session_start) = w.session_start))) THEN
    RETURN 0;
  END IF;
  UPDATE yardmaster.worker w SET missing_since = clock_timestamp()
  WHERE w.id IN (
    SELECT v.id FROM yardmaster.worker v
    WHERE v.ended_at IS NULL AND v.missing_since IS NULL AND v.session_start > pg_postmaster_start_time()
      AND NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE s.pid = v.session_pid
        AND coalesce(s.backend_start, v.session_start) = v.session_start)
    FOR UPDATE SKIP LOCKED);
  -- Its host may not be active any more: others may take what waits for it.
  IF FOUND THEN
    PERFORM yardmaster.wake_workers();
  END IF;
  WITH gone AS (
    SELECT w.id FROM yardmaster.worker w
    WHERE w.ended_at IS NULL AND (
      -- Behind a restart of this server, everybody gets the time of a lease to come back.
      w.lease_until < clock_timestamp() AND pg_postmaster_start_time() < clock_timestamp() - yardmaster.lease_length()
      OR w.missing_since < clock_timestamp() - CASE WHEN w.slots = 0 THEN interval '0' ELSE interval '1.5 seconds' END)
    FOR UPDATE SKIP LOCKED
  ), given_up AS (
    UPDATE yardmaster.worker w SET ended_at = clock_timestamp(), end_reason = 'lost' FROM gone WHERE w.id = gone.id
    RETURNING w.id
  )
  SELECT array_agg(id) INTO lost FROM given_up;
  IF lost IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM yardmaster.give_up_attempts(lost);
  PERFORM yardmaster.wake_workers();
  RETURN cardinality(lost);
END
$$;
