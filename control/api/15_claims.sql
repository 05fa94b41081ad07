-- How work gets to workers: what is due, and who is given what of it.

-- What whoever carries out a run of a job has to know. JSON within it is text, so that no digit is lost; intervals are milliseconds.
CREATE OR REPLACE FUNCTION yardmaster.call_of_run(run_id bigint)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT jsonb_build_object('database', d.name, 'application_name', format('%s [%s]', coalesce(j.name, 'User-Defined Action'), j.id),
      'proc_schema', a.proc_schema, 'proc_name', a.proc_name, 'statements', a.statements, 'task', a.task, 'config', a.config::text,
      'params', (r.options -> 'params')::text, 'max_runtime', extract(epoch FROM j.max_runtime) * 1000, 'overlaps', j.overlap = 'allow',
      'repeatable', coalesce(j.retry_on_crash, '') <> 'never' AND j.max_retries <> 0, 'slot', r.slot, 'origin_number', o.number::text,
      'stats_table', CASE WHEN o.database_id = r.database_id AND o.stats_name IS NOT NULL THEN jsonb_build_object('schema', o.stats_schema, 'name', o.stats_name) END)
    FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id JOIN yardmaster.job_action a ON a.job_id = j.id
    LEFT JOIN yardmaster.managed_database d ON d.id = r.database_id
    LEFT JOIN yardmaster.job_origin o ON o.job_id = j.id WHERE r.id = call_of_run.run_id);
END
$$;

-- Of two runs of one job that wait: the older one, but what is due goes before a backfill, which may be long.
CREATE OR REPLACE FUNCTION yardmaster.goes_before(other yardmaster.run, mine yardmaster.run)
RETURNS boolean LANGUAGE sql STABLE
RETURN CASE WHEN (other.options OPERATOR(pg_catalog.?) 'backfill') = (mine.options OPERATOR(pg_catalog.?) 'backfill') THEN (other.due_at, other.id) < (mine.due_at, mine.id)
  ELSE (mine.options OPERATOR(pg_catalog.?) 'backfill') AND other.due_at <= clock_timestamp() END;

-- Runs that wait for a worker and could begin now, as far as their jobs go.
CREATE OR REPLACE VIEW yardmaster.claimable_runs AS
  SELECT r.id, r.due_at, j.kind
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id
  WHERE r.status = 'WAITING' AND r.queued
    AND (j.status = 'active' OR r.requested AND j.status IN ('paused', 'setting_up', 'broken'))
    AND (r.shares OR NOT EXISTS (SELECT 1 FROM yardmaster.run other WHERE other.job_id = r.job_id AND other.database_id = r.database_id
      AND (other.status = 'RUNNING' OR other.queued AND other.status = 'WAITING' AND (j.status = 'active' OR other.requested)
        -- A slot of a job that is paused holds up nobody.
        AND yardmaster.goes_before(other, r))));

