-- Hosts: where workers run, what they may carry at once, and whether they take anything new.

-- Hosts that something was said about, and those a worker was seen on in the last week.
CREATE OR REPLACE VIEW yardmaster.seen_hosts AS
  SELECT h.name FROM yardmaster.host h UNION SELECT w.host FROM yardmaster.worker w WHERE w.slots > 0;

-- Hosts that bindings name, from one to the next in the index: there are few hosts, and many bindings.
CREATE OR REPLACE VIEW yardmaster.bound_hosts AS
  WITH RECURSIVE next(host) AS (
    SELECT min(b.host) FROM yardmaster.binding b
    UNION ALL
    SELECT (SELECT min(b.host) FROM yardmaster.binding b WHERE b.host > n.host) FROM next n WHERE n.host IS NOT NULL)
  SELECT n.host FROM next n WHERE n.host IS NOT NULL;

-- Hosts that are known: those something was said about, those that bindings name, and those a worker was seen on in the last week.
-- Active: at least one worker of it is alive and not about to stop, and it is not drained. `room`: the most runs at once, NULL where nothing says so.
CREATE OR REPLACE VIEW yardmaster.hosts AS
  SELECT n.name, h.slots,
    ARRAY(SELECT host(a.address) FROM yardmaster.host_address a WHERE a.host = n.name ORDER BY a.address) AS addresses,
    coalesce(w.alive, 0)::integer AS workers, coalesce(w.slots, 0)::integer AS worker_slots,
    least(h.slots, nullif(coalesce(w.slots, 0), 0))::integer AS room,
    (SELECT count(*) FROM yardmaster.attempt a WHERE a.status = 'RUNNING' AND a.host = n.name)::integer AS running,
    coalesce(w.alive, 0) > 0 AND h.drained_at IS NULL AS active, coalesce(w.alive, 0) > 0 AS has_worker,
    h.drained_at IS NOT NULL AS drained, h.drained_at, h.drained_by, w.seen_at
  FROM (SELECT s.name FROM yardmaster.seen_hosts s UNION SELECT b.host FROM yardmaster.bound_hosts b) n
  LEFT JOIN yardmaster.host h ON h.name = n.name
  LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE v.alive AND v.stopping_at IS NULL) AS alive,
      sum(v.slots) FILTER (WHERE v.alive AND v.stopping_at IS NULL) AS slots,
      max(CASE WHEN v.alive THEN clock_timestamp() ELSE coalesce(v.ended_at, v.lease_until - yardmaster.lease_length()) END) AS seen_at
    FROM yardmaster.workers v WHERE v.host = n.name AND v.slots > 0) w ON true;

-- Hosts that take work now: the same as `active` of the view, cheaper.
CREATE OR REPLACE VIEW yardmaster.active_hosts AS
  SELECT DISTINCT w.host FROM yardmaster.worker w
  WHERE w.ended_at IS NULL AND w.stopping_at IS NULL AND w.slots > 0 AND w.missing_since IS NULL AND w.lease_until > clock_timestamp()
    AND NOT EXISTS (SELECT 1 FROM yardmaster.host h WHERE h.name = w.host AND h.drained_at IS NOT NULL);

-- The name that a host goes by: an address is the host that has it, or a host of its own, in the one way to write it.
CREATE OR REPLACE FUNCTION yardmaster.host_of(name text)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  its inet := yardmaster.address_of(name);
BEGIN
  IF its IS NULL THEN
    RETURN name;
  END IF;
  RETURN coalesce((SELECT a.host FROM yardmaster.host_address a WHERE a.address = its), host(its));
END
$$;

-- NULL for what is no address of one machine.
CREATE OR REPLACE FUNCTION yardmaster.address_of(name text)
RETURNS inet LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF name !~ '^([0-9]+\.[0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*)$' THEN
    RETURN NULL;
  END IF;
  RETURN name::inet;
EXCEPTION WHEN invalid_text_representation THEN
  RETURN NULL;
END
$$;

