CREATE OR REPLACE VIEW yardmaster.runs AS
  SELECT r.id, r.job_id, r.slot, r.operation, r.object, j.kind, r.site, r.status, r.reason, r.queued, r.requested, r.started_at,
    r.finished_at, r.rows, r.bytes, r.message, a.worker, a.host, a.number AS attempt, a.id AS attempt_id, a.placement,
    r.due_at, r.sqlstate, a.target_pid, r.database_id, d.name AS database, r.options
  FROM yardmaster.run r
  JOIN yardmaster.job j ON j.id = r.job_id
  LEFT JOIN yardmaster.managed_database d ON d.id = r.database_id
  LEFT JOIN LATERAL (SELECT * FROM yardmaster.attempt a WHERE a.run_id = r.id ORDER BY a.number DESC LIMIT 1) a ON true;

CREATE OR REPLACE VIEW yardmaster.steps AS
  SELECT a.run_id, a.number AS attempt, s.attempt_id, s.ordinal, s.action, s.status, s.started_at, s.finished_at,
    extract(epoch FROM coalesce(s.finished_at, clock_timestamp()) - s.started_at)::float8 AS elapsed_seconds,
    s.rows, s.bytes, s.message
  FROM yardmaster.step s JOIN yardmaster.attempt a ON a.id = s.attempt_id;

-- Refuses (YM006) a host that a binding forbids the work of a site; NULL is work of no site.
CREATE OR REPLACE FUNCTION yardmaster.refuse_forbidden(host text, site text)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known text := yardmaster.host_of(refuse_forbidden.host);
BEGIN
  IF EXISTS (SELECT 1 FROM yardmaster.binding b WHERE b.site = refuse_forbidden.site AND b.host = known AND b.binding = 'forbid') THEN
    RAISE EXCEPTION '% never runs work of %: the binding forbids it, also by hand.', known, yardmaster.site_label(refuse_forbidden.site)
      USING ERRCODE = 'YM006', HINT = format('Hand it to a worker on another host: the same command with --queue. Or change the binding: yardmaster binding set %s %s allow',
        yardmaster.shell_quoted(refuse_forbidden.site), yardmaster.shell_quoted(known));
  END IF;
END
$$;

-- Begins a run that somebody asked for, carried out by the process that asks.
CREATE OR REPLACE FUNCTION yardmaster.begin_run(
  job_id integer, database_id bigint, operation text, object text, site text, worker_id bigint,
  OUT run_id bigint, OUT attempt_id bigint, OUT token uuid)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  -- What a removal does is no work of the site: nobody is to keep a copy because of a binding.
  IF begin_run.operation <> 'remove' THEN
    PERFORM yardmaster.refuse_forbidden(w.host, begin_run.site) FROM yardmaster.worker w WHERE w.id = begin_run.worker_id;
  END IF;
  LOOP
    INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, status, started_at)
    VALUES (begin_run.job_id, clock_timestamp(), clock_timestamp(), begin_run.database_id, begin_run.operation, begin_run.object, begin_run.site,
      'RUNNING', clock_timestamp())
    ON CONFLICT (job_id, slot, database_id) DO NOTHING
    RETURNING id INTO begin_run.run_id;
    EXIT WHEN FOUND;
  END LOOP;
  INSERT INTO yardmaster.attempt (run_id, number, worker_id, worker, host, status)
  SELECT begin_run.run_id, 1, w.id, w.name, w.host, 'RUNNING' FROM yardmaster.worker w WHERE w.id = begin_run.worker_id
  RETURNING id, attempt.token INTO begin_run.attempt_id, begin_run.token;
END
$$;

