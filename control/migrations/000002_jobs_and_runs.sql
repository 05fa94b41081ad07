-- Jobs (a replication is one), their runs, the attempts of a run and the steps of an attempt.

CREATE SEQUENCE yardmaster.job_id_seq AS integer START 1000;

CREATE TABLE yardmaster.job (
  id integer PRIMARY KEY DEFAULT nextval('yardmaster.job_id_seq'),
  kind text NOT NULL CHECK (kind IN ('replication')),
  site text,
  status text NOT NULL CHECK (status IN ('setting_up', 'active', 'broken', 'removing')),
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  -- A deleted job stays, for the history of its runs.
  deleted_at timestamptz
);

CREATE TABLE yardmaster.replication (
  job_id integer PRIMARY KEY REFERENCES yardmaster.job,
  -- What the destination's position row knows it by; the same in every restore of this database.
  id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  type text NOT NULL CHECK (type IN ('snapshot', 'table')),
  source_database bigint NOT NULL REFERENCES yardmaster.managed_database,
  source_schema text NOT NULL,
  source_name text NOT NULL,
  destination_database bigint NOT NULL REFERENCES yardmaster.managed_database,
  destination_schema text NOT NULL,
  destination_name text NOT NULL,
  columns text[],
  condition text,
  build_indexes boolean NOT NULL,
  load_data boolean NOT NULL,
  post_script text[] NOT NULL,
  sequences text[] NOT NULL,
  truncate_cascade boolean NOT NULL,
  swap_wait interval NOT NULL CHECK (swap_wait >= interval '0'),
  UNIQUE (destination_database, destination_schema, destination_name)
);

CREATE TABLE yardmaster.run (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id integer NOT NULL REFERENCES yardmaster.job,
  -- When it was due; for a run that somebody asked for, when they did.
  slot timestamptz NOT NULL,
  database_id bigint NOT NULL,
  operation text NOT NULL CHECK (operation IN ('setup', 'refresh', 'remove')),
  -- As text: it outlives what it names.
  object text NOT NULL,
  site text,
  status text NOT NULL CHECK (status IN ('WAITING', 'RUNNING', 'OK', 'WARNING', 'CRITICAL')),
  reason text,
  started_at timestamptz,
  finished_at timestamptz,
  rows bigint,
  bytes bigint,
  message text,
  UNIQUE (job_id, slot, database_id)
);
CREATE INDEX run_job_started ON yardmaster.run (job_id, id DESC);
CREATE INDEX run_running ON yardmaster.run (id) WHERE status = 'RUNNING';

CREATE TABLE yardmaster.attempt (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id bigint NOT NULL REFERENCES yardmaster.run ON DELETE CASCADE,
  number integer NOT NULL,
  -- Whoever writes as this attempt, here or in a destination, must hold the token.
  token uuid NOT NULL DEFAULT gen_random_uuid(),
  worker text NOT NULL,
  host text NOT NULL,
  -- The control session whose loss means that the worker is gone.
  session_pid integer NOT NULL,
  session_start timestamptz NOT NULL,
  status text NOT NULL CHECK (status IN ('RUNNING', 'OK', 'WARNING', 'CRITICAL')),
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  UNIQUE (run_id, number)
);
CREATE INDEX attempt_running ON yardmaster.attempt (id) WHERE status = 'RUNNING';

CREATE TABLE yardmaster.step (
  attempt_id bigint NOT NULL REFERENCES yardmaster.attempt ON DELETE CASCADE,
  ordinal integer NOT NULL,
  action text NOT NULL,
  status text NOT NULL CHECK (status IN ('RUNNING', 'OK', 'WARNING', 'CRITICAL')),
  started_at timestamptz NOT NULL,
  finished_at timestamptz,
  rows bigint,
  bytes bigint,
  message text,
  PRIMARY KEY (attempt_id, ordinal)
);
