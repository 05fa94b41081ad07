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

-- Runs that wait for a worker and could begin now, as far as their jobs go.
CREATE OR REPLACE VIEW yardmaster.claimable_runs AS
  SELECT r.id, r.slot, j.kind
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id
  WHERE r.status = 'WAITING' AND r.queued
    AND (j.status = 'active' OR r.requested AND j.status IN ('paused', 'setting_up', 'broken'))
    AND NOT EXISTS (SELECT 1 FROM yardmaster.run other WHERE other.job_id = r.job_id
      AND (other.status = 'RUNNING' OR other.queued AND other.status = 'WAITING' AND (other.slot, other.id) < (r.slot, r.id)));

-- Takes work for a worker: slots that are due become runs, and of the runs that wait and that its host may take, oldest first, at
-- most `slots` become the worker's, each with a new attempt. No run is ever given twice, and never two of one job. `job_ids`:
-- only of these jobs.
CREATE OR REPLACE FUNCTION yardmaster.claim_runs(worker_id bigint, kinds text[], slots integer, job_ids integer[] DEFAULT NULL)
RETURNS TABLE (run_id bigint, job_id integer, object text, operation text, options jsonb, attempt integer, token uuid)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.worker;
  free integer;
  is_limited boolean;
  full_keys text[] := '{}';
  full_sites text[] := '{}';
  -- So many of the runs that wait are looked at. Others may be taking the same ones, or something holds them back: then more are.
  width integer;
  waiting bigint[];
  able bigint[];
  begun bigint[];
  given bigint[] := '{}';
  queued integer;
BEGIN
  queued := yardmaster.queue_due_slots(kinds, job_ids);
  -- Locked as long as this transaction: the same worker never claims twice at once, and a dead one never. A statement of its
  -- own, so that the next one counts what the claim before it took.
  SELECT * INTO mine FROM yardmaster.worker w WHERE w.id = claim_runs.worker_id AND w.ended_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  is_limited := yardmaster.lock_limits(mine.host);
  SELECT least(claim_runs.slots, mine.slots - (
    SELECT count(*) FROM yardmaster.attempt a WHERE a.worker_id = mine.id AND a.status = 'RUNNING')) INTO free;
  width := greatest(free, 1);
  LOOP
    IF is_limited THEN
      free := least(free, (SELECT h.room FROM yardmaster.host_room h WHERE h.host = mine.host AND h.of_host));
      full_keys := ARRAY(SELECT l.key FROM yardmaster.limits l WHERE l.running >= l.slots);
      full_sites := ARRAY(SELECT h.site FROM yardmaster.host_room h WHERE h.host = mine.host AND NOT h.of_host AND h.room <= 0);
    END IF;
    EXIT WHEN free <= 0;
    waiting := CASE WHEN job_ids IS NULL THEN yardmaster.oldest_waiting(mine.host, width, full_keys, full_sites)
      ELSE yardmaster.waiting_of_jobs(mine.host, job_ids, full_keys, full_sites) END;
    -- Joined, not `= ANY`: without statistics PostgreSQL 14 looks for each of all that wait in the whole list, 30 s where 20,000 are paused.
    able := ARRAY(SELECT r.id FROM unnest(waiting) u(id) JOIN yardmaster.claimable_runs r ON r.id = u.id WHERE r.kind = ANY (kinds)
      ORDER BY r.slot, r.id);
    IF is_limited THEN
      able := yardmaster.within_limits(mine.host, able);
    END IF;
    begun := yardmaster.begin_attempts(mine.id, able, free);
    given := given || begun;
    free := free - cardinality(begun);
    EXIT WHEN (cardinality(waiting) < width OR job_ids IS NOT NULL) AND (cardinality(begun) = 0 OR NOT is_limited);
    width := width * 4;
  END LOOP;
  -- Whoever looked in this moment for what was due found it locked, and may be the one to take what is left.
  IF queued > cardinality(given) THEN
    PERFORM yardmaster.wake_workers();
  END IF;
  RETURN QUERY
  SELECT r.id, r.job_id, r.object, r.operation, r.options, a.number, a.token
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
  WHERE a.id = ANY (given) ORDER BY r.slot, r.id;
END
$$;

