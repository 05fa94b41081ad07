-- Jobs that start after others. A job with dependencies and no schedule starts as soon as each of those that it needs has a run that
-- it has not taken into account yet; one with a schedule is held at its slot until then.

-- What a job that runs in one database needs: of each predecessor the run in the same database, or, where that has none there, in each
-- of its databases. `run_id`: the newest one that would do; `is_fresh`: it was not taken into account yet.
CREATE OR REPLACE FUNCTION yardmaster.awaited_runs(job_id integer, database_id bigint)
RETURNS TABLE (after_job_id integer, after_database_id bigint, needs text, run_id bigint, is_fresh boolean)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.after_job_id, s.database_id, p.needs, n.run_id, n.run_id IS NOT NULL AND n.run_id > coalesce(k.run_id, 0)
  FROM yardmaster.job_dependency p
  JOIN yardmaster.job_state s ON s.job_id = p.after_job_id AND s.in_scope
    AND (s.database_id = $2 OR NOT EXISTS (SELECT 1 FROM yardmaster.job_state o WHERE o.job_id = p.after_job_id AND o.in_scope AND o.database_id = $2))
  CROSS JOIN LATERAL (SELECT CASE p.needs WHEN 'done' THEN s.last_run ELSE s.last_good_run END AS run_id) n
  LEFT JOIN yardmaster.dependency_seen k ON k.job_id = p.job_id AND k.database_id = $2 AND k.after_job_id = p.after_job_id
    AND k.after_database_id = s.database_id
  WHERE p.job_id = $1
$$;

