-- Jobs and their past as TimescaleDB's users know them: its columns first, in its order and types, then ours.

CREATE OR REPLACE VIEW yardmaster.jobs AS
  SELECT j.id AS job_id, left(format('%s [%s]', coalesce(j.name, CASE j.kind WHEN 'replication'
      THEN yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name) ELSE 'User-Defined Action' END), j.id), 63)::name AS application_name,
    j.schedule_interval, j.max_runtime, j.max_retries, j.retry_period, a.proc_schema::name AS proc_schema, a.proc_name::name AS proc_name,
    to_regrole(quote_ident(j.owner)) AS owner, j.status IN ('active', 'unverified') AS scheduled, j.fixed_schedule, a.config, s.next_start, j.initial_start,
    NULL::name AS hypertable_schema, NULL::name AS hypertable_name, a.check_schema::name AS check_schema, a.check_name::name AS check_name,
    j.timezone, j.cron, coalesce(d.name, 'tag:' || a.tag) AS database, j.site, j.kind, j.name, j.status, j.paused_at, j.paused_by, j.pause_note,
    a.statements, a.task, j.retry_on_crash, j.overlap, j.catch_up, j.jitter, j.priority, j.pool,
    ARRAY(SELECT p.after_job_id || CASE p.needs WHEN 'done' THEN ':done' ELSE '' END FROM yardmaster.job_dependency p WHERE p.job_id = j.id ORDER BY p.after_job_id) AS after,
    s.period, s.databases, s.paused_databases, j.owner AS owner_name, j.version, j.created_at, j.created_by, j.schedule_origin
  FROM yardmaster.job j
  LEFT JOIN yardmaster.job_action a ON a.job_id = j.id
  LEFT JOIN yardmaster.replication r ON r.job_id = j.id
  LEFT JOIN yardmaster.managed_database d ON d.id = coalesce(a.database_id, r.destination_database)
  LEFT JOIN LATERAL (SELECT min(s.next_start) AS next_start, min(s.period) AS period, count(*)::integer AS databases,
      count(s.paused_at)::integer AS paused_databases
    FROM yardmaster.job_state s WHERE s.job_id = j.id AND s.in_scope) s ON true
  WHERE j.deleted_at IS NULL;

-- One row for each database that a job runs in.
CREATE OR REPLACE VIEW yardmaster.job_stats AS
  SELECT NULL::name AS hypertable_schema, NULL::name AS hypertable_name, s.job_id, coalesce(o.started_at, s.last_start) AS last_run_started_at,
    s.last_success AS last_successful_finish,
    CASE WHEN o.started_at IS NOT NULL OR s.last_status IS NULL THEN NULL WHEN s.last_status = 'CRITICAL' THEN 'Failed' ELSE 'Success' END AS last_run_status,
    CASE WHEN o.started_at IS NOT NULL THEN 'Running' WHEN j.status IN ('active', 'unverified') AND s.paused_at IS NULL THEN 'Scheduled' ELSE 'Paused' END AS job_status,
    CASE WHEN o.started_at IS NULL THEN s.last_duration END AS last_run_duration,
    CASE WHEN j.status IN ('active', 'unverified') AND s.paused_at IS NULL THEN s.next_start END AS next_start,
    s.total_runs + o.running AS total_runs, s.total_successes, s.total_failures,
    d.name AS database, s.failures AS consecutive_failures, s.last_status AS last_level, s.last_finish AS last_run_finished_at, s.paused_at
  FROM yardmaster.job_state s
  JOIN yardmaster.job j ON j.id = s.job_id
  LEFT JOIN yardmaster.managed_database d ON d.id = s.database_id
  CROSS JOIN LATERAL (SELECT max(r.started_at) AS started_at, count(*) AS running FROM yardmaster.run r
    WHERE r.job_id = s.job_id AND r.database_id = s.database_id AND r.status = 'RUNNING') o
  WHERE j.deleted_at IS NULL AND s.in_scope;

-- Every run that has begun, for the owner of its job and the owner of this schema.
CREATE OR REPLACE VIEW yardmaster.job_history WITH (security_barrier) AS
  SELECT r.id, r.job_id, CASE r.status WHEN 'RUNNING' THEN NULL WHEN 'CRITICAL' THEN false ELSE true END AS succeeded,
    a.proc_schema, a.proc_name, t.target_pid AS pid, r.started_at AS start_time, r.finished_at AS finish_time, r.config,
    r.sqlstate AS sqlerrcode, -- The database's own words: the code is a column.
    CASE WHEN r.status = 'CRITICAL' THEN regexp_replace(regexp_replace(r.message, '^\[[a-z_]+\] ', ''), ' \(SQLSTATE [0-9A-Z]{5}\)', '') END AS err_message,
    d.name AS database, r.status, r.reason, r.message, r.slot, t.number AS attempt, t.host, r.requested
  FROM yardmaster.run r
  JOIN yardmaster.job j ON j.id = r.job_id
  LEFT JOIN yardmaster.job_action a ON a.job_id = r.job_id
  LEFT JOIN yardmaster.managed_database d ON d.id = r.database_id
  LEFT JOIN LATERAL (SELECT t.target_pid, t.number, t.host FROM yardmaster.attempt t WHERE t.run_id = r.id ORDER BY t.number DESC LIMIT 1) t ON true
  WHERE r.started_at IS NOT NULL AND r.status <> 'WAITING' AND yardmaster.may_act_as(j.owner);

-- The runs that failed.
CREATE OR REPLACE VIEW yardmaster.job_errors WITH (security_barrier) AS
  SELECT h.job_id, h.proc_schema, h.proc_name, h.pid, h.start_time, h.finish_time, h.sqlerrcode, h.err_message,
    h.id AS run_id, h.database, h.reason, h.attempt
  FROM yardmaster.job_history h WHERE h.succeeded IS FALSE;