-- Takes work for a worker: slots that are due become runs, and of the runs that wait and that its host may take, the highest priority
-- and then the oldest first, at most `slots` become the worker's, each with a new attempt. No run is ever given twice, and never two of
-- one job in one database. `kinds`: what it can carry out: replication, procedure, sql, task:NAME. `job_ids`: only of these jobs.
CREATE OR REPLACE FUNCTION yardmaster.claim_runs(worker_id bigint, kinds text[], slots integer, job_ids integer[] DEFAULT NULL)
RETURNS TABLE (run_id bigint, job_id integer, kind text, object text, operation text, options jsonb, attempt integer, token uuid, call jsonb)
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
  -- Locked as long as this transaction: the same worker never claims twice at once, and a dead one never. A statement of its
  -- own, so that the next one counts what the claim before it took.
  SELECT * INTO mine FROM yardmaster.worker w WHERE w.id = claim_runs.worker_id AND w.ended_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  queued := yardmaster.queue_due_slots(kinds, job_ids);
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
    waiting := CASE WHEN job_ids IS NULL THEN yardmaster.oldest_waiting(mine.host, kinds, width, full_keys, full_sites)
      ELSE yardmaster.waiting_of_jobs(mine.host, kinds, job_ids, full_keys, full_sites) END;
    -- Of each job only the run that goes before its others: behind a backfill of 10,000 slots each claim took a second. One by one, and not
    -- `= ANY`: without statistics PostgreSQL 14 looks for each of all that wait in the whole list, 30 s where 20,000 are paused.
    able := ARRAY(SELECT r.id FROM (
        SELECT DISTINCT ON (f.job_id, f.database_id, CASE WHEN f.shares THEN f.id END) f.id, w.place
        FROM unnest(waiting) WITH ORDINALITY w(id, place) JOIN yardmaster.run f ON f.id = w.id
        CROSS JOIN LATERAL (SELECT j.status FROM yardmaster.job j WHERE j.id = f.job_id OFFSET 0) j
        WHERE j.status = 'active' OR f.requested
        ORDER BY f.job_id, f.database_id, CASE WHEN f.shares THEN f.id END, f.options ? 'backfill', f.due_at, f.id) u
      CROSS JOIN LATERAL (SELECT c.* FROM yardmaster.claimable_runs c WHERE c.id = u.id OFFSET 0) r
      WHERE r.kind = 'task' OR r.kind = ANY (kinds) ORDER BY u.place);
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
  SELECT r.id, r.job_id, j.kind, r.object, r.operation, r.options, a.number, a.token, CASE WHEN r.operation = 'call' THEN yardmaster.call_of_run(r.id) END
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id JOIN yardmaster.job j ON j.id = r.job_id
  WHERE a.id = ANY (given) ORDER BY a.id;
END
$$;

-- The runs that come first of those that a host may take, as far as placement, limits and kinds go: `most`, or all where there are
-- fewer. Lane by lane, so that what the host may not take is not even read: first the lanes of the highest priority, of these the ones
-- whose oldest run is oldest, then the oldest runs of these.
CREATE OR REPLACE FUNCTION yardmaster.oldest_waiting(host text, kinds text[], most integer, full_keys text[], full_sites text[])
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  until timestamptz := clock_timestamp();
BEGIN
  RETURN ARRAY(
    WITH head AS MATERIALIZED (
      SELECT o.lane, o.priority, until - o.wait AS due_by FROM yardmaster.open_lanes(oldest_waiting.host, kinds, full_keys, full_sites) o CROSS JOIN LATERAL (
        SELECT r.due_at, r.id FROM yardmaster.run r
        WHERE r.status = 'WAITING' AND r.queued AND r.lane = o.lane AND r.due_at <= until - o.wait
        ORDER BY r.lane, r.due_at, r.id LIMIT 1) first
      ORDER BY o.priority DESC, first.due_at, first.id LIMIT most)
    SELECT c.id FROM head h CROSS JOIN LATERAL (
      SELECT r.id, r.due_at FROM yardmaster.run r
      WHERE r.status = 'WAITING' AND r.queued AND r.lane = h.lane AND r.due_at <= h.due_by
      ORDER BY r.lane, r.due_at, r.id LIMIT most) c
    ORDER BY h.priority DESC, c.due_at, c.id LIMIT most);
END
$$;

