-- The control database's own identity, the registered databases with their secrets, and the audit of every change.

CREATE TABLE yardmaster.control_identity (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  only_one boolean NOT NULL DEFAULT true UNIQUE CHECK (only_one),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO yardmaster.control_identity DEFAULT VALUES;

-- AES-256-GCM, made and read by the program only; the row's id is the associated data, so that a ciphertext can't be moved.
CREATE TABLE yardmaster.secret (
  id uuid PRIMARY KEY,
  key_id text NOT NULL,
  ciphertext bytea NOT NULL
);

CREATE TABLE yardmaster.managed_database (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_.-]*$' AND octet_length(name) <= 63),
  tags text[] NOT NULL DEFAULT '{}',
  -- Without password. Either a URL, or where to read one: env:NAME, file:PATH, service:NAME.
  url text NOT NULL,
  secret_id uuid REFERENCES yardmaster.secret,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE yardmaster.audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL,
  face text NOT NULL,
  action text NOT NULL CHECK (action IN ('create', 'update', 'delete')),
  object_kind text NOT NULL,
  object text NOT NULL,
  before jsonb,
  after jsonb
);
CREATE INDEX audit_object ON yardmaster.audit (object_kind, object, at);
