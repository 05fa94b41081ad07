-- How work gets to workers: what is due, and who is given what of it.

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
