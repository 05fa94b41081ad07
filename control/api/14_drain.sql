-- What a drain would do, before it is done.

-- What changes for sites when a host takes nothing new: `stranded`: no active host is left that may run it; `moves`: hosts take
-- over that may not run it now. Nothing for sites that go on on the hosts that they have, and where the host is not active anyway.
CREATE OR REPLACE FUNCTION yardmaster.drain_plan(host text)
RETURNS TABLE (site text, change text, hosts text[]) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known text := yardmaster.known_host(drain_plan.host);
  up text[] := ARRAY(SELECT a.host FROM yardmaster.active_hosts a);
  -- A site that it does not prefer, and that nobody forbids, loses one of many.
  sites text[] := ARRAY(SELECT DISTINCT b.site FROM yardmaster.binding b WHERE b.binding = 'forbid' OR b.binding = 'prefer' AND b.host = known);
BEGIN
  IF known <> ALL (up) THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH now AS (
    SELECT m.site, array_agg(m.host ORDER BY m.host) AS hosts FROM yardmaster.placement_matrix(sites, up => up, in_words => false) m WHERE m.may_run GROUP BY m.site
  ), afterwards AS (
    SELECT m.site, array_agg(m.host ORDER BY m.host) AS hosts FROM yardmaster.placement_matrix(sites, up => array_remove(up, known), in_words => false) m
    WHERE m.may_run GROUP BY m.site
  )
  SELECT n.site, CASE WHEN t.hosts IS NULL THEN 'stranded' ELSE 'moves' END, coalesce(t.hosts, '{}')
  FROM now n LEFT JOIN afterwards t ON t.site = n.site
  WHERE t.hosts IS NULL OR NOT t.hosts <@ n.hosts
  ORDER BY 2 DESC, 1;
END
$$;