-- Hands a run to the workers: of a refresh, options are force, limit, repull, start, end; of a call, params. Asked for again before it
-- began, it is the same run. `database_id`: where the job runs in several; then it must be named.
CREATE OR REPLACE FUNCTION yardmaster.queue_run(job_id integer, operation text DEFAULT NULL, options jsonb DEFAULT '{}', database_id bigint DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  target yardmaster.job_targets;
  new_id bigint;
BEGIN
  IF queue_run.operation NOT IN ('setup', 'refresh', 'call') OR jsonb_typeof(queue_run.options) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'A run that is queued is a refresh, a setup or a call, with a JSON object of options; not % with %.',
      quote_nullable(queue_run.operation), quote_nullable(queue_run.options) USING ERRCODE = 'YM003';
  END IF;
  PERFORM 1 FROM yardmaster.job j WHERE j.id = queue_run.job_id AND j.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no job %.', coalesce(queue_run.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  SELECT * INTO target FROM yardmaster.job_targets t WHERE t.job_id = queue_run.job_id AND t.in_scope
    AND (queue_run.database_id IS NULL OR t.database_id = queue_run.database_id) ORDER BY t.database_id LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Job % runs in no database%.', queue_run.job_id, CASE WHEN queue_run.database_id IS NULL THEN ' now' ELSE ' of that name' END
      USING ERRCODE = 'YM002';
  END IF;
  SELECT r.id INTO new_id FROM yardmaster.run r
  WHERE r.job_id = queue_run.job_id AND r.database_id = target.database_id AND r.status = 'WAITING' AND r.requested
    AND r.operation = coalesce(queue_run.operation, target.operation) AND r.options = queue_run.options;
  IF NOT FOUND THEN
    LOOP
      INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, options, shares)
      VALUES (target.job_id, clock_timestamp(), clock_timestamp(), target.database_id, coalesce(queue_run.operation, target.operation),
        target.object, target.site, target.lane, 'WAITING', true, queue_run.options, target.overlap = 'allow')
      ON CONFLICT ON CONSTRAINT run_job_id_slot_database_id_key DO NOTHING
      RETURNING id INTO new_id;
      EXIT WHEN FOUND;
    END LOOP;
  END IF;
  PERFORM yardmaster.wake_workers();
  RETURN new_id;
END
$$;

-- States whose next start is to be decided: what the decision needs. `facts` goes back with the decision. Intervals in months, days and
-- milliseconds, where they must keep them apart; else in seconds, infinity where there is no end.
CREATE OR REPLACE FUNCTION yardmaster.undecided_states(most integer)
RETURNS TABLE (job_id integer, database_id bigint, facts text, now timestamptz, kind text, months integer, days integer, milliseconds float8, cron text,
  timezone text, fixed boolean, origin timestamptz, since timestamptz, last_slot timestamptz, last_start timestamptz, last_finish timestamptz, failures integer,
  crashed boolean, retry_period float8, crash_pause float8, overlap text, catch_up float8, jitter float8, open boolean)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.job_id, s.database_id, concat_ws(' ', s.xmin::text, j.xmin::text), clock_timestamp(), j.kind,
    (extract(year FROM j.schedule_interval) * 12 + extract(month FROM j.schedule_interval))::integer,
    extract(day FROM j.schedule_interval)::integer,
    (extract(hour FROM j.schedule_interval) * 3600000 + extract(minute FROM j.schedule_interval) * 60000
      + extract(milliseconds FROM j.schedule_interval))::float8,
    j.cron, j.timezone, j.fixed_schedule, j.schedule_origin, greatest(j.schedule_since, s.since), s.last_slot, s.last_start, s.last_finish, s.failures, s.crashed,
    least(extract(epoch FROM j.retry_period), 1e12)::float8,
    CASE coalesce(j.retry_on_crash, CASE j.kind WHEN 'replication' THEN 'now' ELSE '5 minutes' END)
      WHEN 'now' THEN 0 WHEN 'never' THEN 'infinity' ELSE extract(epoch FROM coalesce(j.retry_on_crash, '5 minutes')::interval) END::float8,
    j.overlap, extract(epoch FROM j.catch_up)::float8, extract(epoch FROM j.jitter)::float8, o.open
  FROM yardmaster.job_state s JOIN yardmaster.job j ON j.id = s.job_id
  CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = s.job_id AND r.database_id = s.database_id
    AND r.status IN ('WAITING', 'RUNNING') AND NOT r.requested) AS open) o
  WHERE s.scheduled AND s.next_start IS NULL AND (NOT o.open OR j.overlap <> 'skip')
  ORDER BY s.job_id, s.database_id LIMIT $1
$$;

-- Writes decisions, where nothing has changed that they rest on: `[{job_id, database_id, facts, start, slot, period (seconds), catch_up:
-- [slots to be run now], skipped: [{first, last, slots, reason}]}]`. Returns how many were written.
CREATE OR REPLACE FUNCTION yardmaster.set_next_starts(decisions jsonb)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  written integer := 0;
  one record;
