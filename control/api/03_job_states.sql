-- Where jobs run, and what they remember there.

-- What a job does, as people know it: its name, else what it calls, with its number.
CREATE OR REPLACE FUNCTION yardmaster.action_label(job_id integer, name text, proc_schema text, proc_name text, task text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%s [%s]', coalesce(name, coalesce(yardmaster.display_name(proc_schema) || '.', '') || yardmaster.display_name(proc_name),
    task, 'statements'), job_id)
$$;

-- Every job in every database that it runs in; the database is 0 where a task has none. `object` is the job as people know it.
CREATE OR REPLACE VIEW yardmaster.job_targets AS
  SELECT s.job_id, s.database_id, d.name AS database, s.in_scope, j.kind, j.status, j.site, j.pool, j.priority, s.lane, a.task,
    CASE j.kind WHEN 'replication' THEN 'refresh' ELSE 'call' END AS operation, j.overlap, j.catch_up,
    CASE j.kind WHEN 'task' THEN 'task:' || a.task ELSE j.kind END AS work,
    s.object
  FROM yardmaster.job_state s
  JOIN yardmaster.job j ON j.id = s.job_id
  LEFT JOIN yardmaster.job_action a ON a.job_id = j.id
  LEFT JOIN yardmaster.managed_database d ON d.id = s.database_id
  WHERE j.deleted_at IS NULL;

-- Writes down what a job is called in each of its databases; whatever changes its name or what it calls does.
CREATE OR REPLACE FUNCTION yardmaster.name_states(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  UPDATE yardmaster.job_state s SET object = l.object
  FROM (
    SELECT t.job_id, t.database_id, coalesce(d.name || ':', '') || CASE j.kind
      WHEN 'replication' THEN yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name)
      ELSE yardmaster.action_label(j.id, j.name, a.proc_schema, a.proc_name, a.task) END AS object
    FROM yardmaster.job_state t
    JOIN yardmaster.job j ON j.id = t.job_id
    LEFT JOIN yardmaster.replication r ON r.job_id = j.id
    LEFT JOIN yardmaster.job_action a ON a.job_id = j.id
    LEFT JOIN yardmaster.managed_database d ON d.id = t.database_id
    WHERE t.job_id = name_states.job_id) l
  WHERE s.job_id = l.job_id AND s.database_id = l.database_id AND s.object IS DISTINCT FROM l.object;
END
$$;