-- Takes what is there into account. False, and nothing is changed, where something is still awaited. Whoever calls holds the job's state
-- (lock_ends, queue_due_slots, set_next_starts): of two predecessors that end at once, the second sees what the first one wrote.
CREATE OR REPLACE FUNCTION yardmaster.take_awaited(job_id integer, database_id bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF EXISTS (SELECT 1 FROM yardmaster.awaited_runs(take_awaited.job_id, take_awaited.database_id) w WHERE NOT w.is_fresh) THEN
    RETURN false;
  END IF;
  INSERT INTO yardmaster.dependency_seen (job_id, database_id, after_job_id, after_database_id, run_id)
  SELECT take_awaited.job_id, take_awaited.database_id, w.after_job_id, w.after_database_id, w.run_id
  FROM yardmaster.awaited_runs(take_awaited.job_id, take_awaited.database_id) w
  ON CONFLICT (job_id, database_id, after_job_id, after_database_id) DO UPDATE SET run_id = excluded.run_id;
  RETURN true;
END
$$;

-- A run whose slot is due is held back while something is awaited.
CREATE OR REPLACE FUNCTION yardmaster.hold_run(run_id bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  UPDATE yardmaster.run r SET queued = false, reason = 'dependency'
  WHERE r.id = hold_run.run_id AND NOT yardmaster.take_awaited(r.job_id, r.database_id);
END
$$;

-- Starts, or lets go, what waited for a run of this job that has just ended.
CREATE OR REPLACE FUNCTION yardmaster.start_dependents(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM yardmaster.start_behind(p.job_id)
  FROM (SELECT d.job_id FROM yardmaster.job_dependency d WHERE d.after_job_id = start_dependents.job_id ORDER BY d.job_id) p;
END
$$;

-- Starts this job, or lets go what is held of it, where nothing is awaited any more: a predecessor has ended, the job goes on, or it
-- starts after others than before. Whoever calls holds the job's states.
CREATE OR REPLACE FUNCTION yardmaster.start_behind(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one yardmaster.job_targets;
  held bigint;
  has_schedule boolean;
BEGIN
  -- Nearly always: what follows costs an end as much as the rest of it.
  IF NOT EXISTS (SELECT 1 FROM yardmaster.job_dependency p WHERE p.job_id = start_behind.job_id)
    AND NOT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = start_behind.job_id AND r.status = 'WAITING' AND NOT r.queued) THEN
    RETURN;
  END IF;
  has_schedule := (SELECT num_nonnulls(j.schedule_interval, j.cron) > 0 FROM yardmaster.job j WHERE j.id = start_behind.job_id);
  FOR one IN
    SELECT t.* FROM yardmaster.job_targets t JOIN yardmaster.job_state s ON s.job_id = t.job_id AND s.database_id = t.database_id
    WHERE t.job_id = start_behind.job_id AND t.in_scope AND t.status = 'active' AND s.paused_at IS NULL ORDER BY t.database_id
  LOOP
    LOOP
      -- The oldest that is held; only then may what is there be used up.
      SELECT min(r.id) INTO held FROM yardmaster.run r
      WHERE r.job_id = one.job_id AND r.database_id = one.database_id AND r.status = 'WAITING' AND NOT r.queued;
      EXIT WHEN held IS NULL OR NOT yardmaster.take_awaited(one.job_id, one.database_id);
      UPDATE yardmaster.run r SET queued = true, reason = NULL, due_at = greatest(r.due_at, clock_timestamp()) WHERE r.id = held AND r.status = 'WAITING';
      PERFORM yardmaster.wake_workers();
    END LOOP;
    IF held IS NULL AND NOT has_schedule AND EXISTS (SELECT 1 FROM yardmaster.job_dependency p WHERE p.job_id = one.job_id)
      AND yardmaster.take_awaited(one.job_id, one.database_id) THEN
      -- One that waits already is yet to begin: it sees what has come meanwhile.
      INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, requested, shares)
      SELECT one.job_id, clock_timestamp(), clock_timestamp(), one.database_id, one.operation, one.object, one.site, one.lane, 'WAITING', true, false,
        one.overlap = 'allow'
      WHERE NOT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = one.job_id AND r.database_id = one.database_id AND r.status = 'WAITING' AND NOT r.requested);
      PERFORM yardmaster.wake_workers();
    END IF;
  END LOOP;
END
$$;

-- What a run behind others that failed had taken into account counts again for the next try at its slot, or at the one after it. What its
-- predecessors start has tries of its own (retry_triggered).
CREATE OR REPLACE FUNCTION yardmaster.forget_awaited(job_id integer, database_id bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM yardmaster.dependency_seen k USING yardmaster.job j, yardmaster.job_state s
  WHERE k.job_id = forget_awaited.job_id AND k.database_id = forget_awaited.database_id AND j.id = k.job_id
    AND s.job_id = k.job_id AND s.database_id = k.database_id
    AND num_nonnulls(j.schedule_interval, j.cron) > 0 AND NOT (s.crashed AND coalesce(j.retry_on_crash, '') = 'never');
END
$$;

-- A run that its predecessors started, and that failed, is tried again as a slot of a schedule is: nothing else would.
CREATE OR REPLACE FUNCTION yardmaster.retry_triggered(run_id bigint, failures integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, requested, shares, reason)
  SELECT r.job_id, p.at, p.at, r.database_id, r.operation, r.object, r.site, r.lane, 'WAITING', true, false, r.shares, 'retry'
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id
  JOIN yardmaster.job_state s ON s.job_id = r.job_id AND s.database_id = r.database_id
  CROSS JOIN LATERAL (SELECT clock_timestamp() + j.retry_period * least(retry_triggered.failures, 20) AS at) p
  WHERE r.id = retry_triggered.run_id AND NOT r.requested AND j.status = 'active' AND s.in_scope AND s.paused_at IS NULL
    AND j.schedule_interval IS NULL AND j.cron IS NULL AND isfinite(p.at) AND NOT (s.crashed AND coalesce(j.retry_on_crash, '') = 'never')
    AND EXISTS (SELECT 1 FROM yardmaster.job_dependency d WHERE d.job_id = r.job_id)
    AND NOT EXISTS (SELECT 1 FROM yardmaster.run o WHERE o.job_id = r.job_id AND o.database_id = r.database_id AND o.status = 'WAITING' AND NOT o.requested)
  ON CONFLICT ON CONSTRAINT run_job_id_slot_database_id_key DO NOTHING;
END
$$;

-- What a held run waits for, in words; NULL where nothing is awaited any more.
CREATE OR REPLACE FUNCTION yardmaster.awaited_in_words(run_id bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT format('It starts after %s: %s.', CASE count(*) WHEN 1 THEN 'a run of another job' ELSE count(*) || ' runs of other jobs' END,
      string_agg(format('%s has not %s since', t.object, CASE w.needs WHEN 'done' THEN 'ended' ELSE 'ended well' END), '; ' ORDER BY t.object))
    FROM yardmaster.run r CROSS JOIN LATERAL yardmaster.awaited_runs(r.job_id, r.database_id) w
    JOIN yardmaster.job_targets t ON t.job_id = w.after_job_id AND t.database_id = w.after_database_id
    WHERE r.id = awaited_in_words.run_id AND NOT w.is_fresh HAVING count(*) > 0);
END
$$;

-- Has a job start after others: `[{"job": 1001, "needs": "succeeded" | "done"}]` replaces what it has. What they did before does not count.
CREATE OR REPLACE FUNCTION yardmaster.set_dependencies(job_id integer, after jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  wanted record;
  circle text;
  kept integer[];
BEGIN
  -- Two that would close a circle together wait for each other here.
  LOCK TABLE yardmaster.job_dependency IN SHARE ROW EXCLUSIVE MODE;
  -- Before its dependencies, as whoever ends a predecessor does.
  PERFORM 1 FROM yardmaster.job_state s WHERE s.job_id = set_dependencies.job_id ORDER BY s.database_id FOR NO KEY UPDATE;
  IF jsonb_typeof(after) IS DISTINCT FROM 'array' THEN
    RAISE EXCEPTION 'What a job starts after is a list such as [{"job": 1001, "needs": "succeeded"}], not %.', coalesce(after::text, 'NULL') USING ERRCODE = 'YM003';
  END IF;
  FOR wanted IN SELECT e ->> 'job' AS job, coalesce(e ->> 'needs', 'succeeded') AS needs FROM jsonb_array_elements(after) e LOOP
    IF wanted.needs NOT IN ('succeeded', 'done') OR wanted.job IS NULL OR wanted.job !~ '^[0-9]{1,9}$' THEN
      RAISE EXCEPTION 'A job starts after the number of another, with the need succeeded or done; not after % with the need %.', coalesce(wanted.job, 'NULL'), wanted.needs
        USING ERRCODE = 'YM003';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM yardmaster.job j WHERE j.id = wanted.job::integer AND j.deleted_at IS NULL) THEN
      RAISE EXCEPTION 'job % not found', wanted.job USING ERRCODE = 'YM001';
    END IF;
  END LOOP;
  kept := ARRAY(SELECT d.after_job_id FROM yardmaster.job_dependency d WHERE d.job_id = set_dependencies.job_id);
  DELETE FROM yardmaster.job_dependency d WHERE d.job_id = set_dependencies.job_id
    AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements(after) e WHERE (e ->> 'job')::integer = d.after_job_id);
  INSERT INTO yardmaster.job_dependency (job_id, after_job_id, needs)
  SELECT set_dependencies.job_id, (e ->> 'job')::integer, max(coalesce(e ->> 'needs', 'succeeded')) FROM jsonb_array_elements(after) e GROUP BY 2
  ON CONFLICT (job_id, after_job_id) DO UPDATE SET needs = excluded.needs;
  WITH RECURSIVE way AS (
    SELECT d.after_job_id AS job, ARRAY[set_dependencies.job_id, d.after_job_id] AS path FROM yardmaster.job_dependency d WHERE d.job_id = set_dependencies.job_id
    UNION ALL
    SELECT d.after_job_id, w.path || d.after_job_id FROM way w JOIN yardmaster.job_dependency d ON d.job_id = w.job
    WHERE w.job <> set_dependencies.job_id AND d.after_job_id <> ALL (w.path[2:])
  )
  SELECT (SELECT string_agg(coalesce(x.label, n.id::text), ' → ' ORDER BY n.place) FROM unnest(w.path) WITH ORDINALITY n(id, place)
    LEFT JOIN LATERAL (SELECT min(t.object) AS label FROM yardmaster.job_targets t WHERE t.job_id = n.id) x ON true) INTO circle
  FROM way w WHERE w.job = set_dependencies.job_id ORDER BY cardinality(w.path) LIMIT 1;
  IF circle IS NOT NULL THEN
    RAISE EXCEPTION 'These jobs would wait for each other in a circle: %.', circle USING ERRCODE = 'YM007',
      HINT = 'Leave one of these dependencies out.';
  END IF;
  INSERT INTO yardmaster.dependency_seen (job_id, database_id, after_job_id, after_database_id, run_id)
  SELECT s.job_id, s.database_id, w.after_job_id, w.after_database_id, w.run_id
  FROM yardmaster.job_state s CROSS JOIN LATERAL yardmaster.awaited_runs(s.job_id, s.database_id) w
  WHERE s.job_id = set_dependencies.job_id AND w.run_id IS NOT NULL AND NOT w.after_job_id = ANY (kept)
  ON CONFLICT (job_id, database_id, after_job_id, after_database_id) DO NOTHING;
  PERFORM yardmaster.start_behind(set_dependencies.job_id);
END
$$;

-- A job that others start after is not taken away under them.
CREATE OR REPLACE FUNCTION yardmaster.refuse_awaited(job_id integer)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  others integer[] := ARRAY(SELECT d.job_id FROM yardmaster.job_dependency d JOIN yardmaster.job j ON j.id = d.job_id
    WHERE d.after_job_id = refuse_awaited.job_id AND j.deleted_at IS NULL ORDER BY d.job_id);
BEGIN
  IF cardinality(others) > 0 THEN
    RAISE EXCEPTION 'Job % starts after job %.', array_to_string(others, ', '), job_id USING ERRCODE = 'YM002',
      HINT = format('Have it start after something else first, or after nothing: yardmaster job alter %s --after none', others[1]);
  END IF;
END
$$;