-- The runs that have waited longest of those that a host may take, as far as placement and limits go: `most`, or all where there are
-- fewer. Lane by lane, so that what the host may not take is not even read: first the lanes whose oldest run is oldest, then the
-- oldest runs of these.
CREATE OR REPLACE FUNCTION yardmaster.oldest_waiting(host text, most integer, full_keys text[], full_sites text[])
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  until timestamptz := clock_timestamp();
BEGIN
  RETURN ARRAY(
    WITH head AS MATERIALIZED (
      SELECT o.lane, until - o.wait AS due_by FROM yardmaster.open_lanes(oldest_waiting.host, full_keys, full_sites) o CROSS JOIN LATERAL (
        SELECT r.slot, r.id FROM yardmaster.run r
        WHERE r.status = 'WAITING' AND r.queued AND r.lane = o.lane AND r.slot <= until - o.wait
        ORDER BY r.lane, r.slot, r.id LIMIT 1) first
      ORDER BY first.slot, first.id LIMIT most)
    SELECT c.id FROM head h CROSS JOIN LATERAL (
      SELECT r.id, r.slot FROM yardmaster.run r
      WHERE r.status = 'WAITING' AND r.queued AND r.lane = h.lane AND r.slot <= h.due_by
      ORDER BY r.lane, r.slot, r.id LIMIT most) c
    ORDER BY c.slot, c.id LIMIT most);
END
$$;

-- The runs of these jobs that wait and that a host may take, as far as placement and limits go.
CREATE OR REPLACE FUNCTION yardmaster.waiting_of_jobs(host text, job_ids integer[], full_keys text[], full_sites text[])
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN ARRAY(
    SELECT r.id FROM yardmaster.run r JOIN yardmaster.open_lanes(waiting_of_jobs.host, full_keys, full_sites) o ON o.lane = r.lane
    WHERE r.job_id = ANY (job_ids) AND r.status = 'WAITING' AND r.queued AND r.slot <= clock_timestamp() - o.wait
    ORDER BY r.slot, r.id);
END
$$;

-- Begins at most `most` of these runs, those that nobody else has his hands on; returns the attempts. The rule is asked once more
-- for each: bindings may have changed since they were looked for. None where another claim took a run of the same job in this very
-- moment: there is another look soon.
CREATE OR REPLACE FUNCTION yardmaster.begin_attempts(worker_id bigint, run_ids bigint[], most integer)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  active text[] := ARRAY(SELECT a.host FROM yardmaster.active_hosts a);
  begun bigint[];
BEGIN
  WITH taken AS (
    SELECT r.id, c.code FROM unnest(run_ids) u(id) JOIN yardmaster.run r ON r.id = u.id
    JOIN yardmaster.worker w ON w.id = begin_attempts.worker_id
    CROSS JOIN yardmaster.placement d
    LEFT JOIN yardmaster.site s ON s.name = r.site
    LEFT JOIN yardmaster.binding b ON b.site = r.site AND b.host = w.host
    CROSS JOIN LATERAL (SELECT yardmaster.placement_code(r.site, w.host, b.binding,
      ARRAY(SELECT p.host FROM yardmaster.binding p WHERE p.site = r.site AND p.binding = 'prefer' AND p.host = ANY (active)),
      CASE WHEN s.inherits_fallback THEN d.fallback_after ELSE s.fallback_after END, clock_timestamp() - r.slot, true,
      EXISTS (SELECT 1 FROM yardmaster.host h WHERE h.name = w.host AND h.drained_at IS NOT NULL), false, false) AS code OFFSET 0) c
    WHERE r.status = 'WAITING' AND yardmaster.placement_allows(c.code)
    ORDER BY r.slot, r.id LIMIT most FOR UPDATE OF r SKIP LOCKED
  ), started AS (
    UPDATE yardmaster.run r SET status = 'RUNNING', reason = NULL, message = NULL, started_at = coalesce(r.started_at, clock_timestamp())
    -- By an array: the planner takes a limit that it does not know for a tenth of what waits, and may read every run there ever was.
    WHERE r.id = ANY (ARRAY(SELECT t.id FROM taken t))
  ), attempts AS (
    INSERT INTO yardmaster.attempt (run_id, number, worker_id, worker, host, status, placement)
    SELECT t.id, 1 + coalesce((SELECT max(a.number) FROM yardmaster.attempt a WHERE a.run_id = t.id), 0), w.id, w.name, w.host, 'RUNNING', t.code
    FROM taken t, yardmaster.worker w WHERE w.id = begin_attempts.worker_id
    RETURNING id
  )
  SELECT array_agg(a.id) INTO begun FROM attempts a;
  RETURN coalesce(begun, '{}');