-- The runs of these jobs that wait and that a host may take, as far as placement, limits and kinds go.
CREATE OR REPLACE FUNCTION yardmaster.waiting_of_jobs(host text, kinds text[], job_ids integer[], full_keys text[], full_sites text[])
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN ARRAY(
    SELECT r.id FROM yardmaster.run r JOIN yardmaster.open_lanes(waiting_of_jobs.host, kinds, full_keys, full_sites) o ON o.lane = r.lane
    WHERE r.job_id = ANY (job_ids) AND r.status = 'WAITING' AND r.queued AND r.due_at <= clock_timestamp() - o.wait
    ORDER BY o.priority DESC, r.due_at, r.id);
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
    SELECT r.id, c.code, u.place FROM unnest(run_ids) WITH ORDINALITY u(id, place) JOIN yardmaster.run r ON r.id = u.id
    JOIN yardmaster.worker w ON w.id = begin_attempts.worker_id
    CROSS JOIN yardmaster.placement d
    LEFT JOIN yardmaster.site s ON s.name = r.site
    LEFT JOIN yardmaster.binding b ON b.site = r.site AND b.host = w.host
    CROSS JOIN LATERAL (SELECT yardmaster.placement_code(r.site, w.host, b.binding,
      ARRAY(SELECT p.host FROM yardmaster.binding p WHERE p.site = r.site AND p.binding = 'prefer' AND p.host = ANY (active)),
      CASE WHEN s.inherits_fallback THEN d.fallback_after ELSE s.fallback_after END, clock_timestamp() - r.due_at, true,
      EXISTS (SELECT 1 FROM yardmaster.host h WHERE h.name = w.host AND h.drained_at IS NOT NULL), false, false) AS code OFFSET 0) c
    WHERE r.status = 'WAITING' AND yardmaster.placement_allows(c.code)
    ORDER BY u.place LIMIT most FOR UPDATE OF r SKIP LOCKED
  ), started AS (
    UPDATE yardmaster.run r SET status = 'RUNNING', reason = NULL, message = NULL, started_at = coalesce(r.started_at, clock_timestamp()),
      config = CASE WHEN r.operation = 'call' THEN yardmaster.config_of_run(r.job_id, r.options) END
    -- By an array: the planner takes a limit that it does not know for a tenth of what waits, and may read every run there ever was.
    WHERE r.id = ANY (ARRAY(SELECT t.id FROM taken t))
  ), attempts AS (
    INSERT INTO yardmaster.attempt (run_id, number, worker_id, worker, host, status, placement)
    SELECT t.id, 1 + coalesce((SELECT max(a.number) FROM yardmaster.attempt a WHERE a.run_id = t.id), 0), w.id, w.name, w.host, 'RUNNING', t.code
    FROM taken t, yardmaster.worker w WHERE w.id = begin_attempts.worker_id
    ORDER BY t.place
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
RETURNS TABLE (run_id bigint, job_id integer, kind text, object text, operation text, options jsonb, attempt integer, token uuid, call jsonb)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.id, r.job_id, j.kind, r.object, r.operation, r.options, a.number, a.token, CASE WHEN r.operation = 'call' THEN yardmaster.call_of_run(r.id) END
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id JOIN yardmaster.job j ON j.id = r.job_id
  WHERE a.worker_id = $1 AND a.status = 'RUNNING' AND r.queued
$$;

-- What the action of a run is given: the job's config, with the parameters of the run laid over it.
CREATE OR REPLACE FUNCTION yardmaster.config_of_run(job_id integer, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT CASE WHEN options ? 'params' THEN coalesce(a.config, '{}') || (options -> 'params') ELSE a.config END
    FROM yardmaster.job_action a WHERE a.job_id = config_of_run.job_id);
END
$$;

-- Slots that are due become runs that wait, the oldest first, no more at once than keeps a claim short. Each is taken by one
-- caller, and made once. Returns how many.
CREATE OR REPLACE FUNCTION yardmaster.queue_due_slots(kinds text[], job_ids integer[] DEFAULT NULL)
-- By the order of the index: where 20,000 are due at once, statistics of a moment ago know none, and each call would sort them all.
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
  -- A value, so that the index ends the search where the future begins.
  until timestamptz := clock_timestamp();
  made integer;
  -- Whose overlap or dependencies are to be looked at.
  others jsonb;
BEGIN
  -- Nearly always: what follows costs a claim as much as the rest of it.
  IF (SELECT s.next_start FROM yardmaster.job_state s WHERE s.scheduled AND s.next_start IS NOT NULL
      ORDER BY s.next_start, s.job_id, s.database_id LIMIT 1) <= until IS NOT TRUE THEN
    RETURN 0;
  END IF;
  WITH due AS (
    SELECT s.job_id, s.database_id, coalesce(s.next_slot, until) AS next_slot, s.next_start, t.object, t.operation, t.site, t.lane, t.overlap = 'allow' AS shares,
      -- Too late to be simply run: how many slots were missed, and which of them are made up for, is decided with the next start.
      s.next_slot IS NOT NULL AND t.catch_up IS NOT NULL AND s.next_start < until - greatest(t.catch_up, interval '5 seconds') AS is_missed,
      t.overlap IN ('skip', 'allow') AND NOT EXISTS (SELECT 1 FROM yardmaster.job_dependency p WHERE p.job_id = s.job_id) AS is_plain
    FROM yardmaster.job_state s JOIN yardmaster.job_targets t ON t.job_id = s.job_id AND t.database_id = s.database_id
    WHERE s.scheduled AND s.next_start <= until AND t.work = ANY (kinds) AND (job_ids IS NULL OR s.job_id = ANY (job_ids))
      -- One of the schedule's is open: a start that was set meanwhile waits for its end. What somebody asked for is not: it may be
      -- cancelled, or have parameters.
      AND (t.overlap <> 'skip' OR NOT EXISTS (SELECT 1 FROM yardmaster.run r
        WHERE r.job_id = s.job_id AND r.database_id = s.database_id AND r.status IN ('WAITING', 'RUNNING') AND NOT r.requested))
    ORDER BY s.next_start, s.job_id, s.database_id LIMIT 200
    FOR NO KEY UPDATE OF s SKIP LOCKED
  ), moved AS (
    UPDATE yardmaster.job_state s SET next_start = NULL, next_slot = NULL, last_slot = CASE WHEN d.is_missed THEN s.last_slot ELSE greatest(s.last_slot, s.next_slot) END
    FROM due d WHERE s.job_id = d.job_id AND s.database_id = d.database_id
    RETURNING d.*
  ), plain AS (
    INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, requested, shares)
    SELECT m.job_id, m.next_slot, m.next_start, m.database_id, m.operation, m.object, m.site, m.lane, 'WAITING', true, false, m.shares
    FROM moved m WHERE NOT m.is_missed AND m.is_plain
    ON CONFLICT ON CONSTRAINT run_job_id_slot_database_id_key DO NOTHING
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM plain), (SELECT jsonb_agg(to_jsonb(m)) FROM moved m WHERE NOT m.is_missed AND NOT m.is_plain) INTO made, others;
  RETURN made + coalesce((
    SELECT sum(yardmaster.make_runs(o.job_id, o.database_id, ARRAY[o.next_slot], o.next_start))
    FROM jsonb_to_recordset(others) AS o(job_id integer, database_id bigint, next_slot timestamptz, next_start timestamptz)), 0);
