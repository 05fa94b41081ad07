-- Bindings: what pairs of site and host prefer or forbid. All that changes them goes through change_bindings.

CREATE OR REPLACE VIEW yardmaster.bindings AS
  SELECT b.site, b.host, b.binding FROM yardmaster.binding b;

-- Refuses what is no list of bindings. `with_none`: NULL for the binding takes one away.
CREATE OR REPLACE FUNCTION yardmaster.require_bindings(wanted jsonb, with_none boolean)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  bad record;
BEGIN
  IF wanted IS NULL OR jsonb_typeof(wanted) <> 'array' OR jsonb_path_exists(wanted, 'strict $[*] ? (@.type() != "object")') THEN
    RAISE EXCEPTION 'Bindings are a JSON list of objects with site, host and binding.' USING ERRCODE = 'YM003';
  END IF;
  SELECT w.* INTO bad FROM jsonb_to_recordset(wanted) AS w(site text, host text, binding text)
  WHERE w.site IS NULL OR octet_length(w.site) > 200 OR yardmaster.host_name_fault(w.host) IS NOT NULL
    OR coalesce(w.binding, CASE WHEN with_none THEN 'allow' ELSE '' END) NOT IN ('prefer', 'allow', 'forbid') LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '%', CASE
      WHEN bad.site IS NULL THEN 'A binding needs a site: work of no site runs on every host.'
      WHEN octet_length(bad.site) > 200 THEN format('A site''s name has 200 bytes at most; %s has %s.', left(bad.site, 40) || '…', octet_length(bad.site))
      WHEN yardmaster.host_name_fault(bad.host) IS NOT NULL THEN
        format('A host cannot be called %s: %s.', quote_nullable(bad.host), yardmaster.host_name_fault(bad.host))
      ELSE format('A binding is prefer, allow or forbid, not %s.', quote_nullable(bad.binding)) END USING ERRCODE = 'YM003';
  END IF;
  SELECT w.site, array_agg(w.host) AS hosts INTO bad FROM jsonb_to_recordset(wanted) AS w(site text, host text, binding text)
  GROUP BY w.site, yardmaster.host_of(w.host) HAVING count(*) > 1 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% is bound twice to %.', yardmaster.site_label(bad.site),
      CASE WHEN bad.hosts[1] = bad.hosts[2] THEN bad.hosts[1] ELSE format('one host, named %s and %s', bad.hosts[1], bad.hosts[2]) END
      USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- What would change: `replaces`: pairs that are not wanted lose their binding, else they keep it.
