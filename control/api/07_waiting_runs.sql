-- Runs that wait: what is due, why one does not start, and how it is called off.

-- Jobs that have something to do now, and how many runs that is, those first that were not run for longest: a slot that is due,
-- or runs that wait for a worker. `type`: only replications of this type.
CREATE OR REPLACE FUNCTION yardmaster.due_jobs(kinds text[], type text DEFAULT NULL)
RETURNS TABLE (job_id integer, runs integer) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT x.job_id, sum(greatest(x.runs, 1))::integer FROM (
    SELECT t.job_id, w.runs, s.last_finish, s.next_start
    FROM yardmaster.job_targets t JOIN yardmaster.job_state s ON s.job_id = t.job_id AND s.database_id = t.database_id
    LEFT JOIN yardmaster.replication r ON r.job_id = t.job_id
    CROSS JOIN LATERAL (SELECT count(*) AS runs FROM yardmaster.run w WHERE w.job_id = t.job_id AND w.database_id = t.database_id
      AND w.status = 'WAITING' AND w.queued AND w.due_at <= clock_timestamp()
      AND (t.status = 'active' OR w.requested AND t.status IN ('paused', 'setting_up', 'broken'))) w
    WHERE ($2 IS NULL OR r.type = $2) AND t.work = ANY ($1) AND (w.runs > 0 OR s.scheduled AND s.next_start <= clock_timestamp())) x
  GROUP BY x.job_id
  ORDER BY min(x.last_finish) NULLS FIRST, min(x.next_start), x.job_id
$$;