BEGIN
  FOR one IN
    WITH decided AS (
      SELECT * FROM jsonb_to_recordset(decisions) AS d(job_id integer, database_id bigint, facts text, start timestamptz, slot timestamptz, period float8,
        catch_up jsonb, skipped jsonb)
    ), free AS (
      -- What somebody else changes now is decided again. To wait for it would be to hold the others meanwhile.
      SELECT s.job_id, s.database_id FROM decided d JOIN yardmaster.job_state s ON s.job_id = d.job_id AND s.database_id = d.database_id
      FOR NO KEY UPDATE OF s SKIP LOCKED)
    UPDATE yardmaster.job_state s SET next_start = d.start, next_slot = d.slot, period = make_interval(secs => d.period),
      -- What was left out, or is made up for now, is accounted for: the grid is looked at from there the next time.
      last_slot = greatest(s.last_slot, (SELECT max((k ->> 'last')::timestamptz) FROM jsonb_array_elements(d.skipped) k),
        (SELECT max((c #>> '{}')::timestamptz) FROM jsonb_array_elements(d.catch_up) c))
    FROM decided d JOIN free f ON f.job_id = d.job_id AND f.database_id = d.database_id JOIN yardmaster.job j ON j.id = d.job_id
    WHERE s.job_id = d.job_id AND s.database_id = d.database_id AND s.scheduled AND s.next_start IS NULL
      AND concat_ws(' ', s.xmin::text, j.xmin::text) = d.facts
    RETURNING d.*
  LOOP
    written := written + 1;
    PERFORM yardmaster.skip_slots(one.job_id, one.database_id, k.first, k.last, k.slots, k.reason)
    FROM jsonb_to_recordset(one.skipped) AS k(first timestamptz, last timestamptz, slots bigint, reason text);
    IF jsonb_array_length(one.catch_up) > 0 THEN
      PERFORM yardmaster.make_runs(one.job_id, one.database_id, ARRAY(SELECT c::timestamptz FROM jsonb_array_elements_text(one.catch_up) c));
    END IF;
  END LOOP;
  RETURN written;
END
$$;

-- What an attempt reports: the newest state of its steps, and outcomes. Each row is written only while its token is the
-- running attempt's. The same again changes nothing. Returns, for each outcome, whether it is the record's now.
CREATE OR REPLACE FUNCTION yardmaster.record_progress(steps jsonb, outcomes jsonb)
RETURNS TABLE (token uuid, mine boolean) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO yardmaster.step AS s (attempt_id, ordinal, action, status, started_at, finished_at, rows, bytes, message)
  SELECT a.id, x.ordinal, x.action, x.status, x.started_at, x.finished_at, x.rows, x.bytes, x.message
  FROM jsonb_to_recordset(record_progress.steps) AS x(token uuid, ordinal integer, action text, status text, started_at timestamptz,
    finished_at timestamptz, rows bigint, bytes bigint, message text)
  JOIN yardmaster.attempt a ON a.token = x.token AND a.status = 'RUNNING'
  ON CONFLICT (attempt_id, ordinal) DO UPDATE SET status = excluded.status, finished_at = excluded.finished_at,
    rows = excluded.rows, bytes = excluded.bytes, message = excluded.message;
  IF jsonb_array_length(record_progress.outcomes) > 0 THEN
    PERFORM yardmaster.lock_ends(ARRAY(SELECT a.run_id FROM jsonb_to_recordset(record_progress.outcomes) AS x(token uuid)
      JOIN yardmaster.attempt a ON a.token = x.token));
  END IF;
  RETURN QUERY SELECT x.token, yardmaster.end_run(x.token, x.status, x.reason, x.message, x.rows, x.bytes, x.lag, x.position, x.leaves_out, x.sqlstate, x.next_start)
  FROM jsonb_to_recordset(record_progress.outcomes) AS x(token uuid, status text, reason text, message text, rows bigint, bytes bigint,
    lag float8, position text, leaves_out interval, sqlstate text, next_start text);
END
$$;

-- Locks what the end of these runs changes, in the order in which everybody does: jobs, which max_retries may pause, then what jobs
-- remember, also those that start behind them, then runs. Whoever changes a job, queues its slots or ends its runs at the same time waits.
CREATE OR REPLACE FUNCTION yardmaster.lock_ends(run_ids bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  job_ids integer[] := ARRAY(SELECT DISTINCT r.job_id FROM yardmaster.run r WHERE r.id = ANY (run_ids));
BEGIN
  PERFORM 1 FROM yardmaster.job j WHERE j.id = ANY (job_ids) AND j.max_retries >= 0 ORDER BY j.id FOR NO KEY UPDATE;
  PERFORM 1 FROM yardmaster.job_state s
  WHERE (s.job_id, s.database_id) IN (
    SELECT r.job_id, r.database_id FROM yardmaster.run r WHERE r.id = ANY (run_ids)
    UNION ALL
    SELECT o.job_id, o.database_id FROM yardmaster.job_dependency d JOIN yardmaster.job_state o ON o.job_id = d.job_id WHERE d.after_job_id = ANY (job_ids))
  ORDER BY s.job_id, s.database_id FOR NO KEY UPDATE;
  PERFORM 1 FROM yardmaster.run r WHERE r.id = ANY (run_ids) ORDER BY r.id FOR UPDATE;
END
$$;

-- Ends an attempt and its run. False when the attempt was given up meanwhile: then nothing is changed. The same call again,
-- by a worker that missed the answer, changes nothing and is true again. Status WAITING gives the run back to the queue.
-- `lag`: seconds by which the copy is behind its source, NULL where the run says nothing about it; `leaves_out`: the part of it
-- that is so on purpose. `next_start`: what the run itself said of its job's next start; of one that is given back, when it may begin again.
CREATE OR REPLACE FUNCTION yardmaster.finish_run(
  token uuid, status text, reason text, message text, rows bigint, bytes bigint, lag float8 DEFAULT NULL, "position" text DEFAULT NULL,
  leaves_out interval DEFAULT NULL, sqlstate text DEFAULT NULL, next_start text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM yardmaster.lock_ends(ARRAY(SELECT a.run_id FROM yardmaster.attempt a WHERE a.token = finish_run.token));
  RETURN yardmaster.end_run(finish_run.token, finish_run.status, finish_run.reason, finish_run.message, finish_run.rows, finish_run.bytes, finish_run.lag,
    finish_run."position", finish_run.leaves_out, finish_run.sqlstate, finish_run.next_start);
END
$$;

-- The same, for whoever holds the locks (`lock_ends`).
CREATE OR REPLACE FUNCTION yardmaster.end_run(
  token uuid, status text, reason text, message text, rows bigint, bytes bigint, lag float8 DEFAULT NULL, "position" text DEFAULT NULL,
  leaves_out interval DEFAULT NULL, sqlstate text DEFAULT NULL, next_start text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ended yardmaster.run;
  canceller text := (SELECT r.cancelled_by FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
    WHERE a.token = end_run.token AND end_run.status = 'WAITING' AND r.cancelled_at IS NOT NULL);
BEGIN
  -- Whoever gives it back has not seen yet that somebody called it off.
  IF canceller IS NOT NULL THEN
    status := 'CRITICAL';
    reason := 'cancelled';
    message := format('%s cancelled it.', canceller);
  END IF;
  UPDATE yardmaster.attempt a SET finished_at = clock_timestamp(),
    status = CASE end_run.status WHEN 'WAITING' THEN 'CRITICAL' ELSE end_run.status END
  WHERE a.token = end_run.token AND a.status = 'RUNNING';
  IF NOT FOUND THEN
    -- Whoever says so is done with its session in the target.
    UPDATE yardmaster.attempt a SET abandoned = false WHERE a.token = end_run.token AND a.abandoned;
    RETURN EXISTS (SELECT 1 FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
      WHERE a.token = end_run.token AND r.message = end_run.message AND r.status = end_run.status
        AND a.status = CASE end_run.status WHEN 'WAITING' THEN 'CRITICAL' ELSE end_run.status END);
  END IF;
  UPDATE yardmaster.run r SET status = end_run.status, reason = end_run.reason, message = end_run.message,
    rows = end_run.rows, bytes = end_run.bytes, sqlstate = end_run.sqlstate,
    due_at = CASE WHEN end_run.status = 'WAITING' AND end_run.next_start LIKE 'in %'
      THEN clock_timestamp() + substr(end_run.next_start, 4)::interval ELSE r.due_at END,
    finished_at = CASE end_run.status WHEN 'WAITING' THEN NULL ELSE clock_timestamp() END
  FROM yardmaster.attempt a WHERE a.token = end_run.token AND r.id = a.run_id
  RETURNING r.* INTO ended;
  IF ended.status = 'WAITING' THEN
    PERFORM yardmaster.wake_workers();
    RETURN true;
  END IF;
  -- Others may have waited for the room that it took, or for its end: the next run of its job may be for another host only.
  IF EXISTS (SELECT 1 FROM yardmaster.run_limits u JOIN yardmaster.limits l ON l.key = u.key WHERE u.run_id = ended.id AND l.running + 1 >= l.slots)
    OR EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = ended.job_id AND r.database_id = ended.database_id AND r.status = 'WAITING' AND r.queued) THEN
    PERFORM yardmaster.wake_workers();
  END IF;
  PERFORM yardmaster.count_end(ended.id, false);
  IF end_run.next_start IS NOT NULL THEN
    PERFORM yardmaster.obey_next_start(ended.job_id, ended.database_id, end_run.next_start);
  END IF;
  UPDATE yardmaster.replication p SET as_of = clock_timestamp() - make_interval(secs => end_run.lag),
    "position" = coalesce(end_run."position", p."position"), leaves_out = coalesce(end_run.leaves_out, interval '0')
  WHERE p.job_id = ended.job_id AND end_run.lag IS NOT NULL;
  RETURN true;
END
$$;

-- Whether the attempt with this token is over: what it left behind in a destination may be ended.
CREATE OR REPLACE FUNCTION yardmaster.attempt_is_over(token uuid)
RETURNS boolean LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT 1 FROM yardmaster.attempt a WHERE a.token = $1 AND a.status <> 'RUNNING')
$$;

-- Says which sessions in targets work for the attempts with these tokens: `[{token, pid, session_start}]`. Of each, whether the attempt
-- still goes on (else nothing may be begun), and what sessions earlier attempts of its job may have left there.
CREATE OR REPLACE FUNCTION yardmaster.claim_sessions(claims jsonb)
RETURNS TABLE (token uuid, mine boolean, earlier jsonb) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  -- The lock in the target is the fence; what a crash of this server takes along here costs the next attempt a refusal at worst.
  PERFORM set_config('synchronous_commit', 'off', true);
  RETURN QUERY
  WITH claim AS MATERIALIZED (SELECT c.* FROM jsonb_to_recordset(claims) AS c(token uuid, pid integer, session_start timestamptz)),
  claimed AS (
    UPDATE yardmaster.attempt a SET target_pid = c.pid, target_start = c.session_start
    FROM claim c WHERE a.token = c.token AND a.status = 'RUNNING' RETURNING a.token)
  SELECT c.token, EXISTS (SELECT 1 FROM claimed d WHERE d.token = c.token),
    CASE WHEN EXISTS (SELECT 1 FROM yardmaster.attempt e WHERE e.abandoned AND e.target_pid IS NOT NULL) THEN
      (SELECT jsonb_agg(jsonb_build_object('pid', s.pid, 'who', s.who,
        'backend_start', to_char(s.session_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))) FROM yardmaster.abandoned_sessions(c.token) s) END
  FROM claim c;
END
$$;

-- Sessions in the target that earlier attempts of the same job may have left there.
CREATE OR REPLACE FUNCTION yardmaster.abandoned_sessions(token uuid)
RETURNS TABLE (pid integer, session_start timestamptz, who text) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- From the few that there are: a job may have a million runs.
  WITH abandoned AS MATERIALIZED (SELECT e.* FROM yardmaster.attempt e WHERE e.abandoned AND e.target_pid IS NOT NULL)
  SELECT e.target_pid, e.target_start, format('attempt %s of run %s, by %s', e.number, e.run_id, e.worker)
  FROM abandoned e JOIN yardmaster.run o ON o.id = e.run_id
  JOIN yardmaster.attempt a ON a.token = $1 AND e.id <> a.id
  JOIN yardmaster.run r ON r.id = a.run_id AND o.job_id = r.job_id AND o.database_id = r.database_id AND (o.id = r.id OR NOT r.shares)
$$;

-- They are gone: whoever follows need not look for them.
CREATE OR REPLACE FUNCTION yardmaster.settle_sessions(token uuid)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE yardmaster.attempt e SET abandoned = false
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
  JOIN yardmaster.run o ON o.job_id = r.job_id AND o.database_id = r.database_id AND (o.id = r.id OR NOT r.shares)
  WHERE a.token = $1 AND e.run_id = o.id AND e.abandoned AND e.id < a.id
$$;

-- The attempt ends, and it is not known whether its session in the target does: the next one looks.
CREATE OR REPLACE FUNCTION yardmaster.abandon_session(token uuid)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE yardmaster.attempt a SET abandoned = true WHERE a.token = $1 AND a.status = 'RUNNING'
$$;

-- Why a run that is under way stands still: target_unknown where its database can't be asked, with what it said.
CREATE OR REPLACE FUNCTION yardmaster.set_run_reason(token uuid, reason text, message text)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE yardmaster.run r SET reason = $2, message = $3 FROM yardmaster.attempt a
  WHERE a.token = $1 AND a.status = 'RUNNING' AND r.id = a.run_id AND r.status = 'RUNNING'
$$;