CREATE OR REPLACE FUNCTION yardmaster.plan_bindings(wanted jsonb, replaces boolean)
RETURNS TABLE (site text, host text, before text, after text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM yardmaster.require_bindings(wanted, NOT replaces);
  RETURN QUERY
  WITH w AS (
    SELECT j.site, yardmaster.host_of(j.host) AS host, j.binding FROM jsonb_to_recordset(wanted) AS j(site text, host text, binding text))
  SELECT coalesce(w.site, b.site), coalesce(w.host, b.host), b.binding, w.binding
  FROM w FULL JOIN yardmaster.binding b ON b.site = w.site AND b.host = w.host
  WHERE b.binding IS DISTINCT FROM w.binding AND (replaces OR w.site IS NOT NULL)
  ORDER BY 1, 2;
END
$$;

-- Sites that every known host forbids: their work would wait for ever. `wanted`: as if these were all bindings. Where one host is
-- known, and no worker was seen yet, others are still to come: there is no use for a forbid otherwise.
CREATE OR REPLACE FUNCTION yardmaster.hopeless_sites(wanted jsonb DEFAULT NULL)
RETURNS TABLE (site text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH b AS (
    SELECT k.site, k.host, k.binding FROM yardmaster.binding k WHERE wanted IS NULL
    UNION ALL
    SELECT j.site, yardmaster.host_of(j.host), j.binding FROM jsonb_to_recordset(wanted) AS j(site text, host text, binding text)
  ), known AS (SELECT s.name FROM yardmaster.seen_hosts s UNION SELECT b.host FROM b)
  SELECT b.site FROM b WHERE b.binding = 'forbid'
  GROUP BY b.site HAVING count(*) = (SELECT count(*) FROM known)
    AND (count(*) > 1 OR EXISTS (SELECT 1 FROM yardmaster.worker w WHERE w.slots > 0)) ORDER BY b.site;
END
$$;

-- Until the caller's transaction ends, nobody else changes bindings, delays, or what a host is called. An update, so that whoever looked
-- before (at REPEATABLE READ) fails instead of judging by what was then. Nobody waits for ever for a transaction that was left open.
CREATE OR REPLACE FUNCTION yardmaster.lock_placement()
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
  UPDATE yardmaster.placement SET only_one = true
$$;

-- Changes bindings, all or nothing; returns how many. Refuses (YM005) to leave a site without any host that may run it, unless
-- `force`. `undoes`: the change that this one takes back.
CREATE OR REPLACE FUNCTION yardmaster.change_bindings(wanted jsonb, replaces boolean, force boolean, undoes bigint DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changes jsonb;
  hopeless text[];
BEGIN
  PERFORM yardmaster.lock_placement();
  SELECT jsonb_agg(to_jsonb(p)) INTO changes FROM yardmaster.plan_bindings(wanted, replaces) p;
  IF replaces THEN
    DELETE FROM yardmaster.refused_file;
  END IF;
  IF changes IS NULL THEN
    -- Something else took it back already; the next undo is of the change before it.
    IF undoes IS NOT NULL THEN
      PERFORM yardmaster.record_change('update', 'bindings', 'bindings', '{"bindings": []}', jsonb_build_object('bindings', '[]'::jsonb, 'undoes', undoes));
    END IF;
    RETURN 0;
  END IF;
  hopeless := ARRAY(SELECT h.site FROM yardmaster.hopeless_sites() h);
  PERFORM yardmaster.name_site(c.site) FROM (SELECT DISTINCT j.site FROM jsonb_to_recordset(changes) AS j(site text)) c;
  DELETE FROM yardmaster.binding b USING jsonb_to_recordset(changes) AS c(site text, host text, after text)
  WHERE b.site = c.site AND b.host = c.host AND c.after IS NULL;
  INSERT INTO yardmaster.binding (site, host, binding)
  SELECT c.site, c.host, c.after FROM jsonb_to_recordset(changes) AS c(site text, host text, after text) WHERE c.after IS NOT NULL
  ON CONFLICT (site, host) DO UPDATE SET binding = excluded.binding;
  hopeless := ARRAY(SELECT h.site FROM yardmaster.hopeless_sites() h WHERE h.site <> ALL (hopeless));
  IF force IS NOT TRUE AND hopeless <> '{}' THEN
    RAISE EXCEPTION '%', yardmaster.hopeless_text(hopeless) USING ERRCODE = 'YM005';
  END IF;
  PERFORM yardmaster.record_change('update', 'bindings', 'bindings',
    jsonb_build_object('bindings', (SELECT jsonb_agg(jsonb_build_object('site', c.site, 'host', c.host, 'binding', c.before))
      FROM jsonb_to_recordset(changes) AS c(site text, host text, before text))),
    jsonb_build_object('bindings', (SELECT jsonb_agg(jsonb_build_object('site', c.site, 'host', c.host, 'binding', c.after))
      FROM jsonb_to_recordset(changes) AS c(site text, host text, after text)), 'undoes', undoes, 'forced', hopeless <> '{}'));
  PERFORM yardmaster.wake_workers();
  RETURN jsonb_array_length(changes);
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.hopeless_text(sites text[])
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('No known host could run %s then: every one forbids it, and its work would wait for ever.',
    yardmaster.names_in_words(ARRAY(SELECT yardmaster.site_label(s) FROM unnest($1) s)))
$$;

-- Makes these all bindings there are.
CREATE OR REPLACE FUNCTION yardmaster.set_bindings(bindings jsonb, force boolean DEFAULT false)
RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT yardmaster.change_bindings($1, true, $2)
$$;

-- Binds one pair; NULL takes its binding away.
CREATE OR REPLACE FUNCTION yardmaster.set_binding(site text, host text, binding text, force boolean DEFAULT false)
RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT yardmaster.change_bindings(jsonb_build_array(jsonb_build_object('site', $1, 'host', $2, 'binding', $3)), false, $4)
$$;

-- Every change of bindings, newest first. `undone_by`: the change that took it back.
CREATE OR REPLACE VIEW yardmaster.binding_changes AS
  SELECT a.id, a.at, a.actor, a.face, c.site, c.host, c.binding AS before, d.binding AS after,
    (a.after ->> 'forced')::boolean AS forced, (a.after ->> 'undoes')::bigint AS undoes,
    (SELECT u.id FROM yardmaster.audit u WHERE u.object_kind = 'bindings' AND (u.after ->> 'undoes')::bigint = a.id LIMIT 1) AS undone_by
  FROM yardmaster.audit a
  CROSS JOIN LATERAL jsonb_to_recordset(a.before -> 'bindings') AS c(site text, host text, binding text)
  JOIN LATERAL jsonb_to_recordset(a.after -> 'bindings') AS d(site text, host text, binding text) ON d.site = c.site AND d.host = c.host
  WHERE a.object_kind = 'bindings';

-- What a change of bindings found, by the names that hosts go by now. Where several are one host since, as if they had been then.
CREATE OR REPLACE FUNCTION yardmaster.bindings_before(change bigint)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM (
    SELECT DISTINCT ON (c.site, n.host) c.site, n.host, c.binding
    FROM yardmaster.audit a CROSS JOIN LATERAL jsonb_to_recordset(a.before -> 'bindings') AS c(site text, host text, binding text)
    CROSS JOIN LATERAL (SELECT yardmaster.host_of(c.host) AS host) n
    WHERE a.id = $1 AND a.object_kind = 'bindings' ORDER BY c.site, n.host, c.binding IS NULL, c.host <> n.host) f
$$;

-- Takes back the newest change that was not taken back yet; called again, the one before it. Returns that change's id.
CREATE OR REPLACE FUNCTION yardmaster.undo_bindings(force boolean DEFAULT false)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  target record;
BEGIN
  PERFORM yardmaster.lock_placement();
  SELECT a.id INTO target FROM yardmaster.audit a
  WHERE a.object_kind = 'bindings' AND a.after ->> 'undoes' IS NULL
    AND NOT EXISTS (SELECT 1 FROM yardmaster.audit u WHERE u.object_kind = 'bindings' AND (u.after ->> 'undoes')::bigint = a.id)
  ORDER BY a.id DESC LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no change of bindings that could be undone.' USING ERRCODE = 'YM001';
  END IF;
  PERFORM yardmaster.change_bindings(yardmaster.bindings_before(target.id), false, force, target.id);
  RETURN target.id;
END
$$;

-- Notes that a watched file can't be applied as it is now; the bindings before it stay. An alert says so until bindings are set.
CREATE OR REPLACE FUNCTION yardmaster.refuse_file(path text, host text, message text)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO yardmaster.refused_file AS f (path, host, message) VALUES ($1, $2, $3)
  ON CONFLICT (path) DO UPDATE SET host = excluded.host, message = excluded.message
$$;