-- Why a run that waits does not start: each thing that must be so before it does, in order, whether it is so, and in words. No row
-- for one that does not wait. `to_first_failed`: nothing behind the first one that is not so, which is cheaper.
CREATE OR REPLACE FUNCTION yardmaster.waiting_checks(run_id bigint, to_first_failed boolean DEFAULT false)
RETURNS TABLE (place integer, "check" text, ok boolean, code text, why text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine record;
  found_code text;
  reason text;
  its text;
  host record;
  full_ones text;
  all_ones text;
  delay interval;
BEGIN
  SELECT r.id, r.job_id, r.database_id, r.due_at, r.queued, r.shares, r.site, r.object, r.requested, j.kind, j.status, j.paused_by, j.pause_note, j.paused_at INTO mine
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id WHERE r.id = waiting_checks.run_id AND r.status = 'WAITING';
  IF NOT FOUND THEN
    RETURN;
  END IF;
  its := CASE mine.kind WHEN 'replication' THEN 'copy' ELSE 'job' END;
  RETURN QUERY SELECT 1, 'scheduled', mine.requested OR mine.status = 'active',
    CASE WHEN mine.requested THEN 'requested' WHEN mine.status = 'active' THEN 'scheduled' WHEN mine.status = 'paused' THEN 'paused' ELSE 'not_active' END,
    CASE WHEN mine.requested THEN 'Somebody asked for it.'
      WHEN mine.status = 'active' THEN format('%s is active.', mine.object)
      WHEN mine.status = 'paused' THEN format('%s is paused since %s by %s%s', mine.object, to_char(mine.paused_at, 'YYYY-MM-DD HH24:MI'),
        mine.paused_by, coalesce(': ' || mine.pause_note, '.'))
      ELSE format('%s is %s: only what somebody asks for is run.', mine.object, mine.status) END;
  IF to_first_failed AND NOT (mine.requested OR mine.status = 'active') THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT 2, 'due', mine.due_at <= clock_timestamp(), CASE WHEN mine.due_at <= clock_timestamp() THEN 'due'
      WHEN EXISTS (SELECT 1 FROM yardmaster.attempt a WHERE a.run_id = mine.id) THEN 'retry' ELSE 'not_due' END,
    format(CASE WHEN mine.due_at <= clock_timestamp() THEN 'It has been due since %s.' ELSE 'It is due at %s.' END,
      to_char(mine.due_at, 'YYYY-MM-DD HH24:MI:SS TZ'));
  IF to_first_failed AND mine.due_at > clock_timestamp() THEN
    RETURN;
  END IF;
  reason := CASE WHEN NOT mine.queued THEN yardmaster.awaited_in_words(mine.id) END;
  RETURN QUERY SELECT 3, 'dependency', reason IS NULL, CASE WHEN reason IS NULL THEN 'none_awaited' ELSE 'dependency' END,
    coalesce(reason, 'It waits for no other job.');
  IF to_first_failed AND reason IS NOT NULL THEN
    RETURN;
  END IF;
  SELECT CASE o.status
      WHEN 'RUNNING' THEN format('Run %s of the same %s is under way%s; one runs at a time.', o.id, its, coalesce(' by ' || a.worker, ''))
      ELSE format('Run %s of the same %s waits before it; one runs at a time.', o.id, its) END INTO reason
  FROM yardmaster.run o LEFT JOIN yardmaster.attempt a ON a.run_id = o.id AND a.status = 'RUNNING'
  WHERE o.job_id = mine.job_id AND o.database_id = mine.database_id AND o.id <> mine.id AND NOT mine.shares
    AND (o.status = 'RUNNING' OR o.queued AND o.status = 'WAITING'
      AND (mine.status = 'active' OR o.requested) AND yardmaster.goes_before(o, (SELECT r FROM yardmaster.run r WHERE r.id = mine.id)))
  ORDER BY o.status, o.due_at LIMIT 1;
  RETURN QUERY SELECT 4, 'overlap', reason IS NULL, CASE WHEN reason IS NULL THEN 'alone' ELSE 'overlap' END,
    coalesce(reason, 'No other run of it is under way or before it.');
  IF to_first_failed AND reason IS NOT NULL THEN
    RETURN;
  END IF;
  reason := (SELECT format('The limit %s allows %s at once: %s.', l.key, l.slots,
      CASE l.slots WHEN 0 THEN 'nothing starts' ELSE 'taken by ' || yardmaster.names_in_words(ARRAY(
        SELECT format('run %s (%s)', h.run_id, r.object) FROM yardmaster.run_limits h JOIN yardmaster.run r ON r.id = h.run_id
        WHERE h.key = l.key AND h.status = 'RUNNING' ORDER BY h.run_id)) END)
    FROM yardmaster.run_limits m JOIN yardmaster.limits l ON l.key = m.key
    WHERE m.run_id = mine.id AND l.running >= l.slots ORDER BY l.key LIMIT 1);
  RETURN QUERY SELECT 5, 'limit', reason IS NULL, CASE WHEN reason IS NULL THEN 'within_limits' ELSE 'limit' END,
    coalesce(reason, 'No limit holds it back.');
  IF to_first_failed AND reason IS NOT NULL THEN
    RETURN;
  END IF;
  -- By the rule alone; whether there is room is the next question.
  SELECT coalesce(bool_or(m.may_run OR m.code IN ('host_full', 'pair_full')), false) AS may, coalesce(bool_or(m.may_run), false) AS has_room,
    count(*) FILTER (WHERE m.active) AS active,
    array_agg(m.host) FILTER (WHERE m.may_run OR m.code IN ('host_full', 'pair_full')) AS hosts,
    coalesce(bool_or(m.code = 'preferred_elsewhere' AND m.active), false) AS has_others
  INTO host FROM yardmaster.placement_matrix(ARRAY[mine.site], due => mine.due_at, in_words => false) m;
  IF NOT host.has_room THEN
    -- Words take most of the time.
    SELECT string_agg(m.why, ' ') FILTER (WHERE m.code IN ('host_full', 'pair_full')),
      array_to_string((array_agg(m.why ORDER BY m.active DESC, m.host))[1:8], ' ')
    INTO full_ones, all_ones FROM yardmaster.placement_matrix(ARRAY[mine.site], due => mine.due_at) m;
  END IF;
  found_code := CASE WHEN host.may THEN 'may_run' WHEN NOT EXISTS (SELECT 1 FROM yardmaster.workers w WHERE w.alive AND w.slots > 0) THEN 'no_worker'
    ELSE 'placement' END;
  RETURN QUERY SELECT 6, 'host', host.may, found_code, CASE found_code
    WHEN 'may_run' THEN format('%s may take it.', yardmaster.names_in_words(host.hosts))
    WHEN 'no_worker' THEN 'No worker is alive. Start one: yardmaster worker; or work off what is due once: yardmaster run-due.'
    ELSE format('No host may take work of %s now. %s', CASE WHEN mine.site IS NULL THEN 'no site' ELSE yardmaster.site_label(mine.site) END, all_ones) END;
  IF to_first_failed AND NOT host.may THEN
    RETURN;
  END IF;
  -- Work of no site waits for no other host.
  delay := (SELECT CASE WHEN s.inherits_fallback THEN p.fallback_after ELSE s.fallback_after END
    FROM yardmaster.placement p, yardmaster.site s WHERE s.name = mine.site AND host.has_others);
  RETURN QUERY SELECT 7, 'slot', host.has_room, CASE WHEN host.has_room THEN 'starting' ELSE 'no_slot' END,
    CASE WHEN host.has_room AND mine.kind = 'task' THEN format('A worker that knows the task %s is about to take it; where none knows it, it waits.',
        (SELECT a.task FROM yardmaster.job_action a WHERE a.job_id = mine.job_id))
      WHEN host.has_room THEN 'A worker is about to take it.'
      WHEN host.may THEN format('%s %s', full_ones, (SELECT CASE WHEN count(*) = 0 THEN 'It is the next one.' WHEN count(*) > 1000 THEN 'Before it wait: 1000+.'
          ELSE format('Before it wait: %s.', count(*)) END
        FROM (SELECT 1 FROM yardmaster.run o WHERE o.status = 'WAITING' AND o.queued AND (o.due_at, o.id) < (mine.due_at, mine.id) LIMIT 1001) x))
        || coalesce(' Hosts that do not prefer it may take it from ' || to_char(mine.due_at + delay, 'YYYY-MM-DD HH24:MI:SS TZ') || ' on.', '')
      ELSE 'No host may take it.' END;
END
$$;

-- Why a run that waits does not start: the first of the checks that it fails. No row for one that does not wait.
CREATE OR REPLACE FUNCTION yardmaster.why_waiting(run_id bigint)
RETURNS TABLE (code text, why text) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.code, c.why FROM yardmaster.waiting_checks($1, true) c ORDER BY c.place DESC LIMIT 1
$$;

-- Calls a run off. One that waits is over at once; one that runs is broken off by whoever carries it out, within a second or
-- two. Returns the status that it has now. `by_whom`: where it is not the caller who does.
CREATE OR REPLACE FUNCTION yardmaster.cancel_run(run_id bigint, by_whom text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_run yardmaster.run;
  actor text := coalesce(by_whom, yardmaster.caller());
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
