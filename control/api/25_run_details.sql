-- What is told of one run beside the list of all.

-- Each try at a run.
CREATE OR REPLACE VIEW yardmaster.attempts AS
  SELECT a.run_id, a.number AS attempt, a.status, a.worker, a.host, a.placement, a.target_pid, a.started_at, a.finished_at,
    -- Nobody has seen yet that its session in the target is gone.
    a.abandoned AND a.target_pid IS NOT NULL AS is_left,
    CASE WHEN a.status = 'RUNNING' THEN a.blocked_since END AS blocked_since, CASE WHEN a.status = 'RUNNING' THEN a.blocked_by END AS blocked_by
  FROM yardmaster.attempt a;

-- Of a run of a job that is no replication: what it was called with, and what comes after it. `next_attempt`: when the run itself is
-- tried again, or, of the newest one that has ended, when its job starts next (infinity: never). `pause`: why nothing starts by itself.
-- `same_failures`: runs in a row that ended with the same failure, this one included, since `same_since`; 1,000 at most.
CREATE OR REPLACE FUNCTION yardmaster.call_details(run_id bigint)
RETURNS TABLE (config jsonb, sqlstate text, failures integer, max_retries integer, next_attempt timestamptz, pause text, same_failures integer, same_since timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.config, r.sqlstate, n.failures, j.max_retries,
    CASE WHEN r.status = 'WAITING' THEN CASE WHEN r.started_at IS NOT NULL THEN r.due_at END
      WHEN j.deleted_at IS NULL AND j.status = 'active' AND n.paused_at IS NULL THEN n.next_start END,
    CASE WHEN n.job_id IS NULL THEN NULL
      WHEN j.deleted_at IS NOT NULL THEN 'Its job was deleted.'
      WHEN j.status = 'paused' THEN format('Its job is paused%s%s', ' by ' || j.paused_by, ': ' || j.pause_note)
      WHEN n.paused_at IS NOT NULL THEN format('Its job is paused in this database: it failed %s times in a row, as often as max_retries allows.', n.failures) END,
    f.same_failures, f.same_since
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id
  -- Only of the newest run that has ended the job's state says what comes next.
  LEFT JOIN yardmaster.job_state n ON n.job_id = r.job_id AND n.database_id = r.database_id AND n.last_run = r.id AND r.status = 'CRITICAL'
  LEFT JOIN LATERAL (
    SELECT count(*)::integer AS same_failures, min(x.finished_at) AS same_since FROM (
      SELECT o.finished_at, bool_and(o.status = 'CRITICAL' AND o.sqlstate IS NOT DISTINCT FROM r.sqlstate
        AND regexp_replace(left(o.message, 500), '[0-9]+', '#', 'g') IS NOT DISTINCT FROM regexp_replace(left(r.message, 500), '[0-9]+', '#', 'g'))
        OVER (ORDER BY o.id DESC) AS is_same
      FROM (SELECT * FROM yardmaster.run p WHERE p.job_id = r.job_id AND p.database_id = r.database_id AND p.id <= r.id
        AND p.status IN ('OK', 'WARNING', 'CRITICAL') ORDER BY p.id DESC LIMIT 1000) o) x
    WHERE x.is_same) f ON r.status = 'CRITICAL'
  WHERE r.id = $1 AND r.operation = 'call'
$$;
