-- Rules of single jobs, and alerts as things: opened, changed, acknowledged, silenced, closed.

-- `changes`: warn, error, sensitivity, escalate; what is null there is the default again.
CREATE OR REPLACE FUNCTION yardmaster.set_alert_rule(job_id integer, changes jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
  rule yardmaster.alert_rule;
  stranger text;
BEGIN
  PERFORM 1 FROM yardmaster.job j WHERE j.id = set_alert_rule.job_id AND j.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no job %.', coalesce(set_alert_rule.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  SELECT k INTO stranger FROM jsonb_object_keys(coalesce(set_alert_rule.changes, '{}')) k
  WHERE k NOT IN ('warn', 'error', 'sensitivity', 'escalate') LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'An alert rule has warn, error, sensitivity and escalate, no %.', stranger USING ERRCODE = 'YM003';
  END IF;
  SELECT to_jsonb(a) INTO before FROM yardmaster.alert_rule a WHERE a.job_id = set_alert_rule.job_id;
  BEGIN
    rule := jsonb_populate_record(NULL::yardmaster.alert_rule, coalesce(before, '{}') || coalesce(set_alert_rule.changes, '{}'));
    rule.job_id := set_alert_rule.job_id;
    rule.warn := justify_hours(rule.warn);
    rule.error := justify_hours(rule.error);
    DELETE FROM yardmaster.alert_rule a WHERE a.job_id = set_alert_rule.job_id;
    IF num_nonnulls(rule.warn, rule.error, rule.sensitivity, rule.escalate) > 0 THEN
      INSERT INTO yardmaster.alert_rule SELECT rule.*;
    END IF;
  EXCEPTION WHEN data_exception OR check_violation THEN
    RAISE EXCEPTION 'warn and error are intervals above 0, warn not above error; sensitivity and escalate are whole numbers from 1 to 1000. Not: %.',
      set_alert_rule.changes USING ERRCODE = 'YM003';
  END;
  PERFORM yardmaster.record_change('update', 'alert_rule', set_alert_rule.job_id::text, before,
    (SELECT to_jsonb(a) FROM yardmaster.alert_rule a WHERE a.job_id = set_alert_rule.job_id));
END
$$;

-- What check_job_status finds by the rules of single jobs, which take the place of the defaults there, and by what workers see of
-- attempts that wait for a lock.
CREATE OR REPLACE FUNCTION yardmaster.rule_alerts()
RETURNS TABLE (alert_code integer, alert_status text, job_name text, alert_text text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH ruled AS MATERIALIZED (
    SELECT a.warn, a.error, a.sensitivity, a.escalate, w.* FROM yardmaster.alert_rule a JOIN yardmaster.watched_jobs w ON w.job_id = a.job_id
    WHERE w.status <> 'paused')
  SELECT CASE WHEN w.failures >= s.needed OR bad.runs >= s.needed + w.escalate THEN 3 ELSE 2 END, 'FAILED_RUN', w.job_name,
    format('%s in a row (alerts from %s on); the last one, %s %s: %s', CASE bad.runs WHEN 1 THEN '1 bad run' ELSE bad.runs || ' bad runs' END, s.needed, w.last_run, w.last_status, w.last_message)
  FROM ruled w
  CROSS JOIN LATERAL (SELECT coalesce(w.sensitivity, 3) AS needed) s
  CROSS JOIN LATERAL (SELECT yardmaster.bad_runs(w.job_id, w.last_run, s.needed + coalesce(w.escalate, 0)) AS runs) bad
  WHERE num_nonnulls(w.sensitivity, w.escalate) > 0 AND (bad.runs >= s.needed OR w.failures >= s.needed)
  UNION ALL
  SELECT CASE WHEN done.age > w.error THEN 3 ELSE 2 END, 'MISSING', w.job_name,
    format('no run completed for %s (%s); %s', yardmaster.duration_text(done.age), yardmaster.thresholds_text(w.warn, w.error),
      CASE WHEN w.last_run IS NULL THEN 'no run has ended yet' ELSE format('run %s %s: %s', w.last_run, w.last_status, w.last_message) END)
  FROM ruled w CROSS JOIN LATERAL (SELECT clock_timestamp() - yardmaster.completed_at(w.job_id, w.last_run) AS age) done
  WHERE w.status = 'active' AND done.age > least(w.warn, w.error)
  UNION ALL
  SELECT CASE WHEN r.age > w.error THEN 3 ELSE 2 END, 'RUNNING', w.job_name,
    format('run %s has been going on for %s (%s)', r.id, yardmaster.duration_text(r.age), yardmaster.thresholds_text(w.warn, w.error))
  FROM ruled w JOIN LATERAL (SELECT r.id, clock_timestamp() - r.started_at AS age FROM yardmaster.run r
    WHERE r.job_id = w.job_id AND r.database_id = w.database_id AND r.status = 'RUNNING') r ON r.age > least(w.warn, w.error)
  UNION ALL
  SELECT CASE WHEN b.age > x.error THEN 3 ELSE 2 END, 'BLOCKED', r.object,
    format('run %s has been waiting for a lock for %s; it is held by %s', r.id, yardmaster.duration_text(b.age), a.blocked_by)
  FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id LEFT JOIN yardmaster.alert_rule x ON x.job_id = r.job_id
  CROSS JOIN LATERAL (SELECT clock_timestamp() - a.blocked_since AS age) b
  WHERE a.status = 'RUNNING' AND a.blocked_since IS NOT NULL AND b.age > coalesce(least(x.warn, x.error), interval '1 minute');
END
$$;

-- The newest runs of a job in the database of `last_run`, as far as each ended WARNING or CRITICAL; counted up to `most`. One that
-- found its table locked is BLOCKED, one that somebody called off is nobody's fault.
CREATE OR REPLACE FUNCTION yardmaster.bad_runs(job_id integer, last_run bigint, most integer)
RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT count(*)::integer FROM (
    SELECT bool_and(n.status <> 'OK') OVER (ORDER BY n.id DESC) AS still FROM (
      SELECT r.id, r.status FROM yardmaster.run r, yardmaster.run l
      WHERE l.id = $2 AND r.job_id = $1 AND r.database_id = l.database_id AND r.status IN ('OK', 'WARNING', 'CRITICAL')
        AND r.reason IS DISTINCT FROM 'locked' AND r.reason IS DISTINCT FROM 'cancelled'
      ORDER BY r.id DESC LIMIT $3) n) s WHERE s.still
$$;

-- When a run of a job last did what it should, in the database of `last_run`; before the first one, when the job was made.
CREATE OR REPLACE FUNCTION yardmaster.completed_at(job_id integer, last_run bigint)
RETURNS timestamptz LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT r.finished_at FROM yardmaster.run r, yardmaster.run l
     WHERE l.id = $2 AND r.job_id = $1 AND r.database_id = l.database_id AND r.status IN ('OK', 'WARNING') ORDER BY r.id DESC LIMIT 1),
    (SELECT j.created_at FROM yardmaster.job j WHERE j.id = $1))
