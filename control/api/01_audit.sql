-- Who calls, by what the session says of itself; else the role that it logged in with.
CREATE OR REPLACE FUNCTION yardmaster.caller()
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user)
$$;

-- Who changed what: every function that changes a definition ends with a call of this one.
-- The actor and the face (CLI, HTTP, file) are what the session says of itself; the role is what the server knows.
CREATE OR REPLACE FUNCTION yardmaster.record_change(action text, object_kind text, object text, before jsonb, after jsonb)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO yardmaster.audit (actor, face, role, action, object_kind, object, before, after)
  VALUES (yardmaster.caller(),
          coalesce(nullif(current_setting('yardmaster.face', true), ''), 'SQL'),
          session_user, $1, $2, $3, $4, $5)
$$;

CREATE OR REPLACE VIEW yardmaster.audit_log AS
  SELECT id, at, actor, face, role, action, object_kind, object, before, after FROM yardmaster.audit;