END
$$;

-- Makes the runs of slots, as the job's overlap policy has it; each slot once. `due_at`: when they may start; else now. Returns how many.
CREATE OR REPLACE FUNCTION yardmaster.make_runs(job_id integer, database_id bigint, slots timestamptz[], due_at timestamptz DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  target yardmaster.job_targets;
  made integer;
BEGIN
  SELECT * INTO target FROM yardmaster.job_targets t WHERE t.job_id = make_runs.job_id AND t.database_id = make_runs.database_id;
  IF target.overlap = 'buffer' AND EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = make_runs.job_id
      AND r.database_id = make_runs.database_id AND r.status = 'WAITING' AND NOT r.requested) THEN
    PERFORM yardmaster.skip_slots(make_runs.job_id, make_runs.database_id, slots[1], slots[cardinality(slots)], cardinality(slots), 'overlap');
    RETURN 0;
  END IF;
  IF target.overlap = 'cancel' THEN
    PERFORM yardmaster.cancel_run(r.id, format('the slot of %s, by its overlap policy', to_char(slots[cardinality(slots)], 'YYYY-MM-DD HH24:MI:SS TZ')))
    FROM yardmaster.run r WHERE r.job_id = make_runs.job_id AND r.database_id = make_runs.database_id AND r.status IN ('WAITING', 'RUNNING')
      AND NOT r.requested;
  END IF;
  INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, requested, shares)
  SELECT target.job_id, u.slot, coalesce(make_runs.due_at, greatest(u.slot, clock_timestamp())), target.database_id, target.operation, target.object,
    target.site, target.lane, 'WAITING', true, false, target.overlap = 'allow'
  FROM unnest(slots) WITH ORDINALITY AS u(slot, place) ORDER BY u.place
  ON CONFLICT ON CONSTRAINT run_job_id_slot_database_id_key DO NOTHING;
  GET DIAGNOSTICS made = ROW_COUNT;
  -- What starts behind others waits for them; held runs are let go by the ends of those.
  PERFORM yardmaster.hold_run(r.id) FROM yardmaster.run r
  WHERE r.job_id = make_runs.job_id AND r.database_id = make_runs.database_id AND r.slot = ANY (slots) AND r.status = 'WAITING' AND r.queued
    AND EXISTS (SELECT 1 FROM yardmaster.job_dependency p WHERE p.job_id = make_runs.job_id);
  RETURN made;
