-- What a monitoring system reads every few seconds. Nothing here goes through ended runs.

-- One row a series. `labels`: names and values; `series`: most of them where each replication has one, the worst first.
CREATE OR REPLACE FUNCTION yardmaster.metrics(series integer DEFAULT 500)
RETURNS TABLE (name text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT 'runs_total', jsonb_build_object('kind', k.kind, 'outcome', o.outcome), coalesce(t.runs, 0)::float8
  FROM (VALUES ('replication'), ('procedure'), ('sql'), ('task')) k(kind) CROSS JOIN (VALUES ('success'), ('failure')) o(outcome)
  LEFT JOIN (SELECT j.kind, sum(s.total_successes) AS success, sum(s.total_failures) AS failure
    FROM yardmaster.job_state s JOIN yardmaster.job j ON j.id = s.job_id GROUP BY j.kind) x ON x.kind = k.kind
  CROSS JOIN LATERAL (SELECT CASE o.outcome WHEN 'success' THEN x.success ELSE x.failure END AS runs) t;
  RETURN QUERY
  SELECT 'runs_' || lower(s.status), jsonb_build_object('kind', k.kind), coalesce(o.runs, 0)::float8
  FROM (VALUES ('replication'), ('procedure'), ('sql'), ('task')) k(kind) CROSS JOIN (VALUES ('RUNNING'), ('WAITING')) s(status)
  LEFT JOIN (SELECT j.kind, r.status, sum(r.runs) AS runs
    FROM (SELECT r.job_id, r.status, count(*) AS runs FROM yardmaster.run r WHERE r.status IN ('WAITING', 'RUNNING') GROUP BY 1, 2) r
    JOIN yardmaster.job j ON j.id = r.job_id GROUP BY 1, 2) o ON o.kind = k.kind AND o.status = s.status;
  RETURN QUERY
  SELECT 'oldest_waiting_seconds', '{}'::jsonb, greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(r.due_at)), 0))::float8
  FROM yardmaster.run r WHERE r.status = 'WAITING';
  RETURN QUERY
  SELECT 'jobs', jsonb_build_object('kind', j.kind, 'state', j.status), count(*)::float8
  FROM yardmaster.job j WHERE j.deleted_at IS NULL GROUP BY j.kind, j.status;
  RETURN QUERY
  SELECT 'workers', '{}'::jsonb, count(*)::float8 FROM yardmaster.workers w WHERE w.alive AND w.slots > 0
  UNION ALL
  SELECT 'worker_slots', '{}'::jsonb, coalesce(sum(w.slots), 0)::float8 FROM yardmaster.workers w WHERE w.alive;
  RETURN QUERY
  SELECT 'alerts', jsonb_build_object('level', lower(l.level), 'silenced', q.silenced::text), count(a.id)::float8
  FROM (VALUES (2, 'WARNING'), (3, 'CRITICAL')) l(code, level) CROSS JOIN (VALUES (false), (true)) q(silenced)
  LEFT JOIN yardmaster.alert a ON a.closed_at IS NULL AND a.level = l.code AND coalesce(a.silenced_until > clock_timestamp(), false) = q.silenced
  GROUP BY l.level, q.silenced;
  RETURN QUERY
  SELECT 'alert_evaluation_age_seconds', '{}'::jsonb, extract(epoch FROM clock_timestamp() - e.at)::float8
  FROM yardmaster.alert_evaluation e WHERE e.at IS NOT NULL;
  RETURN QUERY
  SELECT 'webhook_messages_total', jsonb_build_object('webhook', w.id::text, 'outcome', o.outcome),
    CASE o.outcome WHEN 'delivered' THEN w.delivered ELSE w.given_up END::float8
  FROM yardmaster.webhook w CROSS JOIN (VALUES ('delivered'), ('given_up')) o(outcome)
  UNION ALL
  SELECT 'webhook_messages_waiting', jsonb_build_object('webhook', w.id::text),
    (SELECT count(*) FROM yardmaster.webhook_delivery d WHERE d.webhook_id = w.id AND d.status = 'waiting')::float8
  FROM yardmaster.webhook w;
  RETURN QUERY
  WITH copy AS MATERIALIZED (
    SELECT v.destination_database || ':' || v.destination_table AS destination, extract(epoch FROM clock_timestamp() - v.as_of)::float8 AS lag,
      v.status = 'active' AND clock_timestamp() - coalesce(v.as_of, v.created_at) > v.late_after AS is_late,
      row_number() OVER (ORDER BY v.as_of, v.job_id) AS place
    FROM yardmaster.replications v)
  SELECT 'replication_lag_seconds', jsonb_build_object('destination', c.destination), greatest(0, c.lag)
  FROM copy c WHERE c.lag IS NOT NULL AND c.place <= metrics.series
  UNION ALL
  SELECT 'replication_lag_series_dropped', '{}'::jsonb, count(*) FILTER (WHERE c.lag IS NOT NULL AND c.place > metrics.series)::float8 FROM copy c
  UNION ALL
  SELECT 'replications_late', '{}'::jsonb, count(*) FILTER (WHERE c.is_late)::float8 FROM copy c;
END
$$;
