-- Which host may run what, in a code and a sentence; the same on every face.

-- Why a host may or may not take work of a site. `facts`: preferring, fallback_after, waited (interval or null), has_worker, seen_at,
-- drained, drained_at, drained_by, running, room, pair_running, pair_room, supposed_down.
CREATE OR REPLACE FUNCTION yardmaster.placement_sentence(code text, site text, host text, facts jsonb)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE code
    WHEN 'forbidden' THEN format('%s never runs %s: the binding forbids it, even as the last host.', host, f.its)
    WHEN 'preferred_elsewhere' THEN format('%s may not run %s now: %s it and %s active. ', host, f.its,
        yardmaster.names_in_words(f.others) || CASE cardinality(f.others) WHEN 1 THEN ' prefers' ELSE ' prefer' END,
        CASE cardinality(f.others) WHEN 1 THEN 'is' ELSE 'are' END)
      || CASE WHEN NOT (facts ->> 'has_worker')::boolean THEN 'Nor has it a live worker.'
        WHEN (facts ->> 'drained')::boolean THEN 'It is drained, too.'
        ELSE format('%s takes over when no preferring host is active%s.', host, CASE WHEN facts ->> 'fallback_after' IS NOT NULL THEN
          format(', or for work due longer than %s%s', yardmaster.duration_text((facts ->> 'fallback_after')::interval),
            coalesce(' (oldest: ' || yardmaster.duration_text((facts ->> 'waited')::interval) || ')', '')) ELSE '' END) END
    WHEN 'inactive' THEN format('%s has no live worker%s.', host, CASE WHEN (facts ->> 'supposed_down')::boolean THEN ', as supposed' ELSE '; ' ||
      coalesce('last seen ' || to_char((facts ->> 'seen_at')::timestamptz, 'YYYY-MM-DD HH24:MI:SS TZ'), 'none was seen in the last week') END)
    WHEN 'draining' THEN format('%s is drained since %s by %s: it takes nothing new.', host,
      to_char((facts ->> 'drained_at')::timestamptz, 'YYYY-MM-DD HH24:MI TZ'), facts ->> 'drained_by')
    WHEN 'host_full' THEN format('%s is full: %s of %s runs.', host, facts ->> 'running', facts ->> 'room')
    WHEN 'pair_full' THEN format('%s runs as much of %s as it may: %s of %s runs.', host, f.its, facts ->> 'pair_running', facts ->> 'pair_room')
    WHEN 'prefers' THEN format('%s may run %s: the binding prefers it.', host, f.its)
    WHEN 'allowed' THEN format('%s may run %s: no other active host prefers it.', host, f.its)
    WHEN 'fallback_elapsed' THEN format('%s may run %s: %s %s it, but its oldest work has been due for %s, not less than %s.', host, f.its,
      yardmaster.names_in_words(f.others), CASE cardinality(f.others) WHEN 1 THEN 'prefers' ELSE 'prefer' END,
      yardmaster.duration_text((facts ->> 'waited')::interval), yardmaster.duration_text((facts ->> 'fallback_after')::interval))
    WHEN 'no_site' THEN format('%s may run it: work of no site runs on every host.', host) END
  FROM (SELECT CASE WHEN site IS NULL THEN 'work of no site' ELSE yardmaster.site_label(site) END AS its,
    ARRAY(SELECT p FROM jsonb_array_elements_text(coalesce(nullif(facts -> 'preferring', 'null'), '[]')) p WHERE p <> host ORDER BY p) AS others) f
$$;

-- Each of these sites (NULL: work of no site) on each host: may it run there now? `wanted`: as if these were all bindings; `up`:
-- as if these hosts, and no others, were active. Without them, as it is. `due`: of the run that it is about; else the oldest that waits.
-- `in_words`: with `why`; without, a thousand sites on twenty hosts take a tenth of the time.
CREATE OR REPLACE FUNCTION yardmaster.placement_matrix(sites text[], wanted jsonb DEFAULT NULL, up text[] DEFAULT NULL, due timestamptz DEFAULT NULL,
  in_words boolean DEFAULT true)
