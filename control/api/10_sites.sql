-- Sites: whom work belongs to. A label; NULL is work of no site, the empty text the default site.

-- As people read it.
CREATE OR REPLACE FUNCTION yardmaster.site_label(site text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN site IS NULL THEN 'no site' WHEN site = '' THEN 'the default site' ELSE site END
$$;

-- The same where a sentence speaks of it: `site CEO`.
CREATE OR REPLACE FUNCTION yardmaster.site_phrase(site text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN site <> '' THEN 'site ' || site ELSE yardmaster.site_label(site) END
$$;

-- Makes a site known, which it must be before work can belong to it.
CREATE OR REPLACE FUNCTION yardmaster.name_site(site text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF octet_length(site) > 200 THEN
    RAISE EXCEPTION 'A site''s name has 200 bytes at most; % has %.', left(site, 40) || '…', octet_length(site) USING ERRCODE = 'YM003';
  END IF;
  IF site IS NOT NULL AND NOT EXISTS (SELECT 1 FROM yardmaster.site s WHERE s.name = name_site.site) THEN
    INSERT INTO yardmaster.site (name) VALUES (site) ON CONFLICT DO NOTHING;
  END IF;
END
$$;

-- Since when work of a site (NULL: of no site) waits for a worker; NULL where none does.
CREATE OR REPLACE FUNCTION yardmaster.oldest_slot(site text)
RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN (
    SELECT min(first.due_at) FROM yardmaster.lane l CROSS JOIN LATERAL (
      SELECT r.due_at FROM yardmaster.run r WHERE r.status = 'WAITING' AND r.queued AND r.lane = l.id ORDER BY r.lane, r.due_at, r.id LIMIT 1) first
    WHERE l.site = oldest_slot.site OR l.site IS NULL AND oldest_slot.site IS NULL);
END
$$;

-- Sites that mean something: bound, worked for, or with a delay or capacity of their own. `fallback_after`: the one that
-- counts, NULL for never.
CREATE OR REPLACE VIEW yardmaster.sites AS
  SELECT s.name, s.inherits_fallback, CASE WHEN s.inherits_fallback THEN p.fallback_after ELSE s.fallback_after END AS fallback_after,
    (SELECT count(*) FROM yardmaster.job j WHERE j.site = s.name AND j.deleted_at IS NULL)::integer AS jobs,
    (SELECT count(*) FROM yardmaster.binding b WHERE b.site = s.name)::integer AS bindings,
    yardmaster.oldest_slot(s.name) AS oldest_waiting
  FROM yardmaster.site s, yardmaster.placement p
  WHERE NOT s.inherits_fallback
    OR EXISTS (SELECT 1 FROM yardmaster.binding b WHERE b.site = s.name)
    OR EXISTS (SELECT 1 FROM yardmaster.job j WHERE j.site = s.name AND j.deleted_at IS NULL)
    OR EXISTS (SELECT 1 FROM yardmaster.host_site h WHERE h.site = s.name)
    OR yardmaster.oldest_slot(s.name) IS NOT NULL;

-- After how long work of a site may run on hosts that are not preferred: an interval; `never`; or `default`: the delay of all
-- bindings. Site NULL: that delay itself.
CREATE OR REPLACE FUNCTION yardmaster.set_fallback(site text, fallback_after text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  delay interval;
  before jsonb;
  after jsonb;
BEGIN
  IF fallback_after IS NULL OR fallback_after = 'default' AND site IS NULL THEN
    RAISE EXCEPTION 'A fallback delay is an interval, or never.' USING ERRCODE = 'YM003';
  END IF;
  IF fallback_after NOT IN ('never', 'default') THEN
    IF NOT yardmaster.option_fits('an interval that is not negative', to_jsonb(fallback_after)) THEN
      RAISE EXCEPTION 'The fallback delay % must be an interval that is not negative, never or default.', quote_literal(fallback_after)
        USING ERRCODE = 'YM003', HINT = 'For example: 10 minutes.';
    END IF;
    delay := fallback_after::interval;
    IF delay > interval '10 years' THEN
      RAISE EXCEPTION 'The fallback delay % is longer than 10 years; say never.', quote_literal(fallback_after) USING ERRCODE = 'YM003';
    END IF;
    -- Without months and days, whose length depends on the calendar and its clocks: all that ask must get one answer. A year has 360
    -- days where intervals are compared.
    delay := least(make_interval(secs => extract(epoch FROM delay)::float8), interval '86400 hours');
  END IF;
  PERFORM yardmaster.lock_placement();
  IF site IS NULL THEN
    SELECT jsonb_build_object('fallback_after', p.fallback_after) INTO before FROM yardmaster.placement p;
    UPDATE yardmaster.placement p SET fallback_after = delay;
    SELECT jsonb_build_object('fallback_after', p.fallback_after) INTO after FROM yardmaster.placement p;
  ELSE
    PERFORM yardmaster.name_site(site);
    SELECT to_jsonb(s) INTO before FROM yardmaster.site s WHERE s.name = set_fallback.site FOR UPDATE;
    UPDATE yardmaster.site s SET inherits_fallback = set_fallback.fallback_after = 'default', fallback_after = delay
    WHERE s.name = set_fallback.site;
    SELECT to_jsonb(s) INTO after FROM yardmaster.site s WHERE s.name = set_fallback.site;
  END IF;
  IF before <> after THEN
    PERFORM yardmaster.record_change('update', CASE WHEN site IS NULL THEN 'placement' ELSE 'site' END, coalesce(site, 'fallback'), before, after);
    PERFORM yardmaster.wake_workers();
  END IF;
END
$$;

-- Puts a job, and its runs that wait, into the lanes of its site, its priority and the limits that could count for it: one in each
-- database. Whatever changes one of these calls it.
CREATE OR REPLACE FUNCTION yardmaster.set_lanes(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  its record;
  its_lane integer;
BEGIN
  FOR its IN
    SELECT t.database_id, t.site, t.priority, t.task, ARRAY(
      SELECT DISTINCT k COLLATE "C" FROM unnest(ARRAY['site:' || t.site, 'database:' || s.name, 'database:' || d.name, t.pool]) k
      WHERE k IS NOT NULL ORDER BY 1) AS keys
    FROM yardmaster.job_targets t
    LEFT JOIN yardmaster.replication r ON r.job_id = t.job_id
    LEFT JOIN yardmaster.managed_database s ON s.id = r.source_database
    LEFT JOIN yardmaster.managed_database d ON d.id = t.database_id
    WHERE t.job_id = set_lanes.job_id
  LOOP
    LOOP
      SELECT l.id INTO its_lane FROM yardmaster.lane l
      WHERE l.keys = its.keys AND l.priority = its.priority AND coalesce(l.task, '') = coalesce(its.task, '');
      EXIT WHEN FOUND;
      INSERT INTO yardmaster.lane (site, keys, priority, task) VALUES (its.site, its.keys, its.priority, its.task) ON CONFLICT DO NOTHING;
    END LOOP;
    UPDATE yardmaster.job_state s SET lane = its_lane
    WHERE s.job_id = set_lanes.job_id AND s.database_id = its.database_id AND s.lane IS DISTINCT FROM its_lane;
    UPDATE yardmaster.run r SET lane = its_lane, site = its.site
    WHERE r.job_id = set_lanes.job_id AND r.database_id = its.database_id AND r.status = 'WAITING';
  END LOOP;
END
$$;

-- A run without a lane would wait for ever, and one that is given back is its job's, whose site may be another by now.
CREATE OR REPLACE FUNCTION yardmaster.give_lane()
RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Locked: whoever gives the job another lane right now does not see this run wait.
  SELECT s.lane, j.site INTO NEW.lane, NEW.site FROM yardmaster.job j
  LEFT JOIN yardmaster.job_state s ON s.job_id = j.id
  WHERE j.id = NEW.job_id ORDER BY s.database_id = NEW.database_id DESC NULLS LAST LIMIT 1 FOR KEY SHARE OF j;
  IF NEW.lane IS NULL THEN
    PERFORM yardmaster.set_lanes(NEW.job_id);
    NEW.lane := (SELECT s.lane FROM yardmaster.job_state s WHERE s.job_id = NEW.job_id ORDER BY s.database_id = NEW.database_id DESC LIMIT 1);
  END IF;
  NEW.due_at := coalesce(NEW.due_at, NEW.slot);
  RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER give_lane BEFORE INSERT ON yardmaster.run FOR EACH ROW WHEN (NEW.lane IS NULL) EXECUTE FUNCTION yardmaster.give_lane();
CREATE OR REPLACE TRIGGER give_lane_back BEFORE UPDATE OF status ON yardmaster.run FOR EACH ROW
  WHEN (NEW.status = 'WAITING' AND OLD.status <> 'WAITING') EXECUTE FUNCTION yardmaster.give_lane();

-- However a job's site, pool or priority was changed.
CREATE OR REPLACE FUNCTION yardmaster.change_lane()
RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM yardmaster.set_lanes(NEW.id);
  RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER change_lane AFTER UPDATE OF site, pool, priority ON yardmaster.job FOR EACH ROW
  WHEN ((OLD.site, OLD.pool, OLD.priority) IS DISTINCT FROM (NEW.site, NEW.pool, NEW.priority)) EXECUTE FUNCTION yardmaster.change_lane();

-- Sites whose work a host may take now, and for how long that must have been due; with NULL for work of no site. Nothing for a host
-- that is drained.
CREATE OR REPLACE FUNCTION yardmaster.open_sites(host text)
RETURNS TABLE (site text, wait interval) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  active text[] := ARRAY(SELECT a.host FROM yardmaster.active_hosts a);
BEGIN
  IF EXISTS (SELECT 1 FROM yardmaster.host h WHERE h.name = open_sites.host AND h.drained_at IS NOT NULL) THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT o.site, o.wait FROM (
    SELECT s.name AS site, yardmaster.placement_wait(s.name, open_sites.host, b.binding,
      -- Looked up only where the rule gets as far as asking.
      ARRAY(SELECT p.host FROM yardmaster.binding p WHERE p.site = s.name AND p.binding = 'prefer' AND p.host = ANY (active)),
      CASE WHEN s.inherits_fallback THEN d.fallback_after ELSE s.fallback_after END) AS wait
    FROM yardmaster.site s CROSS JOIN yardmaster.placement d
    LEFT JOIN yardmaster.binding b ON b.site = s.name AND b.host = open_sites.host
    -- Kept apart, so that the rule is asked once.
    OFFSET 0) o
  WHERE o.wait IS NOT NULL
  UNION ALL
  SELECT NULL, yardmaster.placement_wait(NULL, open_sites.host, NULL, NULL, NULL);
END
$$;

-- Lanes of these sites that a worker with these `kinds` may serve (a task is the kind `task:NAME`). `full_keys`: limits that are used
-- up; `full_sites`: sites of which the host runs as much as it may.
CREATE OR REPLACE FUNCTION yardmaster.open_lanes(host text, kinds text[], full_keys text[], full_sites text[])
RETURNS TABLE (lane integer, priority integer, wait interval) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH open AS MATERIALIZED (SELECT o.site, o.wait FROM yardmaster.open_sites(open_lanes.host) o)
  SELECT l.id, l.priority, o.wait FROM open o JOIN yardmaster.lane l ON l.site = o.site
  WHERE NOT l.keys && full_keys AND l.site <> ALL (full_sites) AND (l.task IS NULL OR 'task:' || l.task = ANY (kinds))
  UNION ALL
  SELECT l.id, l.priority, o.wait FROM open o JOIN yardmaster.lane l ON l.site IS NULL
  WHERE o.site IS NULL AND NOT l.keys && full_keys AND (l.task IS NULL OR 'task:' || l.task = ANY (kinds));
END
$$;
