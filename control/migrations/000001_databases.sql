-- The control database's own identity, the registered databases with their secrets, and the audit of every change.

CREATE TABLE yardmaster.control_identity (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  only_one boolean NOT NULL DEFAULT true UNIQUE CHECK (only_one),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO yardmaster.control_identity DEFAULT VALUES;

-- AES-256-GCM, made and read by the program only. The row's id and the URL that it belongs to are the associated data: a
-- ciphertext that is moved, or whose database's URL is changed without it, does not open.
CREATE TABLE yardmaster.secret (
  id uuid PRIMARY KEY,
  key_id text NOT NULL,
  ciphertext bytea NOT NULL
);

CREATE TABLE yardmaster.managed_database (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_.-]*$' AND octet_length(name) <= 63),
  tags text[] NOT NULL DEFAULT '{}',
  -- Without password. Either a URL, or where to read one: env:NAME, file:PATH.
  url text NOT NULL CHECK (url !~ '://[^/]*:[^/]*@'),
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
  -- Actor and face are what the session says of itself; this is the role that it logged in with.
  role text NOT NULL,
  action text NOT NULL CHECK (action IN ('create', 'update', 'delete')),
  object_kind text NOT NULL,
  object text NOT NULL,
  before jsonb,
  after jsonb
);
CREATE INDEX audit_object ON yardmaster.audit (object_kind, object, at);

CREATE FUNCTION yardmaster.refuse_audit_change()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'The audit is only ever added to.' USING ERRCODE = 'YM004';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON yardmaster.audit
  FOR EACH STATEMENT EXECUTE FUNCTION yardmaster.refuse_audit_change();
