-- Runs that wait: what is due, why one does not start, and how it is called off.

-- Jobs that have something to do now, and how many runs that is, those first that were not run for longest: a slot that is due,
-- or runs that wait for a worker. `type`: only replications of this type.
CREATE OR REPLACE FUNCTION yardmaster.due_jobs(type text DEFAULT NULL)
RETURNS TABLE (job_id integer, runs integer) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT j.id, greatest(w.runs, 1)::integer FROM yardmaster.job j JOIN yardmaster.replication r ON r.job_id = j.id
  CROSS JOIN LATERAL (SELECT count(*) AS runs FROM yardmaster.run w WHERE w.job_id = j.id AND w.status = 'WAITING' AND w.queued
    AND (j.status = 'active' OR w.requested AND j.status IN ('paused', 'setting_up', 'broken'))) w
  WHERE ($1 IS NULL OR r.type = $1) AND (w.runs > 0 OR j.status = 'active' AND j.next_start <= clock_timestamp())
  ORDER BY j.last_finish NULLS FIRST, j.next_start, j.id
$$;

-- Why a run that waits does not start: the first of the checks that it fails, in order. No row for one that does not wait.
CREATE OR REPLACE FUNCTION yardmaster.why_waiting(run_id bigint)
RETURNS TABLE (code text, why text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine record;
  other record;
  hosts record;
BEGIN
  SELECT r.id, r.job_id, r.slot, r.object, r.requested, r.reason, r.message, j.status, j.paused_by, j.pause_note, j.paused_at INTO mine
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id WHERE r.id = why_waiting.run_id AND r.status = 'WAITING';
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF mine.status = 'paused' AND NOT mine.requested THEN
    RETURN QUERY SELECT 'paused', format('%s is paused since %s by %s%s', mine.object, to_char(mine.paused_at, 'YYYY-MM-DD HH24:MI'),
      mine.paused_by, coalesce(': ' || mine.pause_note, '.'));
    RETURN;
  END IF;
  IF mine.status <> 'active' AND NOT mine.requested THEN
    RETURN QUERY SELECT 'not_active', format('%s is %s: only what somebody asks for is run.', mine.object, mine.status);
    RETURN;
  END IF;
  IF mine.slot > clock_timestamp() THEN
    RETURN QUERY SELECT 'not_due', format('It is due at %s.', to_char(mine.slot, 'YYYY-MM-DD HH24:MI:SS TZ'));
    RETURN;
  END IF;
  SELECT o.id, o.status, a.worker INTO other FROM yardmaster.run o
  LEFT JOIN yardmaster.attempt a ON a.run_id = o.id AND a.status = 'RUNNING'
  WHERE o.job_id = mine.job_id AND o.id <> mine.id
    AND (o.status = 'RUNNING' OR o.queued AND o.status = 'WAITING' AND (o.slot, o.id) < (mine.slot, mine.id))
  ORDER BY o.status, o.slot LIMIT 1;
  IF FOUND THEN
    RETURN QUERY SELECT 'overlap', CASE other.status
      WHEN 'RUNNING' THEN format('Run %s of the same copy is under way%s; one runs at a time.', other.id, coalesce(' by ' || other.worker, ''))
      ELSE format('Run %s of the same copy waits before it; one runs at a time.', other.id) END;
    RETURN;
  END IF;
  SELECT count(*) AS alive, coalesce(sum(w.slots), 0) AS slots, coalesce(sum(w.running), 0) AS running INTO hosts
  FROM yardmaster.workers w WHERE w.alive AND w.slots > 0;
  IF hosts.alive = 0 THEN
    RETURN QUERY SELECT 'no_worker', 'No worker is alive. Start one: yardmaster worker; or work off what is due once: yardmaster run-due.'::text;
  ELSIF hosts.running >= hosts.slots THEN
    RETURN QUERY SELECT 'no_free_slot', format('All %s slots of %s workers are taken; %s runs wait before it.', hosts.slots, hosts.alive,
      (SELECT count(*) FROM yardmaster.run o WHERE o.status = 'WAITING' AND o.queued AND (o.slot, o.id) < (mine.slot, mine.id)));
  ELSE
    RETURN QUERY SELECT 'starting', 'A worker is about to take it.'::text;
  END IF;
END
$$;

-- Calls a run off. One that waits is over at once; one that runs is broken off by whoever carries it out, within a second or
-- two. Returns the status that it has now.
CREATE OR REPLACE FUNCTION yardmaster.cancel_run(run_id bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_run yardmaster.run;
  actor text := coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user);
BEGIN
  SELECT * INTO found_run FROM yardmaster.run r WHERE r.id = cancel_run.run_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no run %.', coalesce(cancel_run.run_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  IF found_run.status NOT IN ('WAITING', 'RUNNING') THEN
    RETURN found_run.status;
  END IF;
  UPDATE yardmaster.run r SET cancelled_at = coalesce(r.cancelled_at, clock_timestamp()), cancelled_by = coalesce(r.cancelled_by, actor)
  WHERE r.id = found_run.id;
  IF found_run.status = 'RUNNING' THEN
    RETURN 'RUNNING';
  END IF;
  UPDATE yardmaster.run r SET status = 'CRITICAL', reason = 'cancelled', finished_at = clock_timestamp(),
    message = format('%s cancelled it before it began%s.', actor, CASE WHEN found_run.started_at IS NULL THEN '' ELSE ' again' END)
  WHERE r.id = found_run.id;
  PERFORM yardmaster.wake_workers();
  RETURN 'CRITICAL';
END
$$;

-- Who cancelled the run of the attempt with this token; NULL when nobody did.
CREATE OR REPLACE FUNCTION yardmaster.cancelled_by(token uuid)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.cancelled_by FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id WHERE a.token = $1
$$;
