CREATE OR REPLACE VIEW yardmaster.runs AS
  SELECT r.id, r.job_id, r.slot, r.operation, r.object, j.kind, r.site, r.status, r.reason, r.queued, r.requested, r.started_at,
    r.finished_at, r.rows, r.bytes, r.message, a.worker, a.host, a.number AS attempt, a.id AS attempt_id, a.placement
  FROM yardmaster.run r
  JOIN yardmaster.job j ON j.id = r.job_id
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
    INSERT INTO yardmaster.run (job_id, slot, database_id, operation, object, site, status, started_at)
    VALUES (begin_run.job_id, clock_timestamp(), begin_run.database_id, begin_run.operation, begin_run.object, begin_run.site,
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

-- Hands a run to the workers. Options are those of a refresh: force, limit, repull, start, end. Asked for again before it began, it is the same run.
CREATE OR REPLACE FUNCTION yardmaster.queue_run(job_id integer, operation text DEFAULT 'refresh', options jsonb DEFAULT '{}')
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  IF queue_run.operation IS NULL OR queue_run.operation NOT IN ('setup', 'refresh') OR jsonb_typeof(queue_run.options) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'A run that is queued is a refresh or a setup, with a JSON object of options; not % with %.',
      quote_nullable(queue_run.operation), quote_nullable(queue_run.options) USING ERRCODE = 'YM003';
  END IF;
  PERFORM 1 FROM yardmaster.job j WHERE j.id = queue_run.job_id AND j.deleted_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no job %.', coalesce(queue_run.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  SELECT r.id INTO new_id FROM yardmaster.run r
  WHERE r.job_id = queue_run.job_id AND r.status = 'WAITING' AND r.requested AND r.operation = queue_run.operation
    AND r.options = queue_run.options;
  IF NOT FOUND THEN
    INSERT INTO yardmaster.run (job_id, slot, database_id, operation, object, site, lane, status, queued, options)
    SELECT v.job_id, clock_timestamp(), v.destination_database_id, queue_run.operation, yardmaster.replication_label(to_jsonb(v)), v.site,
      v.lane, 'WAITING', true, queue_run.options
    FROM yardmaster.replications v WHERE v.job_id = queue_run.job_id
    RETURNING id INTO new_id;
  END IF;
  PERFORM yardmaster.wake_workers();
  RETURN new_id;
END
$$;

-- Jobs with a schedule whose next start is to be decided: what the decision needs. `facts` goes back with the decision.
CREATE OR REPLACE FUNCTION yardmaster.undecided_jobs(most integer)
RETURNS TABLE (job_id integer, facts text, months integer, days integer, milliseconds float8, cron text, timezone text,
  origin timestamptz, last_slot timestamptz, last_finish timestamptz, failures integer)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT j.id, j.xmin::text, (extract(year FROM j.schedule_interval) * 12 + extract(month FROM j.schedule_interval))::integer,
    extract(day FROM j.schedule_interval)::integer,
    (extract(hour FROM j.schedule_interval) * 3600000 + extract(minute FROM j.schedule_interval) * 60000
      + extract(milliseconds FROM j.schedule_interval))::float8,
    j.cron, j.timezone, j.schedule_origin, j.last_slot, j.last_finish, j.failures
  FROM yardmaster.job j
  WHERE j.status = 'active' AND j.next_start IS NULL AND (j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = j.id AND r.status IN ('WAITING', 'RUNNING') AND NOT r.requested)
  ORDER BY j.id LIMIT $1
$$;

-- Writes decided starts, where nothing has changed that they rest on. `periods` in seconds.
CREATE OR REPLACE FUNCTION yardmaster.set_next_starts(job_ids integer[], facts text[], starts timestamptz[], periods float8[])
RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  WITH decided AS (SELECT * FROM unnest($1, $2, $3, $4) AS d(id, facts, start, period)),
  written AS (
    UPDATE yardmaster.job j SET next_start = d.start, period = make_interval(secs => d.period)
    FROM decided d WHERE j.id = d.id AND j.xmin::text = d.facts AND j.next_start IS NULL
    RETURNING 1)
  SELECT count(*)::integer FROM written
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
  RETURN QUERY SELECT x.token, yardmaster.finish_run(x.token, x.status, x.reason, x.message, x.rows, x.bytes, x.lag, x.position, x.leaves_out)
  FROM jsonb_to_recordset(record_progress.outcomes) AS x(token uuid, status text, reason text, message text, rows bigint, bytes bigint,
    lag float8, position text, leaves_out interval);
END
$$;

-- Ends an attempt and its run. False when the attempt was given up meanwhile: then nothing is changed. The same call again,
-- by a worker that missed the answer, changes nothing and is true again. Status WAITING gives the run back to the queue.
-- `lag`: seconds by which the copy is behind its source, NULL where the run says nothing about it; `leaves_out`: the part of it
-- that is so on purpose.
CREATE OR REPLACE FUNCTION yardmaster.finish_run(
  token uuid, status text, reason text, message text, rows bigint, bytes bigint, lag float8 DEFAULT NULL, "position" text DEFAULT NULL,
  leaves_out interval DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ended yardmaster.run;
BEGIN
  -- The run first, as a claim does.
  PERFORM 1 FROM yardmaster.run r WHERE r.id = (SELECT a.run_id FROM yardmaster.attempt a WHERE a.token = finish_run.token) FOR UPDATE;
  UPDATE yardmaster.attempt a SET finished_at = clock_timestamp(),
    status = CASE finish_run.status WHEN 'WAITING' THEN 'CRITICAL' ELSE finish_run.status END
  WHERE a.token = finish_run.token AND a.status = 'RUNNING';
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT 1 FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
      WHERE a.token = finish_run.token AND r.message = finish_run.message AND r.status = finish_run.status
        AND a.status = CASE finish_run.status WHEN 'WAITING' THEN 'CRITICAL' ELSE finish_run.status END);
  END IF;
  UPDATE yardmaster.run r SET status = finish_run.status, reason = finish_run.reason, message = finish_run.message,
    rows = finish_run.rows, bytes = finish_run.bytes,
    finished_at = CASE finish_run.status WHEN 'WAITING' THEN NULL ELSE clock_timestamp() END
  FROM yardmaster.attempt a WHERE a.token = finish_run.token AND r.id = a.run_id
  RETURNING r.* INTO ended;
  IF ended.status = 'WAITING' THEN
    PERFORM yardmaster.wake_workers();
    RETURN true;
  END IF;
  -- Others may have waited for the room that it took, or for its end: the next run of its job may be for another host only.
  IF EXISTS (SELECT 1 FROM yardmaster.run_limits u JOIN yardmaster.limits l ON l.key = u.key WHERE u.run_id = ended.id AND l.running + 1 >= l.slots)
    OR EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = ended.job_id AND r.status = 'WAITING' AND r.queued) THEN
    PERFORM yardmaster.wake_workers();
  END IF;
  UPDATE yardmaster.job j SET last_finish = ended.finished_at,
    failures = CASE WHEN ended.reason IN ('cancelled', 'refused', 'locked') THEN j.failures
      WHEN ended.status = 'CRITICAL' THEN j.failures + 1 ELSE 0 END
  WHERE j.id = ended.job_id;
  UPDATE yardmaster.replication p SET as_of = clock_timestamp() - make_interval(secs => finish_run.lag),
    "position" = coalesce(finish_run."position", p."position"), leaves_out = coalesce(finish_run.leaves_out, interval '0')
  WHERE p.job_id = ended.job_id AND finish_run.lag IS NOT NULL;
  RETURN true;
END
$$;

-- Whether the attempt with this token is over: what it left behind in a destination may be ended.
CREATE OR REPLACE FUNCTION yardmaster.attempt_is_over(token uuid)
RETURNS boolean LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT 1 FROM yardmaster.attempt a WHERE a.token = $1 AND a.status <> 'RUNNING')
$$;
