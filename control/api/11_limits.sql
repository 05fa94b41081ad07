-- Limits: how much runs at once, by key, by host, and by site on a host.

-- Every limit that counts for a run: of its site, of the databases that it touches, of its job's pool.
CREATE OR REPLACE VIEW yardmaster.run_limits AS
  SELECT r.id AS run_id, r.status, c.key, c.slots
  FROM yardmaster.run r JOIN yardmaster.lane l ON l.id = r.lane JOIN yardmaster.concurrency_limit c ON c.key = ANY (l.keys);

CREATE OR REPLACE VIEW yardmaster.limits AS
  SELECT l.key, l.slots,
    (SELECT count(*) FROM yardmaster.run_limits u WHERE u.status = 'RUNNING' AND u.key = l.key)::integer AS running
  FROM yardmaster.concurrency_limit l;

-- What a host may still begin, as a whole (site NULL, `of_host`) and of a site, where there is a limit.
CREATE OR REPLACE VIEW yardmaster.host_room AS
  SELECT h.name AS host, true AS of_host, NULL::text AS site, h.slots,
    h.slots - (SELECT count(*) FROM yardmaster.attempt a WHERE a.status = 'RUNNING' AND a.host = h.name) AS room
  FROM yardmaster.host h WHERE h.slots IS NOT NULL
  UNION ALL
  SELECT s.host, false, s.site, s.slots, s.slots - (SELECT count(*) FROM yardmaster.attempt a JOIN yardmaster.run r ON r.id = a.run_id
    WHERE a.status = 'RUNNING' AND a.host = s.host AND r.site = s.site)
  FROM yardmaster.host_site s;

-- Locks whatever could stop a claim of this host, so that what is counted next stays so until its transaction ends. SKIP LOCKED
-- alone would let two claims count the same free slot. Returns whether there is anything to count. Claims wait a moment for each
-- other; a transaction that was left open is given up soon enough for a worker to beat in time.
CREATE OR REPLACE FUNCTION yardmaster.lock_limits(host text)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
  is_limited boolean := false;
BEGIN
  PERFORM 1 FROM yardmaster.host h WHERE h.name = lock_limits.host
    AND (h.slots IS NOT NULL OR EXISTS (SELECT 1 FROM yardmaster.host_site s WHERE s.host = h.name)) FOR UPDATE;
  is_limited := FOUND;
  -- All of them, in one order: one that is found later could be held by somebody who waits for what we hold.
  PERFORM 1 FROM yardmaster.concurrency_limit l ORDER BY l.key FOR UPDATE;
  RETURN is_limited OR FOUND;
END
$$;

-- Of these runs, in their order, those that may begin together on a host.
CREATE OR REPLACE FUNCTION yardmaster.within_limits(host text, run_ids bigint[])
RETURNS bigint[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN ARRAY(
    WITH candidate AS MATERIALIZED (
      SELECT c.id, c.place, r.site FROM unnest(run_ids) WITH ORDINALITY AS c(id, place) JOIN yardmaster.run r ON r.id = c.id
    ), numbered AS (
      SELECT c.id, l.slots - l.running AS room, row_number() OVER (PARTITION BY l.key ORDER BY c.place) AS number
      FROM candidate c JOIN yardmaster.run_limits u ON u.run_id = c.id JOIN yardmaster.limits l ON l.key = u.key
      UNION ALL
      SELECT c.id, h.room, row_number() OVER (PARTITION BY h.site ORDER BY c.place)
      FROM candidate c JOIN yardmaster.host_room h ON h.host = within_limits.host AND h.site = c.site)
    SELECT c.id FROM candidate c WHERE NOT EXISTS (SELECT 1 FROM numbered n WHERE n.id = c.id AND n.number > n.room)
    ORDER BY c.place);
END
$$;

-- The most runs at once that share a key: `site:NAME`, `database:NAME`, or the name of a pool.
CREATE OR REPLACE FUNCTION yardmaster.set_limit(key text, slots integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  IF set_limit.slots IS NULL OR set_limit.slots NOT BETWEEN 0 AND 999999 THEN
    RAISE EXCEPTION 'A limit is a whole number from 0 to 999999, not %.', coalesce(set_limit.slots::text, 'NULL') USING ERRCODE = 'YM003';
  END IF;
  IF set_limit.key IS NULL OR octet_length(set_limit.key) NOT BETWEEN 1 AND 210 OR set_limit.key ~ ':' AND set_limit.key !~ '^(site|database):' THEN
    RAISE EXCEPTION 'The key of a limit is site:NAME, database:NAME or the name of a pool, which has no colon; not %.', quote_nullable(set_limit.key)
      USING ERRCODE = 'YM003';
  END IF;
  IF set_limit.key ~ '^database:' THEN
    PERFORM yardmaster.database_id_of(substr(set_limit.key, 10));
  END IF;
  SELECT to_jsonb(l) INTO before FROM yardmaster.concurrency_limit l WHERE l.key = set_limit.key FOR UPDATE;
  INSERT INTO yardmaster.concurrency_limit AS l (key, slots) VALUES (set_limit.key, set_limit.slots)
  ON CONFLICT (key) DO UPDATE SET slots = excluded.slots WHERE l.slots <> excluded.slots;
  IF FOUND THEN
    PERFORM yardmaster.record_change(CASE WHEN before IS NULL THEN 'create' ELSE 'update' END, 'limit', set_limit.key, before,
      jsonb_build_object('key', set_limit.key, 'slots', set_limit.slots));
    PERFORM yardmaster.wake_workers();
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.remove_limit(key text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  DELETE FROM yardmaster.concurrency_limit l WHERE l.key = remove_limit.key RETURNING to_jsonb(l) INTO before;
  IF before IS NULL THEN
    RAISE EXCEPTION 'There is no limit %.', quote_nullable(remove_limit.key) USING ERRCODE = 'YM001',
      HINT = 'The view yardmaster.limits lists them.';
  END IF;
  PERFORM yardmaster.record_change('delete', 'limit', remove_limit.key, before, NULL);
  PERFORM yardmaster.wake_workers();
END
$$;