RETURNS TABLE (site text, host text, binding text, active boolean, drained boolean, may_run boolean, code text, why text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  chosen text[] := ARRAY(SELECT yardmaster.host_of(u) FROM unnest(up) u);
BEGIN
  RETURN QUERY
  WITH b AS MATERIALIZED (
    SELECT k.site, k.host, k.binding FROM yardmaster.binding k WHERE wanted IS NULL AND k.site = ANY (sites)
    UNION ALL
    SELECT j.site, yardmaster.host_of(j.host), j.binding FROM jsonb_to_recordset(wanted) AS j(site text, host text, binding text)
  ), h AS MATERIALIZED (
    SELECT n.name, k.room, k.running, k.drained_at, k.drained_by, k.seen_at, coalesce(k.drained, false) AS drained,
      CASE WHEN up IS NULL THEN coalesce(k.has_worker, false) ELSE n.name = ANY (chosen) END AS has_worker,
      up IS NOT NULL AND coalesce(k.has_worker, false) AND n.name <> ALL (chosen) AS supposed_down
    FROM (SELECT s.name FROM yardmaster.seen_hosts s UNION SELECT b.host FROM b UNION SELECT k.host FROM yardmaster.bound_hosts k WHERE wanted IS NULL
      UNION SELECT unnest(chosen)) n
    LEFT JOIN yardmaster.hosts k ON k.name = n.name
  ), s AS MATERIALIZED (
    SELECT n.name, CASE WHEN coalesce(k.inherits_fallback, true) THEN p.fallback_after ELSE k.fallback_after END AS fallback_after,
      clock_timestamp() - coalesce(due, yardmaster.oldest_slot(n.name)) AS waited,
      coalesce(x.hosts, '{}') AS preferring
    FROM unnest(sites) AS n(name) CROSS JOIN yardmaster.placement p LEFT JOIN yardmaster.site k ON k.name = n.name
    LEFT JOIN (SELECT b.site, array_agg(b.host) AS hosts FROM b JOIN h ON h.name = b.host
      WHERE b.binding = 'prefer' AND h.has_worker AND NOT h.drained GROUP BY b.site) x ON x.site = n.name
  ), pair AS (
    SELECT s.name AS site, h.name AS host, b.binding, s.preferring, s.fallback_after, s.waited, h.has_worker, h.drained,
      q.slots AS pair_room, q.slots - q.room AS pair_running, h.seen_at, h.supposed_down, h.drained_at, h.drained_by, h.running, h.room,
      yardmaster.placement_code(s.name, h.name, b.binding, s.preferring, s.fallback_after, s.waited, h.has_worker, h.drained,
        up IS NULL AND coalesce(h.running >= h.room, false), up IS NULL AND coalesce(q.room <= 0, false)) AS code
    FROM s CROSS JOIN h LEFT JOIN b ON b.site = s.name AND b.host = h.name
    LEFT JOIN yardmaster.host_room q ON q.host = h.name AND q.site = s.name
  )
  SELECT p.site, p.host, coalesce(p.binding, 'none'), p.has_worker AND NOT p.drained, p.drained, yardmaster.placement_allows(p.code), p.code,
    CASE WHEN in_words THEN yardmaster.placement_sentence(p.code, p.site, p.host, to_jsonb(p)) END
  FROM pair p ORDER BY p.site NULLS LAST, p.host;
END
$$;

-- Sites that nobody may run (CRITICAL, 3), and those with one host left of several (WARNING, 2). Only sites that are bound; and
-- where no worker is alive at all, which is an alert of its own, only those that every host forbids.
CREATE OR REPLACE FUNCTION yardmaster.site_alerts()
RETURNS TABLE (alert_code integer, alert_status text, site text, alert_text text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (SELECT 1 FROM yardmaster.binding b WHERE b.binding = 'forbid') THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH h AS MATERIALIZED (SELECT * FROM yardmaster.hosts),
  -- Counted by bindings first: few sites are in doubt, and no sentence is needed for the others.
  bound AS MATERIALIZED (SELECT b.site FROM yardmaster.binding b JOIN h ON h.name = b.host WHERE b.binding = 'forbid'
    GROUP BY b.site HAVING count(*) FILTER (WHERE h.active) >= (SELECT count(*) - 1 FROM h WHERE h.active)),
  m AS MATERIALIZED (SELECT s.site, h.name AS host, coalesce(b.binding, 'none') AS binding, h.active, h.drained
    FROM bound s CROSS JOIN h LEFT JOIN yardmaster.binding b ON b.site = s.site AND b.host = h.name),
  sum AS (
    SELECT m.site, m.site IN (SELECT x.site FROM yardmaster.hopeless_sites() x) AS is_hopeless, count(*) FILTER (WHERE m.binding <> 'forbid') AS able,
      count(*) FILTER (WHERE m.binding <> 'forbid' AND m.active) AS left,
      min(m.host) FILTER (WHERE m.binding <> 'forbid' AND m.active) AS last_one,
      array_agg(m.host ORDER BY m.host) FILTER (WHERE m.binding = 'forbid') AS forbidden,
      min(m.host) FILTER (WHERE m.binding = 'forbid' AND m.active) AS instead,
      array_agg(format('%s %s but %s', m.host, CASE m.binding WHEN 'prefer' THEN 'prefers it' ELSE 'may run it' END,
        CASE WHEN m.drained THEN 'is drained' WHEN h.seen_at IS NULL THEN 'has no worker'
          ELSE format('is down since %s (%s)', to_char(h.seen_at, 'HH24:MI TZ'), yardmaster.duration_text(clock_timestamp() - h.seen_at)) END)
        ORDER BY m.binding DESC, m.host)
        FILTER (WHERE m.binding <> 'forbid') AS down,
      (array_agg(m.host ORDER BY m.binding DESC, m.drained, m.host) FILTER (WHERE m.binding <> 'forbid'))[1] AS missed
    FROM m JOIN h ON h.name = m.host GROUP BY m.site
  )
  SELECT 3, 'site_stranded', s.site, format('No host may run %s. %s%s%s %s', yardmaster.site_phrase(s.site),
    CASE WHEN s.is_hopeless THEN 'Every known host forbids it: it will wait for ever.'
      ELSE format('%s forbidden; %s.', yardmaster.names_in_words(s.forbidden) || CASE cardinality(s.forbidden) WHEN 1 THEN ' is' ELSE ' are' END,
        yardmaster.names_in_words(s.down)) END,
    CASE w.waiting WHEN 0 THEN '' WHEN 1 THEN ' 1 run waits' ELSE format(' %s%s runs wait', least(w.waiting, 1000), CASE WHEN w.waiting > 1000 THEN '+' ELSE '' END) END,
    coalesce(', the oldest ' || yardmaster.duration_text(clock_timestamp() - w.oldest) || '.', ''),
    CASE WHEN s.missed IS NULL THEN 'Allow a host'
        WHEN (SELECT h.drained AND h.has_worker FROM h WHERE h.name = s.missed) THEN format('Take %s back (yardmaster host undrain %1$s), or allow another host', s.missed)
        ELSE format('Start a worker on %s, or allow another host', s.missed) END
      || format(': yardmaster binding set %s %s allow', yardmaster.shell_quoted(s.site), coalesce(s.instead, s.forbidden[1])))
  FROM sum s CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, yardmaster.oldest_slot(s.site) AS oldest FROM (
      SELECT r.slot FROM yardmaster.lane l JOIN yardmaster.run r ON r.lane = l.id AND r.status = 'WAITING' AND r.queued
      WHERE l.site = s.site LIMIT 1001) x) w
  WHERE s.left = 0 AND (s.is_hopeless OR EXISTS (SELECT 1 FROM h WHERE h.has_worker))
  UNION ALL
  SELECT 2, 'site_at_risk', s.site, format('%s has one active host left (%s).', yardmaster.as_first_word(yardmaster.site_phrase(s.site)), s.last_one)
  FROM sum s WHERE s.left = 1 AND s.able > 1;
END
$$;