END
$$;

-- Seconds until the next slot is due; negative when one is, NULL when none is known.
CREATE OR REPLACE FUNCTION yardmaster.seconds_until_due(kinds text[])
RETURNS float8 LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT extract(epoch FROM s.next_start - clock_timestamp())::float8
  FROM yardmaster.job_state s JOIN yardmaster.job j ON j.id = s.job_id LEFT JOIN yardmaster.job_action a ON a.job_id = j.id
  -- Of a task that nobody here knows, no slot is waited for.
  WHERE s.scheduled AND s.next_start IS NOT NULL AND isfinite(s.next_start) AND CASE j.kind WHEN 'task' THEN 'task:' || a.task ELSE j.kind END = ANY ($1)
    AND (j.overlap <> 'skip' OR s.next_start > clock_timestamp() OR NOT EXISTS (SELECT 1 FROM yardmaster.run r
      WHERE r.job_id = s.job_id AND r.database_id = s.database_id AND r.status IN ('WAITING', 'RUNNING') AND NOT r.requested))
  ORDER BY s.next_start, s.job_id, s.database_id LIMIT 1
$$;

-- Seconds until there may be something new for a worker: the next slot that is due, a run that waits for its time, or one that waits for
-- another host and that its own may take then. NULL when nothing is known.
CREATE OR REPLACE FUNCTION yardmaster.seconds_until_work(worker_id bigint, kinds text[])
RETURNS float8 LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  -- A value, so that the index is entered where the future begins, and not behind all that waits for something else.
  since timestamptz := clock_timestamp();
BEGIN
  RETURN least(yardmaster.seconds_until_due(kinds), (
    SELECT min(extract(epoch FROM next.due_at + o.wait - clock_timestamp()))::float8
    FROM yardmaster.worker w CROSS JOIN LATERAL yardmaster.open_lanes(w.host, kinds, '{}', '{}') o CROSS JOIN LATERAL (
      SELECT r.due_at FROM yardmaster.run r
      WHERE r.status = 'WAITING' AND r.queued AND r.lane = o.lane AND r.due_at > since - o.wait
      ORDER BY r.lane, r.due_at, r.id LIMIT 1) next
    WHERE w.id = seconds_until_work.worker_id AND o.wait > interval '0'),
    (SELECT extract(epoch FROM min(r.due_at) - clock_timestamp())::float8 FROM yardmaster.run r WHERE r.status = 'WAITING' AND r.due_at > since));
END
$$;