-- What is wrong with a host's name, in words; NULL where nothing is. A first = + - @ would be a formula to a spreadsheet; and names stand
-- as they are in commands that messages give to be copied.
CREATE OR REPLACE FUNCTION yardmaster.host_name_fault(name text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN name IS NULL OR name = '' THEN 'it is empty'
    WHEN octet_length(name) > 200 THEN 'it is longer than 200 bytes'
    WHEN name ~ '[][`$|&<>()\\!*?#~{}]' THEN 'it has characters that mean something to a shell'
    WHEN name ~ '^[-=+@]' THEN 'it begins with = + - or @'
    WHEN name ~ '/' THEN 'it has a slash, and a network is no host'
    WHEN name ~ '[\s,;"''\x01-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]'
      THEN 'it has spaces, commas, semicolons, quotes or characters that can''t be seen' END
$$;

CREATE OR REPLACE FUNCTION yardmaster.require_host_name(name text)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF yardmaster.host_name_fault(name) IS NOT NULL THEN
    RAISE EXCEPTION 'A host cannot be called %: %.', quote_nullable(name), yardmaster.host_name_fault(name) USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- What the audit keeps of a host.
CREATE OR REPLACE FUNCTION yardmaster.host_snapshot(name text)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('name', h.name, 'slots', h.slots, 'drained', h.drained_at IS NOT NULL,
    'addresses', (SELECT coalesce(jsonb_agg(host(a.address) ORDER BY a.address), '[]') FROM yardmaster.host_address a WHERE a.host = h.name),
    'site_slots', (SELECT coalesce(jsonb_object_agg(s.site, s.slots), '{}') FROM yardmaster.host_site s WHERE s.host = h.name))
  FROM yardmaster.host h WHERE h.name = $1
$$;

-- Says something about a host, which need not have been seen yet. Keys of `changes`, each left as it is where absent:
-- addresses (a list of texts, instead of those it had), slots (most runs at once; null: as many as its workers have),
-- site_slots (most runs of a site at once, by site; null: as many as the host has).
CREATE OR REPLACE FUNCTION yardmaster.set_host(name text, changes jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known text := yardmaster.host_of(set_host.name);
  before jsonb;
  entry record;
BEGIN
  PERFORM yardmaster.require_host_name(known);
  IF changes IS NULL OR jsonb_typeof(changes) <> 'object' OR changes - '{addresses,slots,site_slots}'::text[] <> '{}' THEN
    RAISE EXCEPTION 'What is said about a host is a JSON object with addresses, slots and site_slots, not %.', quote_nullable(changes)
      USING ERRCODE = 'YM003';
  END IF;
  -- Addresses change which host a binding is of.
  PERFORM yardmaster.lock_placement();
  before := yardmaster.host_snapshot(known);
  INSERT INTO yardmaster.host (name) VALUES (known) ON CONFLICT DO NOTHING;
  PERFORM 1 FROM yardmaster.host h WHERE h.name = known FOR UPDATE;
  IF changes ? 'slots' THEN
    PERFORM yardmaster.require_slots('slots', changes -> 'slots', 1);
    UPDATE yardmaster.host h SET slots = (changes ->> 'slots')::integer WHERE h.name = known;
  END IF;
  FOR entry IN SELECT s.key, s.value FROM jsonb_each(coalesce(changes -> 'site_slots', '{}')) s LOOP
    PERFORM yardmaster.require_slots('slots', entry.value, 1);
    PERFORM yardmaster.name_site(entry.key);
    DELETE FROM yardmaster.host_site s WHERE s.host = known AND s.site = entry.key;
    INSERT INTO yardmaster.host_site (host, site, slots)
    SELECT known, entry.key, (entry.value #>> '{}')::integer WHERE entry.value <> 'null';
  END LOOP;
  IF changes ? 'addresses' THEN
    PERFORM yardmaster.set_host_addresses(known, yardmaster.text_array(changes -> 'addresses'));
  END IF;
  IF before IS DISTINCT FROM yardmaster.host_snapshot(known) THEN
    PERFORM yardmaster.record_change(CASE WHEN before IS NULL THEN 'create' ELSE 'update' END, 'host', known, before,
      yardmaster.host_snapshot(known));
    PERFORM yardmaster.wake_workers();
  END IF;
END
$$;

-- Refuses what is no count of runs. JSON null is one where it means: no limit.
CREATE OR REPLACE FUNCTION yardmaster.require_slots(what text, value jsonb, least_slots integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF value <> 'null' AND NOT (jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,6}$' AND (value #>> '{}')::integer >= least_slots) THEN
    RAISE EXCEPTION '% must be a whole number from % to 999999, not %.', what, least_slots, value USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- What was bound to an address, and who works under it, is the host's from now on.
CREATE OR REPLACE FUNCTION yardmaster.set_host_addresses(name text, addresses text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  given text;
  its inet;
  clash record;
BEGIN
  IF addresses IS NULL THEN
    RAISE EXCEPTION 'The addresses of a host are a JSON list of texts.' USING ERRCODE = 'YM003';
  END IF;
  DELETE FROM yardmaster.host_address a WHERE a.host = set_host_addresses.name;
  FOREACH given IN ARRAY addresses LOOP
    its := yardmaster.address_of(given);
    IF its IS NULL THEN
      RAISE EXCEPTION '% is no address of a host.', quote_nullable(given) USING ERRCODE = 'YM003', HINT = 'For example: 10.0.0.27, or fd00::1b.';
    END IF;
    SELECT a.host INTO clash FROM yardmaster.host_address a WHERE a.address = its AND a.host <> set_host_addresses.name;
    IF FOUND THEN
      RAISE EXCEPTION 'The address % is the host %''s already.', host(its), clash.host USING ERRCODE = 'YM002';
    END IF;
    SELECT b.site, b.binding, o.binding AS other INTO clash FROM yardmaster.binding b JOIN yardmaster.binding o ON o.site = b.site
    WHERE b.host = set_host_addresses.name AND o.host = host(its) AND host(its) <> set_host_addresses.name AND o.binding <> b.binding LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION '% is bound twice then: % to %, and % to %.', yardmaster.as_first_word(yardmaster.site_phrase(clash.site)), clash.binding,
        set_host_addresses.name, clash.other, host(its) USING ERRCODE = 'YM002',
        HINT = 'Make the two bindings the same, or take one away, first.';
    END IF;
    IF EXISTS (SELECT 1 FROM yardmaster.host h WHERE h.name = host(its) AND h.name <> set_host_addresses.name) THEN
      RAISE EXCEPTION 'Something was said about % as a host of its own.', host(its) USING ERRCODE = 'YM002',
        HINT = format('Forget that first: yardmaster host remove %s', host(its));
    END IF;
    INSERT INTO yardmaster.host_address (address, host) VALUES (its, set_host_addresses.name) ON CONFLICT DO NOTHING;
    CONTINUE WHEN host(its) = set_host_addresses.name;
    DELETE FROM yardmaster.binding o USING yardmaster.binding b
    WHERE o.host = host(its) AND b.host = set_host_addresses.name AND b.site = o.site;
    UPDATE yardmaster.binding b SET host = set_host_addresses.name WHERE b.host = host(its);
    UPDATE yardmaster.worker w SET host = set_host_addresses.name WHERE w.host = host(its);
  END LOOP;
END
$$;

-- From now on a host takes nothing new, and does not count as active; what it runs goes on. Its workers need not be alive.
CREATE OR REPLACE FUNCTION yardmaster.drain_host(name text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM yardmaster.set_drained(yardmaster.known_host(name), true);
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.undrain_host(name text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM yardmaster.set_drained(yardmaster.known_host(name), false);
END
$$;

-- One that is so already stays as it is: since then, by whom.
CREATE OR REPLACE FUNCTION yardmaster.set_drained(host text, drained boolean)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb := yardmaster.host_snapshot(set_drained.host);
BEGIN
  INSERT INTO yardmaster.host (name) SELECT set_drained.host WHERE set_drained.drained ON CONFLICT DO NOTHING;
  UPDATE yardmaster.host h SET drained_at = CASE WHEN set_drained.drained THEN clock_timestamp() END,
    drained_by = CASE WHEN set_drained.drained THEN yardmaster.caller() END
  WHERE h.name = set_drained.host AND (h.drained_at IS NOT NULL) <> set_drained.drained;
  IF FOUND THEN
    PERFORM yardmaster.record_change(CASE WHEN before IS NULL THEN 'create' ELSE 'update' END, 'host', set_drained.host, before,
      yardmaster.host_snapshot(set_drained.host));
    PERFORM yardmaster.wake_workers();
  END IF;
END
$$;

-- Forgets what was said about a host, and the workers that ended there. Bindings that name it stay, and so do its workers.
CREATE OR REPLACE FUNCTION yardmaster.remove_host(name text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known text := yardmaster.host_of(remove_host.name);
  before jsonb := yardmaster.host_snapshot(known);
BEGIN
  -- Attempts keep their worker's name. Else the host would be known for a week.
  DELETE FROM yardmaster.worker w WHERE w.host = known AND w.ended_at IS NOT NULL;
  IF before IS NULL AND NOT FOUND THEN
    RAISE EXCEPTION 'There is nothing about the host % that could be forgotten.', quote_nullable(remove_host.name) USING ERRCODE = 'YM001',
      HINT = 'Its bindings are taken away by: yardmaster binding set SITE HOST none; a worker that is alive stays known.';
  END IF;
  DELETE FROM yardmaster.host h WHERE h.name = known;
  PERFORM yardmaster.record_change('delete', 'host', known, before, NULL);
  PERFORM yardmaster.wake_workers();
END
$$;

-- The name of a host that is known. Raises YM001 for others.
CREATE OR REPLACE FUNCTION yardmaster.known_host(name text)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known text := yardmaster.host_of(name);
BEGIN
  IF NOT EXISTS (SELECT 1 FROM yardmaster.hosts h WHERE h.name = known) THEN
    RAISE EXCEPTION 'There is no host %.', quote_nullable(known_host.name) USING ERRCODE = 'YM001',
      HINT = 'The view yardmaster.hosts lists those that are known; yardmaster.set_host makes one known before its workers start.';
  END IF;
  RETURN known;
END
$$;
