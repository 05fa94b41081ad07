-- How long ended runs are kept.

-- Whether nothing would be missed with an ended run: a later one of its job in its database has ended, one that did what it should if
-- this did, and one that had something to do if this had.
CREATE OR REPLACE FUNCTION yardmaster.is_superseded(job_id integer, database_id bigint, run_id bigint, status text, reason text)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT 1 FROM yardmaster.run n WHERE n.job_id = $1 AND n.database_id = $2 AND n.id > $3 AND CASE
      WHEN $4 = 'CRITICAL' THEN n.status IN ('OK', 'WARNING', 'CRITICAL')
      WHEN $5 IS NOT NULL THEN n.status IN ('OK', 'WARNING')
      ELSE n.status IN ('OK', 'WARNING') AND n.reason IS NULL END)
    OR EXISTS (SELECT 1 FROM yardmaster.job j WHERE j.id = $1 AND j.deleted_at IS NOT NULL)
$$;

-- Removes ended runs that are too old or too many, of the next `jobs` jobs, `most` runs of each job at once; in a round over all jobs.
-- Open runs, and the newest of a job, stay. Does nothing where another session does it. Returns how many were removed.
CREATE OR REPLACE FUNCTION yardmaster.trim_history(jobs integer DEFAULT 50, most integer DEFAULT 1000)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  rule yardmaster.history_limit;
  visited integer[];
  removed integer := 0;
  one integer;
  count_of_one integer;
BEGIN
  SELECT * INTO rule FROM yardmaster.history_limit FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  visited := ARRAY(SELECT j.id FROM yardmaster.job j WHERE j.id > rule.counted_job ORDER BY j.id LIMIT trim_history.jobs);
  FOREACH one IN ARRAY visited LOOP
    -- By arrays: the planner would read every run there is, for each job anew.
    DELETE FROM yardmaster.run r WHERE r.id = ANY (ARRAY(
      SELECT d.id FROM yardmaster.run d WHERE d.id = ANY (ARRAY(
          SELECT n.id FROM (
            SELECT n.id, n.finished_at, n.status, row_number() OVER (PARTITION BY n.database_id, n.status = 'CRITICAL' ORDER BY n.id DESC) AS place
            FROM yardmaster.run n WHERE n.job_id = one AND n.status IN ('OK', 'WARNING', 'CRITICAL')) n
          WHERE n.finished_at < clock_timestamp() - rule.keep_for OR n.place > CASE WHEN n.status = 'CRITICAL' THEN rule.failures ELSE rule.successes END
          ORDER BY n.id LIMIT trim_history.most))
        AND yardmaster.is_superseded(one, d.database_id, d.id, d.status, d.reason) AND d.status IN ('OK', 'WARNING', 'CRITICAL')
      ORDER BY d.id FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS count_of_one = ROW_COUNT;
    removed := removed + count_of_one;
    -- A job that is late every second leaves something out every second.
    DELETE FROM yardmaster.skipped_slots k WHERE k.id = ANY (ARRAY(
      SELECT o.id FROM (SELECT n.id, n.at, row_number() OVER (ORDER BY n.last_slot DESC) AS place
        FROM yardmaster.skipped_slots n WHERE n.job_id = one) o
      WHERE o.at < clock_timestamp() - rule.keep_for OR o.place > rule.successes + rule.failures
      ORDER BY o.id LIMIT trim_history.most));
  END LOOP;
  UPDATE yardmaster.history_limit h SET counted_job = coalesce(visited[cardinality(visited)], 0);
  DELETE FROM yardmaster.alert a WHERE a.id IN (SELECT b.id FROM yardmaster.alert b WHERE b.closed_at < clock_timestamp() - rule.keep_for
    AND NOT coalesce(b.silenced_until > clock_timestamp(), false) ORDER BY b.closed_at LIMIT trim_history.most);
  DELETE FROM yardmaster.webhook_delivery d WHERE d.id IN (
    SELECT e.id FROM yardmaster.webhook_delivery e JOIN yardmaster.alert a ON a.id = e.alert_id
    WHERE e.finished_at < clock_timestamp() - interval '7 days' AND a.closed_at IS NOT NULL ORDER BY e.finished_at LIMIT trim_history.most);
  RETURN removed;
END
$$;

-- NULL keeps what is there. The newest run of a job stays in any case.
CREATE OR REPLACE FUNCTION yardmaster.set_history_limit(keep_for interval DEFAULT NULL, successes integer DEFAULT NULL, failures integer DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  IF set_history_limit.keep_for <= interval '0' OR least(set_history_limit.successes, set_history_limit.failures) < 1 THEN
    RAISE EXCEPTION 'History is kept for a time above 0, and at least one success and one failure of each job.' USING ERRCODE = 'YM003';
  END IF;
  SELECT to_jsonb(h) - '{only_one,counted_job}'::text[] INTO before FROM yardmaster.history_limit h FOR UPDATE;
  UPDATE yardmaster.history_limit h SET keep_for = coalesce(set_history_limit.keep_for, h.keep_for),
    successes = coalesce(set_history_limit.successes, h.successes), failures = coalesce(set_history_limit.failures, h.failures);
  PERFORM yardmaster.record_change('update', 'history_limit', 'history', before,
    (SELECT to_jsonb(h) - '{only_one,counted_job}'::text[] FROM yardmaster.history_limit h));
END
$$;

-- What clear_runs would remove.
CREATE OR REPLACE FUNCTION yardmaster.clearable_runs(before timestamptz)
RETURNS TABLE (runs bigint, jobs bigint, failed bigint, first_finished timestamptz, last_finished timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT count(*), count(DISTINCT r.job_id), count(*) FILTER (WHERE r.status = 'CRITICAL'), min(r.finished_at), max(r.finished_at)
  FROM yardmaster.run r WHERE r.status IN ('OK', 'WARNING', 'CRITICAL') AND r.finished_at < $1
    AND yardmaster.is_superseded(r.job_id, r.database_id, r.id, r.status, r.reason)
$$;

-- Removes what ended before that time from the next `most` runs behind `after_id`; the newest of a job stays. `last_id`: where to go
-- on; NULL: that was all.
CREATE OR REPLACE FUNCTION yardmaster.clear_runs(before timestamptz, after_id bigint DEFAULT 0, most integer DEFAULT 5000)
RETURNS TABLE (removed integer, last_id bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  SELECT max(n.id) INTO last_id FROM (SELECT r.id FROM yardmaster.run r WHERE r.id > clear_runs.after_id ORDER BY r.id LIMIT clear_runs.most) n;
  DELETE FROM yardmaster.run r WHERE r.id IN (
    SELECT d.id FROM yardmaster.run d WHERE d.id > clear_runs.after_id AND d.id <= last_id AND d.status IN ('OK', 'WARNING', 'CRITICAL')
      AND d.finished_at < clear_runs.before AND yardmaster.is_superseded(d.job_id, d.database_id, d.id, d.status, d.reason)
    FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS removed = ROW_COUNT;
  IF removed > 0 THEN
    PERFORM yardmaster.record_change('delete', 'runs', format('ended before %s', yardmaster.iso_time(clear_runs.before)),
      jsonb_build_object('runs', removed, 'behind', clear_runs.after_id, 'up_to', last_id), NULL);
  END IF;
  RETURN NEXT;
END
$$;
