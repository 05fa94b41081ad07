-- What somebody should look at.

-- What hangs, fails or is late, worst first; one row OK where nothing is. Codes: 1 OK, 2 WARNING, 3 CRITICAL. A job that is
-- paused is not late, and alerts of what failed before; one that paused itself is as dead, and nobody meant it. `pattern`: only jobs whose name (`database:schema.table`, or what
-- stands behind the colon) is like it, with * and ?.
CREATE OR REPLACE FUNCTION yardmaster.check_job_status(pattern text DEFAULT NULL)
RETURNS TABLE (alert_code integer, alert_status text, job_name text, alert_text text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  -- Not once for all: what is said of a job is looked up where something is wrong with it.
  WITH watched AS NOT MATERIALIZED (SELECT * FROM yardmaster.watched_jobs w WHERE pattern IS NULL OR yardmaster.name_is_like(w.job_name, pattern)),
  staff AS (
    SELECT count(*) AS scheduled, count(*) FILTER (WHERE w.due_at < clock_timestamp() - interval '1 minute') AS overdue
    FROM watched w WHERE w.status = 'active' AND w.has_schedule),
  alerts AS (
    SELECT 3 AS code, 'FAILED_RUN' AS status, w.job_name, format('%s failed runs in a row; the last one, %s: %s', w.failures, w.last_run,
      w.last_message) AS text FROM watched w WHERE w.failures >= 3 AND w.status <> 'paused'
      AND NOT EXISTS (SELECT 1 FROM yardmaster.alert_rule a WHERE a.job_id = w.job_id AND num_nonnulls(a.sensitivity, a.escalate) > 0)
    UNION ALL
    SELECT 3, 'FAILED_RUN', w.job_name, format('it is %s, and nothing works on it%s', w.status, coalesce('; run ' || w.last_run || ': ' || w.last_message, ''))
    FROM watched w WHERE w.status IN ('setting_up', 'removing', 'broken') AND w.failures < 3 AND w.running + w.waiting = 0
    UNION ALL
    SELECT 3, 'FAILED_RUN', s.object, format('it has paused itself: %s Go on with: yardmaster job resume %s', coalesce(j.pause_note,
      format('It reached max_retries (%s) after %s consecutive failures.', j.max_retries, s.failures)), j.id)
    FROM yardmaster.job j JOIN yardmaster.job_state s ON s.job_id = j.id AND s.in_scope
    WHERE j.deleted_at IS NULL AND (j.status <> 'paused' AND s.paused_at IS NOT NULL OR j.status = 'paused'
        AND (j.paused_by IN ('max_retries', 'verification') OR j.paused_by = 'yardmaster' AND to_regrole(quote_ident(j.owner)) IS NULL))
      AND (pattern IS NULL OR yardmaster.name_is_like(s.object, pattern))
    UNION ALL
    SELECT CASE WHEN w.age > 3 * w.late_after THEN 3 ELSE 2 END, 'MISSING', w.job_name, format('%s behind (late after %s); %s',
      yardmaster.duration_text(w.age), yardmaster.duration_text(w.late_after),
      CASE WHEN w.last_run IS NULL THEN 'no run has ended yet' ELSE format('run %s %s: %s', w.last_run, w.last_status, w.last_message) END)
    FROM watched w WHERE w.status = 'active' AND w.age > w.late_after
      AND NOT EXISTS (SELECT 1 FROM yardmaster.alert_rule a WHERE a.job_id = w.job_id AND num_nonnulls(a.warn, a.error) > 0)
    UNION ALL
    SELECT r.alert_code, r.alert_status, r.job_name, r.alert_text FROM yardmaster.rule_alerts() r WHERE yardmaster.name_is_like(r.job_name, pattern)
    UNION ALL
    SELECT 2, 'BLOCKED', w.job_name, format('%s runs in a row found it locked; the last one, %s: %s', w.locked, w.last_run, w.last_message)
    FROM watched w WHERE w.locked >= 3 AND w.status <> 'paused'
    UNION ALL
    SELECT 2, 'RUNNING', r.object, format('run %s is carried out by %s, which has not been heard of since %s', r.id, r.worker,
      to_char(k.lease_until - yardmaster.lease_length(), 'YYYY-MM-DD HH24:MI:SS TZ'))
    FROM yardmaster.attempt a JOIN yardmaster.runs r ON r.attempt_id = a.id JOIN yardmaster.workers k ON k.id = a.worker_id
    WHERE a.status = 'RUNNING' AND NOT k.alive AND yardmaster.name_is_like(r.object, pattern)
    UNION ALL
    SELECT CASE WHEN s.overdue > 0 THEN 3 ELSE 2 END, 'MISSING', 'workers', format('no worker is alive, and schedules wait for one: %s%s. '
      'Start one: yardmaster worker; or let cron call: yardmaster run-due', s.scheduled, CASE WHEN s.overdue > 0 THEN format(' (overdue: %s)', s.overdue) ELSE '' END)
    FROM staff s
    WHERE s.scheduled > 0 AND NOT yardmaster.is_staffed()
    UNION ALL
    SELECT CASE WHEN s.overdue > 0 THEN 3 ELSE 2 END, 'MISSING', 'workers', format('every host with a live worker is drained, and schedules wait: %s%s. '
      'Take one back: yardmaster host undrain %s', s.scheduled, CASE WHEN s.overdue > 0 THEN format(' (overdue: %s)', s.overdue) ELSE '' END, d.host)
    FROM staff s, (SELECT min(k.host) AS host FROM yardmaster.workers k WHERE k.alive AND k.slots > 0) d
    WHERE s.scheduled > 0 AND d.host IS NOT NULL AND NOT EXISTS (SELECT 1 FROM yardmaster.active_hosts)
    UNION ALL
    SELECT s.alert_code, s.alert_status, yardmaster.site_phrase(s.site), s.alert_text FROM yardmaster.site_alerts() s
    WHERE yardmaster.name_is_like(yardmaster.site_phrase(s.site), pattern)
    UNION ALL
    SELECT 2, 'bindings_refused', f.path, format('the bindings before it stay in force: since %s, %s on %s is watched and can''t be applied: %s',
      to_char(f.since, 'YYYY-MM-DD HH24:MI TZ'), f.path, f.host, f.message)
    FROM yardmaster.refused_file f WHERE yardmaster.name_is_like(f.path, pattern)
  )
  SELECT a.code, a.status, a.job_name, a.text FROM alerts a
  UNION ALL
  SELECT 1, 'OK', 'all jobs', format('nothing fails, hangs or is late; jobs: %s, paused: %s', count(*), count(*) FILTER (WHERE w.status = 'paused'))
  FROM watched w HAVING NOT EXISTS (SELECT 1 FROM alerts)
  ORDER BY 1 DESC, 2, 3;
END
$$;

-- What an alert is made of, by job and database. Cheap for those that nothing is wrong with: there may be 100,000.
CREATE OR REPLACE VIEW yardmaster.watched_jobs AS
  SELECT s.job_id, s.database_id, s.object AS job_name, j.kind, CASE WHEN s.paused_at IS NULL THEN j.status ELSE 'paused' END AS status,
    v.late_after, s.failures, s.troubles,
    j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL AS has_schedule,
    -- Of a copy, how old what it holds is; of anything else, how long ago it last ended well.
    clock_timestamp() - coalesce(CASE j.kind WHEN 'replication' THEN v.as_of ELSE s.last_success END, j.created_at) AS age,
    coalesce(s.next_start, open.slot) AS due_at,
    s.last_run, s.last_status, s.last_reason, (SELECT r.message FROM yardmaster.run r WHERE r.id = s.last_run) AS last_message,
    -- The newest runs, as far as each found the lock taken.
    CASE WHEN s.last_reason = 'locked' THEN (SELECT count(*) FROM (
      SELECT bool_and(n.reason IS NOT DISTINCT FROM 'locked') OVER (ORDER BY n.id DESC) AS still FROM (
        SELECT r.id, r.reason FROM yardmaster.run r
        WHERE r.job_id = s.job_id AND r.database_id = s.database_id AND r.status IN ('OK', 'WARNING', 'CRITICAL')
        ORDER BY r.id DESC LIMIT 10) n) l WHERE l.still) ELSE 0 END AS locked,
    coalesce(open.running, 0) AS running, coalesce(open.waiting, 0) AS waiting, open.since AS running_since
  FROM yardmaster.job_state s
  JOIN yardmaster.job j ON j.id = s.job_id
  LEFT JOIN yardmaster.replications v ON v.job_id = s.job_id
  LEFT JOIN (SELECT r.job_id, r.database_id, min(r.slot) AS slot, count(*) FILTER (WHERE r.status = 'RUNNING') AS running,
      count(*) FILTER (WHERE r.status = 'WAITING') AS waiting, min(r.started_at) FILTER (WHERE r.status = 'RUNNING') AS since
    FROM yardmaster.run r WHERE r.status IN ('WAITING', 'RUNNING') GROUP BY r.job_id, r.database_id) open
    ON open.job_id = s.job_id AND open.database_id = s.database_id
  WHERE s.in_scope AND j.deleted_at IS NULL;

-- Whether somebody carries out what is due: a worker that is alive, or one that ended in good order a moment ago (a worker that
-- is being replaced, a pass of run-due).
CREATE OR REPLACE FUNCTION yardmaster.is_staffed()
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT 1 FROM yardmaster.workers w WHERE w.slots > 0
    AND (w.alive OR w.end_reason = 'stopped' AND w.ended_at > clock_timestamp() - interval '10 minutes'))
$$;

-- Whether a name, or what stands behind its first colon, is like a pattern with * and ?; NULL takes all.
CREATE OR REPLACE FUNCTION yardmaster.name_is_like(name text, pattern text)
RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT $2 IS NULL OR name LIKE p.form OR substr(name, strpos(name, ':') + 1) LIKE p.form
  FROM (SELECT replace(replace(regexp_replace($2, '([\\%_])', '\\\1', 'g'), '*', '%'), '?', '_') AS form) p
$$;

-- `14 min`, `2 h 10 min`, `3 d 4 h`.
CREATE OR REPLACE FUNCTION yardmaster.duration_text(length interval)
RETURNS text LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN s < 60 THEN format('%s s', s) WHEN s < 3600 THEN format('%s min %s s', s / 60, s % 60)
    WHEN s < 86400 THEN format('%s h %s min', s / 3600, s % 3600 / 60) ELSE format('%s d %s h', s / 86400, s % 86400 / 3600) END
  FROM (SELECT greatest(extract(epoch FROM $1), 0)::bigint AS s) x
$$;
