-- What a destination database gets: one table of positions, moved in the transactions that apply the data.

CREATE TABLE yardmaster.position (
  -- The replication's id; the control database that drives it.
  replication_id uuid PRIMARY KEY,
  control_id uuid NOT NULL,
  -- Second key of the session lock that a refresh holds: two replications never share one.
  lock_number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  type text NOT NULL,
  schema_name name NOT NULL,
  table_name name NOT NULL,
  -- The attempt that may write. Whoever changes data of this replication checks it under this row's lock.
  token uuid,
  -- Moves by one with each refresh that took effect.
  read_number bigint NOT NULL DEFAULT 0,
  -- The side that readers see (snapshot), and what the source looked like when it was read.
  state jsonb NOT NULL DEFAULT '{}',
  -- What set-up made here, and so what removal may take away.
  made jsonb NOT NULL DEFAULT '[]',
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (schema_name, table_name)
);
COMMENT ON TABLE yardmaster.position IS 'yardmaster destination schema 1';

-- For applications: takes the lock that a refresh of this destination holds, for the calling session, without waiting.
-- False when a refresh runs. Release it with unlock_destination, or end the session.
CREATE FUNCTION yardmaster.try_lock_destination(destination regclass)
RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_catalog.pg_try_advisory_lock(1498238285, p.lock_number)
  FROM yardmaster.position p
  JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) p.schema_name
  JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) p.table_name
  WHERE c.oid OPERATOR(pg_catalog.=) destination::pg_catalog.oid
$$;

CREATE FUNCTION yardmaster.unlock_destination(destination regclass)
RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_catalog.pg_advisory_unlock(1498238285, p.lock_number)
  FROM yardmaster.position p
  JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) p.schema_name
  JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) p.table_name
  WHERE c.oid OPERATOR(pg_catalog.=) destination::pg_catalog.oid
$$;

REVOKE ALL ON FUNCTION yardmaster.try_lock_destination(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION yardmaster.unlock_destination(regclass) FROM PUBLIC;
REVOKE ALL ON TABLE yardmaster.position FROM PUBLIC;
