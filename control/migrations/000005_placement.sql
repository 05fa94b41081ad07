-- Placement: which host may run which site's work, and limits on how much runs at once.

-- It tells how many it made now.
DROP FUNCTION IF EXISTS yardmaster.queue_due_slots(text[], integer[]);

-- Of all bindings together. Whoever changes them holds its row.
CREATE TABLE yardmaster.placement (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  -- Work that has been due for so long may run on hosts that are not preferred, though a preferred one lives; NULL: never.
  fallback_after interval CHECK (fallback_after BETWEEN interval '0' AND interval '10 years')
);
INSERT INTO yardmaster.placement DEFAULT VALUES;

-- Every site that was ever named. None is forgotten: a claim looks for work by site.
CREATE TABLE yardmaster.site (
  name text PRIMARY KEY CHECK (octet_length(name) <= 200),
  -- False: this site's own delay instead of that of all bindings.
  inherits_fallback boolean NOT NULL DEFAULT true,
  fallback_after interval CHECK (fallback_after BETWEEN interval '0' AND interval '10 years'),
  CHECK (NOT (inherits_fallback AND fallback_after IS NOT NULL))
);
INSERT INTO yardmaster.site (name)
SELECT site FROM yardmaster.job WHERE site IS NOT NULL UNION SELECT site FROM yardmaster.run WHERE site IS NOT NULL AND status = 'WAITING';
ALTER TABLE yardmaster.job
  ADD FOREIGN KEY (site) REFERENCES yardmaster.site,
  -- Jobs of one pool share a limit of that name.
  ADD COLUMN pool text;

CREATE TABLE yardmaster.binding (
  site text NOT NULL REFERENCES yardmaster.site,
  host text NOT NULL,
  binding text NOT NULL CHECK (binding IN ('prefer', 'allow', 'forbid')),
  PRIMARY KEY (site, host)
);
CREATE INDEX binding_of_host ON yardmaster.binding (host, site) INCLUDE (binding);
CREATE INDEX binding_preferring ON yardmaster.binding (site, host) WHERE binding = 'prefer';

-- Takes nothing new since then, and ends when what it runs has ended.
ALTER TABLE yardmaster.worker ADD COLUMN stopping_at timestamptz;

-- What was said about a host; one without a row is as good as any.
CREATE TABLE yardmaster.host (
  name text PRIMARY KEY,
  -- Most runs at once; NULL: as many as its workers have slots.
  slots integer CHECK (slots > 0),
  -- Takes nothing new since then.
  drained_at timestamptz,
  drained_by text
);
-- Other names that a host goes by.
CREATE TABLE yardmaster.host_address (
  address inet PRIMARY KEY,
  host text NOT NULL REFERENCES yardmaster.host ON DELETE CASCADE
);
-- Most runs of a site at once on a host.
CREATE TABLE yardmaster.host_site (
  host text NOT NULL REFERENCES yardmaster.host ON DELETE CASCADE,
  site text NOT NULL REFERENCES yardmaster.site,
  slots integer NOT NULL CHECK (slots > 0),
  PRIMARY KEY (host, site)
);

-- Most runs at once that share a key: `site:NAME`, `database:NAME` (read or written), or the name of a pool.
CREATE TABLE yardmaster.concurrency_limit (
  key text PRIMARY KEY,
  slots integer NOT NULL CHECK (slots >= 0)
);

-- A file of bindings that is watched and can't be applied as it is now.
CREATE TABLE yardmaster.refused_file (
  path text PRIMARY KEY,
  host text NOT NULL,
  message text NOT NULL,
  since timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER TABLE yardmaster.attempt
  -- The rule's code by which its host got it; NULL where a command ran it itself.
  ADD COLUMN placement text;

-- Runs that nothing tells apart when work is given out: they belong to one site, and the same limits could count for them.
CREATE TABLE yardmaster.lane (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  site text REFERENCES yardmaster.site,
  -- Of limits that could count, sorted; the site's is one of them.
  keys text[] NOT NULL UNIQUE
);
CREATE INDEX lane_of_site ON yardmaster.lane (site);
ALTER TABLE yardmaster.job ADD COLUMN lane integer REFERENCES yardmaster.lane;
WITH its AS (
  SELECT j.id, j.site, ARRAY(
    SELECT DISTINCT k COLLATE "C" FROM unnest(ARRAY['site:' || j.site, 'database:' || s.name, 'database:' || d.name]) k
    WHERE k IS NOT NULL ORDER BY 1) AS keys
  FROM yardmaster.job j
  LEFT JOIN yardmaster.replication r ON r.job_id = j.id
  LEFT JOIN yardmaster.managed_database s ON s.id = r.source_database
  LEFT JOIN yardmaster.managed_database d ON d.id = r.destination_database
), made AS (INSERT INTO yardmaster.lane (site, keys) SELECT DISTINCT i.site, i.keys FROM its i RETURNING id, keys)
UPDATE yardmaster.job j SET lane = m.id FROM its i JOIN made m ON m.keys = i.keys WHERE i.id = j.id;
-- Of its job, when it was queued or the job's site or pool was changed after that.
ALTER TABLE yardmaster.run ADD COLUMN lane integer;
UPDATE yardmaster.run r SET lane = j.lane, site = CASE r.status WHEN 'WAITING' THEN j.site ELSE r.site END
FROM yardmaster.job j WHERE j.id = r.job_id AND r.status IN ('WAITING', 'RUNNING');
-- A claim takes rows lane by lane.
CREATE INDEX run_waiting_of_lane ON yardmaster.run (lane, slot, id) WHERE status = 'WAITING' AND queued;
CREATE INDEX audit_undo ON yardmaster.audit (((after ->> 'undoes')::bigint)) WHERE object_kind = 'bindings';
