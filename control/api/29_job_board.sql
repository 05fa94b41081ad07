-- Jobs as the status page shows them.

-- A job as people know it, wherever it runs: a replication by its destination.
CREATE OR REPLACE FUNCTION yardmaster.job_label(job_id integer)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE t.kind WHEN 'replication' THEN t.object ELSE substr(t.object, coalesce(length(t.database) + 1, 0) + 1) END
  FROM yardmaster.job_targets t WHERE t.job_id = $1 ORDER BY t.in_scope DESC, t.database_id LIMIT 1
$$;

-- The jobs that somebody should look at first, worst first; replications are looked at as copies. `most`: that many at most; what is
-- counted is counted over all. Only those that are returned cost more than their row of job_state.
CREATE OR REPLACE FUNCTION yardmaster.job_board(most integer)
RETURNS TABLE (job_id integer, label text, action text, kind text, place text, databases integer, site text, status text, level text,
  schedule_interval text, cron text, timezone text, fixed_schedule boolean, max_retries integer, unverified_since timestamptz,
  paused_databases integer, paused_by text, paused_at timestamptz, pause_note text, next_start timestamptz, failures integer,
  last_run bigint, last_status text, last_reason text, last_message text, last_database text, last_finish timestamptz, last_seconds float8,
  running integer, waiting integer, after text[], waits_for text[], jobs integer, critical integer, warnings integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH stood AS MATERIALIZED (
    SELECT s.job_id, count(*)::integer AS databases, count(s.paused_at)::integer AS paused, max(s.failures) AS failures,
      min(s.next_start) FILTER (WHERE s.paused_at IS NULL) AS next_start, bool_or(s.last_status = 'CRITICAL' AND s.failures > 0) AS failed,
      bool_or(s.last_status = 'WARNING') AS warned
    FROM yardmaster.job_state s WHERE s.in_scope GROUP BY s.job_id),
  ranked AS (
    SELECT j.id, s.databases, s.paused, s.failures, s.next_start,
      CASE WHEN j.status = 'paused' THEN CASE WHEN j.paused_by IN ('max_retries', 'verification') THEN 3 ELSE 2 END
        WHEN s.failed OR s.paused > 0 THEN 3
        WHEN s.job_id IS NULL OR s.warned OR s.failures > 0 THEN 2
        WHEN j.status = 'unverified' AND j.created_at < clock_timestamp() - interval '1 minute' THEN 2
        ELSE 1 END AS rank
    FROM yardmaster.job j LEFT JOIN stood s ON s.job_id = j.id WHERE j.kind <> 'replication' AND j.deleted_at IS NULL),
  counted AS (
    SELECT r.*, count(*) OVER ()::integer AS jobs, count(*) FILTER (WHERE r.rank = 3) OVER ()::integer AS critical,
      count(*) FILTER (WHERE r.rank = 2) OVER ()::integer AS warnings
    FROM ranked r ORDER BY r.rank DESC, r.id LIMIT job_board.most)
  SELECT j.id, yardmaster.action_label(j.id, j.name, a.proc_schema, a.proc_name, a.task),
    CASE j.kind WHEN 'procedure' THEN coalesce(yardmaster.display_name(a.proc_schema) || '.', '') || yardmaster.display_name(a.proc_name)
      WHEN 'sql' THEN CASE cardinality(a.statements) WHEN 1 THEN '1 statement' ELSE cardinality(a.statements) || ' statements' END
      ELSE 'task ' || a.task END,
    j.kind, coalesce(d.name, 'tag:' || a.tag), coalesce(c.databases, 0), j.site, j.status,
    CASE c.rank WHEN 3 THEN 'CRITICAL' WHEN 2 THEN 'WARNING' ELSE 'OK' END,
    j.schedule_interval::text, j.cron, j.timezone, j.fixed_schedule, j.max_retries, CASE j.status WHEN 'unverified' THEN j.created_at END,
    coalesce(c.paused, 0), j.paused_by, j.paused_at, j.pause_note,
    CASE WHEN j.status IN ('active', 'unverified') AND isfinite(c.next_start) THEN c.next_start END, coalesce(c.failures, 0),
    r.id, r.status, r.reason, r.message, ld.name, r.finished_at, extract(epoch FROM r.finished_at - r.started_at)::float8,
    o.running, o.waiting,
    ARRAY(SELECT yardmaster.job_label(p.after_job_id) FROM yardmaster.job_dependency p WHERE p.job_id = j.id ORDER BY p.after_job_id),
    CASE WHEN c.databases = 1 AND j.status = 'active' AND o.running + o.waiting - o.held = 0 THEN ARRAY(
      SELECT DISTINCT yardmaster.job_label(w.after_job_id) FROM yardmaster.awaited_runs(j.id, l.database_id) w WHERE NOT w.is_fresh)
      ELSE '{}'::text[] END,
    c.jobs, c.critical, c.warnings
  FROM counted c
  JOIN yardmaster.job j ON j.id = c.id
  JOIN yardmaster.job_action a ON a.job_id = j.id
  LEFT JOIN yardmaster.managed_database d ON d.id = a.database_id
  -- Of several databases the one that is worst off.
  LEFT JOIN LATERAL (SELECT s.database_id, s.last_run FROM yardmaster.job_state s WHERE s.job_id = j.id AND s.in_scope
    ORDER BY s.failures DESC, s.last_finish DESC NULLS LAST, s.database_id LIMIT 1) l ON true
  LEFT JOIN yardmaster.run r ON r.id = l.last_run
  LEFT JOIN yardmaster.managed_database ld ON ld.id = r.database_id
  CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE w.status = 'RUNNING')::integer AS running,
      count(*) FILTER (WHERE w.status = 'WAITING')::integer AS waiting, count(*) FILTER (WHERE w.status = 'WAITING' AND NOT w.queued)::integer AS held
    FROM yardmaster.run w WHERE w.job_id = j.id AND w.status IN ('WAITING', 'RUNNING')) o
  ORDER BY c.rank DESC, c.id;
END
$$;