$$;

CREATE OR REPLACE FUNCTION yardmaster.thresholds_text(warn interval, error interval)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT concat_ws(', ', 'warning after ' || yardmaster.duration_text($1), 'critical after ' || yardmaster.duration_text($2))
$$;

-- Says that an attempt has been waiting for a lock in its target for so many seconds (NULL: since this was said first), and who holds
-- it; NULL: it waits no more.
CREATE OR REPLACE FUNCTION yardmaster.report_blocked(token uuid, holder text, seconds float8 DEFAULT NULL)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE yardmaster.attempt a SET blocked_by = $2, blocked_since = CASE WHEN $2 IS NOT NULL
    THEN coalesce(clock_timestamp() - make_interval(secs => $3), a.blocked_since, clock_timestamp()) END
  WHERE a.token = $1 AND a.status = 'RUNNING' AND a.blocked_by IS DISTINCT FROM $2
$$;

-- Open and closed alerts.
CREATE OR REPLACE VIEW yardmaster.alerts AS
  SELECT a.id, a.level AS alert_code, CASE a.level WHEN 3 THEN 'CRITICAL' ELSE 'WARNING' END AS level, a.status AS alert_status, a.job_name,
    a.text AS alert_text, a.opened_at, a.changed_at, a.closed_at, a.acknowledged_at, a.acknowledged_by, a.note,
    CASE WHEN a.silenced_until > clock_timestamp() THEN a.silenced_until END AS silenced_until,
    CASE WHEN a.silenced_until > clock_timestamp() THEN a.silenced_by END AS silenced_by
  FROM yardmaster.alert a;

