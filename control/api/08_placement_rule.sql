-- Which host may run which site's work: the rule, of its inputs alone. The claim, explain, simulate and facades all call it.
-- Bodies in standard SQL are bound to their operators when they are made, and expand in place.

-- For how long work of a site must have been due before this host may take it: nothing at all, a fallback delay, or NULL: never.
-- `site`: NULL for work of no site. `binding`: of this pair, NULL for none. `preferring`: active hosts that prefer the site.
-- `fallback_after`: NULL for never.
CREATE OR REPLACE FUNCTION yardmaster.placement_wait(site text, host text, binding text, preferring text[], fallback_after interval)
RETURNS interval LANGUAGE sql IMMUTABLE
RETURN CASE
  WHEN site IS NULL THEN interval '0'
  WHEN binding = 'forbid' THEN NULL
  WHEN binding = 'prefer' THEN interval '0'
  WHEN coalesce(array_remove(preferring, host), '{}') = '{}' THEN interval '0'
  ELSE fallback_after
END;

-- Whether a host may take work of a site that has been due for `waited`, as a code: yes are prefers, allowed, fallback_elapsed
-- and no_site. NULL, or a time that is still to come, is no wait at all. `has_worker`: one that is alive. `is_full`, `pair_is_full`: the host runs as much as it may, or as much of this site.
CREATE OR REPLACE FUNCTION yardmaster.placement_code(site text, host text, binding text, preferring text[], fallback_after interval,
  waited interval, has_worker boolean, is_draining boolean, is_full boolean, pair_is_full boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
  WHEN site IS NOT NULL AND binding = 'forbid' THEN 'forbidden'
  WHEN NOT coalesce(greatest(waited, interval '0') >= yardmaster.placement_wait(site, host, binding, preferring, fallback_after), false)
    THEN 'preferred_elsewhere'
  WHEN NOT has_worker THEN 'inactive'
  WHEN is_draining THEN 'draining'
  WHEN is_full THEN 'host_full'
  WHEN pair_is_full THEN 'pair_full'
  WHEN site IS NULL THEN 'no_site'
  WHEN binding = 'prefer' THEN 'prefers'
  WHEN coalesce(array_remove(preferring, host), '{}') = '{}' THEN 'allowed'
  ELSE 'fallback_elapsed'
END;

CREATE OR REPLACE FUNCTION yardmaster.placement_allows(code text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN code IN ('prefers', 'allowed', 'fallback_elapsed', 'no_site');