-- Gives a job one state in each database that it runs in. A state that it has no more use for stays, with its totals, out of scope.
CREATE OR REPLACE FUNCTION yardmaster.sync_job_states(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  wanted bigint[] := ARRAY(
    SELECT r.destination_database FROM yardmaster.replication r WHERE r.job_id = sync_job_states.job_id
    UNION ALL
    SELECT a.database_id FROM yardmaster.job_action a WHERE a.job_id = sync_job_states.job_id AND a.database_id IS NOT NULL
    UNION ALL
    SELECT d.id FROM yardmaster.job_action a JOIN yardmaster.managed_database d ON a.tag = ANY (d.tags) WHERE a.job_id = sync_job_states.job_id
    UNION ALL
    SELECT 0 FROM yardmaster.job_action a WHERE a.job_id = sync_job_states.job_id AND num_nonnulls(a.database_id, a.tag) = 0);
BEGIN
  -- With those that start behind it, in the order of all (lock_ends).
  PERFORM 1 FROM yardmaster.job_state s WHERE s.job_id = sync_job_states.job_id
    OR s.job_id = ANY (ARRAY(SELECT d.job_id FROM yardmaster.job_dependency d WHERE d.after_job_id = sync_job_states.job_id))
  ORDER BY s.job_id, s.database_id FOR NO KEY UPDATE;
  INSERT INTO yardmaster.job_state (job_id, database_id) SELECT sync_job_states.job_id, w FROM unnest(wanted) w
  ON CONFLICT (job_id, database_id) DO NOTHING;
  UPDATE yardmaster.job_state s SET in_scope = s.database_id = ANY (wanted),
    since = CASE WHEN s.in_scope THEN s.since ELSE clock_timestamp() END
  WHERE s.job_id = sync_job_states.job_id AND s.in_scope <> (s.database_id = ANY (wanted));
  -- Where it goes on as before, its next start stays.
  PERFORM yardmaster.reschedule(s.job_id, s.database_id) FROM yardmaster.job_state s JOIN yardmaster.job j ON j.id = s.job_id
  WHERE s.job_id = sync_job_states.job_id AND (NOT s.in_scope OR NOT s.scheduled);
  PERFORM yardmaster.name_states(sync_job_states.job_id);
  PERFORM yardmaster.set_lanes(sync_job_states.job_id);
  -- What waits where it is not to run any more.
  UPDATE yardmaster.run r SET status = 'CRITICAL', reason = 'cancelled', finished_at = clock_timestamp(),
    message = 'Its job does not run in this database any more.'
  FROM yardmaster.job_state s
  WHERE s.job_id = sync_job_states.job_id AND NOT s.in_scope AND r.job_id = s.job_id AND r.database_id = s.database_id AND r.status = 'WAITING';
  PERFORM yardmaster.start_dependents(sync_job_states.job_id);
END
$$;

-- Has the next starts of a job decided anew, everywhere or in one database; none where it is not to start by itself. A start that
-- somebody set for a job that nobody has looked at yet, or while it was paused, stays.
CREATE OR REPLACE FUNCTION yardmaster.reschedule(job_id integer, database_id bigint DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  UPDATE yardmaster.job_state s SET next_slot = NULL, period = NULL,
    next_start = CASE WHEN s.next_slot IS NULL AND (NOT s.scheduled OR j.status = 'unverified') THEN s.next_start END,
    scheduled = s.in_scope AND s.paused_at IS NULL AND j.status = 'active' AND (j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL)
  FROM yardmaster.job j
  WHERE j.id = reschedule.job_id AND s.job_id = j.id AND (reschedule.database_id IS NULL OR s.database_id = reschedule.database_id);
  PERFORM yardmaster.wake_workers();
END
$$;

-- However a job's status or schedule was changed.
CREATE OR REPLACE FUNCTION yardmaster.follow_job()
RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM yardmaster.reschedule(NEW.id);
  -- What came while it was paused, or while nobody had looked at it yet.
  PERFORM yardmaster.start_behind(NEW.id);
  RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER follow_job AFTER UPDATE ON yardmaster.job FOR EACH ROW
  WHEN ((OLD.status, OLD.schedule_interval, OLD.cron, OLD.timezone, OLD.schedule_origin, OLD.fixed_schedule, OLD.overlap, OLD.catch_up, OLD.jitter)
    IS DISTINCT FROM (NEW.status, NEW.schedule_interval, NEW.cron, NEW.timezone, NEW.schedule_origin, NEW.fixed_schedule, NEW.overlap, NEW.catch_up, NEW.jitter))
  EXECUTE FUNCTION yardmaster.follow_job();

-- However a database came to a tag, or lost it.
CREATE OR REPLACE FUNCTION yardmaster.follow_tags()
RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Whoever pauses or resumes one of them meanwhile sees the states that it gets here.
  PERFORM 1 FROM yardmaster.job_action a JOIN yardmaster.job j ON j.id = a.job_id
  WHERE j.deleted_at IS NULL AND a.tag = ANY (CASE TG_OP WHEN 'DELETE' THEN OLD.tags WHEN 'INSERT' THEN NEW.tags ELSE OLD.tags || NEW.tags END)
  ORDER BY j.id FOR NO KEY UPDATE OF j;
  PERFORM yardmaster.sync_job_states(a.job_id) FROM yardmaster.job_action a JOIN yardmaster.job j ON j.id = a.job_id
  WHERE j.deleted_at IS NULL AND a.tag = ANY (CASE TG_OP WHEN 'DELETE' THEN OLD.tags WHEN 'INSERT' THEN NEW.tags ELSE OLD.tags || NEW.tags END)
  ORDER BY a.job_id;
  RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER follow_tags AFTER INSERT OR DELETE OR UPDATE OF tags ON yardmaster.managed_database
  FOR EACH ROW EXECUTE FUNCTION yardmaster.follow_tags();

-- Slots that were left out for good.
CREATE OR REPLACE VIEW yardmaster.slots_skipped AS
  SELECT k.id, k.job_id, d.name AS database, k.first_slot, k.last_slot, k.slots, k.reason, k.at
  FROM yardmaster.skipped_slots k LEFT JOIN yardmaster.managed_database d ON d.id = k.database_id;

-- Writes down slots that were left out.
CREATE OR REPLACE FUNCTION yardmaster.skip_slots(job_id integer, database_id bigint, first_slot timestamptz, last_slot timestamptz, slots bigint, reason text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO yardmaster.skipped_slots (job_id, database_id, first_slot, last_slot, slots, reason)
  VALUES (skip_slots.job_id, skip_slots.database_id, skip_slots.first_slot, skip_slots.last_slot, skip_slots.slots, skip_slots.reason);
END
$$;