-- What check_job_status finds, as a monitor should hear it: silenced alerts are left out until their level rises, acknowledged ones
-- say who looks after them.
CREATE OR REPLACE FUNCTION yardmaster.heard_alerts(pattern text DEFAULT NULL)
RETURNS TABLE (alert_code integer, alert_status text, job_name text, alert_text text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH found AS MATERIALIZED (SELECT c.* FROM yardmaster.check_job_status(heard_alerts.pattern) c),
  heard AS MATERIALIZED (
    SELECT f.alert_code, f.alert_status, f.job_name, f.alert_text || CASE WHEN a.acknowledged_by IS NULL THEN '' ELSE
      format(' (acknowledged by %s%s)', a.acknowledged_by, ': ' || a.note) END AS alert_text
    FROM found f LEFT JOIN yardmaster.alert a ON a.closed_at IS NULL AND a.status = f.alert_status AND a.job_name = f.job_name
    WHERE NOT coalesce(a.silenced_until > clock_timestamp() AND f.alert_code <= a.level, false))
  SELECT * FROM heard
  UNION ALL
  SELECT 1, 'OK', 'all jobs', format('what is wrong is silenced: %s', count(*)) FROM found f HAVING NOT EXISTS (SELECT 1 FROM heard)
  ORDER BY 1 DESC, 2, 3;
END
$$;

-- Compares what is wrong with the alerts that are open: opens, changes and closes them, and has webhooks told. Does nothing where
-- another session does it, or it was done within `apart`. Returns how many were opened, closed or changed in level; NULL: nothing done.
CREATE OR REPLACE FUNCTION yardmaster.evaluate_alerts(apart interval DEFAULT interval '0')
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_one record;
  changes integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(7205759403792797) THEN
    RETURN NULL;
  END IF;
  UPDATE yardmaster.alert_evaluation e SET at = clock_timestamp() WHERE e.at IS NULL OR e.at <= clock_timestamp() - evaluate_alerts.apart
    OR e.at > clock_timestamp();
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  FOR found_one IN
    SELECT o.id, o.level AS old_level, f.alert_code, f.alert_status, f.job_name, f.alert_text
    FROM (SELECT DISTINCT ON (c.alert_status, c.job_name) c.* FROM yardmaster.check_job_status() c WHERE c.alert_code > 1
      ORDER BY c.alert_status, c.job_name, c.alert_code DESC, c.alert_text) f
    FULL JOIN (SELECT * FROM yardmaster.alert a WHERE a.closed_at IS NULL) o ON o.status = f.alert_status AND o.job_name = f.job_name
    WHERE o.id IS NULL OR f.alert_code IS DISTINCT FROM o.level
      OR f.alert_text <> o.text AND o.text_at NOT BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp()
    ORDER BY f.alert_code DESC, o.id
  LOOP
    IF found_one.id IS NULL THEN
      PERFORM yardmaster.open_alert(found_one.alert_status, found_one.job_name, found_one.alert_code, found_one.alert_text);
    ELSIF found_one.alert_code IS NULL THEN
      UPDATE yardmaster.alert a SET closed_at = clock_timestamp() WHERE a.id = found_one.id;
      PERFORM yardmaster.announce_alert(found_one.id, 'closed');
    ELSE
      PERFORM yardmaster.change_alert(found_one.id, found_one.alert_code, found_one.alert_text);
    END IF;
    changes := changes + (found_one.old_level IS DISTINCT FROM found_one.alert_code)::integer;
  END LOOP;
  RETURN changes;
END
$$;

-- One that comes back while it is silenced is silent still.
CREATE OR REPLACE FUNCTION yardmaster.open_alert(status text, job_name text, level integer, text text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
  before yardmaster.alert;
BEGIN
  SELECT a.* INTO before FROM yardmaster.alert a
  WHERE a.closed_at IS NOT NULL AND a.silenced_until > clock_timestamp() AND a.status = open_alert.status AND a.job_name = open_alert.job_name
    AND a.level >= open_alert.level
  ORDER BY a.id DESC LIMIT 1;
  INSERT INTO yardmaster.alert (status, job_name, level, text, silenced_until, silenced_by)
  VALUES (open_alert.status, open_alert.job_name, open_alert.level, open_alert.text, before.silenced_until, before.silenced_by)
  RETURNING id INTO new_id;
  IF before.id IS NULL THEN
    PERFORM yardmaster.announce_alert(new_id, 'opened');
  END IF;
END
$$;

-- A level that rises ends what was said about the lower one: it is told, whoever had acknowledged or silenced that.
CREATE OR REPLACE FUNCTION yardmaster.change_alert(alert_id bigint, level integer, text text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  old yardmaster.alert;
  is_quiet boolean;
BEGIN
  SELECT a.* INTO old FROM yardmaster.alert a WHERE a.id = change_alert.alert_id FOR UPDATE;
  UPDATE yardmaster.alert a SET text = change_alert.text, text_at = clock_timestamp() WHERE a.id = old.id;
  IF old.level = change_alert.level THEN
    RETURN;
  END IF;
  is_quiet := old.acknowledged_at IS NOT NULL OR coalesce(old.silenced_until > clock_timestamp(), false);
  UPDATE yardmaster.alert a SET level = change_alert.level, changed_at = clock_timestamp() WHERE a.id = old.id;
  IF change_alert.level > old.level THEN
    UPDATE yardmaster.alert a SET acknowledged_at = NULL, acknowledged_by = NULL, note = NULL, silenced_until = NULL, silenced_by = NULL
    WHERE a.id = old.id;
  END IF;
  IF change_alert.level > old.level OR NOT is_quiet THEN
    PERFORM yardmaster.announce_alert(old.id, 'changed');
  END IF;
END
$$;

-- An open alert, locked; refuses (YM001, YM002) one that is none.
CREATE OR REPLACE FUNCTION yardmaster.require_open_alert(alert_id bigint)
RETURNS yardmaster.alert LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_row yardmaster.alert;
BEGIN
  SELECT a.* INTO found_row FROM yardmaster.alert a WHERE a.id = require_open_alert.alert_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no alert %.', coalesce(require_open_alert.alert_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  IF found_row.closed_at IS NOT NULL THEN
    RAISE EXCEPTION 'Alert % (% of %) is over since %.', found_row.id, found_row.status, found_row.job_name,
      to_char(found_row.closed_at, 'YYYY-MM-DD HH24:MI:SS TZ') USING ERRCODE = 'YM002';
  END IF;
  RETURN found_row;
END
$$;

-- Somebody looks after it: no webhook is told again until its level rises.
CREATE OR REPLACE FUNCTION yardmaster.acknowledge_alert(alert_id bigint, note text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  old yardmaster.alert := yardmaster.require_open_alert(acknowledge_alert.alert_id);
BEGIN
  UPDATE yardmaster.alert a SET acknowledged_at = clock_timestamp(), note = acknowledge_alert.note,
    acknowledged_by = coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user) WHERE a.id = old.id;
  PERFORM yardmaster.record_alert_change(old);
END
$$;

-- Nobody is told of it until then, nor if it comes back in between, unless its level rises. NULL ends that.
CREATE OR REPLACE FUNCTION yardmaster.silence_alert(alert_id bigint, until timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  old yardmaster.alert := yardmaster.require_open_alert(silence_alert.alert_id);
BEGIN
  IF silence_alert.until <= clock_timestamp() OR silence_alert.until > clock_timestamp() + interval '366 days' THEN
    RAISE EXCEPTION 'An alert is silenced until a time within a year from now, not until %.', silence_alert.until USING ERRCODE = 'YM003';
  END IF;
  UPDATE yardmaster.alert a SET silenced_until = silence_alert.until, silenced_by =
    CASE WHEN silence_alert.until IS NOT NULL THEN coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user) END
  WHERE a.id = old.id;
  -- What was said of it before it went and came back.
  IF silence_alert.until IS NULL THEN
    UPDATE yardmaster.alert a SET silenced_until = NULL, silenced_by = NULL
    WHERE a.closed_at IS NOT NULL AND a.silenced_until > clock_timestamp() AND a.status = old.status AND a.job_name = old.job_name;
  END IF;
  PERFORM yardmaster.record_alert_change(old);
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.record_alert_change(old yardmaster.alert)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT yardmaster.record_change('update', 'alert', format('%s (%s of %s)', a.id, a.status, a.job_name),
    to_jsonb($1) - '{text,text_at}'::text[], to_jsonb(a) - '{text,text_at}'::text[])
  FROM yardmaster.alert a WHERE a.id = ($1).id
$$;