EXCEPTION WHEN unique_violation THEN
  RETURN '{}';
END
$$;

-- What a worker is believed to carry out: a claim whose answer was lost is found here.
CREATE OR REPLACE FUNCTION yardmaster.held_runs(worker_id bigint)
RETURNS TABLE (run_id bigint, job_id integer, object text, operation text, options jsonb, attempt integer, token uuid)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.id, r.job_id, r.object, r.operation, r.options, a.number, a.token
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
  WHERE a.worker_id = $1 AND a.status = 'RUNNING' AND r.queued
$$;

-- Slots that are due become runs that wait, the oldest first, no more at once than keeps a claim short. Each is taken by one
-- caller, and made once. Returns how many.
CREATE OR REPLACE FUNCTION yardmaster.queue_due_slots(kinds text[], job_ids integer[] DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  -- A value, so that the index ends the search where the future begins.
  until timestamptz := clock_timestamp();
  made integer;
BEGIN
  -- Nearly always: what follows costs a claim as much as the rest of it.
  IF (SELECT j.next_start FROM yardmaster.job j WHERE j.status = 'active' AND j.next_start IS NOT NULL
      ORDER BY j.next_start, j.id LIMIT 1) <= until IS NOT TRUE THEN
    RETURN 0;
  END IF;
  WITH due AS (
    SELECT j.id FROM yardmaster.job j
    WHERE j.status = 'active' AND j.next_start <= until AND j.kind = ANY (kinds)
      AND (job_ids IS NULL OR j.id = ANY (job_ids))
    ORDER BY j.next_start, j.id LIMIT 200
    FOR NO KEY UPDATE SKIP LOCKED
  ), moved AS (
    UPDATE yardmaster.job j SET next_start = NULL, last_slot = j.next_start WHERE j.id = ANY (ARRAY(SELECT d.id FROM due d))
    RETURNING j.id, j.last_slot AS slot
  )
  INSERT INTO yardmaster.run (job_id, slot, database_id, operation, object, site, lane, status, queued, requested)
  SELECT m.id, m.slot, v.destination_database_id, 'refresh', v.destination_database || ':' || v.destination_table, v.site, v.lane, 'WAITING', true, false
  FROM moved m JOIN yardmaster.replications v ON v.job_id = m.id
  -- One of the schedule's is open already: it is what this slot would have been. What somebody asked for is not: it may be
  -- cancelled, or have a limit.
  WHERE NOT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = m.id AND r.status IN ('WAITING', 'RUNNING') AND NOT r.requested)
  ON CONFLICT (job_id, slot, database_id) DO NOTHING;
  GET DIAGNOSTICS made = ROW_COUNT;
  RETURN made;
END
$$;

-- Seconds until the next slot is due; negative when one is, NULL when none is known.
CREATE OR REPLACE FUNCTION yardmaster.seconds_until_due(kinds text[])
RETURNS float8 LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT extract(epoch FROM j.next_start - clock_timestamp())::float8 FROM yardmaster.job j
  WHERE j.status = 'active' AND j.next_start IS NOT NULL AND j.kind = ANY ($1)
  ORDER BY j.next_start, j.id LIMIT 1
$$;

-- Seconds until there may be something new for a worker: the next slot that is due, or a run that waits for another host and that
-- its own may take then. NULL when nothing is known.
CREATE OR REPLACE FUNCTION yardmaster.seconds_until_work(worker_id bigint, kinds text[])
RETURNS float8 LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  -- A value, so that the index is entered where the future begins, and not behind all that waits for something else.
  since timestamptz := clock_timestamp();
BEGIN
  RETURN least(yardmaster.seconds_until_due(kinds), (
    SELECT min(extract(epoch FROM next.slot + o.wait - clock_timestamp()))::float8
    FROM yardmaster.worker w CROSS JOIN LATERAL yardmaster.open_lanes(w.host, '{}', '{}') o CROSS JOIN LATERAL (
      SELECT r.slot FROM yardmaster.run r
      WHERE r.status = 'WAITING' AND r.queued AND r.lane = o.lane AND r.slot > since - o.wait
      ORDER BY r.lane, r.slot, r.id LIMIT 1) next
    WHERE w.id = seconds_until_work.worker_id AND o.wait > interval '0'));
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
